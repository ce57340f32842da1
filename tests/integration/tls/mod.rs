//! TLS: what is encrypted, who trusts whom, and what those are told who are not trusted.

mod certificates;
mod commands;
mod hostile;
mod http;
mod load;
mod reload;

use coordinated_client::tls::TlsFiles;
use coordinated_client::{Address, Connection, Coordinate, Error, Options, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use test_support::Server;

/// A certificate authority (CA) in a folder of its own, where it leaves all that it makes.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate and its key.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Authority {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Authority::named(&format!("test CA {count}"))
    }

    fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a CA"),
            folder: TempDir::new().expect("a temporary folder"),
        };
        std::fs::write(authority.path(), authority.issuer.pem()).expect("write");
        authority
    }

    /// The file with the CA's own certificate.
    fn path(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Makes a certificate for a server with these names.
    fn server(&self, name: &str, names: &[&str]) -> Identity {
        self.sign(name, names, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    fn client(&self, name: &str) -> Identity {
        self.sign(name, &[name], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// Makes a certificate and its key, in files that are called `name`.
    fn sign(
        &self,
        name: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("it signs");
        let identity = Identity {
            certificate: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        std::fs::write(&identity.certificate, signed.pem()).expect("write");
        std::fs::write(&identity.key, key.serialize_pem()).expect("write");
        identity
    }

    /// Clients that trust this CA and no other.
    fn tls(&self) -> Tls {
        Tls::read(&self.files()).expect("the files")
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: Some(self.path()),
            ..TlsFiles::default()
        }
    }
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Starts a daemon that listens with TLS and without, in this order, with further arguments of `serve`.
fn start_as(identity: &Identity, arguments: &[&str]) -> Server {
    let folder = TempDir::new().expect("a temporary folder");
    let mut all = vec!["serve", "--db", "test.db", "--listen", "tls:127.0.0.1:0"];
    all.extend(["--listen", "127.0.0.1:0", "--tls-cert"]);
    all.extend([
        text(&identity.certificate),
        "--tls-key",
        text(&identity.key),
    ]);
    all.extend_from_slice(arguments);
    Server::start_in(folder, &all, &[])
}

/// Starts such a daemon with a certificate for 127.0.0.1 and localhost from a CA of its own.
fn start(arguments: &[&str]) -> (Server, Authority) {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1", "localhost"]);
    (start_as(&identity, arguments), authority)
}

/// Tries once to connect and to call a method.
fn call(address: &str, tls: Tls) -> Result<(), Error> {
    let options = Options {
        tls,
        ..Options::default()
    };
    let address: Address = address.parse().expect("an address");
    let mut client = Coordinate::new(Connection::open(address, options)?);
    client.server_info().map(|info| assert!(info.is_some()))
}

/// What went wrong with TLS.
fn problem(address: &str, tls: Tls) -> String {
    match call(address, tls) {
        Err(error @ Error::Tls { .. }) => {
            assert!(!error.is_outcome_unknown());
            error.to_string()
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// An expired certificate for 127.0.0.1.
fn expired(authority: &Authority) -> Identity {
    authority.sign("expired", &["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    })
}
