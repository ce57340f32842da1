//! How programs and workers come to their end, and what is left of the units.

use super::{Running, contents, on_all, touch, traceback, work, work_on_all};
use std::io::{PipeReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::Duration;
use test_support::{AVAILABLE, FAILED, FINISHED, PENDING, server_with_spec, wait_until};

/// A script that says that it has begun, and ends when it may; at the latest after a minute, as the test may have
/// failed and be gone.
const UNTIL_GO: &str = "echo \"$1\" >> begun; i=0; while ! test -e go && test $((i += 1)) -lt 3000; do sleep \
                        0.02; done; echo \"$1\" >> done";

/// True if the process whose id a file has is there, and not only for being waited for.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // Behind the name in parentheses stands the state.
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

#[test]
fn what_runs_for_too_long_is_killed_with_all_that_it_has_started() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let grandchild = "trap '' TERM; echo $$ > deaf; exec sleep 60";
    let script = "sh -c \"$1\" & echo said >&2; echo $$ > leader; wait";
    let exit = work(
        &server,
        &on_all(
            &["--timeout", "500ms", "--grace", "200ms"],
            &[script, grandchild],
        ),
    );
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(
        traceback(&server, "a"),
        "said\nit ran for longer than 500ms"
    );
    for file in ["leader", "deaf"] {
        let pid = contents(&server, file);
        assert!(!pid.is_empty(), "{file} has run");
        wait_until(&format!("{file} is gone"), || !is_running(&pid));
    }
}

#[test]
fn a_program_may_use_the_grace_to_end_in_order() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "trap 'echo in order > out; exit 0' TERM; touch begun; sleep 60 & wait";
    let exit = work(
        &server,
        &on_all(
            &["--timeout", "300ms", "--grace", "1000000years"],
            &[script],
        ),
    );
    assert_eq!(
        (exit.code, contents(&server, "out").as_str()),
        (Some(1), "in order\n")
    );
}

#[test]
fn what_a_program_leaves_running_is_not_waited_for() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    // It keeps standard output open.
    work_on_all(
        &server,
        &[],
        &["sleep 1000 & echo $! > left; echo '{\"x\": 1}'"],
    );
    let left = contents(&server, "left");
    assert!(is_running(&left));
    assert_eq!(super::data(&server, "a"), r#"{"x":1}"#);
    let left: i32 = left.trim().parse().expect("a process id");
    // SAFETY: it is this test's, as it runs until now.
    assert_eq!(unsafe { libc::kill(left, libc::SIGKILL) }, 0);
}

#[test]
fn a_unit_that_another_worker_has_meanwhile_is_stopped_and_left_to_it() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let worker = Running::start(
        &server,
        &[
            "--spec",
            "ws",
            "-j",
            "1",
            "--lease",
            "1s",
            "--",
            "sh",
            "-c",
            "echo $$ > leader; exec sleep 60",
        ],
    );
    wait_until("it runs", || contents(&server, "leader").ends_with('\n'));
    client.updated("ws", "a", "{'status': 1}");
    client.take_key("other", "a");
    worker.wait_for("lost      ws  a");
    wait_until("the program is gone", || {
        !is_running(&contents(&server, "leader"))
    });
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.worker.as_deref()),
        (PENDING, Some("other"))
    );
}

#[test]
fn the_program_of_a_cancelled_unit_is_ended_first_gently_then_for_good() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "trap 'touch asked' TERM; echo $$ > leader; while :; do sleep 0.05; done";
    let options = [
        "--spec", "ws", "-j", "1", "--lease", "1s", "--grace", "300ms",
    ];
    let worker = Running::start(
        &server,
        &[&options[..], &["--", "sh", "-c", script]].concat(),
    );
    wait_until("it runs", || contents(&server, "leader").ends_with('\n'));
    let cancel = "'ws', {'all': true, 'reason': 'not needed', 'grace': 30}";
    client.value("cancel_work_units", cancel);
    // Not after the grace, but as soon as the program has ended.
    worker.wait_for("cancelled  ws  a");
    assert!(worker.said().contains("not needed"), "{}", worker.said());
    assert!(server.folder().join("asked").exists(), "it got SIGTERM");
    assert!(!is_running(&contents(&server, "leader")));
    assert_eq!(client.state("ws", "a"), FAILED);
    assert_eq!(traceback(&server, "a"), "cancelled: not needed");
}

