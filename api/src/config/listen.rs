//! Where the server listens, and with which certificates.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Section;
use super::report::Kind;
use crate::tls;

/// Addresses to listen on; port 0 takes any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The gRPC front.
    pub grpc: SocketAddr,
    /// The webhook listener, which the providers reach from outside.
    pub webhooks: SocketAddr,
    /// Metrics and health, for the inside.
    pub ops: SocketAddr,
}

impl Listen {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let mut address = |key, default: &str, otherwise| {
            s.parsed(key, default, |text| {
                text.parse::<SocketAddr>().map_err(|_| "must be address:port, e.g. 0.0.0.0:7400")
            })
            .unwrap_or(otherwise)
        };
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let this = Self {
            grpc: address("grpc", "127.0.0.1:7400", local(7400)),
            webhooks: address("webhooks", "127.0.0.1:7401", local(7401)),
            ops: address("ops", "127.0.0.1:7402", local(7402)),
        };
        let taken = |address: SocketAddr, others: &[SocketAddr]| address.port() != 0 && others.contains(&address);
        for (key, address, others) in
            [("webhooks", this.webhooks, &[this.grpc][..]), ("ops", this.ops, &[this.grpc, this.webhooks][..])]
        {
            if taken(address, others) {
                s.problem(key, Kind::Value, format!("{address} is used by another listener"), None);
            }
        }
        this
    }
}

/// Certificates of the listeners that face others; a listener without one speaks plain text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// For gRPC.
    pub grpc: Option<TlsFiles>,
    /// For webhooks.
    pub webhooks: Option<TlsFiles>,
    /// For other nodes.
    pub nodes: Option<TlsFiles>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its intermediates.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

impl Tls {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            grpc: s.section("grpc", TlsFiles::read),
            webhooks: s.section("webhooks", TlsFiles::read),
            nodes: s.section("nodes", TlsFiles::read),
        }
    }
}

impl TlsFiles {
    fn read(s: &mut Section<'_, '_>) -> Option<Self> {
        match (s.path("cert_file"), s.path("key_file")) {
            (None, None) => None,
            (Some(_), None) => {
                s.problem("key_file", Kind::Required, "required beside cert_file", None);
                None
            }
            (None, Some(_)) => {
                s.problem("cert_file", Kind::Required, "required beside key_file", None);
                None
            }
            (Some(cert_file), Some(key_file)) => {
                let files = Self { cert_file, key_file };
                if let Err(error) = tls::server_config(&files, &[]) {
                    s.problem(error.key(), Kind::Value, error.to_string(), None);
                }
                Some(files)
            }
        }
    }
}
