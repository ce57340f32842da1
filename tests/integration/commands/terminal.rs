//! The same on a terminal: widths, colours, questions.

use super::server_with_units;
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use std::io::{self, Read, Write};
use std::num::NonZeroU16;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use test_support::{FAILED, PATIENCE, server_with_spec};

/// A program on a terminal of its own.
pub(crate) struct OnTerminal {
    child: Child,
    keyboard: Pty,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// What the screen shows after all that was received.
    picture: vt100::Parser,
}

impl OnTerminal {
    pub(crate) fn start(columns: u16, server: &str, arguments: &[&str]) -> OnTerminal {
        let (pty, pts) = open().expect("a terminal");
        pty.resize(Size::new(30, columns)).expect("resize");
        let command = Command::new(env!("CARGO_BIN_EXE_coordinated"))
            .args(arguments)
            .env("COORDINATED_SERVER", server)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        // SAFETY: the function only calls what a child may call between fork and exec.
        let command = unsafe { command.pre_exec(hear_ctrl_c) };
        let child = command.spawn(pts).expect("start");
        let descriptor = std::os::fd::AsFd::as_fd(&pty).try_clone_to_owned();
        let mut reader = std::fs::File::from(descriptor.expect("clone"));
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // An error is the end: the program has closed its side.
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        OnTerminal {
            child,
            keyboard: pty,
            screen,
            seen: String::new(),
            picture: vt100::Parser::new(cells(30), cells(columns), 0),
        }
    }

    /// Waits for more; false if there will be none, or none comes.
    fn receive(&mut self) -> bool {
        let Ok(more) = self.screen.recv_timeout(PATIENCE) else {
            return false;
        };
        self.seen.push_str(&String::from_utf8_lossy(&more));
        self.picture.process(&more);
        true
    }

    /// Waits until this is on the screen.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.seen.contains(text) {
            let comes = self.receive() && begin.elapsed() < PATIENCE;
            assert!(comes, "{text:?} does not come: {:?}", self.seen);
        }
    }

    /// Waits until the screen shows this, however it was drawn.
    pub(crate) fn wait_until_shown(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.picture.screen().contents().contains(text) {
            let comes = self.receive() && begin.elapsed() < PATIENCE;
            assert!(
                comes,
                "{text:?} is not shown: {}",
                self.picture.screen().contents()
            );
        }
    }

    /// Waits until these have come on the screen, one after the other, and forgets them.
    pub(crate) fn wait_for_all(&mut self, texts: &[&str]) {
        for text in texts {
            self.wait_for(text);
            let end = self.seen.find(text).map_or(0, |begin| begin + text.len());
            self.seen.drain(..end);
        }
    }

    /// Makes the terminal so large.
    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        self.keyboard
            .resize(Size::new(rows, columns))
            .expect("resize");
        self.picture
            .screen_mut()
            .set_size(cells(rows), cells(columns));
    }

    pub(crate) fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: it is that of a child that has not been waited for, so it is no other's.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "kill");
    }

    /// How the terminal treats what is typed: by lines or by keys, with an echo or without.
    pub(crate) fn settings(&self) -> libc::tcflag_t {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.keyboard);
        let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the terminal is open, and there is room for the answer, which is there if it is no error.
        unsafe {
            assert_eq!(libc::tcgetattr(descriptor, settings.as_mut_ptr()), 0);
            settings.assume_init().c_lflag
        }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("type");
    }

    /// Waits for the end: all that was on the screen, with plain line ends, and the exit code.
    pub(crate) fn end(mut self) -> (String, Option<i32>) {
        while self.receive() {}
        let code = self.child.wait().expect("end").code();
        (self.seen.replace("\r\n", "\n"), code)
    }
}

/// Lets Ctrl-C end this process, also if whoever runs the tests ignores it, as a shell does in the background.
fn hear_ctrl_c() -> io::Result<()> {
    // SAFETY: no handler is set, so there is none that could be wrong.
    match unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has rows and columns")
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Both fail for a process that has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is printed on a terminal.
pub(crate) fn printed(columns: u16, server: &str, arguments: &[&str]) -> String {
    let terminal = OnTerminal::start(columns, server, arguments);
    let (screen, code) = terminal.end();
    assert_eq!(code, Some(0), "{arguments:?}: {screen}");
    screen
}

/// A text without its colours.
pub(crate) fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// The width of what is printed, but for notes, which the terminal may break.
pub(crate) fn width(text: &str) -> usize {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("coordinated: "));
    lines
        .map(|line| uncoloured(line).chars().count())
        .max()
        .unwrap_or(0)
}

