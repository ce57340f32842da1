//! What a program is given, and what becomes of what it leaves.

use super::{contents, data, on_all, traceback, work, work_on_all};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use test_support::{AVAILABLE, Client, FAILED, FINISHED, Server, run_to_end, server_with_spec};

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
fn an_unknown_word_in_braces_stands_for_itself_and_is_told_of_once() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'exec', 'runtime': 'exec', 'command': ['true', '{file}']}");
    client.add("ws", "['a', {}], ['b', {}]");
    client.add("exec", "['a', {}], ['b', {}]");
    let told = "the argument {file} is not a placeholder: only {key}, {spec}, {attempt} and {data.FIELD} are replaced";
    for options in [
        &["--spec", "ws", "--", "true", "{file}", "{key}"][..],
        &["--allow-spec-commands"],
    ] {
        let exit = work(&server, &[&["--until-empty"], options].concat());
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert_eq!(exit.stderr.matches(told).count(), 1, "{}", exit.stderr);
    }
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
        "COORDINATED_ATTEMPT_ID=1",
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
            "the file that COORDINATED_OUTPUT names is a list, not a JSON object",
        ),
        (
            "escape",
            "standard output: the value of \"$int\" must be a string with an integer",
        ),
        ("long", "standard output has more than 16777216 bytes"),
    ] {
        assert_eq!(traceback(&server, key), problem);
    }
}

/// Output that was almost JSON was once ignored, and the unit finished without a result.
#[test]
fn output_that_is_almost_an_object_fails_the_unit_and_says_where_it_broke() {
    let (server, mut client) = server_with_spec();
    let outputs = [
        (
            "nan",
            r#"{"x": NaN}"#,
            "line 1, column 7: {\"x\": NaN}",
            "NaN is not JSON",
        ),
        (
            "before",
            r"loading\n{}\n",
            "line 1, column 1: loading",
            "it begins with something else",
        ),
        (
            "cut",
            r#"{"x": [1"#,
            "line 1, column 9: {\"x\": [1",
            "it ends within the object",
        ),
        (
            "two",
            r"{}\n{}\n",
            "line 2, column 1: {}",
            "something follows the object",
        ),
        (
            "half",
            r#"{"x": "\\ud800"}"#,
            "line 1, column 14: {\"x\": \"\\ud800\"}",
            "half of a surrogate pair",
        ),
    ];
    for (key, output, ..) in outputs {
        client.add("ws", &format!("['{key}', {{'out': '{output}'}}]"));
    }
    client.add("ws", r"['marked', {'out': '\\357\\273\\277{}'}]");
    client.add("ws", "['text', {'out': '[1] and {text}'}]");
    let script = ["printf \"$1\"", "{data.out}"];
    let exit = work(&server, &on_all(&["-j", "2"], &script));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for (key, output, place, problem) in outputs {
        let traceback = traceback(&server, key);
        let expected =
            format!("standard output, {place}\nstandard output is not one JSON object: {problem}");
        assert!(traceback.starts_with(&expected), "{output}: {traceback}");
    }
    assert_eq!(data(&server, "marked"), "{}");
    assert_eq!(client.state("ws", "text"), FINISHED);
    let counts = [(FINISHED, 2), (FAILED, outputs.len() as u64)];
    assert_eq!(client.counts("ws"), counts.into());
}

