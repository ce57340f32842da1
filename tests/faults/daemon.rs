//! The daemon itself, when the system fails its writes and syncs, or a real limit does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;
use test_support::state::look_at;
use test_support::{AVAILABLE, Client, Reply, Server, Value, diag, frame, reply};

/// The library that lets writes and syncs fail and clocks be set, which needs the C compiler that SQLite needed too.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/daemon.c");
        let compiler = std::env::var("CC").unwrap_or("cc".to_owned());
        let status = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .args([&path, &source])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{compiler} fails"
        );
        path
    })
}

/// A daemon whose writes and syncs fail while a file of that name is in its folder. Its clock is ahead by so many
/// seconds as the file `ahead` says.
pub(super) fn start() -> Server {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().display().to_string();
    let environment = [
        ("LD_PRELOAD", library().to_str().expect("a path in UTF-8")),
        ("FAULTS", path.as_str()),
    ];
    let arguments = ["serve", "--db", "test.db", "--listen", "127.0.0.1:0"];
    Server::start_in(folder, &arguments, &environment)
}

pub(super) fn break_by(server: &Server, failure: &str) {
    std::fs::write(server.folder().join(failure), "").expect("write");
}

pub(super) fn repair(server: &Server, failure: &str) {
    std::fs::remove_file(server.folder().join(failure)).expect("remove");
}

fn add(n: usize) -> Vec<u8> {
    frame(&diag(&format!(
        "{{'id': {n}, 'method': 'add_work_units', 'params': ['ws', [['u{n:05}', {{}}]]]}}"
    )))
}

#[test]
fn a_write_or_sync_that_fails_ends_the_daemon_and_nothing_that_was_answered_is_lost() {
    for failure in ["write", "sync"] {
        let mut server = start();
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        client.add("ws", "['answered', {}]");
        break_by(&server, failure);
        // More than one batch.
        let requests: Vec<u8> = (0..3_000).flat_map(add).collect();
        client.send(&requests);
        let answers = client.answers_until_closed();
        assert!(
            (1..3_000).contains(&answers.len()),
            "{} answers",
            answers.len()
        );
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(*answer.at("id"), Value::Unsigned(n as u64));
            let Reply::Error(error) = reply(answer) else {
                panic!("{answer}");
            };
            assert!(error.contains("outcome unknown"), "{error}");
        }
        let exit = server.wait();
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        let last = exit.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("the disk failed"), "{}", exit.stderr);
        server.start_again();
        let mut client = server.connect();
        let count = client.counts("ws")[&AVAILABLE];
        let whole = 1 + answers.len() as u64;
        assert!(
            count == 1 || count == whole,
            "{count}, neither 1 nor {whole}"
        );
        assert_eq!(client.state("ws", "answered"), AVAILABLE);
        assert_eq!(server.stop().code, Some(0));
        look_at(&server.db());
    }
}

/// Adds units until there is no room, and then some more; gives how many were added.
fn fill(client: &mut Client, from: usize) -> usize {
    let data = "x".repeat(1_000);
    let add = |client: &mut Client, n: usize| {
        let params = format!("['ws', [['u{n}', {{'text': '{data}'}}]]]");
        client.request("add_work_units", diag(&params))
    };
    let mut added = from;
    let error = loop {
        match add(client, added) {
            Reply::Result(_) => added += 1,
            Reply::Error(error) => break error,
        }
        assert!(added < from + 50_000, "there is no end to the room");
    };
    for _ in 0..3 {
        assert_eq!(add(client, added), Reply::Error(error.clone()));
    }
    assert!(
        error.contains("nothing was changed: the disk is full"),
        "{error}"
    );
    // What is there can be read, and is what was answered.
    assert_eq!(client.counts("ws"), [(AVAILABLE, added as u64)].into());
    added
}

#[test]
fn a_full_disk_is_answered_and_once_there_is_room_the_daemon_goes_on() {
    let mut server = start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['u0', {}]");
    break_by(&server, "full");
    let mut added = fill(&mut client, 1);
    repair(&server, "full");
    for n in added..added + 10 {
        client.add("ws", &format!("['u{n}', {{}}]"));
    }
    added += 10;
    assert_eq!(client.counts("ws"), [(AVAILABLE, added as u64)].into());
    server.kill();
    server.start_again();
    assert_eq!(
        server.connect().counts("ws"),
        [(AVAILABLE, added as u64)].into()
    );
    assert_eq!(server.stop().code, Some(0));
    look_at(&server.db());
}

#[test]
fn a_daemon_that_was_killed_starts_on_a_full_disk_and_serves_who_reads() {
    let mut server = start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['u0', {}]");
    break_by(&server, "full");
    server.kill();
    // It can't note that the rates of the last seconds are missing.
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(AVAILABLE, 1)].into());
    repair(&server, "full");
    server.connect().add("ws", "['u1', {}]");
    assert_eq!(server.stop().code, Some(0));
    look_at(&server.db());
}

/// Limits the size of the files that the daemon writes.
fn limit_files(server: &Server, bytes: libc::rlim_t) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the process is a child that has not been waited for, and the limit outlives the call.
    let result = unsafe {
        libc::prlimit(
            server.pid(),
            libc::RLIMIT_FSIZE,
            &limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_the_daemon_goes_on_beyond_it() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    limit_files(&server, 1 << 20);
    let mut added = fill(&mut client, 0);
    assert!(added > 0);
    limit_files(&server, 2 << 20);
    added = fill(&mut client, added);
    limit_files(&server, libc::RLIM_INFINITY);
    client.add("ws", &format!("['u{added}', {{}}]"));
    added += 1;
    server.restart();
    assert_eq!(
        server.connect().counts("ws"),
        [(AVAILABLE, added as u64)].into()
    );
    assert_eq!(server.stop().code, Some(0));
    look_at(&server.db());
}
