//! Promise: a backup made at any time is the database's state at one moment, in one whole file that a
//! restore or a plain copy brings back; whatever goes wrong, no half file takes a name that matters, and
//! nothing is overwritten unasked. The same for compaction. Tries to break it with load, kills, damage,
//! other programs and stale logs.

use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use test_support::{Client, Exit, Server, run_to_end, wait_until};

/// The names of what is in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = folder
        .read_dir()
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("name")
        })
        .collect();
    names.sort();
    names
}

/// Runs the program in the server's folder, on its database.
fn run(server: &Server, arguments: &[&str]) -> Exit {
    let db = server.db().display().to_string();
    run_to_end(server.folder(), arguments, &[("COORDINATED_DB", &db)])
}

fn succeeds(exit: &Exit) {
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert_eq!(exit.stderr, "");
}

/// One line on stderr, which has these words in it.
fn fails(exit: &Exit, words: &[&str]) {
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    for word in words {
        assert!(exit.stderr.contains(word), "{word:?} in {}", exit.stderr);
    }
}

/// A database of some MiB, so that copying it takes a while.
fn server_with_much_data(mib: usize) -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'large'}");
    let data = "x".repeat(1 << 20);
    for n in 0..mib {
        client.add("large", &format!("['l{n:04}', {{'x': '{data}'}}]"));
    }
    client.set_spec("{'name': 'ws'}");
    (server, client)
}

/// Adds units in pairs, one call for each pair, until told to stop; finishes every second unit it is
/// given. Notes the last pair that was answered.
fn load(server: &Server, name: &str, done: &AtomicBool, answered: &AtomicU64) {
    let mut client = server.connect();
    for n in 1.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        client.add(
            "ws",
            &format!("['p-{name}-{n}', {{}}], ['q-{name}-{n}', {{}}]"),
        );
        answered.store(n, Ordering::SeqCst);
        let taken = client.take_with("w", "{'work_spec_names': ['ws']}");
        if let Some(work) = taken
            && n % 2 == 0
        {
            let key = work.key.name().expect("a key");
            client.update(&work.spec, &key, "{'status': 4}");
        }
    }
}

/// How many units of a database have names that begin so.
fn count_named(db: &Path, prefix: &str) -> u64 {
    let sql = "SELECT count(*) FROM work_unit WHERE CAST(name AS TEXT) GLOB ?1 || '*'";
    Connection::open(db)
        .and_then(|db| db.query_row(sql, [prefix], |row| row.get(0)))
        .expect("count")
}