#[test]
fn a_lease_is_renewed_as_long_as_the_program_runs() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let shown = work_on_all(&server, &["--lease", "1s"], &["sleep 2.5; echo ran >> out"]);
    assert!(shown.starts_with("finished  ws  a "), "{shown}");
    assert_eq!(contents(&server, "out"), "ran\n");
    // Nobody has got it in between.
    let attempts = rusqlite::Connection::open(server.db()).expect("open");
    let count: i64 = attempts
        .query_row("SELECT count(*) FROM attempts_log", (), |row| row.get(0))
        .expect("count");
    assert_eq!(count, 1);
}

#[test]
fn sigterm_lets_what_runs_come_to_its_end_and_takes_nothing_more() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let mut worker = Running::start(
        &server,
        &[
            "--spec", "ws", "-j", "1", "--", "sh", "-c", UNTIL_GO, "sh", "{key}",
        ],
    );
    wait_until("it runs", || contents(&server, "begun") == "a\n");
    worker.signal(libc::SIGTERM);
    worker.wait_for("waiting for running programs to end");
    touch(&server, "go");
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
    assert_eq!(contents(&server, "done"), "a\n");
    assert_eq!(
        (client.state("ws", "a"), client.state("ws", "b")),
        (FINISHED, AVAILABLE)
    );
    assert_eq!(
        client.value("list_worker_modes", "").to_string(),
        "{}",
        "it has said good-bye"
    );
}

#[test]
fn a_second_signal_ends_what_runs_and_gives_it_back() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let mut worker = Running::start(
        &server,
        &[
            "--spec",
            "ws",
            "-j",
            "1",
            "--until-empty",
            "--",
            "sh",
            "-c",
            "echo $$ > leader; exec sleep 60",
        ],
    );
    wait_until("it runs", || contents(&server, "leader").ends_with('\n'));
    worker.signal(libc::SIGINT);
    worker.wait_for("waiting for running programs to end");
    worker.signal(libc::SIGINT);
    assert_eq!(worker.end().code(), Some(1), "{}", worker.said());
    assert!(
        worker.said().contains("released  ws  a"),
        "{}",
        worker.said()
    );
    assert!(
        worker.said().contains("1 work unit left"),
        "{}",
        worker.said()
    );
    assert_eq!(client.state("ws", "a"), AVAILABLE);
    assert!(!is_running(&contents(&server, "leader")));
}

#[test]
fn a_hangup_ends_what_runs_and_gives_it_back() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "echo $$ > leader; exec sleep 60";
    let arguments = ["--spec", "ws", "-j", "1", "--", "sh", "-c", script];
    let mut worker = Running::start(&server, &arguments);
    wait_until("it runs", || contents(&server, "leader").ends_with('\n'));
    worker.signal(libc::SIGHUP);
    worker.end();
    assert!(
        worker.said().contains("released  ws  a"),
        "{}",
        worker.said()
    );
    assert_eq!(client.state("ws", "a"), AVAILABLE);
    assert!(!is_running(&contents(&server, "leader")));
}

#[test]
fn where_few_files_can_be_open_units_wait_instead_of_failing() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (0..24).map(|n| format!("'u{n:02}'")).collect();
    client.add("ws", &units.join(", "));
    let program = env!("CARGO_BIN_EXE_coordinated");
    let script = format!(
        "ulimit -n 40 && exec {program} work --spec ws -j 16 --retry-delay 100ms --until-empty -- sleep 0.3"
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(server.folder())
        .env("COORDINATED_SERVER", server.address())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("can't run sleep now"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(client.counts("ws"), [(FINISHED, 24)].into());
}

#[test]
fn until_empty_tells_by_its_exit_code_whether_all_is_well() {
    let (server, mut client) = server_with_spec();
    let run = |script| work(&server, &on_all(&["-j", "2"], &[script, "{key}"])).code;
    assert_eq!(run("exit 0"), Some(0), "nothing to do");
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    assert_eq!(run("test $1 != b"), Some(1));
    assert_eq!(client.counts("ws"), [(FINISHED, 2), (FAILED, 1)].into());
    assert_eq!(run("exit 0"), Some(1), "the failure is still there");
    client.updated("ws", "b", "{'status': 1}");
    assert_eq!(run("exit 0"), Some(0));
}

#[test]
fn until_empty_waits_for_what_others_have_and_for_what_is_delayed() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}, {'delay': 1}]");
    client.take_key("other", "a");
    let mut worker = Running::start(&server, &on_all(&[], &["echo $1 >> out", "{key}"]));
    worker.wait_for("finished  ws  c");
    // Long enough for some questions for more.
    thread::sleep(Duration::from_millis(300));
    assert!(!worker.has_ended(), "{}", worker.said());
    client.updated("ws", "a", "{'lease_time': -1}");
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
    assert_eq!(contents(&server, "out"), "b\nc\na\n");
}

