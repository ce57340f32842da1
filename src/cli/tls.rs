//! The arguments of `serve` about TLS.

use crate::tls::{TlsServer, TlsServerFiles};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArgs {
    /// The daemon's certificate for tls: addresses, in PEM format, followed by those of the CAs between it and the one
    /// that clients trust. The three files are read again at SIGHUP
    #[arg(
        long,
        env = "COORDINATED_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM format, without a password
    #[arg(
        long,
        env = "COORDINATED_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,

    /// Accept only clients with a certificate that one of the CAs in this file has signed. The file has the CAs'
    /// certificates in PEM format
    #[arg(
        long,
        env = "COORDINATED_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_client_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files; `None` if none are given.
    ///
    /// # Errors
    /// If they can't be used.
    pub(super) fn read(&self) -> Result<Option<Arc<TlsServer>>, Box<dyn Error>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let tls = TlsServer::read(TlsServerFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: self.tls_client_ca.clone(),
        })?;
        Ok(Some(Arc::new(tls)))
    }
}