fn passes_the_check(server: &Server, db: &Path) {
    let exit = run(server, &["check", &db.display().to_string()]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

/// Kills a started program when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    fn start(folder: &Path, arguments: &[&str]) -> Started {
        let child = Command::new(env!("CARGO_BIN_EXE_coordinated"))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Started(child.expect("the program starts"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("wait").is_some()
    }

    fn signal(&mut self, signal: i32) {
        // SAFETY: the process id is that of a child that has not been waited for, so it is no other's.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0, "kill");
    }

    fn wait(&mut self) -> ExitStatus {
        wait_until("the program ends", || self.has_ended());
        self.0.wait().expect("wait")
    }
}

fn has_partial(folder: &Path) -> bool {
    files(folder).iter().any(|name| name.ends_with(".partial"))
}

// --- backup and restore ---

#[test]
fn a_backup_made_under_load_is_of_one_moment_and_comes_back_by_restore_and_by_copy() {
    let (mut server, mut client) = server_with_much_data(24);
    let done = AtomicBool::new(false);
    let answered = [AtomicU64::new(0), AtomicU64::new(0)];
    let backup = server.folder().join("backup.db");
    std::thread::scope(|scope| {
        for (name, answered) in ["a", "b"].into_iter().zip(&answered) {
            let (server, done) = (&server, &done);
            scope.spawn(move || load(server, name, done, answered));
        }
        wait_until("there is load", || {
            answered.iter().all(|n| n.load(Ordering::SeqCst) > 20)
        });
        let before = answered.each_ref().map(|n| n.load(Ordering::SeqCst));
        // It ends though others never stop to write.
        succeeds(&run(&server, &["backup", "backup.db"]));
        let after = answered.each_ref().map(|n| n.load(Ordering::SeqCst));
        done.store(true, Ordering::Relaxed);
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            let pairs = count_named(&backup, &format!("p-{name}-"));
            assert_eq!(
                pairs,
                count_named(&backup, &format!("q-{name}-")),
                "whole pairs"
            );
            assert!(pairs >= before[index], "{pairs} and {before:?}");
            assert!(after[index] > before[index], "the load went on");
        }
    });
    let mode = backup.metadata().expect("the backup").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    passes_the_check(&server, &backup);
    let beside: Vec<String> = files(server.folder())
        .into_iter()
        .filter(|name| name.contains("backup.db"))
        .collect();
    assert_eq!(beside, ["backup.db"]);
    let counts_of = |db: &Path| {
        let mut other = Server::start_in(
            TempDir::new().expect("a folder"),
            &[
                "serve",
                "--db",
                &db.display().to_string(),
                "--listen",
                "127.0.0.1:0",
            ],
            &[],
        );
        let mut client = other.connect();
        let counts = (client.counts("ws"), client.counts("large"));
        assert_eq!(other.stop().code, Some(0));
        counts
    };
    let folder = TempDir::new().expect("a folder");
    let (restored, copied) = (
        folder.path().join("restored.db"),
        folder.path().join("copied.db"),
    );
    let exit = run_to_end(
        folder.path(),
        &[
            "restore",
            &backup.display().to_string(),
            "--db",
            "restored.db",
        ],
        &[],
    );
    succeeds(&exit);
    std::fs::copy(&backup, &copied).expect("copy");
    assert_eq!(files(folder.path()), ["copied.db", "restored.db"]);
    let (by_restore, by_copy) = (counts_of(&restored), counts_of(&copied));
    assert_eq!(by_restore, by_copy);
    let pairs = count_named(&backup, "p-") * 2;
    assert_eq!(by_restore.0.values().sum::<u64>(), pairs);
    assert_eq!(by_restore.1.values().sum::<u64>(), 24);
    assert!(
        client.counts("ws").values().sum::<u64>() > pairs,
        "more came after the backup"
    );
    // Back in the daemon's own place.
    fails(
        &run(&server, &["restore", "backup.db", "--force"]),
        &["in use", "process"],
    );
    assert_eq!(server.stop().code, Some(0));
    fails(
        &run(&server, &["restore", "backup.db"]),
        &["test.db already exists", "--force"],
    );
    succeeds(&run(&server, &["restore", "backup.db", "--force"]));
    server.start_again();
    assert_eq!(server.connect().counts("ws"), by_restore.0);
}

#[test]
fn a_stopped_database_is_backed_up_and_left_as_it_was() {
    let (mut server, _) = server_with_much_data(1);
    server.stop();
    let before = std::fs::read(server.db()).expect("read");
    succeeds(&run(&server, &["backup", "backup.db"]));
    assert!(before == std::fs::read(server.db()).expect("read"));
    assert_eq!(files(server.folder()), ["backup.db", "test.db"]);
}

#[test]
fn a_backup_holds_what_only_the_wal_of_a_killed_daemon_has() {
    let (mut server, mut client) = server_with_much_data(1);
    client.add("ws", "['last', {}]");
    server.kill();
    let log = server.folder().join("test.db-wal");
    assert!(log.metadata().expect("a log").len() > 0);
    succeeds(&run(&server, &["backup", "backup.db"]));
    assert_eq!(count_named(&server.folder().join("backup.db"), "last"), 1);
}

#[test]
fn a_backup_overwrites_only_when_told_to_and_never_a_database_in_use() {
    let (server, mut client) = server_with_much_data(1);
    let backup = server.folder().join("backup.db");
    std::fs::write(&backup, "something of value").expect("write");
    fails(
        &run(&server, &["backup", "backup.db"]),
        &["backup.db already exists", "--force"],
    );
    assert_eq!(std::fs::read(&backup).expect("read"), b"something of value");
    std::fs::set_permissions(&backup, std::fs::Permissions::from_mode(0o644)).expect("mode");
    succeeds(&run(&server, &["backup", "backup.db", "--force"]));
    let mode = backup.metadata().expect("the backup").permissions().mode();
    assert_eq!(
        mode & 0o777,
        0o600,
        "nobody else reads what they could not read before"
    );
    passes_the_check(&server, &backup);
    client.add("ws", "['later', {}]");
    succeeds(&run(&server, &["backup", "--force", "backup.db"]));
    assert_eq!(count_named(&backup, "later"), 1);
    // Its own database, also by another name, and that of another daemon.
    std::os::unix::fs::symlink(server.db(), server.folder().join("link.db")).expect("link");
    for name in ["test.db", "link.db"] {
        fails(
            &run(&server, &["backup", "--force", name]),
            &[name, "is the file to be copied"],
        );
    }
    let (other, mut client) = test_support::server_with_spec();
    let db = other.db().display().to_string();
    fails(&run(&server, &["backup", &db]), &["exists"]);
    fails(&run(&server, &["backup", "--force", &db]), &["in use", &db]);
    assert_eq!(client.spec_names(), ["ws"]);
    client.add("ws", "['a', {}]");
}

#[test]
fn a_wal_without_its_database_does_not_get_into_a_backup() {
    let (mut server, mut client) = server_with_much_data(1);
    client.add("ws", "['last', {}]");
    // The WAL of another database that was deleted without it.
    let (mut other, mut client) = test_support::server_with_spec();
    client.add("ws", "['stranger', {}]");
    other.kill();
    let stale = server.folder().join("backup.db-wal");
    std::fs::copy(other.folder().join("test.db-wal"), &stale).expect("copy");
    fails(
        &run(&server, &["backup", "backup.db"]),
        &["backup.db-wal already exists"],
    );
    succeeds(&run(&server, &["backup", "backup.db", "--force"]));
    assert!(!stale.exists());
    let backup = server.folder().join("backup.db");
    assert_eq!(
        (
            count_named(&backup, "last"),
            count_named(&backup, "stranger")
        ),
        (1, 0)
    );
    // Nor does it get into a database that is restored.
    server.stop();
    std::fs::remove_file(server.db()).expect("remove");
    let stale = server.folder().join("test.db-wal");
    std::fs::copy(other.folder().join("test.db-wal"), &stale).expect("copy");
    let refused = run(&server, &["restore", "backup.db"]);
    fails(&refused, &["test.db", "log", "move the WAL away"]);
    assert!(stale.exists());
    succeeds(&run(&server, &["restore", "backup.db", "--force"]));
    assert!(!stale.exists());
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(1, 1)].into());
}

