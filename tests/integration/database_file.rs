//! Promise: a database is one file with one name and one owner. Whatever the path looks like and whatever else is in the
//! folder, nobody writes to a file that another daemon has, no WAL is taken for that of another database or thrown away,
//! and no file is touched that a link leads to.

use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use test_support::{Exit, Reply, Server, diag, frame, reply, run_to_end, unframe};

const SERVE: [&str; 4] = ["serve", "--listen", "127.0.0.1:0", "--db"];

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// A daemon on a database of that name in the folder.
fn serve(folder: TempDir, db: &str) -> Server {
    Server::start_in(folder, &[&SERVE[..], &[db]].concat(), &[])
}

/// Tries to start a daemon, which has to end by itself.
fn try_to_serve(folder: &Path, db: &str) -> Exit {
    run_to_end(folder, &[&SERVE[..], &[db]].concat(), &[])
}

/// One line on stderr with these words in it, and that exit code.
fn fails_with(code: i32, exit: &Exit, words: &[&str]) {
    assert_eq!(exit.code, Some(code), "{exit:?}");
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    for word in words {
        assert!(exit.stderr.contains(word), "{word:?} in {}", exit.stderr);
    }
}

fn fails(exit: &Exit, words: &[&str]) {
    fails_with(1, exit, words);
}

fn add_unit(server: &Server, key: &str) {
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", &format!("['{key}', {{}}]"));
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
    names.sort();
    names
}

// --- names ---

#[test]
fn a_path_that_looks_like_a_uri_is_a_path_for_every_command() {
    let mut server = serve(folder(), "file:queue.db?mode=memory&vfs=none#x");
    add_unit(&server, "a");
    let name = "file:queue.db?mode=memory&vfs=none#x";
    let folder = server.folder().to_owned();
    let run = |arguments: &[&str]| run_to_end(&folder, arguments, &[("COORDINATED_DB", name)]);
    let here = server.folder().join(name);
    let mode = here.metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    fails(&try_to_serve(server.folder(), name), &["in use", "process"]);
    let good = |exit: Exit| assert_eq!((exit.code, &*exit.stderr), (Some(0), ""), "{exit:?}");
    let count = ["sql", "--csv", "SELECT count(*) FROM work_unit"];
    let counted = run(&count);
    assert_eq!(counted.stdout, "count(*)\n1\n", "{counted:?}");
    good(run(&["check"]));
    good(run(&["backup", "file:backup.db?mode=ro"]));
    assert_eq!(server.stop().code, Some(0));
    good(run(&["check"]));
    good(run(&["check", "--repair"]));
    good(run(&["compact"]));
    assert_eq!(run(&count).stdout, "count(*)\n1\n");
    good(run(&["restore", "--force", "file:backup.db?mode=ro"]));
    assert_eq!(names_in(server.folder()), ["file:backup.db?mode=ro", name]);
}

#[test]
fn only_serve_knows_a_database_in_memory_and_a_file_can_have_that_name() {
    let folder = folder();
    for command in [
        &["check"][..],
        &["backup", "copy.db"],
        &["compact"],
        &["sql", "SELECT 1"],
    ] {
        let environment = [("COORDINATED_DB", ":memory:")];
        let exit = run_to_end(folder.path(), command, &environment);
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(exit.stderr.contains("in memory has no file"), "{exit:?}");
    }
    let server = serve(folder, "./:memory:");
    add_unit(&server, "a");
    let checked = run_to_end(server.folder(), &["check", "./:memory:"], &[]);
    assert!(checked.stdout.contains("work units: 1"), "{checked:?}");
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = folder();
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    for (path, words) in [
        ("sub", "not a regular file"),
        ("/dev/null", "not a regular file"),
        ("sub/..", "not a regular file"),
        ("none/queue.db", "No such file"),
    ] {
        fails(&try_to_serve(folder.path(), path), &[words]);
    }
    assert_eq!(names_in(folder.path()), ["sub"]);
}

// --- owners ---