#[test]
fn output_demands_an_object_or_takes_nothing_if_it_is_told_to() {
    let (server, mut client) = server_with_spec();
    let script = r#"case $1 in
        object) echo '{"x": 1}';;
        file) echo text; echo '{"x": 2}' > "$COORDINATED_OUTPUT";;
        text) echo text;;
        silent) ;;
    esac"#;
    let keys = ["object", "file", "text", "silent"];
    client.add("ws", &keys.map(|key| format!("['{key}', {{}}]")).join(", "));
    let exit = work(&server, &on_all(&["--output", "json"], &[script, "{key}"]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(data(&server, "object"), r#"{"x":1}"#);
    assert_eq!(data(&server, "file"), r#"{"x":2}"#);
    assert!(traceback(&server, "text").contains("it begins with something else"));
    assert_eq!(
        traceback(&server, "silent"),
        "standard output is empty, not a JSON object"
    );

    client.call("del_work_units", "'ws', {'all': true}");
    client.add("ws", "['a', {'n': 1}]");
    let script = r#"test -z "$COORDINATED_OUTPUT" && echo '{"x": NaN}'; echo '{}'"#;
    work_on_all(&server, &["--output", "none"], &[script]);
    assert_eq!(data(&server, "a"), r#"{"n":1}"#);
}

#[test]
fn text_of_any_length_is_no_result_but_an_object_behind_it_is() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['text', {}], ['object', {}]");
    let script = r#"head -c 17000000 /dev/zero | tr '\0' x
        case $1 in object) echo; echo '{"x": 1}';; esac"#;
    let exit = work(&server, &on_all(&[], &[script, "{key}"]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(client.state("ws", "text"), FINISHED);
    assert_eq!(
        traceback(&server, "object"),
        "standard output has more than 16777216 bytes"
    );
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
    let (end, stderr) = long.split_once('\n').expect("two lines");
    assert_eq!(end, "exit code 3, and on standard error:");
    assert!(
        (65_530..=65_536).contains(&stderr.len()) && !stderr.contains('\u{fffd}'),
        "{}",
        stderr.len()
    );
    assert_eq!(traceback(&server, "quiet"), "exit code 4");
    assert_eq!(
        traceback(&server, "killed"),
        "oh\nkilled by signal 9 (SIGKILL)"
    );
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
        "the command needs \"m\", which is not in the data"
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
        exit 0"#;
    let exit = work(&server, &on_all(&["--batch", "10", "-j", "1"], &[script]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let expected = [
        r#"{"key":"a","attempt":1,"attempt_id":1,"data":{"n":1}}"#,
        r#"{"key":"b","attempt":1,"attempt_id":2,"data":{}}"#,
        r#"{"key":"c","attempt":1,"attempt_id":3,"data":{}}"#,
        r#"{"key":{"$bytes":"\\xff"},"attempt":1,"attempt_id":4,"data":{}}"#,
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
fn a_program_for_many_units_does_not_take_the_attempt_of_its_worker_for_its_own() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "cat > /dev/null; echo \"$COORDINATED_ATTEMPT_ID\" > id";
    let arguments = [&["work"][..], &on_all(&["--batch", "10"], &[script])].concat();
    let environment = [
        ("COORDINATED_SERVER", server.address()),
        ("COORDINATED_ATTEMPT_ID", "77"),
    ];
    let exit = run_to_end(server.folder(), &arguments, &environment);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(contents(&server, "id"), "\n");
}

#[test]
fn a_line_of_a_batch_that_can_not_be_read_fails_its_unit_or_all_of_which_nothing_was_said() {
    for (line, problem, of_others) in [
        (
            r#"{"key": "a", "data": {"x": NaN}}"#,
            "NaN is not JSON",
            None,
        ),
        (
            r#"{"key": "a", "data": {"x""#,
            "it ends within the object",
            None,
        ),
        (
            r#"{"data": {"x": NaN}, "key": "a"}"#,
            "NaN is not JSON",
            Some("NaN is not JSON"),
        ),
        (
            r#"{"key": "A", "data": {}}"#,
            "the program was not given the unit \"A\"",
            Some("the program was not given the unit \"A\""),
        ),
        (
            r#"{"id": "a", "data": {}}"#,
            "the object has no \"key\" of a unit",
            Some("the object has no \"key\" of a unit"),
        ),
        (
            r#"{"key": "a", "retry": "yes"}"#,
            "its \"retry\" is neither true nor false",
            None,
        ),
    ] {
        let (server, mut client) = server_with_spec();
        client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
        let script = r#"echo text; echo '{"key": "b", "data": {"x": 1}}'; printf %s "$1""#;
        let exit = work(
            &server,
            &on_all(&["--batch", "10", "-j", "1"], &[script, line]),
        );
        assert_eq!(exit.code, Some(1), "{line}: {}", exit.stderr);
        assert_eq!(data(&server, "b"), r#"{"x":1}"#, "{line}");
        let traceback_a = traceback(&server, "a");
        assert!(traceback_a.contains(problem), "{line}: {traceback_a}");
        match of_others {
            Some(problem) => assert!(traceback(&server, "c").contains(problem), "{line}"),
            None => assert_eq!(client.state("ws", "c"), FINISHED, "{line}"),
        }
    }
}

#[test]
fn lines_of_a_batch_that_are_cut_off_by_the_limit_fail_their_units() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let script = r#"echo '{"key": "a", "data": {"x": 1}}'
        printf '{"key": "b", "data": {"x": "'; head -c 17000000 /dev/zero | tr '\0' x; echo '"}}'
        echo '{"key": "c", "data": {"x": 3}}'"#;
    let exit = work(&server, &on_all(&["--batch", "10", "-j", "1"], &[script]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(data(&server, "a"), r#"{"x":1}"#);
    for key in ["b", "c"] {
        assert_eq!(
            traceback(&server, key),
            "standard output has more than 16777216 bytes"
        );
    }
}

#[test]
fn a_batch_of_which_lines_are_demanded_fails_the_units_that_have_none() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let options = ["--batch", "10", "-j", "1", "--output", "json"];
    let exit = work(&server, &on_all(&options, &[r#"echo '{"key": "a"}'"#]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(client.state("ws", "a"), FINISHED);
    assert_eq!(
        traceback(&server, "b"),
        "the program printed no line for this unit"
    );
}

/// A program that is stopped may be within a line.
#[test]
fn a_line_that_is_cut_off_by_the_end_of_the_program_leaves_the_unit_to_that_end() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = r#"test -e second && exit 0; touch second; printf '{"key": "a", "da'; exit 75"#;
    let options = ["--batch", "10", "-j", "1", "--retry-delay", "10ms"];
    work_on_all(&server, &options, &[script]);
    assert_eq!(client.state("ws", "a"), FINISHED);
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
    assert_eq!(
        traceback(&server, "c"),
        "exit code 1, and on standard error:\nbroken\n"
    );
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
        (&["--spec", "ws"][..], 2, "give a program after --"),
        (&["--", "true"], 2, "with --spec"),
        (
            &["--spec", "ws", "--allow-spec-commands", "--", "true"],
            2,
            "not both",
        ),
        (
            &["--spec", "ws", "--batch", "2", "--", "true", "{key}"],
            2,
            "can't refer to one",
        ),
        (&["--spec", "ws", "-j", "0", "--", "true"], 2, "0 is not in"),
        (
            &["--spec", "ws", "--lease", "10ms", "--", "true"],
            2,
            "a lease must be from 1s",
        ),
        (
            &["--spec", "ws", "--", "no-such-program"],
            1,
            "there is no program no-such-program in the folders that PATH names",
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

#[test]
fn a_program_that_can_not_be_run_is_refused_with_what_is_wrong_with_it() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let folder = server.folder();
    let file = |name: &str, mode: u32, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    };
    std::fs::create_dir(folder.join("bin")).expect("a folder");
    file("plain.sh", 0o644, "#!/bin/sh\n");
    file("good.sh", 0o755, "#!/bin/sh\n");
    file("bin/plain", 0o644, "#!/bin/sh\n");
    let path = format!("{}/bin:/bin:/usr/bin", folder.display());
    let refused = |program: &str, path: &str| {
        let arguments = ["work", "--spec", "ws", "--until-empty", "--", program];
        let server = [("COORDINATED_SERVER", server.address()), ("PATH", path)];
        let exit = run_to_end(folder, &arguments, &server);
        assert_eq!(exit.code, Some(1), "{program}");
        exit.stderr
    };
    let plain_in_path = folder.join("bin/plain").display().to_string();
    for (program, said) in [
        (
            "./plain.sh",
            "./plain.sh is not executable: allow it with `chmod +x ./plain.sh`",
        ),
        (
            "plain",
            &format!("{plain_in_path} is not executable: allow it with `chmod +x {plain_in_path}`"),
        ),
        ("./bin", "./bin is a folder, not a program"),
        (
            "bin/no.sh",
            "there is no file bin/no.sh (a relative path begins in the worker's current folder)",
        ),
        (
            "good.sh",
            "there is no program good.sh in the folders that PATH names; for the file in the current folder \
             write ./good.sh",
        ),
        ("good.sh/x", "good.sh/x can't be run: not a directory"),
    ] {
        let stderr = refused(program, &path);
        assert_eq!(stderr, format!("coordinated: {said}\n"), "{program}");
    }
    assert_eq!(client.state("ws", "a"), AVAILABLE);
    // An empty entry of PATH is the current folder.
    let arguments = ["work", "--spec", "ws", "--until-empty", "--", "good.sh"];
    let environment = [("COORDINATED_SERVER", server.address()), ("PATH", ":/bin")];
    let exit = run_to_end(folder, &arguments, &environment);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[test]
fn a_program_that_the_system_does_not_start_fails_its_unit_with_the_reason() {
    let (server, mut client) = server_with_spec();
    for (key, content) in [("text", "exit 0\n"), ("lost", "#!/no/such/shell\n")] {
        let path = server.folder().join(key);
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
    }
    client.add("ws", "['text', {}], ['lost', {}], ['none', {}]");
    let exit = work(&server, &["--spec", "ws", "--until-empty", "--", "./{key}"]);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for (key, problem) in [
        (
            "text",
            "./text is not a program: a script needs a first line such as #!/bin/sh",
        ),
        (
            "lost",
            "can't run ./lost: the interpreter in its first line does not exist",
        ),
        (
            "none",
            "there is no file ./none (a relative path begins in the worker's current folder)",
        ),
    ] {
        assert_eq!(traceback(&server, key), problem);
    }
}

fn server_of_short_messages() -> (Server, Client) {
    let server = Server::start_with(&["--max-message", "64KiB"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    (server, client)
}

/// It was once sent again for a minute, and ended the worker then.
#[test]
fn a_result_that_is_too_large_for_the_daemon_fails_its_unit_at_once() {
    let (server, mut client) = server_of_short_messages();
    let filler = "x".repeat(60_000);
    client.add("ws", "['large', {}], ['small', {}], ['loud', {}]");
    client.add("ws", &format!("['full', {{'x': '{filler}'}}]"));
    let script = r#"cat > /dev/null
        case $1 in
            large) printf '{"x": "'; head -c 100000 /dev/zero | tr '\0' x; echo '"}';;
            small) echo '{"x": 1}';;
            *) head -c 100000 /dev/zero | tr '\0' x >&2; echo >&2; echo the end >&2; exit 1;;
        esac"#;
    let exit = work(&server, &on_all(&["-j", "1"], &[script, "{key}"]));
    let failed = "3 failed work units; `coordinated failed ws` says why";
    assert!(exit.stderr.contains(failed), "{}", exit.stderr);
    assert_eq!(
        traceback(&server, "large"),
        "the daemon rejected its new data: update_work_unit: request: message of more than 65536 bytes \
         (limit max-message): send less in one request"
    );
    assert_eq!(data(&server, "small"), r#"{"x":1}"#);
    let loud = traceback(&server, "loud");
    assert!(
        loud.ends_with("\nthe end\n") && loud.len() == 1024,
        "{loud}"
    );
    // With the short traceback its data are still short enough.
    let full: serde_json::Value = serde_json::from_str(&data(&server, "full")).expect("JSON");
    assert_eq!(full["x"], filler);
    assert_eq!(traceback(&server, "full").len(), 1024);
    assert_eq!(client.counts("ws"), [(FINISHED, 1), (FAILED, 3)].into());
}

#[test]
fn reports_that_are_too_large_together_are_sent_one_by_one() {
    let (server, mut client) = server_of_short_messages();
    client.add("ws", "['a', {}], ['b', {}], ['large', {}]");
    let script = r#"for key in a b; do
            printf '{"key": "%s", "data": {"x": "' $key; head -c 40000 /dev/zero | tr '\0' $key; echo '"}}'
        done
        printf '{"key": "large", "data": {"x": "'; head -c 70000 /dev/zero | tr '\0' x; echo '"}}'"#;
    let exit = work(&server, &on_all(&["--batch", "10", "-j", "1"], &[script]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for key in ["a", "b"] {
        assert_eq!(
            data(&server, key),
            format!(r#"{{"x":"{}"}}"#, key.repeat(40_000))
        );
    }
    assert!(traceback(&server, "large").contains("more than 65536 bytes"));
}

#[test]
fn a_failure_is_retried_as_the_work_spec_says_unless_the_exit_code_is_final() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'retries': 3}");
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let script = "echo $1 >> out; echo bad $1 >&2
        case $1 in a) exit 65;; b) exit 3;; c) test $2 -ge 2 || exit 1;; esac";
    let exit = work(
        &server,
        &on_all(&["-j", "1"], &[script, "{key}", "{attempt}"]),
    );
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let tries = |key: &str| {
        contents(&server, "out")
            .lines()
            .filter(|line| *line == key)
            .count()
    };
    assert_eq!((tries("a"), tries("b"), tries("c")), (1, 4, 2));
    assert_eq!(client.counts("ws"), [(FINISHED, 1), (FAILED, 2)].into());
    assert_eq!(
        traceback(&server, "a"),
        "exit code 65, and on standard error:\nbad a\n"
    );
    let attempts = client.value("get_attempts", "'ws', 'b', {}");
    for attempt in attempts.items() {
        let traceback = attempt.at("data").at("traceback").name();
        assert_eq!(
            traceback.as_deref(),
            Some("exit code 3, and on standard error:\nbad b\n")
        );
    }
    assert_eq!(attempts.items().len(), 4);
}

#[test]
fn other_exit_codes_and_lines_of_a_batch_can_be_final_too() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'retries': 3}");
    client.add("ws", "['a', {}]");
    let script = "echo $1 >> out; exit 4";
    let options = ["--final-exit-code", "3,4"];
    assert_eq!(work(&server, &on_all(&options, &[script])).code, Some(1));
    assert_eq!(contents(&server, "out").lines().count(), 1);
    client.add("ws", "['a', {}], ['b', {}]");
    let script = r#"cat >> in
        echo '{"key": "a", "error": "never", "final": true}'
        echo '{"key": "b", "error": "odd", "final": 1}'"#;
    assert_eq!(
        work(&server, &on_all(&["--batch", "9"], &[script])).code,
        Some(1)
    );
    let tries = |key: &str| {
        contents(&server, "in")
            .matches(&format!("\"{key}\""))
            .count()
    };
    assert_eq!((tries("a"), tries("b")), (1, 4));
    assert_eq!(traceback(&server, "a"), "never");
    assert_eq!(
        traceback(&server, "b"),
        "its \"final\" is neither true nor false"
    );
}

#[test]
fn what_is_given_back_keeps_its_standard_error_in_the_attempt() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}]");
    let script = "test $1 -ge 2 && exit; echo the disk is full >&2; exit 75";
    work_on_all(&server, &["--retry-delay", "10ms"], &[script, "{attempt}"]);
    let attempts = client.value("get_attempts", "'ws', 'a', {}");
    let given_back = attempts.item(1);
    assert_eq!(given_back.at("status").number(), Some(7.0));
    let said = given_back.at("data").at("traceback").name();
    let expected = "exit code 75, and on standard error:\nthe disk is full\n";
    assert_eq!(said.as_deref(), Some(expected));
    assert_eq!(data(&server, "a"), r#"{"n":1}"#);
    let connection = rusqlite::Connection::open(server.db()).expect("open");
    let logged: String = connection
        .query_row(
            "SELECT traceback FROM attempts_log WHERE number = 1",
            [],
            |row| row.get(0),
        )
        .expect("a row");
    assert_eq!(logged, expected);
}
