//! How long an idle worker takes to get a new unit: when it asks again and again, and when its request waits at the
//! daemon. And what thousands of waiting requests cost:
//! cargo bench --bench waiting

use coordinated_client::cbor::{Value, Writer};
use coordinated_client::cborrpc::envelope;
use coordinated_client::{
    Address, Connection, Coordinate, GetWork, Name, NewUnit, Options, Request, Update,
};
use rand::RngExt;
use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Idle workers, each with a work spec of its own, and how many units each gets.
const WORKERS: usize = 50;
const ROUNDS: usize = 1;
/// What `coordinated work` pauses between two requests with a daemon that can't wait. Pauses double.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const WAITING: usize = 5_000;
const WOKEN: usize = 1_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let address: Address = format!("unix:{}", socket.display()).parse()?;
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_coordinated"));
    daemon
        .args([
            "serve",
            "--db",
            "bench.db",
            "--listen",
            &address.to_string(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir(folder.path());
    let daemon = Killed(daemon.spawn()?);
    let mut client = loop {
        match Coordinate::connect(&address) {
            Ok(client) => break client,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    // First, since the workers of the other part ask on.
    many_waiting(&daemon, &socket, &address, &mut client)?;
    for waits in [false, true] {
        let delays = delays(&address, &mut client, waits)?;
        let how = if waits { "waiting" } else { "polling" };
        println!("{how}: from add to the unit: {}", figures(delays));
    }
    Ok(())
}

/// What thousands of waiting requests cost, and how fast they are answered.
fn many_waiting(
    daemon: &Killed,
    socket: &Path,
    address: &Address,
    client: &mut Coordinate,
) -> Result<()> {
    let mut waiting = wait(socket, address, client)?;
    let (before, began) = (processor_ticks(daemon)?, Instant::now());
    thread::sleep(Duration::from_secs(10));
    let used = processor_ticks(daemon)? - before;
    println!(
        "{WAITING} requests wait: {used} hundredths of a second of processor time in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let mut delays = Vec::new();
    for (number, stream) in waiting.iter_mut().enumerate().take(WOKEN) {
        let began = Instant::now();
        add(client, "many", number)?;
        stream.read_exact(&mut [0; 1])?;
        delays.push(began.elapsed());
    }
    println!(
        "{WAITING} requests wait: from add to the first one's answer: {}",
        figures(delays)
    );
    let began = Instant::now();
    let units = (WOKEN..WAITING).map(unit);
    client.add_work_units(&"many".into(), units)?;
    for stream in &mut waiting[WOKEN..] {
        stream.read_exact(&mut [0; 1])?;
    }
    println!(
        "{} requests wait: {:.0} ms from adding as many units to the last one's answer",
        WAITING - WOKEN,
        began.elapsed().as_secs_f64() * 1_000.0
    );
    Ok(())
}

/// From adding a unit to the answer that hands it out.
fn delays(address: &Address, client: &mut Coordinate, waits: bool) -> Result<Vec<Duration>> {
    let (sender, got) = channel();
    for number in 0..WORKERS {
        let spec = format!("{waits}-{number}");
        client.set_work_spec(&Value::map([("name", spec.as_str().into())]))?;
        let worker = Coordinate::connect(address)?;
        let sender = sender.clone();
        thread::spawn(move || work(worker, &spec, waits, &sender));
    }
    let mut random = rand::rng();
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        // All have paused for as long as they do.
        thread::sleep(2 * PAUSE.1);
        for number in 0..WORKERS {
            thread::sleep(Duration::from_millis(random.random_range(10..50)));
            let began = Instant::now();
            add(client, &format!("{waits}-{number}"), round)?;
            delays.push(got.recv()?.saturating_duration_since(began));
        }
    }
    Ok(delays)
}

/// Gets units of a work spec and finishes them.
fn work(mut client: Coordinate, spec: &str, waits: bool, got: &Sender<Instant>) -> Option<()> {
    let worker = Name::from(spec);
    let wanted = GetWork {
        work_specs: vec![spec.into()],
        wait: waits.then_some(Duration::from_secs(30)),
        ..GetWork::default()
    };
    let mut pause = PAUSE.0;
    loop {
        let work = client.get_work(&worker, &wanted).ok()?;
        let Some(unit) = work.first() else {
            thread::sleep(if waits { Duration::ZERO } else { pause });
            pause = (pause * 2).min(PAUSE.1);
            continue;
        };
        got.send(Instant::now()).ok()?;
        pause = PAUSE.0;
        let finished = Update::finished();
        client
            .update_work_unit(&unit.work_spec, &unit.key, &finished)
            .ok()?;
    }
}

fn add(client: &mut Coordinate, spec: &str, number: usize) -> Result<()> {
    Ok(client.add_work_units(&spec.into(), [unit(number)])?)
}

fn unit(number: usize) -> NewUnit {
    NewUnit::new(format!("u{number:04}").as_str(), Value::EMPTY_MAP)
}

/// How many requests for work the daemon has read.
fn requests(connection: &mut Connection) -> Result<u64> {
    let info = connection.call(&Request::new("server_info", []))?;
    let calls = info.get("calls").and_then(|calls| calls.get("get_work"));
    Ok(calls.and_then(Value::as_u64).unwrap_or(0))
}

/// Connections with requests that wait for a unit of one work spec, in order.
fn wait(socket: &Path, address: &Address, client: &mut Coordinate) -> Result<Vec<UnixStream>> {
    client.set_work_spec(&Value::map([("name", "many".into())]))?;
    let options = Value::map([
        ("work_spec_names", Value::Array(vec!["many".into()])),
        ("wait", 60.into()),
    ]);
    let mut params = Vec::new();
    let mut writer = Writer::new(&mut params);
    writer.array(2);
    writer.text("w");
    options.write(&mut writer);
    let (mut content, mut frame) = (Vec::new(), Vec::new());
    envelope::write_request(&mut content, 1, "get_work", &params);
    envelope::write_frame(&mut frame, &content);
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(&frame)?;
        waiting.push(stream);
    }
    let mut connection = Connection::open(address.clone(), Options::default())?;
    while requests(&mut connection)? < WAITING as u64 {
        thread::sleep(Duration::from_millis(10));
    }
    Ok(waiting)
}

fn figures(mut delays: Vec<Duration>) -> String {
    delays.sort_unstable();
    let at = |share: f64| delays[(delays.len() as f64 * share) as usize].as_secs_f64() * 1_000.0;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms ({} units)",
        at(0.5),
        at(0.99),
        delays.len()
    )
}

/// How much processor time a process has used, in hundredths of a second.
fn processor_ticks(process: &Killed) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0.id()))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// A process that ends with the benchmark.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail for a process that has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
