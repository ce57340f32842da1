//! What is drawn for a state, and what keys do.

use super::draw::draw;
use super::state::{Action, Sort, State};
use super::watcher::{Command, Details, Running, Snapshot, Update};
use crate::cli::commands::names::shown;
use crate::cli::commands::summary::{self, SpecCounts};
use crate::cli::values::now;
use coordinated_client::{Counts, FailureGroup, Name, Pause, Schedule};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

fn spec(name: &str, counts: [u64; 4], rate: f64, waiting: Option<f64>) -> SpecCounts {
    let [available, pending, finished, failed] = counts;
    SpecCounts {
        name: name.into(),
        counts: Counts {
            available,
            pending,
            finished,
            failed,
            other: 0,
        },
        details: Some(summary::Details {
            waiting,
            ..summary::Details::default()
        }),
        rate: Some(rate),
    }
}

fn snapshot() -> Snapshot {
    let details = Details {
        work_spec: "b".into(),
        running: vec![Running {
            key: Name::from_bytes(b"unit\xff\x1b".to_vec()),
            worker: Some("worker-9".into()),
            lease_left: Some(290.0),
        }],
        failures: Some(vec![FailureGroup {
            message: "ValueError: \x1b[31mno".to_owned(),
            count: 7,
            first_key: "u".into(),
            last_failed: Some(now() - 60.0),
        }]),
        schedule: None,
    };
    Snapshot {
        server: "coordinated 0.1.0".to_owned(),
        specs: vec![
            spec("a", [50, 0, 50, 0], 1.5, Some(3.0)),
            spec("b", [100, 1, 0, 7], 0.0, Some(90.0)),
            spec("c", [0, 0, 0, 0], 9.0, None),
        ],
        paused: [("a".into(), Some(Pause::default())), ("b".into(), None)].into(),
        workers: 12,
        details: Some(details),
    }
}

fn state() -> State {
    let mut state = State::new("127.0.0.1:5932".to_owned());
    state.update(Update::Snapshot(snapshot()));
    state
}