#[test]
fn a_file_that_was_given_a_second_name_is_refused_by_it_and_by_the_first() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let (first, second) = (server.db(), server.folder().join("second.db"));
    fs::hard_link(&first, &second).expect("a link");
    fails(
        &try_to_serve(server.folder(), "second.db"),
        &["second.db", "2 names"],
    );
    server.kill();
    // The WAL is beside the first name: by the second, units that were answered would not be there.
    fails(
        &try_to_serve(server.folder(), "second.db"),
        &["second.db", "2 names"],
    );
    fails(
        &try_to_serve(server.folder(), "test.db"),
        &["test.db", "2 names"],
    );
    let db = second.display().to_string();
    for (code, command) in [
        (2, &["check", "--db", &db][..]),
        (2, &["check", "--repair", "--db", &db]),
        (1, &["backup", "new.db", "--db", &db]),
        (1, &["compact", "--db", &db]),
        (1, &["sql", "SELECT 1", "--db", &db]),
    ] {
        let exit = run_to_end(server.folder(), command, &[]);
        fails_with(code, &exit, &["second.db", "2 names"]);
    }
    fs::remove_file(&second).expect("remove");
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(1, 1)].into());
}

#[test]
fn a_backup_may_have_links_as_those_that_snapshots_of_folders_make() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let run = |arguments: &[&str]| {
        let db = server.db().display().to_string();
        run_to_end(server.folder(), arguments, &[("COORDINATED_DB", &db)])
    };
    assert_eq!(run(&["backup", "backup.db"]).code, Some(0));
    let link = server.folder().join("snapshot.db");
    fs::hard_link(server.folder().join("backup.db"), &link).expect("a link");
    let checked = run(&["check", "snapshot.db"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let again = run(&["backup", "--force", "backup.db"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(run(&["check", "snapshot.db"]).code, Some(0));
    server.stop();
    let restore = ["restore", "--force", "snapshot.db"];
    let db = server.db().display().to_string();
    let restored = run_to_end(server.folder(), &restore, &[("COORDINATED_DB", &db)]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
}

#[test]
fn a_file_that_was_moved_under_its_daemon_is_refused_to_another_one() {
    let server = Server::start();
    add_unit(&server, "a");
    // In the moment in which the first one can't have noticed.
    server.signal(libc::SIGSTOP);
    fs::rename(server.db(), server.folder().join("moved.db")).expect("move");
    fails(
        &try_to_serve(server.folder(), "moved.db"),
        &["moved.db", "in use", "under another name"],
    );
    server.signal(libc::SIGCONT);
}

/// Runs a shell script in a mount namespace of its own. `None` where that is not allowed.
fn with_own_mounts(folder: &Path, script: &str) -> Option<Output> {
    let unshare = |script: &str| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
            .env("COORDINATED", test_support::binary())
            .current_dir(folder)
            .output()
            .ok()
    };
    let may_mount = unshare("mount --bind . .").is_some_and(|output| output.status.success());
    if !may_mount {
        eprintln!("skipped: this system lets tests mount nothing");
        return None;
    }
    unshare(script)
}

#[test]
fn a_file_that_is_mounted_without_its_folder_is_refused() {
    let mut server = Server::start();
    add_unit(&server, "a");
    server.kill();
    fs::create_dir(server.folder().join("container")).expect("a folder");
    fs::write(server.folder().join("container/queue.db"), "").expect("a place");
    let script =
        "mount --bind test.db container/queue.db; exec $COORDINATED check container/queue.db 2>&1";
    let Some(output) = with_own_mounts(server.folder(), script) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("mount the folder"), "{text}");
}

#[test]
fn a_stopped_database_on_a_read_only_mount_can_be_checked_backed_up_and_queried() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let commands = "mount --bind . ./mnt && mount -o remount,bind,ro ./mnt
        $COORDINATED check --db mnt/test.db 2>&1 || echo failed
        $COORDINATED backup --db mnt/test.db backup.db 2>&1 || echo failed
        $COORDINATED sql --csv --db mnt/test.db 'SELECT name FROM work_unit' 2>&1 || echo failed";
    fs::create_dir(server.folder().join("mnt")).expect("a folder");
    // After a kill there is a WAL, which can't be read there.
    server.kill();
    let Some(output) = with_own_mounts(server.folder(), commands) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("failed").count(), 3, "{text}");
    assert_eq!(text.matches("mounted read-only").count(), 3, "{text}");
    assert_eq!(text.matches("test.db-wal").count(), 3, "{text}");

    server.start_again();
    assert_eq!(server.stop().code, Some(0));
    let output = with_own_mounts(server.folder(), commands).expect("as before");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("failed"), "{text}");
    assert!(
        text.ends_with("name\r\na\r\n") || text.ends_with("name\na\n"),
        "{text:?}"
    );
    assert_eq!(units_in(&server.folder().join("backup.db")), ["a"]);
}

