//! `sql`: what it shows of a file, that it changes nothing, and how queries are typed.

use super::lines;
use super::server_with_units;
use super::terminal::{OnTerminal, uncoloured, width};
use rusqlite::Connection;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use test_support::{Exit, PATIENCE, Server, run_to_end, server_with_spec};

fn sql(server: &Server, arguments: &[&str]) -> Exit {
    let db = server.db().display().to_string();
    run_to_end(
        server.folder(),
        &[&["sql", "--db", &db], arguments].concat(),
        &[],
    )
}

fn good(server: &Server, arguments: &[&str]) -> String {
    let exit = sql(server, arguments);
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.stderr);
    exit.stdout
}

fn bad(server: &Server, query: &str) -> String {
    let exit = sql(server, &[query]);
    assert_eq!(exit.code, Some(1), "{query}: {}", exit.stdout);
    assert!(exit.stderr.starts_with("coordinated: "), "{}", exit.stderr);
    exit.stderr
}

/// The rows that a query returns.
fn rows(server: &Server, query: &str) -> Vec<Json> {
    let printed = good(server, &["--json", query]);
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The program with a query, its output in a pipe.
fn start(server: &Server, arguments: &[&str], stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args(["sql", "--db"])
        .arg(server.db())
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start")
}

/// Numbers without end.
const ENDLESS: &str =
    "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n FROM n;";

/// A daemon with units whose names are text, bytes, and no UTF-8.
fn server_with_names() -> Server {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        r#"["text", {'n': 1, "l": [1.5, null, 'x']}], ['bytes', {'raw': h'ff'}], [h'61ff5c', {}]"#,
    );
    server
}

#[test]
fn tables_are_aligned_and_show_names_as_everywhere() {
    let server = server_with_names();
    let query =
        "SELECT name, status, NULL AS lacking, length(data) AS bytes FROM work_unit ORDER BY id";
    assert_eq!(
        lines(&good(&server, &[query])),
        [
            r"name     status  lacking  bytes",
            r"text          1  NULL        19",
            r"bytes         1  NULL         7",
            r"a\xff\\       1  NULL         1",
        ]
    );
}

#[test]
fn cbor_json_shows_data_and_what_json_lacks_as_everywhere() {
    let server = server_with_names();
    let data = rows(
        &server,
        "SELECT cbor_json(data) AS data FROM work_unit ORDER BY id",
    );
    let texts = [
        r#"{"n":1,"l":[1.5,null,"x"]}"#,
        r#"{"raw":{"$bytes":"\\xff"}}"#,
        "{}",
    ];
    assert_eq!(data, texts.map(|text| json!({ "data": text })));
    // SQLite's functions take it as JSON.
    let fields = rows(
        &server,
        "SELECT json_extract(cbor_json(data), '$.l[2]') AS x, json_array(cbor_json(data)) AS list
           FROM work_unit ORDER BY id LIMIT 1",
    );
    assert_eq!(
        fields,
        [json!({"x": "x", "list": format!("[{}]", texts[0])})]
    );
    assert_eq!(
        rows(&server, "SELECT cbor_json(NULL) AS x"),
        [json!({"x": null})]
    );
}

#[test]
fn cbor_json_says_what_is_wrong_with_what_is_no_cbor() {
    let (server, _client) = server_with_spec();
    let deep = format!("SELECT cbor_json(x'{}00')", "81".repeat(1_001));
    for (query, words) in [
        (
            "SELECT cbor_json('text')",
            "takes a blob, not a value of type text",
        ),
        ("SELECT cbor_json(5)", "not a value of type integer"),
        ("SELECT cbor_json(x'')", "not CBOR: expected one item"),
        (
            "SELECT cbor_json(x'0000')",
            "not CBOR: expected one item of 1 bytes",
        ),
        ("SELECT cbor_json(x'ff')", "byte 0 (0xff) can't stand here"),
        ("SELECT cbor_json(x'5bffffffffffffffff')", "longer than"),
        (&deep, "nested deeper than 1000 levels"),
    ] {
        let error = bad(&server, query);
        assert!(error.contains(words), "{words} in {error}");
    }
}