/// The lines of the screen.
fn drawn(state: &State, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal.draw(|frame| draw(state, frame)).expect("draw");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(columns));
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn press(state: &mut State, code: KeyCode) -> Option<Action> {
    state.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn letter(state: &mut State, letter: char) -> Option<Action> {
    press(state, KeyCode::Char(letter))
}

fn names(state: &State) -> Vec<String> {
    let specs = state.snapshot.specs.iter();
    specs.map(|spec| shown(&spec.name)).collect()
}

#[test]
fn a_wide_screen_has_all_columns_and_the_details_side_by_side() {
    let lines = drawn(&state(), 200, 30);
    assert!(
        lines[0]
            .starts_with("10.5/s  12 workers  3 work specs  coordinated 0.1.0 at 127.0.0.1:5932")
    );
    for title in [
        "Work spec",
        "Rate",
        "Failed",
        "Avail",
        "Waiting",
        "Pending",
        "Finished",
        "Delayed",
        "Retrying",
        "Left",
    ] {
        assert!(lines[1].contains(title), "{title} in {}", lines[1]);
    }
    assert!(lines[2].starts_with("= a "), "{}", lines[2]);
    assert!(
        lines[2].contains(&"█".repeat(20)) && lines[2].contains(&"·".repeat(20)),
        "{}",
        lines[2]
    );
    assert!(
        lines[2].contains("3.0s") && lines[3].contains("1m 30s"),
        "{lines:?}"
    );
    let titles = lines
        .iter()
        .find(|line| line.contains("Running of b"))
        .expect("running");
    assert!(titles.contains("Failures of b"), "{titles}");
    let details = lines
        .iter()
        .find(|line| line.contains("worker-9"))
        .expect("a unit");
    for text in [
        r"unit\xff\x1b",
        "4m 50s",
        "7",
        "1m ago",
        r"ValueError: \x1b[31mno",
    ] {
        assert!(details.contains(text), "{text} in {details}");
    }
    assert!(lines[29].contains("q quit") && lines[29].contains("t retry"));
}

#[test]
fn units_that_will_be_retried_have_a_column() {
    let mut snapshot = snapshot();
    snapshot.specs[0].details = Some(summary::Details {
        retrying: 4_321,
        ..summary::Details::default()
    });
    let mut state = state();
    state.update(Update::Snapshot(snapshot));
    let lines = drawn(&state, 200, 30);
    let end_of = |line: &str, text: &str| {
        line.find(text)
            .map(|at| line[..at].chars().count() + text.len())
    };
    assert_eq!(
        end_of(&lines[1], "Retrying"),
        end_of(&lines[2], "4321"),
        "{lines:?}"
    );
    assert!(end_of(&lines[1], "Retrying").is_some());
}

#[test]
fn a_narrow_screen_has_the_most_important_and_the_details_below_each_other() {
    let lines = drawn(&state(), 40, 24);
    assert!(
        lines[1].contains("Work spec") && lines[1].contains("Rate"),
        "{}",
        lines[1]
    );
    assert!(!lines[1].contains("Delayed"));
    assert!(
        lines[3].contains('x') && lines[3].contains('▓'),
        "what is few is seen: {}",
        lines[3]
    );
    let line = |text: &str| lines.iter().position(|line| line.contains(text));
    assert!(line("Running of b") < line("Failures of b"), "{lines:?}");
    assert!(
        line("worker-9").is_some() && line("ValueError").is_some(),
        "{lines:?}"
    );
}

#[test]
fn any_size_can_be_drawn() {
    let mut state = state();
    for with_error in [false, true] {
        if with_error {
            state.update(Update::Unavailable("no daemon answers".to_owned()));
        }
        for columns in [1, 2, 10, 20, 39, 40, 80, 99, 100, 300] {
            for rows in [1, 2, 3, 5, 13, 14, 100] {
                drawn(&state, columns, rows);
            }
        }
    }
}

#[test]
fn many_work_specs_are_scrolled_so_that_the_selected_one_is_seen() {
    let mut state = State::new("unix:/x".to_owned());
    let specs = (0..500).map(|n| spec(&format!("spec{n:03}"), [1, 0, 0, 0], 0.0, None));
    state.update(Update::Snapshot(Snapshot {
        specs: specs.collect(),
        ..Snapshot::default()
    }));
    assert!(
        drawn(&state, 80, 20)
            .iter()
            .any(|line| line.contains("spec000"))
    );
    let selected = Some(Action::Command(Command::Select("spec499".into())));
    assert_eq!(press(&mut state, KeyCode::End), selected);
    let lines = drawn(&state, 80, 20);
    assert!(
        lines.iter().any(|line| line.contains("spec499")),
        "{lines:?}"
    );
    press(&mut state, KeyCode::PageUp);
    press(&mut state, KeyCode::Up);
    assert_eq!(state.selected, Some("spec488".into()));
}

#[test]
fn without_a_daemon_the_last_snapshot_stays_below_the_error() {
    let mut state = state();
    state.update(Update::Unavailable(
        "no daemon answers at 127.0.0.1:5932".to_owned(),
    ));
    let lines = drawn(&state, 100, 24);
    assert!(
        lines[1].contains("no daemon answers at 127.0.0.1:5932 - trying again"),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("= a ")));
    state.update(Update::Snapshot(snapshot()));
    assert!(!drawn(&state, 100, 24)[1].contains("trying again"));
    let nothing = State::new("x".to_owned());
    assert!(drawn(&nothing, 40, 10)[1].contains("waiting for data"));
}

#[test]
fn who_paused_the_selected_work_spec_and_why_is_shown_above_its_details() {
    let mut state = state();
    press(&mut state, KeyCode::Down);
    let mut paused = snapshot();
    let pause = Pause {
        reason: Some("disk \x1bfull".to_owned()),
        by: Some("me@host".to_owned()),
        since: Some(now() - 60.0),
    };
    paused.paused.insert("b".into(), Some(pause));
    state.update(Update::Snapshot(paused));
    let lines = drawn(&state, 100, 24);
    let text = "b was paused 1m ago by me@host: disk \\u{1b}full";
    assert!(lines.iter().any(|line| line == text), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("= b ")),
        "{lines:?}"
    );
}