// --- logs ---

#[test]
fn a_wal_whose_database_is_gone_is_not_thrown_away() {
    let mut server = Server::start();
    add_unit(&server, "a");
    server.kill();
    let log = server.folder().join("test.db-wal");
    let before = fs::read(&log).expect("a log");
    let aside = server.folder().join("aside.db");
    fs::rename(server.db(), &aside).expect("move");
    // Gone, or made anew with nothing in it.
    for _ in 0..2 {
        fails(
            &try_to_serve(server.folder(), "test.db"),
            &["test.db-wal", "bring it back", "move the WAL away"],
        );
        let db = server.db().display().to_string();
        for (code, command) in [
            (2, &["check"][..]),
            (2, &["check", "--repair"]),
            (1, &["compact"]),
            (1, &["backup", "new.db"]),
            (1, &["sql", "SELECT 1"]),
        ] {
            let exit = run_to_end(server.folder(), command, &[("COORDINATED_DB", &db)]);
            fails_with(code, &exit, &["test.db-wal"]);
        }
        assert!(before == fs::read(&log).expect("the log"));
        fs::write(server.db(), "").expect("an empty file");
    }
    fs::rename(&aside, server.db()).expect("move back");
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(1, 1)].into());
}

// --- files that go away under the daemon ---

/// Takes files away, and adds units until the daemon ends. Gives the names of those that it said it has, and how it
/// ended.
fn end_by(server: &mut Server, take_away: impl FnOnce(&Path)) -> (Vec<String>, Exit) {
    let mut client = server.connect();
    take_away(server.folder());
    let mut added = Vec::new();
    loop {
        let unit = format!("late-{}-{}", server.pid(), added.len());
        let params = diag(&format!("['ws', [['{unit}', {{}}]]]"));
        let request = client.envelope("add_work_units", params);
        if client.try_send(&frame(&request)).is_err() {
            break;
        }
        let Ok(Some(answer)) = client.next_frame() else {
            break;
        };
        match reply(&unframe(&answer)) {
            Reply::Result(_) => added.push(unit),
            Reply::Error(message) => {
                assert!(
                    message.contains("was moved, deleted or replaced"),
                    "{message}"
                );
                break;
            }
        }
    }
    let exit = server.wait();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    (added, exit)
}

/// Those names, and then the others.
fn with(before: &[&str], added: &[String]) -> Vec<String> {
    let before = before.iter().map(|name| (*name).to_owned());
    before.chain(added.iter().cloned()).collect()
}

/// The names of the units in a file that no daemon has.
fn units_in(db: &Path) -> Vec<String> {
    let db = Connection::open(db).expect("a database");
    let mut query = db
        .prepare("SELECT CAST(name AS TEXT) FROM work_unit ORDER BY id")
        .expect("a query");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("names")
}

fn last_line(exit: &Exit) -> &str {
    exit.stderr.lines().last().unwrap_or_default()
}

