//! Many work specs from one file.

use super::{bad, good, run};
use test_support::{Server, diag};

/// Runs `flow` on a file with this content.
fn flow(server: &Server, content: &str, arguments: &[&str]) -> test_support::Exit {
    let path = server.folder().join("flow.yaml");
    std::fs::write(&path, content).expect("write");
    let file = path.display().to_string();
    run(server.address(), &[&["flow", &file], arguments].concat())
}

const SUMS: &str = "
yakonfig_modules: [streamcorpus]
flows:
  sums:
    double: {min_gb: 1, module: jobs, run_function: double, then: sums.add}
    add:
      min_gb: 1
      config: {extra: {x: 1}, gone: null}
  alone:
    weight: 3
";

#[test]
fn work_specs_are_named_by_their_place() {
    let server = Server::start();
    let exit = flow(&server, SUMS, &[]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    assert_eq!(exit.stdout, "Set alone.\nSet sums.add.\nSet sums.double.\n");
    let mut client = server.connect();
    assert_eq!(
        client.call("get_work_spec", "'sums.double'"),
        diag(
            "{'name': 'sums.double', 'min_gb': 1, 'module': 'jobs', 'run_function': 'double', \
             'then': 'sums.add'}"
        )
    );
    client.add("sums.double", "['u', {}]");
    client.take_key("w", "u");
    client.updated(
        "sums.double",
        "u",
        "{'status': 4, 'data': {'output': ['next']}}",
    );
    assert_eq!(client.keys("sums.add", "{}"), ["next"]);
}

#[test]
fn a_work_spec_needs_nothing_but_its_name() {
    let server = Server::start();
    let exit = flow(&server, "flows:\n  a: {}\n  b:\n  g:\n    c: {}\n", &[]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    assert_eq!(exit.stdout, "Set a.\nSet b.\nSet g.c.\n");
    let definition = server.connect().call("get_work_spec", "'g.c'");
    assert_eq!(definition, diag("{'name': 'g.c'}"));
}

#[test]
fn what_control_has_set_stays_unless_the_file_has_a_key_for_it() {
    let server = Server::start();
    let content = "flows:\n  a: {weight: 3}\n  b: {}\n";
    flow(&server, content, &[]);
    for spec in ["a", "b"] {
        good(&server, &["pause", spec]);
        let limits = ["--weight", "7", "--max-running", "2"];
        good(&server, &[&["control", spec], &limits[..]].concat());
    }
    let exit = flow(&server, content, &[]);
    assert_eq!(
        exit.stderr,
        "coordinated: a keeps what `control` has set: status paused, max_running 2\n\
         coordinated: a changes: weight from 7 to 3\n\
         coordinated: b keeps what `control` has set: status paused, weight 7, max_running 2\n"
    );
}

#[test]
fn a_configuration_goes_to_all_with_their_own_laid_over_it() {
    let server = Server::start();
    let path = server.folder().join("config.yaml");
    std::fs::write(&path, "extra: {x: 0, y: 2}\ngone: 1\n").expect("write");
    let exit = flow(&server, SUMS, &["-c", &path.display().to_string()]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let mut client = server.connect();
    let mut config = |spec: &str| client.call("get_work_spec", spec).at("config").clone();
    assert_eq!(config("'sums.add'"), diag("{'extra': {'x': 1, 'y': 2}}"));
    assert_eq!(
        config("'alone'"),
        diag("{'extra': {'x': 0, 'y': 2}, 'gone': 1}")
    );
}

#[test]
fn nothing_is_set_if_anything_is_wrong() {
    let server = Server::start();
    for (content, problem) in [
        (
            "flows:\n  a: {min_gb: 1}\n  b:\n    min_gb: 1\n    then: c\n",
            ", line 5: b: then names \"c\", which is neither in the file nor on the daemon",
        ),
        (
            "flows:\n  g:\n    a: {then: b, x: 1}\n    b: {x: 1}\n",
            "(did you mean \"g.b\"?)",
        ),
        (
            "flows:\n  a: {min_gb: 1}\n  b:\n    min_gb: 1\n    interval: soon\n",
            ", line 5: b: work spec key \"interval\": expected a number, got a text string",
        ),
        (
            "flows:\n  a.b: {min_gb: 1}\n  a:\n    b: {min_gb: 1}\n",
            ", line 4: a.b is already defined in line 2",
        ),
        (
            "flows:\n  a: {min_gb: 1}\n  a: {min_gb: 1}\n",
            ", line 3: invalid YAML: duplicate key \"a\"",
        ),
        (
            "flows:\n  a: {min_gb: 1}\n  b: 5\n",
            ", line 3: b: expected a work spec",
        ),
        (
            "flow:\n  a: {min_gb: 1}\n",
            ": expected a map of work specs under the key flows",
        ),
        ("flows:\n  a: [1,\n", "flow.yaml, line "),
        ("- flows\n", ": expected a map"),
    ] {
        let exit = flow(&server, content, &[]);
        assert_eq!(exit.code, Some(1), "{content}");
        assert!(exit.stderr.contains(problem), "{}", exit.stderr);
        assert_eq!(good(&server, &["work_specs"]), "", "{content}");
    }
    assert!(bad(server.address(), &["flow", "/none"]).contains("/none"));
}

#[test]
fn a_successor_may_be_on_the_daemon_already() {
    let server = Server::start();
    server.connect().set_spec("{'name': 'there'}");
    let exit = flow(&server, "flows:\n  a: {min_gb: 1, then: there}\n", &[]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_is_odd_is_told_and_does_no_harm() {
    let server = Server::start();
    let content = "flows:\n  a:\n    name: other\n    priorty: 3\n    mine: 1\nflowss: 1\n";
    let exit = flow(&server, content, &[]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "Set a.\n"));
    for warning in [
        ", line 3: the work spec is named a by its place in the file, not other",
        ", line 4: a: unknown key \"priorty\" (did you mean \"priority\"?)\n",
        ", line 5: a: unknown key \"mine\"\n",
        ", line 6: unknown key \"flowss\" (did you mean \"flows\"?)\n",
    ] {
        assert!(exit.stderr.contains(warning), "{warning}: {}", exit.stderr);
    }
    assert_eq!(
        server.connect().call("get_work_spec", "'a'"),
        diag("{'name': 'a', 'priorty': 3, 'mine': 1}")
    );
}

#[test]
fn without_a_daemon_what_is_wrong_in_the_file_is_told_first() {
    let server = Server::start();
    let path = server.folder().join("flow.yaml");
    std::fs::write(&path, "flows:\n  a: {interval: x}\n").expect("write");
    let nobody = format!("unix:{}", server.folder().join("none").display());
    let message = bad(&nobody, &["flow", &path.display().to_string()]);
    assert!(message.contains("line 2"), "{message}");
}
