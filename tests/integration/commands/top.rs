//! `top` on a terminal, with the real daemon and without one.

use super::pretender::Pretender;
use super::terminal::OnTerminal;
use super::{run, server_with_units};
use test_support::{AVAILABLE, FAILED};

/// Leaves the screen as it was before.
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

fn start(server: &str) -> OnTerminal {
    OnTerminal::start(120, server, &["top", "--interval", "20ms"])
}

#[test]
fn the_view_shows_how_things_stand_and_q_leaves_the_terminal_as_it_was() {
    let (server, mut client) = server_with_units();
    let mut terminal = start(server.address());
    terminal.wait_until_shown("busy");
    for text in [
        "Running of ws",
        "worker-1",
        "Failures of ws",
        "0 workers  1 work spec  coordinated",
        "q quit",
    ] {
        terminal.wait_until_shown(text);
    }
    // What changes is shown.
    client.set_spec("{'name': 'another'}");
    terminal.wait_until_shown("another");
    terminal.type_in("q");
    let (screen, code) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    let last = screen.rfind(LEAVE).expect("the screen is left");
    assert!(
        screen.rfind(SHOW_CURSOR).is_some_and(|shown| shown > last),
        "{screen:?}"
    );
}

#[test]
fn keys_pause_resume_and_retry_after_a_question() {
    let (server, mut client) = server_with_units();
    let mut terminal = start(server.address());
    terminal.wait_until_shown("busy");
    terminal.type_in("p");
    terminal.wait_until_shown("ws is paused");
    let mut is_paused = || {
        let meta = client.value("get_work_spec_meta", "'ws'");
        meta.at("status").to_string() == "2"
    };
    assert!(is_paused());
    terminal.type_in("r");
    terminal.wait_until_shown("ws is resumed");
    assert!(!is_paused());
    terminal.type_in("t");
    terminal.wait_until_shown("Retry 1 failed work unit of ws? [y/N]");
    terminal.type_in("n");
    terminal.wait_until_shown("nothing was changed");
    assert_eq!(client.counts("ws").get(&FAILED), Some(&1));
    terminal.type_in("t");
    terminal.type_in("y");
    terminal.wait_until_shown("retried 1 work unit of ws");
    let counts = client.counts("ws");
    assert_eq!(
        (counts.get(&FAILED), counts.get(&AVAILABLE)),
        (None, Some(&3))
    );
    terminal.type_in("\x03");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn signals_end_it_and_leave_the_terminal_as_it_was() {
    let (server, _client) = server_with_units();
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        let mut terminal = start(server.address());
        terminal.wait_until_shown("busy");
        assert_eq!(
            terminal.settings() & (libc::ICANON | libc::ECHO),
            0,
            "by keys"
        );
        terminal.signal(signal);
        terminal.wait_for(LEAVE);
        terminal.wait_for(SHOW_CURSOR);
        let both = libc::ICANON | libc::ECHO;
        assert_eq!(terminal.settings() & both, both, "by lines, with an echo");
        assert_eq!(terminal.end().1, Some(0));
    }
}

#[test]
fn another_size_of_the_terminal_is_followed() {
    let (server, _client) = server_with_units();
    let mut terminal = start(server.address());
    terminal.wait_until_shown("busy");
    for (rows, columns) in [(24, 40), (50, 200), (1, 1), (30, 80)] {
        terminal.resize(rows, columns);
        if columns >= 40 {
            // In the last line, wherever that is now.
            terminal.wait_until_shown("q quit");
            terminal.wait_until_shown("Failures of ws");
        }
    }
    terminal.type_in("q");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn a_key_that_is_pressed_while_the_terminal_gets_another_size_is_heard() {
    let (server, _client) = server_with_units();
    let mut terminal = start(server.address());
    terminal.wait_until_shown("Failures of ws");
    let answers = [
        ("t", "Retry 1 failed work unit"),
        ("n", "nothing was changed"),
    ];
    for (columns, (key, answer)) in (100..200).zip(answers.iter().cycle()) {
        terminal.resize(30, columns);
        terminal.type_in(key);
        terminal.wait_until_shown(answer);
    }
    terminal.type_in("q");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn without_a_daemon_it_says_so_and_goes_on_when_one_is_there_again() {
    let (mut server, _client) = server_with_units();
    assert_eq!(server.stop().code, Some(0));
    let mut terminal = start(server.address());
    terminal.wait_until_shown("no daemon answers at");
    server.start_again();
    terminal.wait_until_shown("Running of ws");
    server.kill();
    terminal.wait_until_shown("trying again");
    terminal.type_in("p");
    terminal.wait_until_shown("nothing was changed: no daemon answers");
    terminal.type_in("q");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn a_server_that_tells_less_is_shown_as_far_as_it_tells() {
    let server = Pretender::start(&[
        ("list_work_specs", "[[{'name': 'old'}], null]"),
        ("count_work_units", "[{1: 5, 3: 1, 5: 2}, null]"),
        ("get_work_spec_meta", "[{'status': 2}, null]"),
        (
            "worker_stats",
            "{'num_workers': 1, 'num_children': 0, 'num_expirable': 1}",
        ),
        ("get_work_units", "[[['runs', {}]], null]"),
        (
            "get_work_unit_status",
            "[[{'status': 3, 'worker_id': 'w7', 'expiration': 1.0}], null]",
        ),
    ]);
    let mut terminal = start(&server.address);
    terminal.wait_until_shown("runs");
    for text in [
        "an original server",
        "= old",
        "w7",
        "not reported by this server",
    ] {
        terminal.wait_until_shown(text);
    }
    terminal.type_in("q");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn without_a_terminal_it_refuses_and_says_what_to_do() {
    let (server, _client) = server_with_units();
    let exit = run(server.address(), &["top"]);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stdout.is_empty() && exit.stderr.contains("summary --watch"),
        "{}",
        exit.stderr
    );
}
