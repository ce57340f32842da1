//! What a program is given, and what becomes of what it leaves.

use super::{contents, data, on_all, traceback, work, work_on_all};
use test_support::{AVAILABLE, FAILED, FINISHED, server_with_spec};

#[test]
fn what_is_put_into_an_argument_stays_in_it_and_no_shell_sees_it() {
    let (server, mut client) = server_with_spec();
    let key = "a b; touch hacked; $(touch hacked) ' \" -x";
    client.call(
        "add_work_units",
        &format!(
            "'ws', [[\"{}\", {{'n': 3, 'x': {{'y': \"é *\"}}, 'l': [1, null], 'none': null}}]]",
            key.replace('"', "\\\"")
        ),
    );
    let print = "for argument; do printf '%s\\n' \"$argument\" >> out; done";
    let arguments = [
        print,
        "{key}",
        "{spec}-{attempt}{data.none}",
        "{data.n}:{data.x.y}",
        "{data.l}",
        "{{key}}",
        "{print $1}",
    ];
    work_on_all(&server, &[], &arguments);
    let expected = format!("{key}\nws-1\n3:é *\n[1,null]\n{{key}}\n{{print $1}}\n");
    assert_eq!(contents(&server, "out"), expected);
    assert!(!server.folder().join("hacked").exists());
}

#[test]
fn names_that_are_not_utf_8_are_given_as_their_bytes_and_shown_escaped() {
    let (server, mut client) = server_with_spec();
    client.add("ws", r"[h'fe0a41', {}]");
    let script = "printf %s \"$1\" > argument; printf %s \"$COORDINATED_KEY\" > variable";
    let shown = work_on_all(&server, &[], &[script, "{key}"]);
    assert!(shown.starts_with(r"finished  ws  \xfe\nA  "), "{shown}");
    for file in ["argument", "variable"] {
        let given = std::fs::read(server.folder().join(file)).expect(file);
        assert_eq!(given, b"\xfe\nA", "{file}");
    }
}

#[test]
fn a_nul_byte_in_an_argument_fails_the_unit() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'x': h'00'}]");
    let exit = work(&server, &on_all(&[], &["exit 0", "{data.x}"]));
    assert_eq!(exit.code, Some(1));
    assert!(traceback(&server, "a").contains("NUL byte"));
}

