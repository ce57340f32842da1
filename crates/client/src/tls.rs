//! TLS: which servers to trust, how to show who we are, and reading certificates and keys.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, InvalidMessage,
    RootCertStore,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// How a client checks the server at a `tls:` address, and how it shows who it is.
///
/// By default it trusts the system's certificate authorities (CAs) and has no certificate of its own. A server's
/// certificate always has to be for the host in the address.
#[derive(Clone, Debug, Default)]
pub struct Tls(Option<Arc<ClientConfig>>);

/// The files of a [`Tls`], in PEM format.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct TlsFiles {
    /// With tls:HOST:PORT: the certificates of the CAs to trust, instead of the system's
    #[cfg_attr(
        feature = "clap",
        arg(
            id = "tls-ca",
            long,
            global = true,
            env = CA,
            value_name = "FILE",
            hide_short_help = true
        )
    )]
    pub ca: Option<PathBuf>,
    /// With tls:HOST:PORT: the certificate to show the server, and its key if that is in the same file
    #[cfg_attr(
        feature = "clap",
        arg(
            id = "tls-client-cert",
            long,
            global = true,
            env = CLIENT_CERT,
            value_name = "FILE",
            hide_short_help = true
        )
    )]
    pub client_cert: Option<PathBuf>,
    /// The key of that certificate
    #[cfg_attr(
        feature = "clap",
        arg(
            id = "tls-client-key",
            long,
            global = true,
            env = CLIENT_KEY,
            value_name = "FILE",
            hide_short_help = true
        )
    )]
    pub client_key: Option<PathBuf>,
}

/// The variables of the environment that name these files.
pub const CA: &str = "COORDINATED_TLS_CA";
/// See [`CA`].
pub const CLIENT_CERT: &str = "COORDINATED_TLS_CLIENT_CERT";
/// See [`CA`].
pub const CLIENT_KEY: &str = "COORDINATED_TLS_CLIENT_KEY";

/// Why certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file can't be read.
    #[error("can't read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not in PEM format, or has nothing of what it should have.
    #[error("{path} is not a PEM file with {what} ({problem}): check whether it is the right file")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate can't be used.
    #[error("the certificate in {path} can't be used: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A key does not belong to a certificate.
    #[error("the key in {key} can't be used with the certificate in {certificate}: {source}")]
    Key {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// There is a client's key without a certificate.
    #[error(
        "a client's key was given without its certificate: add --tls-client-cert ({CLIENT_CERT})"
    )]
    NoClientCertificate,
}

impl TlsFiles {
    /// The variables of the environment that name the same files to another program.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [
            (CA, &self.ca),
            (CLIENT_CERT, &self.client_cert),
            (CLIENT_KEY, &self.client_key),
        ];
        files
            .into_iter()
            .filter_map(|(name, file)| Some((name, file.as_deref()?)))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsFilesError`].
    pub fn read(files: &TlsFiles) -> Result<Self, TlsFilesError> {
        let client = match (&files.client_cert, &files.client_key) {
            (Some(certificate), key) => Some((certificate, key.as_ref().unwrap_or(certificate))),
            (None, Some(_)) => return Err(TlsFilesError::NoClientCertificate),
            (None, None) if files.ca.is_none() => return Ok(Self::default()),
            (None, None) => None,
        };
        let roots = match &files.ca {
            Some(path) => read_roots(path)?,
            None => system_roots(),
        };
        let builder = config_builder().with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(read_certificates(certificate)?, read_key(key)?)
                .map_err(|source| TlsFilesError::Key {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?,
        };
        Ok(Self(Some(Arc::new(config))))
    }

    /// Reads the files that the environment names, as the commands of `coordinated` do: [`CA`], [`CLIENT_CERT`] and
    /// [`CLIENT_KEY`].
    ///
    /// # Errors
    /// See [`TlsFilesError`].
    pub fn from_environment() -> Result<Self, TlsFilesError> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Self::read(&TlsFiles {
            ca: path(CA),
            client_cert: path(CLIENT_CERT),
            client_key: path(CLIENT_KEY),
        })
    }

    /// A session with the server at `host`, before its handshake.
    ///
    /// # Errors
    /// If the host is neither a name nor an address, in words.
    pub fn session(&self, host: &str) -> Result<ClientConnection, String> {
        static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        let config = self.0.as_ref().unwrap_or_else(|| {
            SYSTEM.get_or_init(|| {
                let builder = config_builder().with_root_certificates(system_roots());
                Arc::new(builder.with_no_client_auth())
            })
        });
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("'{host}' can't be the name of a certificate"))?;
        ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())
    }
}

fn config_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
}

/// The system's CAs. Those that can't be read are left out: a server that needs them is not trusted.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Reads the certificates of CAs to trust.
///
/// # Errors
/// See [`TlsFilesError`].
pub fn read_roots(path: &Path) -> Result<RootCertStore, TlsFilesError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsFilesError::Certificate {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(roots)
}

/// Reads one certificate or more.
///
/// # Errors
/// `Read` and `NotPem`.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let explain = |error| not_pem(path, "a certificate", error);
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(explain)?;
    if certificates.is_empty() {
        return Err(explain(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Reads a private key without a password.
///
/// # Errors
/// `Read` and `NotPem`.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| not_pem(path, "a private key without a password", error))
}

fn not_pem(path: &Path, what: &'static str, error: pem::Error) -> TlsFilesError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsFilesError::Read { path, source },
        pem::Error::NoItemsFound => TlsFilesError::NotPem {
            path,
            what,
            problem: "there is none".to_owned(),
        },
        error => TlsFilesError::NotPem {
            path,
            what,
            problem: error.to_string(),
        },
    }
}

/// What is wrong with a connection to `host`, and what to do about it.
pub(crate) fn explain(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => explain_certificate(error, host),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server there does not speak TLS: write the address without tls:, or use the port at which the server \
             has TLS"
                .to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("the server requires a client certificate: add --tls-client-cert ({CLIENT_CERT})")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate),
        ) => format!(
            "the server does not accept the client certificate ({alert:?}): use one that has not expired and that a \
             CA of the server's --tls-client-ca has signed"
        ),
        error => format!("TLS failed: {error}"),
    }
}

fn explain_certificate(error: &CertificateError, host: &str) -> String {
    match error {
        // The signature is bad if a trusted CA only has the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "no trusted CA has signed the certificate of {host}: name the file with the CA's certificate by --tls-ca \
             ({CA})"
        ),
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<String> = presented.iter().map(|name| plain_name(name)).collect();
            format!(
                "the server's certificate is not for {host}, but for {}: connect by one of these names, or give the \
                 server a certificate for {host}",
                names.join(", ")
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the server's certificate is not for {host}: give the server one that has {host} as a subject \
             alternative name"
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the certificate of {host} expired at {}: renew it at the server, and send the daemon SIGHUP; if it has \
             not expired, check the clock of this machine",
            show_time(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the certificate of {host} is valid only from {} on: check the clock of this machine",
            show_time(*not_before)
        ),
        // A self-signed certificate by `openssl req -x509`, for example.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            format!(
                "the certificate of {host} is one of a CA, which no server may use: let that CA sign another one for the \
             server, or make it with basicConstraints=critical,CA:FALSE"
            )
        }
        error => format!("the certificate of {host} can't be accepted: {error}"),
    }
}

/// A name as it is in an address, from the form `DnsName("...")` or `IpAddress(...)`.
fn plain_name(shown: &str) -> String {
    let inner = shown
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(shown).trim_matches('"').to_owned()
}

fn show_time(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}
