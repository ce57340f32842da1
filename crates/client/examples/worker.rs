//! A worker that counts the words of files: the work spec `words` has a unit for each, with its `path` in the data.
//!
//! ```sh
//! coordinated &
//! coordinated rpc set_work_spec '{name: words}'
//! for file in *.md; do coordinated add words "$file" --data "{\"path\": \"$file\"}"; done
//! cargo run -p coordinated-client --example worker
//! ```
//!
//! It ends when all are done, and on Enter, when what runs has come to its end.

use coordinated_client::Address;
use coordinated_client::cbor::Value;
use coordinated_client::worker::{Context, Outcome, Worker};
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let address = Address::from_environment()?;
    let threads = thread::available_parallelism()?.get();
    let worker = Worker::new(&address)
        .threads(threads)
        .until_empty()
        .on("words", count);
    let stopper = worker.stopper();
    thread::spawn(move || {
        if std::io::stdin()
            .read_line(&mut String::new())
            .is_ok_and(|bytes| bytes > 0)
        {
            stopper.drain();
        }
    });
    let tally = worker.run()?;
    println!("{} counted, {} failed", tally.finished, tally.failed);
    Ok(())
}

/// Counts the words of one file. What it returns as an error becomes the unit's traceback.
fn count(unit: &Context) -> Result<Outcome, Box<dyn Error>> {
    let path = unit.data().get("path").and_then(Value::as_text_lossy);
    let path = path.ok_or("the data have no path")?;
    let file = match File::open(&*path) {
        // It may be written just now; but not for ever.
        Err(error) if error.kind() == ErrorKind::NotFound && unit.attempt() < 3 => {
            return Ok(Outcome::given_back(Duration::from_secs(5)));
        }
        file => file?,
    };
    let mut words: u64 = 0;
    for line in BufReader::new(file).lines() {
        if unit.is_cancelled() {
            return Ok(Outcome::given_back(Duration::ZERO));
        }
        words += line?.split_whitespace().count() as u64;
    }
    let data = [("path", Value::from(&*path)), ("words", words.into())];
    Ok(Outcome::finished_with(Value::map(data)))
}
