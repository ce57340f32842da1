//! What shells and readers get: completions and manual pages.

use super::run;
use test_support::run_to_end;

#[test]
fn there_are_completions_for_the_usual_shells() {
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef coordinated"),
        ("fish", "complete -c"),
    ] {
        let exit = run("127.0.0.1:1", &["completions", shell]);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(
            exit.stdout.contains(mark) && exit.stdout.contains("work_units"),
            "{shell}"
        );
    }
    assert_eq!(run("127.0.0.1:1", &["completions", "none"]).code, Some(2));
}

#[test]
fn bash_accepts_its_completions() {
    let exit = run("127.0.0.1:1", &["completions", "bash"]);
    let folder = tempfile::TempDir::new().expect("folder");
    let script = folder.path().join("completions");
    std::fs::write(&script, exit.stdout).expect("write");
    let checked = std::process::Command::new("bash")
        .arg("-n")
        .arg(&script)
        .status();
    assert!(checked.expect("bash").success());
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let page = run("127.0.0.1:1", &["man", "retry"]);
    assert!(
        page.stdout.contains(".TH") && page.stdout.contains("matching"),
        "{}",
        page.stdout
    );
    assert!(run("127.0.0.1:1", &["man"]).stdout.contains("coordinated"));
    let exit = run("127.0.0.1:1", &["man", "none"]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("none"), "{}", exit.stderr);
    let folder = tempfile::TempDir::new().expect("folder");
    let exit = run_to_end(folder.path(), &["man", "--dir", "."], &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for page in [
        "coordinated.1",
        "coordinated-summary.1",
        "coordinated-work_units.1",
    ] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}