#[test]
fn rows_for_programs_tell_texts_from_numbers_and_columns_apart() {
    let server = server_with_names();
    let printed = rows(
        &server,
        "SELECT 1 AS a, '1' AS a, 2.0 AS b, 9e999 AS c, x'ff' AS d, x'61' AS e",
    );
    let expected = json!({
        "a": 1, "a:1": "1", "b": 2.0, "c": {"$float": "inf"}, "d": {"$bytes": "\\xff"}, "e": "a"
    });
    assert_eq!(printed, [expected]);
    let printed = good(
        &server,
        &[
            "--csv",
            "SELECT 'a,\"b\"' AS \"x y\", NULL AS n, 1.5 AS f, x'ff' AS b, 'l' || char(10) AS l",
        ],
    );
    assert_eq!(printed, "x y,n,f,b,l\n\"a,\"\"b\"\"\",,1.5,\\xff,\"l\n\"\n");
    let exit = sql(&server, &["--json", "--csv", "SELECT 1"]);
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
}

#[test]
fn nothing_but_reading_is_allowed() {
    let (mut server, _client) = server_with_units();
    for with_daemon in [true, false] {
        if !with_daemon {
            assert_eq!(server.stop().code, Some(0));
        }
        let before = files(server.folder());
        for query in [
            "DELETE FROM work_unit",
            "UPDATE work_unit SET priority = 1 RETURNING id",
            "CREATE TABLE t (x)",
            "CREATE TEMP TABLE t (x)",
            "DROP VIEW units",
            "ATTACH 'new.db' AS new",
            "VACUUM",
            "VACUUM INTO 'new.db'",
            "BEGIN",
            "SAVEPOINT x",
            "ANALYZE",
            "REINDEX",
            "PRAGMA user_version = 99",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA query_only = OFF",
            "PRAGMA optimize",
            "SELECT 1; DELETE FROM work_unit",
        ] {
            let error = bad(&server, query);
            assert!(
                error.contains("only reading is allowed"),
                "{query}: {error}"
            );
        }
        // These only tell.
        for query in [
            "PRAGMA user_version",
            "PRAGMA table_info(work_unit)",
            "PRAGMA integrity_check",
            "EXPLAIN QUERY PLAN SELECT * FROM units",
            "VALUES (1), (2)",
            "SELECT * FROM pragma_table_info('attempt')",
        ] {
            assert!(!rows(&server, query).is_empty(), "{query}");
        }
        assert_eq!(files(server.folder()), before);
    }
}

/// The files of a folder, but for the index of the WAL, which every reader marks.
fn files(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").display().to_string();
        let content = (!name.ends_with("-shm")).then(|| std::fs::read(&path).expect("read"));
        (name, content)
    };
    entries.map(file).collect()
}

#[test]
fn a_file_that_no_daemon_has_stays_as_it_is_be_it_closed_or_left_by_a_crash() {
    let (mut server, mut client) = server_with_units();
    client.add("ws", "['newest', {}]");
    let count = "SELECT count(*) AS n FROM units WHERE unit = 'newest'";
    server.kill();
    let crashed = files(server.folder());
    assert!(crashed.contains_key("test.db-wal"), "{:?}", crashed.keys());
    assert_eq!(
        rows(&server, count),
        [json!({"n": 1})],
        "what is only in the WAL"
    );
    assert_eq!(files(server.folder()), crashed);
    server.start_again();
    assert_eq!(server.stop().code, Some(0));
    let closed = files(server.folder());
    assert_eq!(closed.keys().collect::<Vec<_>>(), ["test.db"]);
    assert_eq!(rows(&server, count), [json!({"n": 1})]);
    assert_eq!(files(server.folder()), closed);
    server.start_again();
}

#[test]
fn a_file_that_must_not_be_written_can_be_asked() {
    let (mut server, _client) = server_with_units();
    assert_eq!(server.stop().code, Some(0));
    let odd = server.folder().join("a #1?%41 \u{e4}.db");
    std::fs::copy(server.db(), &odd).expect("copy");
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(server.folder(), permissions).expect("permissions");
    };
    mode(0o500);
    let name = odd.display().to_string();
    let exit = run_to_end(
        server.folder(),
        &["sql", "--db", &name, "SELECT count(*) FROM units"],
        &[],
    );
    mode(0o700);
    assert_eq!(exit.stdout, "count(*)\n       5\n", "{}", exit.stderr);
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_nothing_is_made() {
    let folder = tempfile::TempDir::new().expect("folder");
    std::fs::write(
        folder.path().join("text"),
        "no database at all, but long enough ".repeat(100),
    )
    .expect("write");
    let other = Connection::open(folder.path().join("other.db")).expect("open");
    other.execute_batch("CREATE TABLE t (x)").expect("create");
    drop(other);
    let before = files(folder.path());
    for (db, words) in [
        ("missing.db", "missing.db"),
        ("text", "not an SQLite database"),
        ("other.db", "of another program"),
    ] {
        let exit = run_to_end(folder.path(), &["sql", "--db", db, "SELECT 1"], &[]);
        assert_eq!(exit.code, Some(1), "{}", exit.stdout);
        assert!(exit.stderr.contains(words), "{words} in {}", exit.stderr);
    }
    assert_eq!(files(folder.path()), before);
}

