//! How long the pages take and how large they are, with many units, workers and failures, beside working clients; and what
//! open pages that change by themselves cost these:
//! cargo bench --bench ui -- [UNITS [SECONDS]]
//!
//! UNITS are 10,000,000 if nothing else is said, SECONDS of each measurement of the clients 20.

use coordinated_client::cbor::Value;
use coordinated_client::{Coordinate, Counts, GetWork, Heartbeat, Name, Update};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_support::Server;

const WORKERS: usize = 5_000;
const PARENTS: usize = 50;
const FAILED: usize = 100_000;
const MESSAGES: usize = 20;
const LIVE_PAGES: usize = 20;
/// How often each page is fetched.
const FETCHED: usize = 30;
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let units: usize = arguments
        .next()
        .map_or(Ok(10_000_000), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let server = Server::start_with(&["--http", "127.0.0.1:0"]);
    fill(&server, units)?;
    let root = server.http();
    println!("{units} units, {FAILED} failed, {WORKERS} workers, and 64 clients that work:");
    println!("{:<58} {:>9} {:>9} {:>9}", "", "median", "p95", "gzipped");
    // The clients work all the time.
    let load = Load::begin(&server, 600)?;
    for path in paths(&root)? {
        measure(&root, &path)?;
    }
    load.end();
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let alone = Load::begin(&server, seconds)?.cycles_per_second()?;
        let live = LivePages::open(&root);
        let beside = Load::begin(&server, seconds)?.cycles_per_second()?;
        let fetched = live.close();
        println!(
            "cycles/s: {alone:.0} alone, {beside:.0} beside {LIVE_PAGES} open pages, which fetched themselves {fetched} times"
        );
        shares.push(100.0 * (1.0 - beside / alone));
    }
    shares.sort_by(f64::total_cmp);
    println!("open pages cost {:.1} % in the median", shares[ROUNDS / 2]);
    Ok(())
}

/// Adds everything that is shown.
fn fill(server: &Server, units: usize) -> Result<()> {
    let units = units.to_string();
    let add = [
        "--spec",
        "many",
        "--keep",
        "add",
        "--connections",
        "2",
        "--units",
        &units,
    ];
    run(bench(server).args(add))?;
    let mut client = Coordinate::connect(&server.address().parse()?)?;
    for number in 0..WORKERS {
        let parent = (number >= PARENTS).then(|| Name::from(&*worker(number % PARENTS)));
        client.worker_heartbeat(&Heartbeat {
            mode: Some("RUN".into()),
            lifetime: Duration::from_hours(24),
            parent,
            ..Heartbeat::new(Name::from(&*worker(number)))
        })?;
    }
    let mut failed = 0;
    let wanted = GetWork {
        work_specs: vec!["many".into()],
        max_units: Some(1_000),
        ..GetWork::default()
    };
    while failed < FAILED {
        let work = client.get_work(&"failing".into(), &wanted)?;
        let updates: Vec<_> = work
            .iter()
            .map(|unit| {
                failed += 1;
                let traceback = format!(
                    "Traceback:\n  File \"x.py\", line 7\nError: {}",
                    failed % MESSAGES
                );
                let data = Value::map([("traceback", traceback.as_str().into())]);
                (unit.key.clone(), Update::failed().with_data(data))
            })
            .collect();
        client.update_work_units(&"many".into(), &updates)?;
    }
    Ok(())
}

fn worker(number: usize) -> String {
    format!("worker-{number:04}")
}

fn bench(server: &Server) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinated"));
    command.args(["bench", "--json", "--server", server.address()]);
    command.stderr(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{command:?}: {}", output.status).into()),
    }
}