#[test]
fn a_daemon_that_is_restarted_is_waited_for_and_what_runs_goes_on() {
    let (mut server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let mut worker = Running::start(&server, &on_all(&["-j", "2"], &[UNTIL_GO, "{key}"]));
    wait_until("two run", || {
        contents(&server, "begun").lines().count() == 2
    });
    server.kill();
    touch(&server, "go");
    wait_until("two have ended", || {
        contents(&server, "done").lines().count() == 2
    });
    worker.wait_for("waiting for the daemon");
    server.start_again();
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
    assert!(
        worker.said().contains("the daemon is there again"),
        "{}",
        worker.said()
    );
    let mut done: Vec<String> = contents(&server, "done")
        .lines()
        .map(str::to_owned)
        .collect();
    done.sort();
    assert_eq!(done, ["a", "b", "c"], "each once");
    assert_eq!(server.connect().counts("ws"), [(FINISHED, 3)].into());
}

#[test]
fn units_of_a_worker_that_is_killed_come_back() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let mut worker = Running::start(
        &server,
        &[
            "--spec",
            "ws",
            "--lease",
            "1s",
            "-j",
            "1",
            "--",
            "sh",
            "-c",
            "touch begun; sleep 0.3",
        ],
    );
    wait_until("it runs", || server.folder().join("begun").exists());
    worker.signal(libc::SIGKILL);
    worker.end();
    assert_eq!(client.state("ws", "a"), PENDING);
    work_on_all(&server, &[], &["exit 0"]);
    assert_eq!(client.state("ws", "a"), FINISHED);
}

/// The recipe of docs/workers.md. It depends on the thread that starts a program staying until it has ended.
#[test]
fn a_program_that_asks_for_it_ends_with_a_worker_that_is_killed() {
    if std::process::Command::new("setpriv")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("not run: there is no setpriv on the PATH");
        return;
    }
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let arguments = on_all(&[], &["echo $$ > leader; exec sleep 60"]);
    let (worker, program) = arguments.split_at(arguments.len() - 4);
    let with_worker = ["setpriv", "--pdeathsig", "KILL", "--"];
    let mut worker = Running::start(&server, &[worker, &with_worker, program].concat());
    wait_until("it runs", || !contents(&server, "leader").is_empty());
    let pid = contents(&server, "leader");
    assert!(is_running(&pid));
    worker.signal(libc::SIGKILL);
    worker.end();
    wait_until("the program is gone", || !is_running(&pid));
}

#[test]
fn a_worker_to_whom_nobody_listens_any_more_ends_in_order() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (0..100).map(|n| format!("['{n:03}', {{}}]")).collect();
    client.add("ws", &units.join(","));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args([
            "work",
            "--spec",
            "ws",
            "-j",
            "1",
            "--server",
            server.address(),
        ])
        .args(["--", "sh", "-c", "sleep 0.02"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start");
    let mut first = String::new();
    let stdout = child.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut first).expect("a line");
    assert_eq!(first.split("  ").next(), Some("finished"));
    wait_until("it ends", || child.try_wait().expect("wait").is_some());
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    let counts = client.counts("ws");
    assert!(
        counts[&FINISHED] < 100 && !counts.contains_key(&PENDING),
        "{counts:?}"
    );
}