#[test]
fn a_restore_replaces_a_database_with_the_wal_of_a_crash_and_a_damaged_one() {
    let (mut server, mut client) = server_with_much_data(1);
    succeeds(&run(&server, &["backup", "backup.db"]));
    client.add("ws", "['gone', {}]");
    server.kill();
    succeeds(&run(&server, &["restore", "backup.db", "--force"]));
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [].into());
    server.stop();
    std::fs::write(server.db(), "no database at all".repeat(1_000)).expect("write");
    succeeds(&run(&server, &["restore", "backup.db", "--force"]));
    server.start_again();
    assert_eq!(server.connect().counts("large"), [(1, 1)].into());
    server.stop();
    assert_eq!(files(server.folder()), ["backup.db", "test.db"]);
}

#[test]
fn what_another_program_has_open_is_not_replaced() {
    let (mut server, _) = server_with_much_data(1);
    succeeds(&run(&server, &["backup", "backup.db"]));
    server.stop();
    let before = std::fs::read(server.db()).expect("read");
    let reader = Connection::open(server.db()).expect("open");
    let count = || {
        let sql = "SELECT count(*) FROM work_unit";
        reader
            .query_row(sql, [], |row| row.get::<_, u64>(0))
            .expect("count")
    };
    assert_eq!(count(), 1);
    for command in [&["restore", "backup.db", "--force"][..], &["compact"]] {
        fails(
            &run(&server, command),
            &["another program has", "test.db open"],
        );
        assert_eq!(count(), 1);
    }
    drop(reader);
    assert!(before == std::fs::read(server.db()).expect("read"));
    succeeds(&run(&server, &["restore", "backup.db", "--force"]));
}

