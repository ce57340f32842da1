//! The file that `COORDINATED_OUTPUT` names: who can read it, what it may be, and what is left of it.

use super::{Running, contents, data, on_all, traceback, work, work_on_all};
use test_support::{FINISHED, Server, server_with_spec, wait_until};

/// Workers' folders for such files.
fn folders(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.folder()).expect("the folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("coordinated-work-"))
        .collect()
}

#[test]
fn nobody_else_can_read_it() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let script = "umask 0; stat -c %a \"$(dirname \"$COORDINATED_OUTPUT\")\" > mode";
    work_on_all(&server, &[], &[script]);
    assert_eq!(contents(&server, "mode"), "700\n");
}

/// A FIFO was once waited for until the worker was killed, and a long file filled the memory.
#[test]
fn what_is_no_regular_file_or_too_long_fails_the_unit_and_all_of_it_is_removed() {
    let (server, mut client) = server_with_spec();
    let cases = [
        ("fifo", "it is not a regular file"),
        ("folder", "it is not a regular file"),
        ("link", "it is a symbolic link"),
        ("long", "has more than 16777216 bytes"),
    ];
    for (key, _) in cases {
        client.add("ws", &format!("['{key}', {{}}]"));
    }
    client.add("ws", "['limit', {}], ['one failed', {}], ['rest', {}]");
    let script = r#"echo '{"x": 1}' > secret
        case $1 in
            fifo) mkfifo "$COORDINATED_OUTPUT";;
            folder) mkdir -p "$COORDINATED_OUTPUT/x";;
            link) ln -s "$PWD/secret" "$COORDINATED_OUTPUT";;
            long) truncate -s 20G "$COORDINATED_OUTPUT";;
            limit) printf '%16777216s' '{}' > "$COORDINATED_OUTPUT";;
            *failed) mkfifo "$COORDINATED_OUTPUT"; exit 3;;
            rest) ls "$(dirname "$COORDINATED_OUTPUT")" > rest;;
        esac"#;
    let exit = work(&server, &on_all(&["-j", "1"], &[script, "{key}"]));
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    for (key, problem) in cases {
        let traceback = traceback(&server, key);
        assert!(traceback.ends_with(problem), "{key}: {traceback}");
    }
    assert_eq!(data(&server, "limit"), "{}");
    assert_eq!(traceback(&server, "one failed"), "exit code 3");
    assert_eq!(client.state("ws", "rest"), FINISHED);
    assert_eq!(contents(&server, "rest"), "", "all others were removed");
    assert!(folders(&server).is_empty(), "{:?}", folders(&server));
}

#[test]
fn what_a_killed_worker_has_left_is_removed_by_the_next_one_and_nobody_elses() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let script = "cat > /dev/null; echo {} > \"$COORDINATED_OUTPUT\"; touch $1; exec sleep 60";
    let arguments = [
        "--spec", "ws", "-j", "1", "--", "sh", "-c", script, "sh", "{key}",
    ];
    let begun = |key: &str| server.folder().join(key).exists();
    let mut killed = Running::start(&server, &arguments);
    wait_until("one runs", || begun("a"));
    let of_killed = folders(&server);
    let mut alive = Running::start(&server, &arguments);
    wait_until("two run", || begun("b"));
    let of_both = folders(&server);
    assert_eq!((of_killed.len(), of_both.len()), (1, 2));
    killed.signal(libc::SIGKILL);
    killed.end();
    client.set_spec("{'name': 'other'}");
    let exit = work(&server, &["--spec", "other", "--until-empty", "--", "true"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let left = folders(&server);
    assert!(left.len() == 1 && !left.contains(&of_killed[0]), "{left:?}");
    alive.signal(libc::SIGHUP);
    alive.end();
    assert!(folders(&server).is_empty());
}
