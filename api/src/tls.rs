//! Server certificates: PEM files to a rustls configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file cannot be read, is no PEM, or holds no certificate.
    #[error("no certificate in {}: {reason}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key file cannot be read, is no PEM, or holds no private key.
    #[error("no private key in {}: {reason}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Both are readable, but rustls refuses them together.
    #[error("certificate and key do not work together: {0}")]
    Pair(#[from] rustls::Error),
}

impl TlsError {
    /// The configuration key that the error is about.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "cert_file",
            Self::Key { .. } | Self::Pair(_) => "key_file",
        }
    }
}

/// Reads `files` into a configuration that offers the protocols of `alpn`, in that order (none: no ALPN).
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn server_config(files: &TlsFiles, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.cert_file)
        .map_err(|reason| TlsError::Certificate { file: files.cert_file.clone(), reason })?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| TlsError::Key { file: files.key_file.clone(), reason: error.to_string() })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Reads the root certificates of a private authority.
///
/// # Errors
/// [`TlsError::Certificate`], naming the file.
pub fn roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(file).map_err(|reason| TlsError::Certificate { file: file.to_owned(), reason })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    let chain = read.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("the file holds none".to_owned()) } else { Ok(chain) }
}