#[test]
fn nothing_is_made_from_a_database_that_is_not_in_order() {
    let (mut server, _) = server_with_much_data(2);
    succeeds(&run(&server, &["backup", "good.db"]));
    server.stop();
    let good = server.folder().join("good.db");
    let original = std::fs::read(&good).expect("read");
    let bad = server.folder().join("bad.db");
    let bad_db = bad.display().to_string();
    let damage = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = original.clone();
        spoil(&mut bytes);
        std::fs::write(&bad, bytes).expect("write");
    };
    let before = std::fs::read(server.db()).expect("read");
    let refused = |words: &[&str]| {
        let backup = run(&server, &["backup", "new.db", "--db", &bad_db]);
        fails(&backup, words);
        fails(&run(&server, &["restore", "bad.db", "--force"]), words);
        fails(&run(&server, &["compact", "--db", &bad_db]), &["bad.db"]);
        assert!(before == std::fs::read(server.db()).expect("read"));
        assert_eq!(files(server.folder()), ["bad.db", "good.db", "test.db"]);
    };
    // Half of it, a page of zeros, and wrong counts in a file that is whole.
    damage(&|bytes| bytes.truncate(bytes.len() / 2));
    refused(&["bad.db"]);
    damage(&|bytes| bytes[8 * 4096..9 * 4096].fill(0));
    refused(&["bad.db"]);
    damage(&|_| {});
    Connection::open(&bad)
        .and_then(|db| db.execute("UPDATE work_unit_count SET failed = 3", []))
        .expect("spoil");
    refused(&["bad.db is damaged", "failed units"]);
    // SQLite finds nothing wrong with a value that clients can't decode.
    damage(&|_| {});
    Connection::open(&bad)
        .and_then(|db| db.execute("UPDATE work_unit SET data = x'a1' WHERE id = 1", []))
        .expect("spoil");
    refused(&["bad.db is damaged", "can't be decoded"]);
    damage(&|bytes| bytes[..100].fill(7));
    refused(&["bad.db", "not an SQLite database"]);
}

/// Starts a command that makes a file in `folder`, and sends it a signal while it does so. If the machine
/// was too busy to do that in time, it prepares and tries again.
fn interrupt(folder: &Path, arguments: &[&str], signal: i32, prepare: &dyn Fn()) {
    for _ in 0..20 {
        prepare();
        let mut command = Started::start(folder, arguments);
        wait_until("it has begun", || {
            has_partial(folder) || command.has_ended()
        });
        if command.has_ended() {
            continue;
        }
        command.signal(signal);
        if !command.wait().success() {
            return;
        }
    }
    panic!("{arguments:?} is always too fast to be interrupted");
}

#[test]
fn a_killed_backup_leaves_no_half_file_and_a_stopped_one_leaves_none() {
    let (server, _client) = server_with_much_data(48);
    let db = server.db().display().to_string();
    let folder = TempDir::new().expect("a folder");
    let dest = folder.path().join("backup.db");
    let clear = || {
        for name in files(folder.path()) {
            std::fs::remove_file(folder.path().join(name)).expect("remove");
        }
    };
    let arguments = ["backup", "backup.db", "--db", &db];
    interrupt(folder.path(), &arguments, libc::SIGKILL, &clear);
    let left = files(folder.path());
    assert!(!left.is_empty());
    for name in left {
        let is_leftover = name.starts_with(".backup.db-") && name.contains(".partial");
        assert!(is_leftover, "{name}");
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        interrupt(folder.path(), &arguments, signal, &clear);
        assert_eq!(files(folder.path()), [""; 0], "after signal {signal}");
    }
    succeeds(&run(&server, &["backup", &dest.display().to_string()]));
    assert_eq!(files(folder.path()), ["backup.db"]);
}

// --- backups that the daemon makes ---

fn stamp(ago: Duration) -> String {
    let time = humantime::format_rfc3339_seconds(SystemTime::now() - ago).to_string();
    format!("test-{}.db", time.replace(':', ""))
}