#[test]
fn errors_name_what_is_wrong() {
    let (server, _client) = server_with_spec();
    for (query, words) in [
        ("SELEC 1", r#"near "SELEC": syntax error"#),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT nonsense FROM units", "no such column: nonsense"),
        (".schema nowhere", "there is no nowhere"),
        (".nothing", "'.nothing' is no command; .help"),
    ] {
        let error = bad(&server, query);
        assert!(error.contains(words), "{words} in {error}");
        assert_eq!(lines(&error).len(), 1, "{error}");
    }
}

#[test]
fn scripts_come_from_standard_input_with_commands_between_queries() {
    let (server, _client) = server_with_spec();
    let mut child = start(&server, &[], Stdio::piped());
    let script =
        ".tables\n.schema locks\nSELECT ';' AS a,\n  2 AS b; SELECT 3 AS c\n;\nSELECT 4 AS d";
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(script.as_bytes())
        .expect("write");
    let output = child.wait_with_output().expect("end");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let found: Vec<&str> = lines(&printed);
    assert!(found.contains(&"units            view"), "{printed}");
    assert!(
        found.contains(&"CREATE VIEW locks (path, owner, expires) AS"),
        "{printed}"
    );
    assert!(
        printed.ends_with("a  b\n;  2\n\nc\n3\n\nd\n4\n"),
        "{printed}"
    );
}

#[test]
fn long_results_stream_and_who_has_read_enough_ends_them_quietly() {
    let (server, _client) = server_with_spec();
    for arguments in [&[ENDLESS][..], &["--json", ENDLESS], &["--csv", ENDLESS]] {
        let mut child = start(&server, arguments, Stdio::null());
        let mut output = BufReader::new(child.stdout.take().expect("stdout"));
        let mut line = String::new();
        for _ in 0..3 {
            assert!(output.read_line(&mut line).expect("read") > 0);
        }
        drop(output);
        let mut said = String::new();
        child
            .stderr
            .take()
            .expect("stderr")
            .read_to_string(&mut said)
            .expect("read");
        assert_eq!(
            (child.wait().expect("end").code(), said.as_str()),
            (Some(0), "")
        );
    }
}

#[test]
fn ctrl_c_interrupts_a_query() {
    let (server, _client) = server_with_spec();
    let mut child = start(&server, &[ENDLESS], Stdio::null());
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    // What is printed says that the query runs.
    output.read_line(&mut String::new()).expect("read");
    let id = i32::try_from(child.id()).expect("a process id");
    // SAFETY: it is that of a child that has not been waited for, so it is no other's.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("read");
    let ended = child.wait_with_output().expect("end");
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&ended.stderr),
        "coordinated: interrupted\n"
    );
}

/// A shell on a terminal, at its prompt.
fn shell(server: &Server) -> OnTerminal {
    let db = server.db().display().to_string();
    let mut terminal = OnTerminal::start(100, server.address(), &["sql", "--db", &db]);
    terminal.wait_for_all(&["sql> "]);
    terminal
}

