//! The daemon's side of TLS: its certificate and whom it trusts, read from files, and again when they have changed.

use coordinated_client::tls::{TlsFilesError, read_certificates, read_key, read_roots};
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a TLS handshake may take: more than ten round trips around the world. A peer that needs longer is cut off.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection.
pub const FIRST_BYTE: u8 = 0x16;

/// The files that say who the daemon is, in PEM format.
#[derive(Clone, Debug)]
pub struct TlsServerFiles {
    /// The daemon's certificate, followed by those of the certificate authorities (CAs) between it and a well-known one.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs that clients' certificates have to come from. Without them, clients need no certificates.
    pub client_ca: Option<PathBuf>,
}

/// What listeners with TLS use for new connections. It can be replaced while they run.
#[derive(Debug)]
pub struct TlsServer {
    files: TlsServerFiles,
    current: Mutex<Arc<ServerConfig>>,
}

/// Why the daemon can't use its certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsServerError {
    /// See [`TlsFilesError`].
    #[error(transparent)]
    Files(#[from] TlsFilesError),
    /// No client can be checked by these CAs.
    #[error("clients can't be checked by the certificates in {path}: {source}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: VerifierBuilderError,
    },
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsServerError`].
    pub fn read(files: TlsServerFiles) -> Result<Self, TlsServerError> {
        let current = Mutex::new(read(&files)?);
        Ok(Self { files, current })
    }

    /// Reads the files again, for connections that begin from now on. Logs what came of it: if the files can't be used,
    /// nothing changes.
    pub fn reload(&self) {
        let certificate = self.files.certificate.display();
        match read(&self.files) {
            Ok(config) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!("the certificate was read again from {certificate}");
            }
            Err(error) => tracing::error!(
                "the certificate is not replaced, the one from before stays in use: {error}"
            ),
        }
    }

    /// What a new connection is to use.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True if each client has to show a certificate.
    #[must_use]
    pub fn checks_clients(&self) -> bool {
        self.files.client_ca.is_some()
    }
}

fn read(files: &TlsServerFiles) -> Result<Arc<ServerConfig>, TlsServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path)?),
    };
    let certificates = read_certificates(&files.certificate)?;
    let key = read_key(&files.key)?;
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|source| TlsFilesError::Key {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
    // No session is resumed: connections are kept for long, and each one is to be checked by the present files.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(read_roots(path)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|source| TlsServerError::ClientCa {
            path: path.to_owned(),
            source,
        })
}