#[test]
fn a_database_that_is_moved_away_has_all_that_was_answered_and_no_new_one_takes_its_place() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let moved = server.folder().join("moved.db");
    let (added, exit) = end_by(&mut server, |folder| {
        fs::rename(folder.join("test.db"), folder.join("moved.db")).expect("move");
    });
    let line = last_line(&exit);
    for words in [
        "test.db was moved",
        "everything that was committed is in ",
        "moved.db",
    ] {
        assert!(line.contains(words), "{words:?} in {line}");
    }
    assert_eq!(units_in(&moved), with(&["a"], &added));
    // A service manager starts it again.
    let again = try_to_serve(server.folder(), "test.db");
    fails(
        &again,
        &["test.db-wal", "without its database", "bring it back"],
    );
    fs::rename(&moved, server.db()).expect("move back");
    server.start_again();
    let count = 1 + added.len() as u64;
    assert_eq!(server.connect().counts("ws"), [(1, count)].into());
}

#[test]
fn a_database_that_is_deleted_is_saved_before_the_daemon_ends() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let (added, exit) = end_by(&mut server, |folder| {
        fs::remove_file(folder.join("test.db")).expect("remove");
    });
    let (_, saved) = last_line(&exit)
        .split_once("everything that was committed was saved to ")
        .unwrap_or_else(|| panic!("{exit:?}"));
    let mode = Path::new(saved)
        .metadata()
        .expect("a file")
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(units_in(Path::new(saved)), with(&["a"], &added));
    let restore = ["restore", "--force", saved, "--db", "test.db"];
    let restored = run_to_end(server.folder(), &restore, &[]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    server.start_again();
    let count = 1 + added.len() as u64;
    assert_eq!(server.connect().counts("ws"), [(1, count)].into());
}

#[test]
fn a_database_that_is_replaced_is_saved_and_the_new_one_gets_nothing_of_it() {
    let mut server = Server::start();
    add_unit(&server, "before");
    let backup = ["backup", "copy.db", "--db", "test.db"];
    assert_eq!(run_to_end(server.folder(), &backup, &[]).code, Some(0));
    add_unit(&server, "after");
    let (added, exit) = end_by(&mut server, |folder| {
        fs::rename(folder.join("copy.db"), folder.join("test.db")).expect("replace");
    });
    let (_, saved) = last_line(&exit)
        .split_once("was saved to ")
        .unwrap_or_else(|| panic!("{exit:?}"));
    assert_eq!(
        units_in(Path::new(saved)),
        with(&["before", "after"], &added)
    );
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(1, 1)].into());
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(units_in(&server.db()), ["before"]);
}

/// Takes a file of a database away.
type TakeAway<'a> = &'a dyn Fn(&Path);

#[test]
fn a_wal_that_is_deleted_or_replaced_ends_the_daemon_and_loses_nothing() {
    let mut server = Server::start();
    add_unit(&server, "a");
    // An older state of the WAL, as from a backup of single files.
    let (log, old) = (
        server.folder().join("test.db-wal"),
        server.folder().join("old"),
    );
    fs::copy(&log, &old).expect("a copy");
    let delete = |suffix: &'static str| {
        move |folder: &Path| {
            fs::remove_file(folder.join(format!("test.db{suffix}"))).expect("remove")
        }
    };
    let replace = |_: &Path| fs::rename(&old, &log).expect("replace");
    let mut units = with(&["a"], &[]);
    let ways: [(&str, TakeAway<'_>); 3] = [
        ("-wal", &delete("-wal")),
        ("-shm", &delete("-shm")),
        ("-wal", &replace),
    ];
    for (suffix, take_away) in ways {
        let (added, exit) = end_by(&mut server, take_away);
        units.extend(added);
        let line = last_line(&exit);
        let words = format!("test.db{suffix} was moved, deleted or replaced");
        assert!(line.contains(&words), "{line}");
        assert!(
            line.contains("everything that was committed is in "),
            "{line}"
        );
        assert_eq!(units_in(&server.db()), units);
        server.start_again();
    }
}

#[test]
fn a_daemon_that_is_stopped_says_that_its_file_is_gone() {
    let mut server = Server::start();
    add_unit(&server, "a");
    fs::remove_file(server.db()).expect("remove");
    let exit = server.stop();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(last_line(&exit).contains("was saved to "), "{exit:?}");
}

// --- links ---

