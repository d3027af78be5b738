//! How this store is opened, and why it may not be.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// How many copies a read and a write must reach. Both use the same level, so that together they reach more copies than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsistencyLevel {
    /// Most copies in the local data centre. For installations in one data centre.
    LocalQuorum,
    /// Most copies of all data centres.
    Quorum,
    /// One copy. Only where there is only one.
    One,
    /// Every copy: any node that is away stops everything.
    All,
}

/// Name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Box<str>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, redacted)", self.user)
    }
}

/// A node among others that share the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name, unique in the installation.
    pub name: String,
    /// `host:port` at which the other nodes reach its internal service.
    pub address: String,
    /// Of its program.
    pub version: String,
    /// What it understands of other nodes: [`crate::nodes::protocol::PROTOCOL`].
    pub protocol: u32,
}

/// How the ledger on CQL is opened.
#[derive(Clone)]
pub struct ScyllaConfig {
    /// The node that this process is; `None`: it has the keyspace for itself.
    pub node: Option<NodeConfig>,
    /// `host:port` of some nodes; the others are found through them.
    pub contact_points: Vec<String>,
    /// The keyspace that holds the ledger.
    pub keyspace: String,
    /// How to log in, if the cluster asks for it.
    pub login: Option<Login>,
    /// TLS to the nodes.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The data centre whose nodes are asked; `None`: any.
    pub local_datacenter: Option<String>,
    /// Copies that reads and writes reach.
    pub consistency: ConsistencyLevel,
    /// Longest for one request; then it is repeated.
    pub request_timeout: Duration,
    /// Longest that a caller waits for a write whose outcome is not known; the write itself is repeated until it is.
    pub patience: Duration,
    /// How long the keyspace stays taken by an engine that is gone without a word.
    pub lease: Duration,
    /// Most writes under way at once.
    pub writes_in_flight_max: usize,
    /// Most messages of one batch.
    pub batch_rows_max: usize,
    /// Most bytes of one batch, as estimated: below the size at which the servers warn.
    pub batch_bytes_max: usize,
    /// Most bytes of one batch in any case: one message that would take more is refused.
    pub batch_bytes_fail: usize,
    /// Segments of 8,192 messages held in memory, 200 KB each.
    pub segments_held_max: usize,
}

impl ScyllaConfig {
    /// The defaults.
    pub fn new(contact_points: Vec<String>, keyspace: impl Into<String>) -> Self {
        Self {
            node: None,
            contact_points,
            keyspace: keyspace.into(),
            login: None,
            tls: None,
            local_datacenter: None,
            consistency: ConsistencyLevel::LocalQuorum,
            request_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(10),
            lease: Duration::from_secs(6),
            writes_in_flight_max: 64,
            batch_rows_max: 500,
            batch_bytes_max: 120 * 1_024,
            batch_bytes_fail: 1_024 * 1_024,
            segments_held_max: 256,
        }
    }
}

/// TLS to the nodes, trusting one authority's certificates (PEM), or those that this machine trusts.
///
/// # Errors
/// What is wrong with the file.
pub fn client_tls(authority: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    match authority {
        Some(path) => {
            let unreadable = |error| format!("{}: {error}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
            for certificate in certificates {
                roots.add(certificate.map_err(unreadable)?).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err("no certificate of an authority is known: give a PEM file".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Why the ledger cannot be opened; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers.
    #[error("no CQL server answers: {reason}; check [store.scylla] contact_points and that the nodes are up")]
    Away {
        /// What the driver says.
        reason: String,
    },
    /// The login is refused.
    #[error("the CQL server refuses the credentials: {reason}; check [store.scylla] user and password")]
    Credentials {
        /// What the server says.
        reason: String,
    },
    /// The data centre does not exist.
    #[error("there is no data centre {wanted:?}; the cluster has {found:?}: correct [store.scylla] local_datacenter")]
    Datacenter {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The keyspace does not exist.
    #[error("there is no keyspace {keyspace:?}: run `sluice schema apply`, or correct [store.scylla] keyspace")]
    Keyspace {
        /// Its name.
        keyspace: String,
    },
    /// The tables are not there.
    #[error("keyspace {keyspace:?} has no tables of sluice: run `sluice schema apply`")]
    Schema {
        /// Its name.
        keyspace: String,
    },
    /// The tables are of a later version.
    #[error("the keyspace has schema version {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// The version found.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// The tables are of an earlier version.
    #[error("the keyspace has schema version {found}, this program needs {known}: run `sluice schema apply`")]
    Older {
        /// The version found.
        found: u32,
        /// The one this program needs.
        known: u32,
    },
    /// The server is too old.
    #[error("the CQL server is {found}; needed are ScyllaDB 5.2 or Cassandra 4.0, or later")]
    Server {
        /// What it says it is.
        found: String,
    },
    /// Too few copies answer.
    #[error(
        "of the copies that consistency {level} asks for, {required}, only {alive} can be reached: bring nodes of the cluster back, or lower the keyspace's replication if it has more copies than nodes"
    )]
    Quorum {
        /// The level, as the server names it.
        level: String,
        /// Copies that must answer.
        required: i32,
        /// Copies that can.
        alive: i32,
    },
    /// Reads could miss writes.
    #[error("consistency {level} does not do for this keyspace: {reason}")]
    Consistency {
        /// The level asked for.
        level: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// Another engine works on it.
    #[error("the keyspace is held by another engine ({holder}): stop that one, or use another keyspace")]
    InUse {
        /// Who.
        holder: String,
    },
    /// Another process works under this node's name.
    #[error("another process works as node {name:?} ({address}): give each node a name of its own in [nodes] name")]
    NodeInUse {
        /// The name.
        name: String,
        /// Where that one says it is.
        address: String,
    },
    /// A node is alive that this one would not understand, or that would not understand this one.
    #[error(
        "node {name:?} ({address}) is alive and speaks protocol {theirs} with other nodes, this program {own}, and they may differ by one: upgrade one version at a time, all nodes to the version between the two first, or stop that node"
    )]
    NodesApart {
        /// The node that is there.
        name: String,
        /// Where it says it is.
        address: String,
        /// Its protocol.
        theirs: u32,
        /// This program's.
        own: u32,
    },
    /// The clock is wrong.
    #[error("{reason}: set it right, or wait until its time has come")]
    Clock {
        /// Which clock, and by how much.
        reason: String,
    },
    /// It has a part in a move, or is the old one after it.
    #[error("the keyspace is not opened: {reason}")]
    Moved {
        /// Its part, and what to do.
        reason: String,
    },
    /// It cannot be used for another reason.
    #[error("the keyspace cannot be used: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

impl OpenError {
    /// The times in the ledger are far ahead: this clock is wrong, or that of whoever wrote them was. The server would refuse what is
    /// dated above them.
    pub(super) fn behind_the_ledger() -> Self {
        let reason =
            "this machine's clock is more than a day behind the times written in the ledger (or somebody's was ahead)";
        Self::Clock { reason: reason.to_owned() }
    }
}
