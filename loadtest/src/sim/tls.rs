//! TLS of the provider APIs, as the real ones have it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stamp::{StampedReader, StampedStream};

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediates.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

impl TlsFiles {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be read, or they do not belong together.
    pub fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let chain = CertificateDer::pem_file_iter(&self.cert_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// One connection of a sender.
pub(super) enum Wire {
    /// Plain, with the kernel's receive times.
    Plain(TcpStream, StampedReader),
    /// Encrypted, with the same times of what was decrypted.
    Tls(Box<TlsStream<StampedStream>>),
}

impl Wire {
    /// After the handshake, if there is one; `None`: it failed.
    pub(super) async fn open(stream: TcpStream, tls: Option<&TlsAcceptor>) -> Option<Self> {
        let Some(tls) = tls else { return Some(Self::Plain(stream, StampedReader::new())) };
        let shaken = tokio::time::timeout(HANDSHAKE, tls.accept(StampedStream::new(stream))).await;
        Some(Self::Tls(Box::new(shaken.ok()?.ok()?)))
    }

    /// Reads something; 0 means that the other side has closed.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
        match self {
            Self::Plain(stream, reader) => reader.read(stream, buffer).await,
            Self::Tls(stream) => {
                let read = stream.read(buffer).await?;
                Ok((read, stream.get_mut().0.take_at()))
            }
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream, _) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream, _) => stream,
            Self::Tls(stream) => stream.get_ref().0.socket(),
        }
    }
}
