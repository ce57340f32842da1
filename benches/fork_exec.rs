//! How much of the rate of a bare loop `coordinated work` keeps, with the shortest program there is.
//!
//! Two threads run `true` in process groups of their own, as `work` does, and wait for it; then `work -j 2` runs
//! it for as many units, with a daemon of its own beside it. In turn, several times. Two threads of a bare loop may
//! leave processors idle that wait for each other; so there is one of four, too:
//! cargo bench --bench fork_exec

use coordinated_client::cbor::Value;
use coordinated_client::{Address, Coordinate, NewUnit};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const UNITS: u32 = 5_000;
const THREADS: u32 = 2;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let address: Address = format!("unix:{}", folder.path().join("socket").display()).parse()?;
    let mut daemon = program("serve", &address);
    daemon.args(["--db", "bench.db", "--listen", &address.to_string()]);
    let daemon = Killed(daemon.current_dir(folder.path()).spawn()?);
    let mut client = loop {
        match Coordinate::connect(&address) {
            Ok(client) => break client,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    println!("{UNITS} units, {THREADS} at once");
    for round in 0..ROUNDS {
        let bare = rate(|| bare_loop(THREADS, Stdio::null))?;
        let piped = rate(|| bare_loop(THREADS, Stdio::piped))?;
        let full = rate(|| bare_loop(2 * THREADS, Stdio::null))?;
        let spec = format!("round-{round}");
        client.set_work_spec(&Value::map([("name", spec.as_str().into())]))?;
        let units = (0..UNITS).map(|n| NewUnit::new(n.to_string().as_str(), Value::EMPTY_MAP));
        client.add_work_units(&spec.as_str().into(), units)?;
        let work = rate(|| work(&address, &spec))?;
        let of = |other: f64| 100.0 * work / other;
        println!(
            "work {work:.0}/s: {:.0} % of a bare loop ({bare:.0}/s), {:.0} % of one with pipes ({piped:.0}/s), {:.0} % \
             of one with twice the threads ({full:.0}/s)",
            of(bare),
            of(piped),
            of(full)
        );
    }
    drop(daemon);
    Ok(())
}

fn program(command: &str, address: &Address) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_coordinated"));
    program
        .arg(command)
        .env("COORDINATED_SERVER", address.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    program
}

/// Units in a second.
fn rate(run: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    run()?;
    Ok(f64::from(UNITS) / began.elapsed().as_secs_f64())
}

fn bare_loop(threads: u32, stdio: fn() -> Stdio) -> Result<(), Box<dyn Error>> {
    let run = move || {
        (0..UNITS / threads).try_for_each(|_| {
            let mut command = Command::new("true");
            command
                .process_group(0)
                .stdin(stdio())
                .stdout(stdio())
                .stderr(stdio());
            command.spawn()?.wait().map(|_| ())
        })
    };
    let threads: Vec<_> = (0..threads).map(|_| thread::spawn(run)).collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn work(address: &Address, spec: &str) -> Result<(), Box<dyn Error>> {
    let jobs = THREADS.to_string();
    let mut work = program("work", address);
    let status = work
        .args(["--spec", spec, "-j", &jobs, "--until-empty", "--", "true"])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("work ended with {status}").into()),
    }
}

/// A process that ends with this one.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
