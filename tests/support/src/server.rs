//! The daemon as a process: started on a port of its own, ended by its own process id.

use crate::PATIENCE;
use crate::client::Client;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program under test, which cargo names to tests when it runs them.
///
/// # Panics
/// If something else than cargo runs the test.
pub fn binary() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_coordinated")
        .expect("CARGO_BIN_EXE_coordinated, which cargo sets")
        .into()
}

/// A running daemon and the folder it lives in. Killed when dropped.
pub struct Server {
    process: Process,
    addresses: Vec<String>,
    arguments: Vec<String>,
    /// Keep its ports from others while it is down.
    _reserved: Vec<Socket>,
    /// After the process, so that the folder goes last.
    folder: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Server {
    /// Starts a daemon on a new file and a free port.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// The same, with further arguments of `serve`.
    pub fn start_with(arguments: &[&str]) -> Server {
        let folder = TempDir::new().expect("a temporary folder");
        let db = folder.path().join("test.db").display().to_string();
        let mut all = vec!["serve", "--db", &db, "--listen", "127.0.0.1:0"];
        all.extend_from_slice(arguments);
        Server::start_in(folder, &all, &[])
    }

    /// Starts a daemon with a whole command line and environment, in `folder`, and waits until it
    /// listens on all that `--listen` or the environment names.
    pub fn start_in(folder: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let listeners = arguments
            .iter()
            .filter(|argument| **argument == "--listen")
            .count()
            .max(1);
        let (arguments, reserved) = with_reserved_ports(arguments);
        let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let process = Process::start(folder.path(), &borrowed, environment);
        Server::when_it_listens(process, listeners, arguments, reserved, folder)
    }

    /// Starts a daemon in `folder` as a user would who has set nothing in the environment.
    pub fn start_in_default_environment(folder: TempDir, arguments: &[&str]) -> Server {
        let mut command = command(folder.path(), arguments, &[]);
        command.env_remove("COORDINATED_HTTP");
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        Server::when_it_listens(Process::spawn(command), 1, arguments, Vec::new(), folder)
    }

    /// Starts a daemon on a new file and a free port, under a file mode creation mask.
    pub fn start_under_umask(umask: u32) -> Server {
        let folder = TempDir::new().expect("a temporary folder");
        let arguments = ["serve", "--db", "test.db", "--listen", "127.0.0.1:0"];
        let mut command = command(folder.path(), &arguments, &[]);
        // SAFETY: umask takes any value, can't fail, and may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::umask(umask);
                Ok(())
            });
        }
        let arguments = arguments.map(str::to_owned).to_vec();
        Server::when_it_listens(Process::spawn(command), 1, arguments, Vec::new(), folder)
    }

    fn when_it_listens(
        mut process: Process,
        listeners: usize,
        arguments: Vec<String>,
        reserved: Vec<Socket>,
        folder: TempDir,
    ) -> Server {
        let addresses = process.wait_for_addresses(listeners);
        Server {
            process,
            addresses,
            arguments,
            _reserved: reserved,
            folder,
        }
    }

    /// The first address that the daemon listens on.
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Where the daemon serves HTTP, such as `http://127.0.0.1:40123`, if `--http` names a TCP address.
    pub fn http(&self) -> String {
        let log = self.log();
        let line = log
            .lines()
            .find_map(|line| line.split_once("serving HTTP at "));
        line.expect("a line about HTTP").1.to_owned()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database file.
    pub fn db(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    pub fn pid(&self) -> i32 {
        self.process.child.id() as i32
    }

    /// What the daemon has written to stderr so far.
    pub fn log(&self) -> String {
        self.process.stderr_so_far()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the process id is that of a child that has not been waited for, so it is no other's.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "kill");
    }

    /// Waits for the daemon's end.
    pub fn wait(&mut self) -> Exit {
        self.process.wait()
    }

    /// Stops the daemon cleanly: SIGTERM, and how it ended.
    pub fn stop(&mut self) -> Exit {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Ends the daemon as a crash would.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }

    /// Starts the stopped daemon again: same file, same port.
    pub fn start_again(&mut self) {
        self.start_again_with(&[]);
    }

    /// The same, with further arguments this time.
    pub fn start_again_with(&mut self, more: &[&str]) {
        let arguments = self.arguments_again();
        let mut borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        borrowed.extend_from_slice(more);
        self.process = Process::start(self.folder.path(), &borrowed, &[]);
        self.addresses = self.process.wait_for_addresses(self.addresses.len());
    }

    /// Starts the stopped daemon on the same file, and kills it some time later, wherever it has come to.
    pub fn start_again_and_kill(&mut self, after: Duration) {
        let arguments = self.arguments_again();
        let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_and_kill(self.folder.path(), &borrowed, after);
    }

    /// The command line, with the ports that the system chose.
    fn arguments_again(&self) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        let mut addresses = self.addresses.iter();
        for i in 1..arguments.len() {
            if arguments[i - 1] == "--listen" {
                arguments[i].clone_from(addresses.next().expect("an address for each listener"));
            }
        }
        arguments
    }

    /// Stops the daemon cleanly and starts it again.
    pub fn restart(&mut self) {
        let exit = self.stop();
        assert_eq!(exit.code, Some(0), "a clean stop: {}", exit.stderr);
        self.start_again();
    }
}