#[test]
fn a_lock_file_that_is_a_link_or_something_else_is_refused_and_left_alone() {
    let folder = folder();
    let secret = folder.path().join("secret");
    let lock = folder.path().join("test.db-lock");
    fs::write(&secret, "keep me").expect("write");
    let refused = |words: &[&str]| {
        fails(&try_to_serve(folder.path(), "test.db"), words);
        let restore = ["restore", "x.db", "--force", "--db", "test.db"];
        fails(&run_to_end(folder.path(), &restore, &[]), words);
        assert_eq!(fs::read(&secret).expect("read"), b"keep me");
        fs::remove_file(&lock).expect("remove");
        assert!(!folder.path().join("test.db").exists());
    };
    symlink(&secret, &lock).expect("link");
    refused(&["test.db-lock", "symbolic link"]);
    fs::hard_link(&secret, &lock).expect("link");
    refused(&["test.db-lock", "hard link"]);
    fs::write(&lock, "notes of somebody").expect("write");
    refused(&["test.db-lock", "other than a process id"]);
    fs::create_dir(&lock).expect("a folder");
    fails(&try_to_serve(folder.path(), "test.db"), &["directory"]);
}

#[test]
fn a_file_for_the_process_id_that_is_a_link_or_something_else_is_refused_and_left_alone() {
    let folder = folder();
    let (secret, file) = (folder.path().join("secret"), folder.path().join("pid"));
    fs::write(&secret, "keep me").expect("write");
    let refused = |words: &str| {
        let arguments = [&SERVE[..], &["test.db", "--pid-file", "pid"]].concat();
        let exit = run_to_end(folder.path(), &arguments, &[]);
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stderr.contains(words), "{}", exit.stderr);
        assert_eq!(fs::read(&secret).expect("read"), b"keep me");
    };
    symlink(&secret, &file).expect("link");
    refused("symbolic link");
    fs::remove_file(&file).expect("remove");
    fs::copy(&secret, &file).expect("copy");
    refused("other than a process id");
    assert_eq!(fs::read(&file).expect("read"), b"keep me");
    // One that a killed daemon left.
    fs::write(&file, "4711\n").expect("write");
    let arguments = [&SERVE[..], &["test.db", "--pid-file", "pid"]].concat();
    let server = Server::start_in(folder, &arguments, &[]);
    let id = fs::read_to_string(server.folder().join("pid")).expect("read");
    assert_eq!(id, format!("{}\n", server.pid()));
}

#[test]
fn backup_and_restore_replace_no_file_through_a_link() {
    let mut server = Server::start();
    add_unit(&server, "a");
    let run = |arguments: &[&str]| {
        run_to_end(server.folder(), arguments, &[("COORDINATED_DB", "test.db")])
    };
    assert_eq!(run(&["backup", "backup.db"]).code, Some(0));
    let (secret, link) = (
        server.folder().join("secret"),
        server.folder().join("link.db"),
    );
    fs::write(&secret, "keep me").expect("write");
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("mode");
    symlink(&secret, &link).expect("link");
    fails(
        &run(&["backup", "--force", "link.db"]),
        &["link.db", "symbolic link"],
    );
    let restore = ["restore", "--force", "backup.db", "--db", "link.db"];
    fails(&run(&restore), &["link.db", "symbolic link"]);
    fails(
        &run(&["backup", "--force", "/dev/null"]),
        &["/dev/null", "not a regular file"],
    );
    assert_eq!(fs::read(&secret).expect("read"), b"keep me");
    assert_eq!(server.stop().code, Some(0));
    // A database that is opened through a link is compacted where it is.
    let real = server.db();
    fs::remove_file(&link).expect("remove");
    symlink(&real, &link).expect("link");
    let compact = run_to_end(server.folder(), &["compact", "--db", "link.db"], &[]);
    assert_eq!(compact.code, Some(0), "{compact:?}");
    assert!(link.is_symlink());
    let count = Connection::open(&real).and_then(|db| {
        db.query_row("SELECT count(*) FROM work_unit", [], |row| {
            row.get::<_, i64>(0)
        })
    });
    assert_eq!(count.expect("a count"), 1);
}