#[test]
fn tables_are_no_wider_than_the_terminal_and_lose_nothing() {
    let (server, mut client) = server_with_units();
    let long = "a work spec with a very long name that takes more than forty columns by itself";
    client.set_spec(&format!("{{'name': '{long}'}}"));
    for columns in [40, 200] {
        for arguments in [
            &["summary"][..],
            &["failed", "ws"],
            &["status", "ws"],
            &["workers"],
        ] {
            let screen = printed(columns, server.address(), arguments);
            assert!(
                width(&screen) <= usize::from(columns),
                "{columns}: {screen}"
            );
        }
    }
    let wide = uncoloured(&printed(200, server.address(), &["summary"]));
    assert!(wide.lines().any(|line| line.starts_with(long)), "{wide}");
    let narrow = uncoloured(&printed(40, server.address(), &["summary"]));
    let words: Vec<&str> = narrow.split_whitespace().collect();
    assert!(
        long.split(' ').all(|word| words.contains(&word)),
        "{narrow}"
    );
}

#[test]
fn a_table_goes_without_what_is_extra_before_it_becomes_a_list() {
    let (server, _client) = server_with_units();
    let arguments = ["summary", "--rate", "1ms"];
    let extra = |columns| {
        let screen = uncoloured(&printed(columns, server.address(), &arguments));
        let heading = screen.lines().next().expect("a line").to_owned();
        let (_, behind) = heading.split_once("Total").expect("it has a total");
        behind.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(extra(100), "Delayed Waiting Rate Left");
    assert_eq!(extra(80), "Waiting Rate Left");
    assert_eq!(extra(70), "Rate Left");
    // There everything is shown.
    let narrow = uncoloured(&printed(40, server.address(), &arguments));
    assert!(
        narrow.contains("Delayed") && narrow.contains("Left"),
        "{narrow}"
    );
}

#[test]
fn colours_are_for_terminals_only() {
    let (server, _client) = server_with_units();
    assert!(printed(80, server.address(), &["summary"]).contains("\x1b["));
    let exit = super::run(server.address(), &["summary"]);
    assert!(!exit.stdout.contains('\x1b'), "{:?}", exit.stdout);
}

/// Data may come from anybody. JSON had DEL and C1 controls as they are, and texts had those that turn the direction of
/// writing or are not seen.
#[test]
fn nothing_that_a_worker_has_written_acts_on_the_terminal() {
    let (server, mut client) = server_with_spec();
    let hostile = "del\u{7f} csi\u{9b}2J turn\u{202e} tag\u{e0041} esc\u{1b}[2J mark\u{feff}";
    client.add("ws", &format!("['{hostile}', {{'x': '{hostile}'}}]"));
    client.set_spec(&format!("{{'name': 'ws', 'note': '{hostile}'}}"));
    let acts = |c: char| "\u{7f}\u{9b}\u{202e}\u{e0041}\u{1b}\u{feff}".contains(c);
    let db = server.db().display().to_string();
    let query = "SELECT CAST(name AS TEXT) AS unit, cbor_json(data) AS data FROM work_unit";
    for arguments in [
        &["work_units", "ws"][..],
        &["work_units", "ws", "--json"],
        &["work_units", "ws", "--yaml"],
        &["work_spec", "ws"],
        &["work_spec", "ws", "--json"],
        &["sql", "--db", &db, "--json", query],
        &["sql", "--db", &db, "--csv", query],
        &["sql", "--db", &db, query],
    ] {
        let screen = uncoloured(&printed(100, server.address(), arguments));
        assert!(!screen.contains(acts), "{arguments:?}: {screen:?}");
        assert!(screen.contains("del\\"), "{arguments:?}: {screen}");
        if arguments[0] == "work_units" && arguments.len() > 2 {
            let found: serde_json::Value = match arguments[2] {
                "--json" => serde_json::from_str(&screen).expect(&screen),
                _ => serde_saphyr::from_str(&screen).expect(&screen),
            };
            assert!(
                found.to_string().contains("turn\u{202e} tag\u{e0041}"),
                "{screen}"
            );
        }
    }
    // Programs get it as it is.
    let piped = super::good(&server, &["work_units", "ws", "--json"]);
    assert!(piped.contains("turn\u{202e} tag\u{e0041}"), "{piped}");
}

#[test]
fn a_yes_is_asked_for_after_a_preview_and_anything_else_is_a_no() {
    let (server, mut client) = server_with_units();
    for (answer, code) in [("n\n", 1), ("\n", 1), ("yes\n", 0)] {
        let arguments = ["clear", "ws", "-s", "failed"];
        let mut terminal = OnTerminal::start(80, server.address(), &arguments);
        terminal.wait_for("Remove 1 failed work unit of ws? [y/N] ");
        assert_eq!(client.counts("ws").get(&FAILED), Some(&1));
        terminal.type_in(answer);
        let (screen, ended) = terminal.end();
        assert_eq!(ended, Some(code), "{screen}");
        assert_eq!(
            screen.contains("nothing was changed"),
            code == 1,
            "{screen}"
        );
    }
    assert_eq!(client.counts("ws").get(&FAILED), None);
}

#[test]
fn a_retry_of_all_is_asked_for_and_shows_which() {
    let (server, mut client) = server_with_units();
    let mut terminal = OnTerminal::start(80, server.address(), &["retry", "ws", "--all"]);
    terminal.wait_for("Retry 1 failed work unit of ws (broken)? [y/N] ");
    terminal.type_in("y\n");
    let (screen, code) = terminal.end();
    assert!(
        code == Some(0) && screen.contains("Retried 1 work unit."),
        "{screen}"
    );
    assert_eq!(client.counts("ws").get(&FAILED), None);
}

#[test]
fn a_watched_summary_is_drawn_again_over_itself() {
    let (server, mut client) = server_with_units();
    let mut terminal = OnTerminal::start(100, server.address(), &["summary", "--watch=10ms"]);
    terminal.wait_for("\x1b[H");
    terminal.wait_for("ws");
    client.updated("ws", "busy", "{'status': 4}");
    // The rate comes with the second look.
    terminal.wait_for("/s");
    terminal.type_in("\x03");
    let (screen, code) = terminal.end();
    assert!(
        screen.matches("Work spec").count() > 1 && code.is_none(),
        "{screen}"
    );
}

#[test]
fn work_shows_a_bar_and_only_what_is_not_finished_in_lines() {
    let (server, mut client) = server_with_units();
    client.updated("ws", "busy", "{'status': 4}");
    let script = "test $1 = b && { sleep 0.3; exit 3; }; exit 0";
    let work = [
        "work",
        "--spec",
        "ws",
        "-j",
        "2",
        "--until-empty",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "{key}",
    ];
    let mut terminal = OnTerminal::start(100, server.address(), &work);
    terminal.wait_for("/5 ");
    terminal.wait_for("exit code 3");
    let (screen, code) = terminal.end();
    assert_eq!(code, Some(1), "{screen}");
    assert!(!screen.contains("finished  ws"), "{screen}");
    let rates = screen
        .split_whitespace()
        .filter(|word| word.ends_with("/s"));
    let rates: Vec<_> = rates.filter_map(|rate| rate.split_once('.')).collect();
    assert!(!rates.is_empty(), "{screen}");
    assert!(
        rates.iter().all(|(_, behind)| behind.len() == "0/s".len()),
        "{screen}"
    );
}

#[test]
fn a_wait_for_a_paused_work_spec_says_so_and_does_not_guess_how_long_it_takes() {
    let (server, mut client) = server_with_units();
    client.done("control_work_spec", "'ws', {'status': 2}");
    let work = ["work", "--spec", "ws", "--until-empty", "--", "true"];
    let mut terminal = OnTerminal::start(100, server.address(), &work);
    terminal.wait_for("ws is paused: its units will be handed out after `coordinated resume ws`");
    terminal.wait_until_shown("2/5      0.0/s    -  1 running");
    terminal.signal(libc::SIGTERM);
    terminal.end();
}

#[test]
fn a_load_shows_how_far_it_is() {
    let (server, mut client) = server_with_units();
    let path = server.folder().join("units");
    let names: Vec<String> = (0..3_000).map(|number| format!("n{number:04}\n")).collect();
    std::fs::write(&path, names.concat()).expect("write");
    let file = path.display().to_string();
    let arguments = ["addwork", "ws", "--lines", "--batch", "100", "-u", &file];
    let screen = printed(100, server.address(), &arguments);
    assert!(
        screen.contains(" units, ") && screen.contains("% "),
        "{screen}"
    );
    assert!(screen.ends_with("Added 3000 work units.\n"), "{screen}");

    // Of standard input nobody knows how much there is.
    let arguments = ["addwork", "ws", "--lines", "--batch", "1", "-u", "-"];
    let mut terminal = OnTerminal::start(100, server.address(), &arguments);
    terminal.type_in("typed\nby hand\nas well\n");
    terminal.wait_for("1 units, ");
    terminal.type_in("\x04");
    let (screen, code) = terminal.end();
    assert!(code == Some(0) && !screen.contains('%'), "{screen}");
    assert!(screen.ends_with("Added 3 work units.\n"), "{screen}");
    assert_eq!(client.keys("ws", "{'start': 'o', 'limit': 1}"), ["typed"]);
}