const HOUR: Duration = Duration::from_secs(3_600);

/// The backups in a folder, but for the old names that are none.
fn backups_in(folder: &Path) -> Vec<PathBuf> {
    let is_backup = |name: &String| {
        name.starts_with("test-20") && !name.starts_with("test-2001-1") && name.ends_with("Z.db")
    };
    let names = files(folder).into_iter().filter(is_backup);
    names.map(|name| folder.join(name)).collect()
}

#[test]
fn the_daemon_makes_backups_and_removes_the_oldest_of_its_own_only() {
    let folder = TempDir::new().expect("a folder");
    let others = [
        "other-2001-01-01T000000Z.db",
        "test-2001-01-01T000000Z.db.old",
        "test-2001-13-01T000000Z.db",
        "test-2001-1-1T000000Z.db",
        "test-notes.db",
        "xtest-2001-01-01T000000Z.db",
    ];
    for name in others {
        std::fs::write(folder.path().join(name), name).expect("write");
    }
    for hours in 1..5 {
        std::fs::write(folder.path().join(stamp(HOUR * hours)), "old").expect("write");
    }
    let leftover = folder
        .path()
        .join(".test-2001-01-01T000000Z.db-a1B2c3.partial");
    std::fs::write(&leftover, "half").expect("write");
    let dir = folder.path().display().to_string();
    let mut server = Server::start_with(&[
        "--backup-dir",
        &dir,
        "--backup-every",
        "1s",
        "--backup-keep",
        "3",
    ]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    wait_until("there are backups", || {
        server.log().matches("backup made").count() >= 4
    });
    assert_eq!(server.stop().code, Some(0));
    let backups = backups_in(folder.path());
    assert_eq!(backups.len(), 3, "{backups:?}");
    for backup in &backups {
        passes_the_check(&server, backup);
    }
    assert_eq!(count_named(&backups[2], "a"), 1);
    assert!(!leftover.exists());
    for name in others {
        let text = std::fs::read_to_string(folder.path().join(name)).expect("it is there");
        assert_eq!(text, name);
    }
    assert_eq!(files(folder.path()).len(), 3 + others.len());
    assert_eq!(
        files(server.folder()),
        ["test.db"],
        "a clean stop leaves one file"
    );
}

#[test]
fn a_daemon_that_starts_anew_makes_a_backup_only_if_the_newest_one_is_old() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().display().to_string();
    std::fs::write(folder.path().join(stamp(HOUR / 2)), "recent").expect("write");
    let mut server = Server::start_with(&["--backup-dir", &dir, "--backup-every", "1h"]);
    // Ended and begun a few times, it would have made one by now if it made one at each start.
    for _ in 0..3 {
        server.connect().set_spec("{'name': 'ws'}");
        std::thread::sleep(Duration::from_millis(100));
        server.restart();
    }
    assert_eq!(backups_in(folder.path()).len(), 1);
    std::fs::remove_file(&backups_in(folder.path())[0]).expect("remove");
    std::fs::write(folder.path().join(stamp(HOUR * 2)), "old").expect("write");
    server.restart();
    wait_until("there is a backup", || server.log().contains("backup made"));
    assert_eq!(backups_in(folder.path()).len(), 2);
}

#[test]
fn backups_from_the_future_neither_put_the_next_one_off_nor_outlive_it() {
    let folder = TempDir::new().expect("a folder");
    for day in ["01", "02"] {
        let name = format!("test-2098-01-{day}T000000Z.db");
        std::fs::write(folder.path().join(name), "from the future").expect("write");
    }
    let dir = folder.path().display().to_string();
    let limits = ["--backup-every", "1h", "--backup-keep", "2"];
    let server = Server::start_with(&[&["--backup-dir", &dir][..], &limits].concat());
    wait_until("there is a backup", || server.log().contains("backup made"));
    let names = || -> Vec<String> {
        let name = |path: &PathBuf| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        };
        backups_in(folder.path()).iter().map(name).collect()
    };
    wait_until("two are left", || names().len() == 2);
    let names = names();
    assert!(!names[0].contains("2098"), "{names:?}");
    assert_eq!(names[1], "test-2098-01-02T000000Z.db");
}