/// A slow reader once kept leases from being renewed, as lines were written by the thread that renews them.
#[test]
fn a_reader_who_does_not_read_holds_nothing_up() {
    let (server, mut client) = server_with_spec();
    // More lines than a pipe takes.
    let filler = "x".repeat(1000);
    let units: Vec<String> = (0..150)
        .map(|n| format!("['{n:03}{filler}', {{}}]"))
        .collect();
    client.add("ws", &units.join(","));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args([
            "work",
            "--spec",
            "ws",
            "-j",
            "2",
            "--until-empty",
            "--server",
            server.address(),
        ])
        .args(["--", "true"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start");
    wait_until("all are finished", || {
        client.counts("ws") == [(FINISHED, 150)].into()
    });
    let mut said = String::new();
    let mut stdout = child.stdout.take().expect("stdout");
    std::io::Read::read_to_string(&mut stdout, &mut said).expect("read");
    assert_eq!(said.lines().count(), 150);
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

/// As process 1 of a container, to which the system gives processes that have lost their parents.
#[test]
fn processes_without_parents_do_not_stay_as_zombies_and_programs_keep_their_exit_codes() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (0..40).map(|n| format!("['{n}', {{}}]")).collect();
    client.add("ws", &units.join(","));
    let script = "sleep 0.$1 > /dev/null 2>&1 & echo $! >> orphans; exit $((10 + $1))";
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"));
    command
        .args([
            "work",
            "--spec",
            "ws",
            "-j",
            "4",
            "--server",
            server.address(),
        ])
        .args(["--", "sh", "-c", script, "sh", "{key}"])
        .current_dir(server.folder())
        .stdout(std::process::Stdio::null());
    // SAFETY: it changes this process alone.
    let become_parent = || match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: the function only calls what a child may call between fork and exec.
    let child = unsafe { command.pre_exec(become_parent) }
        .spawn()
        .expect("start");
    let said = std::path::PathBuf::new();
    let mut worker = Running { child, said };
    wait_until("all have ended", || {
        client.counts("ws") == [(FAILED, 40)].into()
    });
    for n in 0..40 {
        let code = format!("exit code {}", 10 + n);
        assert_eq!(traceback(&server, &n.to_string()), code);
    }
    let orphans = contents(&server, "orphans");
    assert_eq!(orphans.lines().count(), 40);
    for pid in orphans.lines() {
        let process = std::path::Path::new("/proc").join(pid);
        wait_until(&format!("{pid} is gone"), || !process.exists());
    }
    assert!(!worker.has_ended());
}

/// Both were once written by threads that had to obey signals first.
#[test]
fn two_signals_end_a_worker_whose_output_nobody_reads() {
    let (server, mut client) = server_with_spec();
    // The first ones fill what waits for the pipe, too.
    let units: Vec<String> = (0..20).map(|n| format!("['{n:02}', {{}}]")).collect();
    client.add("ws", &units.join(","));
    client.add("ws", "['slow', {}]");
    let (_reader, full) = full_pipe();
    let script = "test $1 = slow || exit 0; touch begun; exec sleep 60";
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args(["work", "--spec", "ws", "-j", "1", "--until-empty"])
        .args(["--server", server.address()])
        .args(["--", "sh", "-c", script, "sh", "{key}"])
        .current_dir(server.folder())
        .stdout(full.try_clone().expect("clone"))
        .stderr(full)
        .spawn()
        .expect("start");
    wait_until("the slow one runs", || {
        server.folder().join("begun").exists()
    });
    let said = std::path::PathBuf::new();
    let mut worker = Running { child, said };
    worker.signal(libc::SIGTERM);
    worker.signal(libc::SIGINT);
    assert_eq!(worker.end().code(), Some(1));
    assert_eq!(client.counts("ws"), [(AVAILABLE, 1), (FINISHED, 20)].into());
}

/// A pipe that takes no more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("without blocking");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("blocking");
    (reader, writer)
}

#[test]
fn a_worker_says_where_and_how_it_is() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let mut worker = Running::start(
        &server,
        &[
            "--spec", "ws", "--worker", "mine", "-j", "3", "--", "sh", "-c", UNTIL_GO,
        ],
    );
    wait_until("it runs", || !contents(&server, "begun").is_empty());
    wait_until("it is registered", || {
        !client.value("get_worker_info", "'mine'").is_null()
    });
    let info = client.value("get_worker_info", "'mine'");
    assert_eq!(info.at("pid").number(), Some(f64::from(worker.child.id())));
    assert!(info.at("load").number().is_some() && !info.at("hostname").is_null());
    assert_eq!(
        info.at("version").to_string(),
        format!("{:?}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(info.at("threads").number(), Some(3.0));
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("mine"));
    touch(&server, "go");
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end().code(), Some(0), "{}", worker.said());
}
