//! SIGHUP reads the certificate again.

use super::{Authority, Identity, call, problem, start_as, text};
use coordinated_client::{Address, Connection, Options, Request};
use std::fs;
use std::process::Command;
use test_support::{Server, wait_until};

/// Puts the files of one identity where those of another are.
fn replace(old: &Identity, new: &Identity) {
    fs::copy(&new.certificate, &old.certificate).expect("copy");
    fs::copy(&new.key, &old.key).expect("copy");
}

fn hang_up(server: &Server, words: &str) {
    let before = server.log().matches(words).count();
    server.signal(libc::SIGHUP);
    wait_until(words, || server.log().matches(words).count() > before);
}

#[test]
fn a_new_certificate_is_used_from_the_hang_up_on_and_open_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let identity = old.server("server", &["127.0.0.1"]);
    let server = start_as(&identity, &["--http", "tls:127.0.0.1:0"]);
    let options = Options {
        tls: old.tls(),
        ..Options::default()
    };
    let address: Address = server.address().parse().expect("an address");
    let mut open = Connection::open(address, options).expect("connect");
    let ask = Request::new("server_info", []);
    open.call(&ask).expect("an answer");

    replace(&identity, &new.server("server", &["127.0.0.1"]));
    call(server.address(), old.tls()).expect("before the signal");
    hang_up(&server, "the certificate was read again");
    call(server.address(), new.tls()).expect("after the signal");
    problem(server.address(), old.tls());
    open.call(&ask).expect("the old connection");
    let fetch = |authority: &Authority| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", text(&authority.path())]);
        let output = curl.arg(format!("{}/healthz", server.http())).output();
        output.expect("curl").status.success()
    };
    assert!(fetch(&new) && !fetch(&old));
}

#[test]
fn broken_files_are_logged_and_the_certificate_from_before_stays_in_use() {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1"]);
    let server = start_as(&identity, &[]);
    let other = authority.server("other", &["127.0.0.1"]);
    let good = fs::read(&identity.certificate).expect("read");
    for broken in [
        &b"no certificate"[..],
        b"",
        &fs::read(&other.certificate).expect("read"),
    ] {
        fs::write(&identity.certificate, broken).expect("write");
        hang_up(&server, "the one from before stays in use");
        call(server.address(), authority.tls()).expect("as before");
    }
    fs::remove_file(&identity.certificate).expect("remove");
    hang_up(&server, "the one from before stays in use");
    let log = server.log();
    let line = log
        .lines()
        .rfind(|line| line.contains("ERROR"))
        .expect("an error");
    assert!(line.contains(text(&identity.certificate)), "{line}");
    fs::write(&identity.certificate, good).expect("write");
    hang_up(&server, "the certificate was read again");
    call(server.address(), authority.tls()).expect("as before");
}

#[test]
fn the_cas_of_clients_are_read_again_too() {
    let clients = Authority::new();
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1"]);
    let ca = clients.path();
    let server = start_as(&identity, &["--tls-client-ca", text(&ca)]);
    let alice = clients.client("alice");
    let tls = || {
        coordinated_client::Tls::read(&coordinated_client::tls::TlsFiles {
            client_cert: Some(alice.certificate.clone()),
            client_key: Some(alice.key.clone()),
            ..authority.files()
        })
        .expect("the files")
    };
    call(server.address(), tls()).expect("known");
    fs::copy(Authority::new().path(), &ca).expect("copy");
    hang_up(&server, "the certificate was read again");
    problem(server.address(), tls());
}
