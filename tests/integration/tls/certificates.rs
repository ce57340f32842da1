//! Certificates that are accepted, and those that are not: each error names what is wrong and what to do.

use super::{Authority, call, expired, problem, start, start_as, text};
use coordinated_client::Tls;
use coordinated_client::tls::TlsFiles;
use std::path::Path;
use test_support::{Exit, run_to_end};

#[test]
fn a_client_that_trusts_the_ca_connects_by_each_name_in_the_certificate() {
    let (server, authority) = start(&[]);
    let [encrypted, plain] = server.addresses() else {
        panic!("two addresses");
    };
    assert!(encrypted.starts_with("tls:127.0.0.1:"), "{encrypted}");
    call(encrypted, authority.tls()).expect("by address");
    call(
        &encrypted.replace("127.0.0.1", "localhost"),
        authority.tls(),
    )
    .expect("by name");
    call(plain, authority.tls()).expect("without TLS");
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused() {
    let authority = Authority::named("well known");
    let server = start_as(&authority.server("server", &["127.0.0.1"]), &[]);
    // One with the same name has another key.
    let strangers = [Authority::new(), Authority::named("well known")];
    let trusted = strangers.iter().map(Authority::tls);
    for tls in trusted.chain([Tls::default()]) {
        let problem = problem(server.address(), tls);
        assert!(problem.contains("no trusted CA has signed"), "{problem}");
        assert!(problem.contains("--tls-ca"), "{problem}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let identity = authority.server("other", &["jobs.example.org", "192.0.2.7"]);
    let server = start_as(&identity, &[]);
    let problem = problem(server.address(), authority.tls());
    for words in ["is not for 127.0.0.1", "jobs.example.org", "192.0.2.7"] {
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let server = start_as(&expired(&authority), &[]);
    let problem = problem(server.address(), authority.tls());
    assert!(
        problem.contains("expired at 2021-01-01T00:00:00Z"),
        "{problem}"
    );
    assert!(
        problem.contains("renew it") && problem.contains("SIGHUP"),
        "{problem}"
    );
}

#[test]
fn a_ca_certificate_as_that_of_a_server_is_refused() {
    let authority = Authority::new();
    let identity = authority.sign("ca-too", &["127.0.0.1"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let server = start_as(&identity, &[]);
    let problem = problem(server.address(), authority.tls());
    assert!(problem.contains("CA:FALSE"), "{problem}");
}

#[test]
fn with_client_certificates_required_only_a_certificate_of_the_right_ca_opens_the_door() {
    let (clients, strangers) = (Authority::new(), Authority::new());
    let (server, authority) = start(&["--tls-client-ca", text(&clients.path())]);
    let known = clients.client("alice");
    let with = |identity: &super::Identity| {
        Tls::read(&TlsFiles {
            client_cert: Some(identity.certificate.clone()),
            client_key: Some(identity.key.clone()),
            ..authority.files()
        })
        .expect("the files")
    };
    call(server.address(), with(&known)).expect("with a certificate");

    let none = problem(server.address(), authority.tls());
    assert!(none.contains("--tls-client-cert"), "{none}");
    let stranger = problem(server.address(), with(&strangers.client("mallory")));
    assert!(
        stranger.contains("does not accept the client certificate"),
        "{stranger}"
    );
    let old = problem(server.address(), with(&expired(&clients)));
    assert!(old.contains("CertificateExpired"), "{old}");
    assert!(server.log().contains("TLS failed"), "{}", server.log());
    // The listener without TLS has no such door.
    call(&server.addresses()[1], Tls::default()).expect("without TLS");
}

#[test]
fn a_certificate_and_its_key_may_be_in_one_file() {
    let clients = Authority::new();
    let (server, authority) = start(&["--tls-client-ca", text(&clients.path())]);
    let known = clients.client("alice");
    let both = clients.folder.path().join("both.pem");
    let parts = [&known.certificate, &known.key].map(|path| std::fs::read(path).expect("read"));
    std::fs::write(&both, parts.concat()).expect("write");
    let tls = Tls::read(&TlsFiles {
        client_cert: Some(both),
        ..authority.files()
    });
    call(server.address(), tls.expect("the files")).expect("with both");
}

fn start_fails(arguments: &[&str]) -> String {
    let mut all = vec!["serve", "--db", ":memory:", "--http", "off"];
    all.extend_from_slice(arguments);
    let Exit { code, stderr, .. } = run_to_end(Path::new("."), &all, &[]);
    assert!(code == Some(1) || code == Some(2), "{stderr}");
    stderr
}

#[test]
fn a_daemon_whose_certificate_cannot_be_used_does_not_start_and_says_why() {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1"]);
    let other = authority.server("other", &["127.0.0.1"]);
    let (certificate, key) = (text(&identity.certificate), text(&identity.key));
    let listen = ["--listen", "tls:127.0.0.1:0"];
    for (files, words) in [
        (&[][..], &["TLS needs a certificate", "--tls-cert"][..]),
        (&["--tls-cert", certificate], &["--tls-key"]),
        (
            &["--tls-cert", "none.pem", "--tls-key", key],
            &["can't read none.pem", "check the path"],
        ),
        (
            &["--tls-cert", key, "--tls-key", key],
            &["is not a PEM file with a certificate", "there is none"],
        ),
        (
            &["--tls-cert", certificate, "--tls-key", certificate],
            &["is not a PEM file with a private key"],
        ),
        (
            &["--tls-cert", certificate, "--tls-key", text(&other.key)],
            &["can't be used with the certificate in", certificate],
        ),
        (
            &[
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
                "--tls-client-ca",
                key,
            ],
            &["is not a PEM file with a certificate"],
        ),
    ] {
        let message = start_fails(&[&listen, files].concat());
        for words in words {
            assert!(message.contains(words), "{files:?}: {message}");
        }
    }
    let unused = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        certificate,
        "--tls-key",
        key,
    ];
    let message = start_fails(&unused);
    assert!(message.contains("no address has TLS"), "{message}");
}