/// A command line with a free port in place of each port 0 that it names, and the sockets that keep these ports
/// from everybody but the daemon: a daemon that is started again would lose its port if the system gave it to
/// somebody else in between.
///
/// A socket that is bound and does not listen shares its port with one that listens if both have `SO_REUSEADDR`, and
/// the system gives the port to nobody who asks for any free one.
fn with_reserved_ports(arguments: &[&str]) -> (Vec<String>, Vec<Socket>) {
    let mut arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let mut reserved = Vec::new();
    for i in 1..arguments.len() {
        let address = match arguments[i].parse::<SocketAddr>() {
            Ok(address) if arguments[i - 1] == "--listen" && address.port() == 0 => address,
            _ => continue,
        };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&address.into()).expect("a free port");
        let bound = socket.local_addr().expect("an address").as_socket();
        arguments[i] = bound.expect("an address of the Internet").to_string();
        reserved.push(socket);
    }
    (arguments, reserved)
}

/// Runs the program until it ends by itself.
///
/// # Panics
/// If it does not.
pub fn run_to_end(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Exit {
    Process::start(folder, arguments, environment).wait()
}

/// Runs the program with this on its standard input, until it ends by itself.
///
/// # Panics
/// If it does not.
pub fn run_with_input(
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: impl Into<Vec<u8>>,
) -> Exit {
    let mut running = Running::start(arguments, environment);
    let (mut stdin, input) = (running.input.take().expect("stdin"), input.into());
    // Beside it, and whether or not it takes all: it may well say that it has read enough.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let exit = running.wait();
    writer.join().expect("writer");
    exit
}

/// The program while it runs, with its standard input in our hands. Killed when dropped.
pub struct Running {
    process: Process,
    /// Its standard input; taken and dropped, it is closed.
    pub input: Option<ChildStdin>,
}

impl Running {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = command(Path::new("."), arguments, environment);
        command.stdin(Stdio::piped());
        let mut process = Process::spawn(command);
        let input = process.child.stdin.take();
        Running { process, input }
    }

    pub fn write(&mut self, input: impl AsRef<[u8]>) {
        let stdin = self.input.as_mut().expect("it is open");
        stdin.write_all(input.as_ref()).expect("write");
    }

    pub fn pid(&self) -> i32 {
        self.process.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the process id is that of a child that has not been waited for, so it is no other's.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "kill");
    }

    pub fn wait(mut self) -> Exit {
        self.process.wait()
    }
}

/// Runs the program, and kills it some time later, wherever it has come to.
pub fn run_and_kill(folder: &Path, arguments: &[&str], after: Duration) {
    let mut process = Process::start(folder, arguments, &[]);
    std::thread::sleep(after);
    process.child.kill().expect("kill");
    process.wait();
}

struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    stdout: Arc<Mutex<String>>,
}

/// The program with nothing of this process' own settings for it.
fn command(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| {
        name.starts_with("COORDINATED_")
            || matches!(
                name.as_str(),
                "RUST_LOG" | "NOTIFY_SOCKET" | "WATCHDOG_USEC"
            )
    }) {
        command.env_remove(name);
    }
    if matches!(arguments.first(), None | Some(&"serve")) {
        // Its default address is one for the whole machine.
        command.env("COORDINATED_HTTP", "off");
    }
    command.envs(environment.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Process {
    fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        Process::spawn(command(folder, arguments, environment))
    }

    fn spawn(mut command: Command) -> Process {
        let mut child = command.spawn().expect("the program starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let stdout = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            collect(child.stderr.take().expect("stderr"), Arc::clone(&stderr)),
            collect(child.stdout.take().expect("stdout"), Arc::clone(&stdout)),
        ];
        Process {
            child,
            stderr,
            readers,
            stdout,
        }
    }

    fn stderr_so_far(&self) -> String {
        self.stderr.lock().expect("stderr").clone()
    }

    fn wait_for_addresses(&mut self, count: usize) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let addresses = listening_on(&self.stderr_so_far());
            if addresses.len() >= count {
                return addresses;
            }
            let ended = self.child.try_wait().expect("wait").is_some();
            assert!(
                !ended,
                "the daemon ended at its start: {}",
                self.wait().stderr
            );
            assert!(
                begin.elapsed() < PATIENCE,
                "it does not listen: {}",
                self.stderr_so_far()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait(&mut self) -> Exit {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "the process does not end: {}",
                self.stderr_so_far()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        self.readers
            .drain(..)
            .for_each(|reader| reader.join().expect("reader"));
        Exit {
            code: status.code(),
            stdout: self.stdout.lock().expect("stdout").clone(),
            stderr: self.stderr_so_far(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail for a process that has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses in whole lines that say `listening on ADDRESS`.
fn listening_on(log: &str) -> Vec<String> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole
        .lines()
        .filter_map(|line| line.split_once("listening on "))
        .map(|(_, rest)| {
            rest.split(['"', ' ', '\u{1b}', ','])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

fn collect(source: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            into.lock()
                .expect("text")
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
