//! Workers: the real `coordinated work` against the real daemon, and functions run by `coordinated_client::worker`.

mod ending;
mod failing;
mod functions;
mod original;
mod output_files;
mod running;
mod storm;
mod waiting;

use coordinated_client::cbor::json;
use coordinated_client::{Coordinate, Name, UnitQuery};
use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use test_support::{Exit, Server, run_to_end, wait_until};

/// Runs a worker in the daemon's folder until it ends by itself.
fn work(server: &Server, arguments: &[&str]) -> Exit {
    let arguments = [&["work"], arguments].concat();
    let folder = server.folder().to_str().expect("UTF-8");
    let environment = [("COORDINATED_SERVER", server.address()), ("TMPDIR", folder)];
    run_to_end(server.folder(), &arguments, &environment)
}

/// Works on all units of `ws` with a shell script, whose arguments follow it; all must be well.
fn work_on_all(server: &Server, options: &[&str], script: &[&str]) -> String {
    let exit = work(server, &on_all(options, script));
    assert_eq!(exit.code, Some(0), "{}{}", exit.stdout, exit.stderr);
    exit.stdout
}

/// The arguments for that.
fn on_all<'a>(options: &[&'a str], script: &[&'a str]) -> Vec<&'a str> {
    let (script, arguments) = script.split_first().expect("a script");
    let worker = ["--spec", "ws", "--until-empty"];
    [
        &worker,
        options,
        &["--", "sh", "-c", script, "sh"],
        arguments,
    ]
    .concat()
}

/// The data of a unit of `ws`, as JSON.
fn data(server: &Server, key: &str) -> String {
    let mut client =
        Coordinate::connect(&server.address().parse().expect("an address")).expect("connect");
    let query = UnitQuery {
        keys: vec![Name::from(key)],
        ..UnitQuery::default()
    };
    let units = client.get_work_units(&"ws".into(), &query).expect("units");
    let data = units[0].data.as_ref().expect("it is there");
    json::to_json(data).to_string()
}

/// What a unit of `ws` says of its failure.
fn traceback(server: &Server, key: &str) -> String {
    let data = data(server, key);
    let data: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    data["traceback"].as_str().expect("a traceback").to_owned()
}

/// What a file in the daemon's folder has; nothing if it is not there.
fn contents(server: &Server, file: &str) -> String {
    std::fs::read_to_string(server.folder().join(file)).unwrap_or_default()
}

/// Makes a file in the daemon's folder.
fn touch(server: &Server, file: &str) {
    File::create(server.folder().join(file)).expect("create");
}

/// A worker that runs beside the test. Killed when dropped, but not what it has started.
struct Running {
    child: Child,
    said: std::path::PathBuf,
}

impl Running {
    fn start(server: &Server, arguments: &[&str]) -> Running {
        let folder = server.folder();
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let said = folder.join(format!("said-{number}"));
        let output = File::create(&said).expect("create");
        let child = Command::new(env!("CARGO_BIN_EXE_coordinated"))
            .arg("work")
            .args(arguments)
            .env("COORDINATED_SERVER", server.address())
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("clone"))
            .stderr(output)
            .spawn()
            .expect("start");
        Running { child, said }
    }

    /// All that it has written.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("what it said")
    }

    fn wait_for(&self, text: &str) {
        wait_until(&format!("it says {text:?}: {}", self.said()), || {
            self.said().contains(text)
        });
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process id is that of a child that has not been waited for, so it is no other's.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0, "kill");
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    fn end(&mut self) -> ExitStatus {
        wait_until("the worker ends", || self.has_ended());
        self.child.wait().expect("wait")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail for a process that has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
