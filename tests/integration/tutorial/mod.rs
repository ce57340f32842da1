//! docs/tutorial.md does what it says: its commands are typed into a terminal, one after the other, and what is
//! then to be seen there is what the document shows.

mod document;
mod session;

use document::commands;
use session::Session;
use std::path::Path;

#[test]
fn each_command_of_the_tutorial_prints_what_the_tutorial_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md");
    let document = std::fs::read_to_string(path).expect("docs/tutorial.md");
    let commands = commands(&document).expect("all blocks can be run");
    assert!(commands.len() > 30, "{} commands", commands.len());
    let mut session = Session::start();
    if let Err(difference) = session.run(&commands) {
        panic!("docs/tutorial.md, {difference}");
    }
    assert_eq!(session.processes(), [0_i32; 0], "left running");
}

/// Plays a document of one block of commands and output.
fn play(block: &str) -> Result<(), String> {
    let commands = commands(&format!("```console\n{block}\n```\n"))?;
    Session::start().run(&commands)
}

#[test]
fn a_document_that_shows_something_else_than_is_printed_is_found_out() {
    assert_eq!(play("$ echo a; echo b\na\nb\n$ true"), Ok(()));
    for wrong in [
        "$ echo a; echo b\na\nB",
        "$ echo a; echo b\na",
        "$ echo a; echo b",
        "$ echo a\na\nb",
        "$ true\na\n$ echo a\na",
        "$ echo before a\na...",
        "$ nosuchprogram",
    ] {
        let found = play(wrong).expect_err(wrong);
        assert!(found.contains("but here:"), "{found}");
    }
    let found = play("$ true\n$ echo new\nold").expect_err("it is new");
    assert_eq!(
        found,
        "line 3: $ echo new\nprints, as the document has it:\nold\nbut here:\nnew"
    );
}

#[test]
fn dots_stand_for_what_varies_in_a_line_and_for_whole_lines() {
    for right in [
        "$ echo took 5 ms, all is well\ntook ... ms, all is ...",
        "$ seq 5\n1\n...\n5",
        "$ seq 5\n...",
        "$ true\n...",
        "$ seq 2\n1\n...\n2",
    ] {
        assert_eq!(play(right), Ok(()), "{right}");
    }
    for wrong in ["$ seq 5\n1\n...\n4", "$ echo took 5 ms\ntook ... s ..."] {
        play(wrong).expect_err(wrong);
    }
}

#[test]
fn what_is_seen_is_what_a_terminal_shows() {
    let block =
        "$ printf '10%%\\r\\033[K\\033[31mred\\033[0m\\n'\nred\n$ test -t 1 && tput cols\n120";
    assert_eq!(play(block), Ok(()));
}

#[test]
fn commands_keep_their_folder_and_variables_and_here_documents_are_one_command() {
    let block = "$ cd /; folder=$PWD\n$ cat <<'EOF' | tr '$' '>'\n$ a\n\nb\nEOF\n> a\n\nb\n$ echo $folder\n/";
    assert_eq!(play(block), Ok(()));
}

#[test]
fn blocks_that_would_not_be_run_are_refused() {
    for wrong in [
        "```\necho\n```",
        "```bash\necho\n```",
        "~~~sh\necho\n~~~",
        "1. a list\n   ```console\n   $ echo\n   ```",
        "    $ echo",
        "```sh\necho",
        "```console\nno command\n```",
        "```sh\ncat <<'EOF'\n```",
    ] {
        commands(wrong).expect_err(wrong);
    }
    assert_eq!(commands("Text with `echo` in it.").expect("none").len(), 0);
}

#[test]
fn what_commands_left_running_ends_with_the_session() {
    let block = "```console\n$ sleep 1000 &\n[1] ...\n$ (trap '' HUP TERM; sleep 1000 & sleep 1000) &\n[2] ...\n```";
    let mut session = Session::start();
    session
        .run(&commands(block).expect("commands"))
        .expect("as printed");
    let left = session.processes();
    let home = session.home().to_owned();
    assert!(left.len() >= 3, "{left:?}");
    drop(session);
    let comes_back = |id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.contains("(sleep)") && !stat.contains(") Z ")
    };
    let begin = std::time::Instant::now();
    while left.iter().any(comes_back) {
        assert!(begin.elapsed().as_secs() < 30, "{left:?} live");
        std::thread::yield_now();
    }
    assert!(!home.exists());
}