#[test]
fn the_data_are_on_standard_input_and_in_variables() {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['a', {'n': 3, 'file': \"x y\", 'list': [1], 'no-name': 5, 'x': 'PATH'}]",
    );
    let script = "cat > in; env | grep -a ^COORDINATED_ | sort > variables";
    work_on_all(&server, &[], &[script]);
    let expected = r#"{"n":3,"file":"x y","list":[1],"no-name":5,"x":"PATH"}"#;
    assert_eq!(contents(&server, "in"), expected);
    let variables = contents(&server, "variables");
    let others = |line: &&str| !line.starts_with("COORDINATED_OUTPUT=/");
    let found: Vec<&str> = variables.lines().filter(others).collect();
    let address = format!("COORDINATED_SERVER={}", server.address());
    let mut expected = vec![
        "COORDINATED_ATTEMPT=1",
        "COORDINATED_DATA_file=x y",
        "COORDINATED_DATA_list=[1]",
        "COORDINATED_DATA_n=3",
        "COORDINATED_DATA_x=PATH",
        "COORDINATED_KEY=a",
        &address,
        "COORDINATED_SPEC=ws",
    ];
    expected.sort_unstable();
    assert_eq!(
        found.len() + 1,
        variables.lines().count(),
        "with COORDINATED_OUTPUT"
    );
    let mut found = found;
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn an_object_on_standard_output_or_in_the_file_is_the_new_data_and_chains() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'then': 'next'}");
    client.set_spec("{'name': 'next'}");
    client.add(
        "ws",
        "['printed', {'n': 1}], ['written', {'n': 2}], ['nothing', {'n': 3}]",
    );
    let script = r#"case $1 in
        printed) echo; echo '{"is": 1,'; echo '"output": {"child": {"x": 2}}}';;
        written) echo '{"is": 2}'; echo '{"is": 3}' > "$COORDINATED_OUTPUT";;
        nothing) echo 'some {text}'; echo '[1]';;
    esac"#;
    work_on_all(&server, &[], &[script, "{key}"]);
    assert_eq!(
        data(&server, "printed"),
        r#"{"is":1,"output":{"child":{"x":2}}}"#
    );
    assert_eq!(data(&server, "written"), r#"{"is":3}"#);
    assert_eq!(data(&server, "nothing"), r#"{"n":3}"#);
    assert_eq!(client.keys("next", "{}"), ["child"]);
}

#[test]
fn results_that_can_t_be_taken_fail_the_unit() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['list', {}], ['escape', {}], ['long', {}]");
    let script = r#"case $1 in
        list) echo '[1]' > "$COORDINATED_OUTPUT";;
        escape) echo '{"x": {"$int": 5}}';;
        long) printf '{"x": "'; head -c 17000000 /dev/zero | tr '\0' x; echo '"}';;
    esac"#;
    let exit = work(&server, &on_all(&["-j", "2"], &[script, "{key}"]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for (key, problem) in [
        (
            "list",
            "the file that COORDINATED_OUTPUT names has something else than a JSON object",
        ),
        (
            "escape",
            "the value of \"$int\" must be a string with an integer",
        ),
        ("long", "standard output has more than 16777216 bytes"),
    ] {
        assert_eq!(traceback(&server, key), problem);
    }
}

#[test]
fn a_failure_has_the_end_of_standard_error_as_its_traceback_and_keeps_the_data() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['long', {'n': 1}], ['quiet', {}], ['killed', {}]");
    let script = r#"case $1 in
        long) i=0; while [ $i -lt 20000 ]; do echo "line $i é" >&2; i=$((i+1)); done; echo the end >&2; exit 3;;
        quiet) exit 4;;
        killed) echo oh >&2; kill -9 $$;;
    esac"#;
    let exit = work(&server, &on_all(&["-j", "2"], &[script, "{key}"]));
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr
            .contains("3 failed work units; `coordinated failed ws` says why"),
        "{}",
        exit.stderr
    );
    assert!(
        exit.stdout.contains("ws  long  ") && exit.stdout.contains("  the end\n"),
        "{}",
        exit.stdout
    );
    let long = traceback(&server, "long");
    assert!(
        long.ends_with("line 19999 é\nthe end\n"),
        "{}",
        &long[long.len() - 100..]
    );
    assert!(
        (65_530..=65_536).contains(&long.len()) && !long.contains('\u{fffd}'),
        "{}",
        long.len()
    );
    assert_eq!(traceback(&server, "quiet"), "it exited with 4");
    assert_eq!(traceback(&server, "killed"), "oh\nsignal 9 ended it");
    assert!(data(&server, "long").starts_with(r#"{"n":1,"traceback":"#));
    assert_eq!(client.counts("ws").get(&FAILED), Some(&3));
}

#[test]
fn a_field_that_is_not_there_fails_the_unit_and_nothing_is_run() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}]");
    let exit = work(&server, &on_all(&[], &["touch ran", "{data.m}"]));
    assert_eq!(exit.code, Some(1));
    assert_eq!(
        traceback(&server, "a"),
        "there is no \"m\" in the data, which the command names"
    );
    assert!(!server.folder().join("ran").exists());
}

#[test]
fn exit_code_75_gives_the_unit_back_and_it_waits_longer_each_time() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "echo $1 >> out; test $1 -ge 4 || exit 75";
    let shown = work_on_all(&server, &["--retry-delay", "60ms"], &[script, "{attempt}"]);
    assert_eq!(contents(&server, "out"), "1\n2\n3\n4\n");
    let delays: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.split_once("  in "))
        .map(|(_, delay)| delay)
        .collect();
    assert_eq!(delays, ["0.1s", "0.1s", "0.2s"]);
    assert_eq!(client.state("ws", "a"), FINISHED);
}