#[test]
fn the_next_run_of_the_selected_work_spec_is_shown_above_its_details_unless_it_is_paused() {
    let mut state = state();
    press(&mut state, KeyCode::Down);
    let scheduled = || {
        let mut snapshot = snapshot();
        if let Some(details) = &mut snapshot.details {
            details.schedule = Some(Box::new(Schedule {
                timezone: "Asia/Tokyo".to_owned(),
                next: vec![4_000_000_000.0],
                last: None,
                skipped: None,
            }));
        }
        snapshot
    };
    state.update(Update::Snapshot(scheduled()));
    let text = "b: The next run is at 2096-10-02 16:06:40 +09:00, in ";
    let is_shown = |state: &State| {
        let lines = drawn(state, 100, 24);
        lines.iter().any(|line| line.starts_with(text))
    };
    assert!(is_shown(&state));
    let mut paused = scheduled();
    paused.paused.insert("b".into(), Some(Pause::default()));
    state.update(Update::Snapshot(paused));
    assert!(!is_shown(&state));
}

#[test]
fn sorting_keeps_what_is_selected() {
    let mut state = state();
    press(&mut state, KeyCode::Down);
    assert_eq!(state.selected, Some("b".into()));
    let mut orders = Vec::new();
    for _ in 0..6 {
        letter(&mut state, 's');
        orders.push((state.sort, names(&state).concat()));
        assert_eq!(state.selected, Some("b".into()));
    }
    let expected = [
        (Sort::Available, "bac"),
        (Sort::Pending, "bac"),
        (Sort::Failed, "bac"),
        (Sort::Rate, "cab"),
        (Sort::Waiting, "bac"),
        (Sort::Name, "abc"),
    ];
    assert_eq!(
        orders,
        expected.map(|(sort, names)| (sort, names.to_owned()))
    );
}

#[test]
fn keys_become_orders_and_a_retry_is_asked_for() {
    let mut state = state();
    let a = || Name::from("a");
    assert_eq!(
        letter(&mut state, 'p'),
        Some(Action::Command(Command::Pause(a(), true)))
    );
    assert_eq!(
        letter(&mut state, 'r'),
        Some(Action::Command(Command::Pause(a(), false)))
    );
    assert_eq!(letter(&mut state, 't'), None);
    assert_eq!(state.message.as_deref(), Some("no unit of a has failed"));
    press(&mut state, KeyCode::Down);
    for (answer, deed) in [
        (KeyCode::Char('n'), None),
        (KeyCode::Enter, None),
        (KeyCode::Char('q'), None),
        (
            KeyCode::Char('y'),
            Some(Action::Command(Command::Retry("b".into()))),
        ),
    ] {
        assert_eq!(letter(&mut state, 't'), None);
        let lines = drawn(&state, 80, 24);
        assert_eq!(lines[23], "Retry 7 failed work units of b? [y/N]");
        assert_eq!(press(&mut state, answer), deed);
        assert_eq!(state.question(), None);
    }
    state.update(Update::Done("retried 7 work units of b".to_owned()));
    assert_eq!(drawn(&state, 80, 24)[23], "retried 7 work units of b");
    assert_eq!(letter(&mut state, 'q'), Some(Action::Quit));
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    letter(&mut state, 't');
    assert_eq!(state.press(ctrl_c), Some(Action::Quit));
}

#[test]
fn a_work_spec_that_is_gone_gives_way_to_the_first() {
    let mut state = state();
    press(&mut state, KeyCode::End);
    assert_eq!(state.selected, Some("c".into()));
    let mut fewer = snapshot();
    fewer.specs.pop();
    let select_a = Some(Command::Select("a".into()));
    assert_eq!(state.update(Update::Snapshot(fewer)), select_a);
    assert_eq!(state.selected, Some("a".into()));
    assert_eq!(state.update(Update::Snapshot(snapshot())), None);
    assert_eq!(state.update(Update::Snapshot(Snapshot::default())), None);
    assert_eq!(state.selected, None);
    for code in [
        KeyCode::Down,
        KeyCode::End,
        KeyCode::Char('p'),
        KeyCode::Char('t'),
    ] {
        assert_eq!(press(&mut state, code), None);
    }
}
