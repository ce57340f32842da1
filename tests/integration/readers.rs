//! Tries to break the promise that other programs, such as `sqlite3`, may use the file beside the daemon:
//! they make it wait or answer an error, never lose, and its WAL does not grow without bound.
//!
//! That a second daemon refuses the file is tested in `process.rs`.

use rusqlite::{Connection, OpenFlags};
use std::time::Duration;
use test_support::{
    AVAILABLE, Client, Reply, Server, Value, diag, frame, reply, server_with_spec, wait_until,
};

fn reader(server: &Server) -> Connection {
    Connection::open_with_flags(server.db(), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the file")
}

fn count(file: &Connection) -> u64 {
    file.query_row("SELECT count(*) FROM units", [], |row| row.get(0))
        .expect("a count")
}

/// Adds a unit of 1 MiB.
fn add_large(client: &mut Client, key: &str) -> Reply {
    let data = Value::Map(vec![(Value::bytes("x"), Value::Bytes(vec![7; 1 << 20]))]);
    let unit = Value::Array(vec![Value::bytes(key), data]);
    let params = vec![Value::bytes("ws"), Value::Array(vec![unit])];
    client.request("add_work_units", Value::Array(params))
}

fn is_done(reply: &Reply) -> bool {
    matches!(reply, Reply::Result(result) if *result.item(0) == Value::Bool(true))
}

#[test]
fn under_a_reader_that_never_ends_the_wal_has_a_limit_and_goes_on_when_it_ends() {
    const LIMIT: u64 = 32 << 20;
    let server = Server::start_with(&["--max-wal", "32MiB"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let reader = reader(&server);
    reader.execute_batch("BEGIN").expect("begin");
    assert_eq!(count(&reader), 0);
    let wal_size = || {
        let wal = server.folder().join("test.db-wal");
        std::fs::metadata(wal).expect("the WAL").len()
    };
    let mut added = 0;
    let refusal = loop {
        match add_large(&mut client, &format!("u{added}")) {
            Reply::Error(message) => break message,
            reply => assert!(is_done(&reply), "{reply:?}"),
        }
        added += 1;
        assert!(wal_size() < 2 * LIMIT, "the WAL grows without bound");
    };
    for words in ["nothing was changed", "limit of 32 MiB", "does not end"] {
        assert!(refusal.contains(words), "{words} in {refusal}");
    }
    assert!(wal_size() > LIMIT / 2, "{} is no large WAL", wal_size());
    wait_until("it is logged", || {
        server.log().contains("the write-ahead log grows")
    });
    // Who reads is served, and what was answered is there.
    assert_eq!(client.counts("ws"), [(AVAILABLE, added)].into());
    let size = wal_size();
    assert!(!is_done(&add_large(&mut client, "more")));
    assert_eq!(wal_size(), size, "nothing is written");
    assert_eq!(count(&reader), 0, "its view of the file stays as it was");
    reader.execute_batch("COMMIT").expect("commit");
    for n in 0..100 {
        assert!(is_done(&add_large(&mut client, &format!("later{n}"))));
        assert!(wal_size() < 2 * LIMIT, "the WAL was reset");
    }
    assert_eq!(count(&reader), added + 100);
}

#[test]
fn after_a_reader_that_let_the_log_grow_has_ended_the_file_of_the_log_is_cut() {
    const USUAL: u64 = 128 << 20;
    let server = Server::start_with(&["--synchronous", "off"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let wal_size = || {
        let wal = server.folder().join("test.db-wal");
        std::fs::metadata(wal).expect("the WAL").len()
    };
    let reader = reader(&server);
    reader.execute_batch("BEGIN").expect("begin");
    assert_eq!(count(&reader), 0);
    let mut added = 0;
    while wal_size() < USUAL + (64 << 20) {
        assert!(is_done(&add_large(&mut client, &format!("u{added}"))));
        added += 1;
    }
    let large = wal_size();
    reader.execute_batch("COMMIT").expect("commit");
    let mut sizes = vec![large];
    wait_until("the file is cut", || {
        client.add("ws", &format!("['small{added}', {{}}]"));
        added += 1;
        let size = wal_size();
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
        size <= USUAL
    });
    assert!(sizes.len() > 2, "in pieces: {sizes:?}");
    assert_eq!(client.counts("ws"), [(AVAILABLE, added)].into());
}

#[test]
fn without_readers_a_small_limit_of_the_wal_does_not_limit_work() {
    let server = Server::start_with(&["--max-wal", "1MiB"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    for n in 0..50 {
        assert!(is_done(&add_large(&mut client, &format!("u{n}"))));
    }
    assert_eq!(client.counts("ws"), [(AVAILABLE, 50)].into());
}

#[test]
fn a_write_lock_of_two_seconds_makes_requests_wait_and_loses_none() {
    let (server, mut client) = server_with_spec();
    let other = Connection::open(server.db()).expect("the file");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("a write lock");
    let waiting = std::thread::spawn(move || {
        client.add("ws", "['a', {}], ['b', {}]");
        client
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(!waiting.is_finished(), "it can't have been written");
    assert_eq!(count(&other), 0);
    other.execute_batch("COMMIT").expect("commit");
    let mut client = waiting.join().expect("it was answered");
    assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into());
    assert_eq!(count(&other), 2);
}

#[test]
fn under_a_write_lock_that_stays_readers_are_served_and_all_writers_fail_together() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['there', {}]");
    let other = Connection::open(server.db()).expect("the file");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("a write lock");
    let mut writers: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for (n, writer) in writers.iter_mut().enumerate() {
        let add = format!("{{'id': {n}, 'method': 'add_work_units', 'params': ['ws', ['u{n}']]}}");
        writer.send(&frame(&diag(&add)));
    }
    // All of these are answered while the lock is held.
    for _ in 0..10 {
        client.call("now", "");
        client.call("summary", "");
        assert_eq!(client.keys("ws", "{}"), ["there"]);
        assert_eq!(client.counts("ws"), [(AVAILABLE, 1)].into());
    }
    let first = writers[0].next_answer();
    // The others have waited for less time, and would still succeed if they went on waiting.
    other.execute_batch("COMMIT").expect("commit");
    let others = writers[1..].iter_mut().map(Client::next_answer);
    for answer in std::iter::once(first).chain(others) {
        let Reply::Error(message) = reply(&answer) else {
            panic!("{answer}");
        };
        for words in ["nothing was changed", "locked", "send the request again"] {
            assert!(message.contains(words), "{words} in {message}");
        }
    }
    assert_eq!(client.keys("ws", "{}"), ["there"]);
    client.add("ws", "['a', {}]");
    assert_eq!(count(&other), 2);
}

#[test]
fn a_stop_under_a_write_lock_answers_who_waits_and_ends() {
    let (mut server, mut client) = server_with_spec();
    client.add("ws", "['there', {}]");
    let other = Connection::open(server.db()).expect("the file");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("a write lock");
    client.send(&frame(&diag(
        "{'id': 1, 'method': 'add_work_units', 'params': ['ws', ['new']]}",
    )));
    // It has come once a later connection is answered.
    server.connect().call("now", "");
    assert_eq!(server.stop().code, Some(0));
    assert!(matches!(reply(&client.next_answer()), Reply::Error(_)));
    assert_eq!(count(&other), 1);
    other.execute_batch("COMMIT").expect("commit");
}

#[test]
fn whenever_the_file_is_read_its_counts_are_those_of_its_rows() {
    let server = Server::start();
    server.connect().set_spec("{'name': 'ws'}");
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|number| {
                let mut client = server.connect();
                scope.spawn(move || {
                    for round in 0..50 {
                        let key = format!("w{number}-{round}");
                        client.add("ws", &format!("['{key}', {{}}], ['{key}-more', {{}}]"));
                        client.value("get_work", "'w', {'max_jobs': 2}");
                        client.updated("ws", &key, "{'status': 4}");
                        client.call("del_work_units", "'ws', {'state': 4}");
                    }
                })
            })
            .collect();
        let reader = reader(&server);
        let mut looks = 0;
        wait_until("the workers are done", || {
            let (kept, counted): (u64, u64) = reader
                .query_row(
                    "SELECT sum(available + pending * 1000000 + finished * 1000000000000),
                            (SELECT coalesce(sum(CASE status WHEN 1 THEN 1 WHEN 3 THEN 1000000
                                                 ELSE 1000000000000 END), 0) FROM work_unit)
                       FROM work_unit_count",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .expect("counts");
            assert_eq!(kept, counted, "counts in look {looks}");
            looks += 1;
            workers.iter().all(|worker| worker.is_finished())
        });
        assert!(looks > 10, "{looks} looks");
    });
    assert_eq!(diag("null"), server.connect().call("archive", ""));
}