#[test]
fn a_batch_is_given_as_lines_and_each_unit_ends_as_is_said_of_it() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}], ['b', {}], ['c', {}], [h'ff', {}]");
    let script = r#"cat > in
        echo 'about to begin'
        echo '{"key": "a", "data": {"n": 2}}'
        echo '{"key": "b", "error": "it is bad"}'
        echo '{"key": "unheard of", "error": "it is bad"}'
        exit 0"#;
    let exit = work(&server, &on_all(&["--batch", "10", "-j", "1"], &[script]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let expected = [
        r#"{"key":"a","attempt":1,"data":{"n":1}}"#,
        r#"{"key":"b","attempt":1,"data":{}}"#,
        r#"{"key":"c","attempt":1,"data":{}}"#,
        r#"{"key":{"$bytes":"\\xff"},"attempt":1,"data":{}}"#,
    ];
    assert_eq!(
        contents(&server, "in").lines().collect::<Vec<_>>(),
        expected
    );
    assert_eq!(data(&server, "a"), r#"{"n":2}"#);
    assert_eq!(traceback(&server, "b"), "it is bad");
    assert_eq!(client.counts("ws"), [(FINISHED, 3), (FAILED, 1)].into());
}

#[test]
fn a_batch_that_fails_keeps_what_was_said_before() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let script =
        r#"echo '{"key": "a"}'; echo '{"key": "b", "retry": true}'; echo broken >&2; exit 1"#;
    let options = ["--batch", "10", "-j", "1", "--retry-delay", "1h"];
    let arguments = on_all(&options, &[script]);
    let arguments: Vec<&str> = arguments
        .into_iter()
        .filter(|word| *word != "--until-empty")
        .collect();
    let worker = super::Running::start(&server, &arguments);
    worker.wait_for("later ");
    worker.wait_for("failed ");
    assert_eq!(
        client.counts("ws"),
        [(AVAILABLE, 1), (FINISHED, 1), (FAILED, 1)].into()
    );
    assert_eq!(client.state("ws", "a"), FINISHED);
    assert_eq!(traceback(&server, "c"), "broken\n");
}

#[test]
fn work_specs_name_their_command_only_where_that_is_allowed() {
    let (server, mut client) = server_with_spec();
    let exec = "'runtime': 'exec', 'command': ['sh', '-c', 'echo \"$1\" >> out', 'sh', '{key}']";
    client.set_spec(&format!("{{'name': 'one', {exec}}}"));
    client.set_spec(&format!("{{'name': 'two', {exec}}}"));
    client.set_spec("{'name': 'three', 'runtime': 'exec', 'command': 'touch hacked'}");
    for spec in ["ws", "one", "two", "three"] {
        client.add(spec, &format!("['{spec}-unit', {{}}]"));
    }
    let refused = work(&server, &["--until-empty"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(contents(&server, "out"), "");
    let exit = work(
        &server,
        &["--until-empty", "--allow-spec-commands", "-j", "1"],
    );
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let mut ran: Vec<String> = contents(&server, "out")
        .lines()
        .map(str::to_owned)
        .collect();
    ran.sort();
    assert_eq!(ran, ["one-unit", "two-unit"]);
    assert!(
        exit.stdout.contains("`command` must be a list of strings"),
        "{}",
        exit.stdout
    );
    assert_eq!(client.state("ws", "ws-unit"), AVAILABLE);
    assert_eq!(client.state("three", "three-unit"), FAILED);
}

#[test]
fn what_can_t_be_meant_is_said_before_any_unit_is_touched() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    for (arguments, code, said) in [
        (&["--spec", "ws"][..], 2, "name a program behind --"),
        (&["--", "true"], 2, "by --spec"),
        (
            &["--spec", "ws", "--allow-spec-commands", "--", "true"],
            2,
            "not both",
        ),
        (
            &["--spec", "ws", "--batch", "2", "--", "true", "{key}"],
            2,
            "can't name one",
        ),
        (&["--spec", "ws", "-j", "0", "--", "true"], 2, "0 is not in"),
        (
            &["--spec", "ws", "--lease", "10ms", "--", "true"],
            2,
            "a lease lasts from 1s",
        ),
        (
            &["--spec", "ws", "--", "no-such-program"],
            1,
            "there is no program no-such-program",
        ),
        (
            &["--spec", "unknown", "--until-empty", "--", "true"],
            1,
            "there is no work spec unknown",
        ),
    ] {
        let exit = work(&server, arguments);
        assert_eq!(exit.code, Some(code), "{arguments:?}: {}", exit.stderr);
        assert!(exit.stderr.contains(said), "{arguments:?}: {}", exit.stderr);
    }
    assert_eq!(client.state("ws", "a"), AVAILABLE);
}
