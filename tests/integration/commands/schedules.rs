//! What the commands show of schedules.

use super::{bad, good, json, lines, words};
use test_support::Server;

/// A daemon with a work spec that runs every year.
fn server_with_schedule() -> Server {
    let server = Server::start();
    let arguments = [
        "create",
        "yearly",
        "--set",
        "schedule='30 3 1 1 *'",
        "--set",
        "timezone=Europe/Berlin",
    ];
    let created = good(&server, &arguments);
    let [created, next] = lines(&created)[..] else {
        panic!("{created}");
    };
    assert_eq!(created, "Created yearly.");
    assert!(is_next_run(next), "{next}");
    server
}

fn is_next_run(line: &str) -> bool {
    line.starts_with("The next run is at 20") && line.contains("-01-01 03:30:00 +01:00, in ")
}

#[test]
fn work_spec_shows_the_next_three_runs_as_comments_after_the_definition() {
    let server = server_with_schedule();
    let shown = good(&server, &["work_spec", "yearly"]);
    let runs: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("# next run: "))
        .collect();
    assert_eq!(runs.len(), 3, "{shown}");
    let is_run = |run: &&str| run.ends_with("-01-01 03:30:00 +01:00");
    assert!(runs.iter().all(is_run), "{shown}");
    let yaml = good(&server, &["work_spec", "yearly", "--yaml"]);
    assert!(!yaml.contains('#'), "{yaml}");
    let meta = json(&server, &["work_spec", "yearly", "--meta"]);
    let schedule = &meta["schedule"];
    assert_eq!(schedule["timezone"], "Europe/Berlin");
    assert_eq!(schedule["next"].as_array().map(Vec::len), Some(3));
    assert!(
        schedule["last"].is_null() && schedule["skipped"].is_null(),
        "{meta}"
    );
}

#[test]
fn the_next_run_is_shown_until_the_work_spec_is_paused() {
    let server = server_with_schedule();
    server.connect().set_spec("{'name': 'zplain'}");
    let status = good(&server, &["status", "yearly"]);
    assert!(
        is_next_run(lines(&status).last().expect("a line")),
        "{status}"
    );
    assert!(!good(&server, &["status", "zplain"]).contains("run"));
    let summary = good(&server, &["summary"]);
    let summary = words(&summary);
    assert_eq!(summary[0][summary[0].len() - 2..], ["Next", "run"]);
    assert_eq!(
        json(&server, &["status", "zplain"])["schedule"],
        serde_json::Value::Null
    );
    let all = json(&server, &["summary"]);
    assert!(
        all["work_specs"]["yearly"]["schedule"]["next"][0].is_f64(),
        "{all}"
    );
    let why = good(&server, &["why", "yearly"]);
    assert!(why.contains("its schedule makes the next one in"), "{why}");
    good(&server, &["pause", "yearly"]);
    assert!(!good(&server, &["status", "yearly"]).contains("next run"));
    assert!(!good(&server, &["summary"]).contains("Next run"));
}

#[test]
fn load_prints_the_next_run_and_says_what_is_wrong_with_a_schedule() {
    let server = Server::start();
    let file = server.folder().join("spec.yaml");
    let arguments = ["load", "--no-work", "-w", file.to_str().expect("UTF-8")];
    let text = "name: nightly\nschedule: '30 3 1 JAN *'\ntimezone: Europe/Paris\n";
    std::fs::write(&file, text).expect("write");
    let loaded = good(&server, &arguments);
    assert!(
        is_next_run(lines(&loaded).last().expect("a line")),
        "{loaded}"
    );
    std::fs::write(&file, text.replace("Paris", "Parsi")).expect("write");
    let wrong = bad(server.address(), &arguments);
    assert!(
        wrong.contains("line 3: nightly: work spec key \"timezone\": expected a time zone"),
        "{wrong}"
    );
    std::fs::write(&file, text.replace("1 JAN", "30 FEB")).expect("write");
    let wrong = bad(server.address(), &arguments);
    assert!(
        wrong.contains("work spec key \"schedule\": no day within 50 years matches"),
        "{wrong}"
    );
}