#[test]
fn queries_are_typed_over_lines_and_go_on_after_an_error_and_an_interruption() {
    let server = server_with_names();
    let mut terminal = shell(&server);
    terminal.type_in("SELECT count(*) + 40\r");
    terminal.wait_for_all(&["...> "]);
    terminal.type_in("AS answer FROM units;\r");
    terminal.wait_for_all(&["43", "sql> "]);
    terminal.type_in("SELEC;\r");
    terminal.wait_for_all(&["error: near \"SELEC\": syntax error", "sql> "]);
    terminal.type_in(&format!("{ENDLESS}\r"));
    terminal.wait_for_all(&["\n1234"]);
    terminal.type_in("\x03");
    terminal.wait_for_all(&["error: interrupted", "sql> "]);
    // The arrow up brings earlier queries back.
    terminal.type_in("\x1b[A\x1b[A\x1b[A");
    terminal.wait_for_all(&["answer FROM units;"]);
    terminal.type_in("\r");
    terminal.wait_for_all(&["43", "sql> "]);
    terminal.type_in(".tables\r");
    terminal.wait_for_all(&["active_workers", "sql> "]);
    terminal.type_in(".help\r");
    terminal.wait_for_all(&[".schema [NAME]", "sql> "]);
    terminal.type_in(".quit\r");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn between_queries_the_log_can_begin_anew() {
    let (server, mut client) = server_with_units();
    let mut terminal = shell(&server);
    terminal.type_in("SELECT count(*) + 995 FROM units;\r");
    terminal.wait_for_all(&["1000", "sql> "]);
    client.add("ws", "['more', {}]");
    let other = Connection::open(server.db()).expect("open");
    other.busy_timeout(PATIENCE).expect("timeout");
    let is_held: bool = other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .expect("checkpoint");
    assert!(!is_held, "the shell holds an older state");
    terminal.type_in("SELECT count(*) + 995 FROM units;\r");
    terminal.wait_for_all(&["1001", "sql> "]);
    // The end of input is an end, too.
    terminal.type_in("\x04");
    assert_eq!(terminal.end().1, Some(0));
}

#[test]
fn a_daemon_that_stops_while_a_query_runs_leaves_one_file() {
    let (mut server, _client) = server_with_units();
    let mut child = start(
        &server,
        &[&format!("SELECT count(*) FROM units; {ENDLESS}")],
        Stdio::null(),
    );
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    output.read_line(&mut String::new()).expect("read");
    assert_eq!(server.stop().code, Some(0));
    drop(output);
    assert_eq!(child.wait().expect("end").code(), Some(0));
    assert_eq!(
        files(server.folder()).keys().collect::<Vec<_>>(),
        ["test.db"]
    );
}

#[test]
fn a_daemon_that_starts_while_a_query_runs_is_told() {
    let (mut server, mut client) = server_with_units();
    assert_eq!(server.stop().code, Some(0));
    let mut child = start(
        &server,
        &[&ENDLESS.replace("FROM n;", "FROM n LIMIT 400000")],
        Stdio::null(),
    );
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    output.read_line(&mut String::new()).expect("read");
    // The pipe is full long before the query's end, so it waits until this daemon has written.
    server.start_again();
    client = {
        drop(client);
        server.connect()
    };
    client.add("ws", "['more', {}]");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("read");
    let ended = child.wait_with_output().expect("end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("was changed while it was read") && said.contains("run the query again"),
        "{said}"
    );
}

#[test]
fn on_a_terminal_a_table_is_no_wider_than_it_and_loses_nothing() {
    let (server, _client) = server_with_units();
    let db = server.db().display().to_string();
    let query = "SELECT work_spec, unit, status, priority, worker, data_bytes FROM units ORDER BY unit LIMIT 3";
    for columns in [40, 200] {
        let terminal = OnTerminal::start(columns, server.address(), &["sql", "--db", &db, query]);
        let (screen, code) = terminal.end();
        assert_eq!(code, Some(0), "{screen}");
        assert!(
            width(&screen) <= usize::from(columns),
            "{columns}: {screen}"
        );
        let plain = uncoloured(&screen);
        let is_list = plain.lines().any(|line| line.starts_with("data_bytes  "));
        assert_eq!(is_list, columns == 40, "{plain}");
        for word in ["available", "failed", "worker-1", "priority"] {
            assert!(plain.contains(word), "{word} in {plain}");
        }
    }
}

#[test]
fn nothing_in_a_result_acts_on_the_terminal() {
    let (server, _client) = server_with_spec();
    let db = server.db().display().to_string();
    let query =
        "SELECT char(27) || '[31mred' || char(10) || 'line' AS x, x'1b5b' AS y, char(155) AS z";
    for form in [&[][..], &["--json"], &["--csv"]] {
        let arguments = [&["sql", "--db", &db, query], form].concat();
        let (screen, code) = OnTerminal::start(200, server.address(), &arguments).end();
        assert_eq!(code, Some(0), "{screen}");
        let plain = uncoloured(&screen);
        assert!(
            !plain.contains('\x1b') && !plain.contains('\u{9b}'),
            "{form:?}: {plain:?}"
        );
        assert!(!screen.contains("\x1b[31m"), "{form:?}: {screen:?}");
    }
}