#[test]
fn backups_that_fail_are_logged_and_tried_again_while_the_daemon_serves() {
    let parent = TempDir::new().expect("a folder");
    let folder = parent.path().join("backups");
    std::fs::create_dir(&folder).expect("make");
    let dir = folder.display().to_string();
    let server = Server::start_with(&["--backup-dir", &dir, "--backup-every", "1s"]);
    wait_until("there is a backup", || server.log().contains("backup made"));
    let away = parent.path().join("away");
    std::fs::rename(&folder, &away).expect("rename");
    wait_until("it is warned", || {
        server.log().contains("no backup was made")
    });
    assert!(server.log().contains("WARN"), "{}", server.log());
    server.connect().set_spec("{'name': 'ws'}");
    let before = backups_in(&away).len();
    std::fs::rename(&away, &folder).expect("rename");
    wait_until("there is another backup", || {
        backups_in(&folder).len() > before
    });
}

#[test]
fn flags_for_backups_that_can_not_be_made_stop_the_start() {
    let folder = TempDir::new().expect("a folder");
    let start = |arguments: &[&str]| {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        run_to_end(folder.path(), &all, &[])
    };
    fails(
        &start(&["--backup-dir", "missing"]),
        &["missing", "--backup-dir"],
    );
    fails(
        &start(&["--db", ":memory:", "--backup-dir", "."]),
        &["in memory", "--db"],
    );
    for wrong in [
        &["--backup-every", "1h"][..],
        &["--backup-keep", "3"],
        &["--backup-dir", ".", "--backup-every", "10ms"],
        &["--backup-dir", ".", "--backup-keep", "0"],
    ] {
        let exit = start(wrong);
        assert_eq!(exit.code, Some(2), "{wrong:?}: {exit:?}");
    }
}

// --- compaction ---

/// A stopped database of which most is free pages.
fn database_with_free_pages(mib: usize) -> Server {
    let (mut server, mut client) = server_with_much_data(mib);
    client.add("ws", "['a', {}]");
    client.value("del_work_units", "'large', {'all': true}");
    // Otherwise an idle daemon may wait a minute before it begins to remove them.
    server.restart();
    wait_until("the units are removed", || {
        count_named(&server.db(), "l") == 0
    });
    server.stop();
    server
}

#[test]
fn compaction_gives_free_pages_back_and_keeps_all_else() {
    let mut server = database_with_free_pages(16);
    let db = server.db();
    std::fs::set_permissions(&db, std::fs::Permissions::from_mode(0o640)).expect("mode");
    let size = || db.metadata().expect("the database").len();
    let before = size();
    assert!(before > 16 << 20);
    let exit = run(&server, &["compact"]);
    succeeds(&exit);
    assert!(exit.stdout.contains("free pages"), "{}", exit.stdout);
    assert!(
        exit.stdout.contains("of free space beside it"),
        "{}",
        exit.stdout
    );
    assert!(size() < before / 10, "{before} and {}", size());
    assert_eq!(
        db.metadata().expect("mode").permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(files(server.folder()), ["test.db"]);
    passes_the_check(&server, &db);
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(1, 1)].into());
    fails(&run(&server, &["compact"]), &["in use", "process"]);
}

#[test]
fn a_killed_compaction_leaves_the_database_as_it_was() {
    let (mut server, _) = server_with_much_data(48);
    server.stop();
    let before = std::fs::read(server.db()).expect("read");
    let db = server.db().display().to_string();
    let prepare = || std::fs::write(server.db(), &before).expect("write");
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        interrupt(server.folder(), &["compact", "--db", &db], signal, &prepare);
        assert!(before == std::fs::read(server.db()).expect("read"));
        for name in files(server.folder()) {
            if name.contains(".partial") {
                assert_eq!(signal, libc::SIGKILL, "{name} is left");
                std::fs::remove_file(server.folder().join(name)).expect("remove");
            }
        }
    }
    succeeds(&run(&server, &["compact"]));
    passes_the_check(&server, &server.db());
    server.start_again();
    assert_eq!(server.connect().counts("large"), [(1, 48)].into());
}