/// The pages. Those of single units are found on others.
fn paths(root: &str) -> Result<Vec<String>> {
    let failed = fetch(root, "/ui/spec/many/units?status=failed", false)?.1;
    let link = |html: &str, beginning: &str| -> Result<String> {
        let link = html
            .split("href=\"")
            .skip(1)
            .find(|link| link.starts_with(beginning));
        let link = link
            .and_then(|link| link.split('"').next())
            .ok_or("no such link")?;
        Ok(link.replace("&#38;", "&"))
    };
    let unit = link(&failed, "/ui/spec/many/unit/")?;
    let next = link(&failed, "/ui/spec/many/units?status=failed&#38;")
        .or_else(|_| link(&failed, "/ui/spec/many/units?"))?;
    let failures = fetch(root, "/ui/failures", false)?.1;
    let message = link(&failures, "/ui/spec/many/bulk?")?;
    let fixed = [
        "/ui/",
        "/ui/spec/many",
        "/ui/spec/many/units",
        "/ui/spec/many/units?status=available",
        "/ui/spec/many/units?status=pending",
        "/ui/spec/many/units?status=failed",
        "/ui/spec/many/units?status=finished",
        "/ui/spec/many/units?prefix=u9",
        "/ui/spec/many/bulk?action=delete",
        "/ui/spec/many/bulk?action=retry&status=failed",
        "/ui/failures",
        "/ui/workers",
        "/ui/workers?as=list",
        "/ui/workers?parent=worker-0007",
        "/ui/worker/worker-0007",
        "/ui/locks",
        "/ui/operations",
        "/ui/audit",
        "/ui/daemon",
    ];
    let fixed = fixed.map(str::to_owned);
    Ok(fixed.into_iter().chain([next, unit, message]).collect())
}

/// Fetches a page; returns its size, and its text if it is not compressed.
fn fetch(root: &str, path: &str, compressed: bool) -> Result<(usize, String)> {
    // Without ureq's own decompression, to see the size.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(true)
        .build()
        .into();
    let encoding = if compressed { "gzip" } else { "identity" };
    let request = agent
        .get(format!("{root}{path}"))
        .header("accept-encoding", encoding);
    let mut answer = request.call().map_err(|error| format!("{path}: {error}"))?;
    let body = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_vec()?;
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok((body.len(), text))
}

fn measure(root: &str, path: &str) -> Result<()> {
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..FETCHED {
        let began = Instant::now();
        size = fetch(root, path, true)?.0;
        times.push(began.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    let shown: String = path.chars().take(57).collect();
    println!(
        "{shown:<58} {:>6.1} ms {:>6.1} ms {:>6.1} kB",
        ms(FETCHED / 2),
        ms(FETCHED * 95 / 100),
        size as f64 / 1e3
    );
    Ok(())
}

/// 64 clients that work.
struct Load(Child);

impl Load {
    fn begin(server: &Server, seconds: u64) -> Result<Self> {
        let seconds = seconds.to_string();
        let mut command = bench(server);
        command.args(["--spec", "load", "--force", "work", "--connections", "64"]);
        command.args(["--prepare", "3M", "--seconds", &seconds]);
        let child = command.stdout(Stdio::piped()).spawn()?;
        // Until its units are added and it works.
        let mut client = Coordinate::connect(&server.address().parse()?)?;
        let works = |counts: &Counts| counts.finished > 0 && counts.pending > 0;
        while !client
            .count_work_units(&"load".into())
            .is_ok_and(|counts| works(&counts))
        {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Self(child))
    }

    fn end(mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn cycles_per_second(self) -> Result<f64> {
        let output = self.0.wait_with_output()?;
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(figures["cycles_per_s"].as_f64().ok_or("no figure")?)
    }
}

/// Pages that are open, and fetch themselves whenever they are told that something has changed, as page.js does.
struct LivePages {
    is_over: Arc<AtomicBool>,
    fetched: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl LivePages {
    fn open(root: &str) -> Self {
        let pages = [
            "/ui/",
            "/ui/spec/many",
            "/ui/spec/many/units?status=failed",
            "/ui/workers",
        ];
        let is_over = Arc::new(AtomicBool::new(false));
        let fetched = Arc::new(AtomicU64::new(0));
        let threads = (0..LIVE_PAGES)
            .map(|number| {
                let (root, path) = (root.to_owned(), pages[number % pages.len()]);
                let (is_over, fetched) = (Arc::clone(&is_over), Arc::clone(&fetched));
                thread::spawn(move || {
                    let ended = follow(&root, path, &is_over, &fetched);
                    ended.unwrap_or_else(|error| eprintln!("{path}: {error}"));
                })
            })
            .collect();
        Self {
            is_over,
            fetched,
            threads,
        }
    }

    /// Closes them. Returns how often they have fetched themselves.
    fn close(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // It has said why it ended.
            let _ = thread.join();
        }
        self.fetched.load(Ordering::Relaxed)
    }
}

fn follow(root: &str, path: &str, is_over: &AtomicBool, fetched: &AtomicU64) -> Result<()> {
    let host = root.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET /ui/events HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    for line in BufReader::new(stream).lines() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        if line?.starts_with("event: changed") {
            fetch(root, path, true)?;
            fetched.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
