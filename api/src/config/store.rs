//! Where the ledger is: in one file of this machine, or in a CQL cluster.

use std::time::Duration;

use sluice_engine::store::scylla::{ConsistencyLevel, Login, ScyllaConfig, client_tls};

use super::reader::Section;
use super::report::Kind;

/// Which store holds the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// One SQLite file under `data_dir`.
    Embedded,
    /// A keyspace of a ScyllaDB (or Cassandra) cluster.
    Scylla,
}

/// How a commit of the embedded store reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Every commit survives a power cut.
    Full,
    /// Commits survive the end of the process, not always a power cut. Breaks the ledger-first promise then.
    Normal,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    /// Which.
    pub kind: StoreKind,
    /// Embedded: page cache.
    pub cache_mib: usize,
    /// Longest that a commit of few entries waits for company.
    pub group_commit: Duration,
    /// Most ledger entries of one commit.
    pub group_commit_entries: usize,
    /// Embedded: how a commit reaches the disk.
    pub sync: SyncMode,
    /// The cluster.
    pub scylla: Scylla,
}

/// The cluster.
#[derive(Clone)]
pub struct Scylla {
    /// How it is opened.
    pub config: ScyllaConfig,
    /// Copies of the keyspace that `sluice schema apply` makes, in every data centre; 0: somebody else makes the keyspace.
    pub replication: u8,
}

/// Not what is in it: the login must not be seen.
impl std::fmt::Debug for Scylla {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scylla({:?}, {}, {:?})", self.config.contact_points, self.config.keyspace, self.config.login)
    }
}

impl Store {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let kinds = [("embedded", StoreKind::Embedded), ("scylla", StoreKind::Scylla)];
        let kind = s.choice("kind", "embedded", &kinds).unwrap_or(StoreKind::Embedded);
        Self {
            kind,
            cache_mib: s.count("cache_mib", 4, 1..=4_096),
            group_commit: s.milliseconds("group_commit_ms", 8, 0..=100),
            group_commit_entries: s.count("group_commit_entries", 4_096, 1..=65_536),
            sync: s
                .choice("sync", "full", &[("full", SyncMode::Full), ("normal", SyncMode::Normal)])
                .unwrap_or(SyncMode::Full),
            scylla: s.section("scylla", |s| Scylla::read(s, kind == StoreKind::Scylla)),
        }
    }
}

impl Scylla {
    fn read(s: &mut Section<'_, '_>, used: bool) -> Self {
        let contact_points = s.list("contact_points");
        if used && contact_points.is_empty() {
            let hint = "host:port of some nodes, for example [\"10.0.0.1:9042\", \"10.0.0.2:9042\"]";
            s.problem("contact_points", Kind::Required, "required when kind is scylla", Some(hint));
        }
        let keyspace = s.parsed("keyspace", "sluice", |text| match name_of(text) {
            true => Ok(text.to_owned()),
            false => Err("must be 1 to 48 of a-z, 0-9 and _, beginning with a letter"),
        });
        let levels =
            [ConsistencyLevel::LocalQuorum, ConsistencyLevel::Quorum, ConsistencyLevel::One, ConsistencyLevel::All];
        let levels = levels.map(|level| (level.name(), level));
        let mut config = ScyllaConfig::new(contact_points, keyspace.unwrap_or_default());
        config.local_datacenter = s.text("local_datacenter");
        config.consistency = s.choice("consistency", "local_quorum", &levels).unwrap_or(ConsistencyLevel::LocalQuorum);
        config.login = login(s);
        config.tls = tls(s);
        config.request_timeout = s.milliseconds("request_timeout_ms", 3_000, 100..=60_000);
        config.patience = s.milliseconds("write_patience_ms", 10_000, 500..=600_000);
        config.lease = s.milliseconds("lease_ms", 6_000, 1_000..=60_000);
        config.writes_in_flight_max = s.count("writes_in_flight_max", 64, 1..=4_096);
        config.batch_rows_max = s.count("batch_rows_max", 500, 1..=10_000);
        let warn = s.count("batch_kib_warn", 128, 4..=8_192);
        let fail = s.count("batch_kib_fail", 1_024, 4..=16_384);
        if warn > fail {
            s.problem("batch_kib_warn", Kind::Value, "must not be above batch_kib_fail", None);
        }
        // A batch is cut before it reaches the warning; the last message that goes in may take it a little beyond.
        config.batch_bytes_max = warn * 1_024 * 15 / 16;
        config.batch_bytes_fail = fail * 1_024;
        config.segments_held_max = s.count("segments_held_max", 256, 4..=65_536);
        let replication = s.integer("replication", 3, 0..=9);
        Self { config, replication: u8::try_from(replication).unwrap_or(3) }
    }
}

fn name_of(text: &str) -> bool {
    let letter = |b: &u8| b.is_ascii_lowercase();
    let bytes = text.as_bytes();
    bytes.len() <= 48
        && bytes.first().is_some_and(letter)
        && bytes.iter().all(|b| letter(b) || b.is_ascii_digit() || *b == b'_')
}

fn login(s: &mut Section<'_, '_>) -> Option<Login> {
    let user = s.text("user");
    let password = s.secret("password");
    match (user, password) {
        (Some(user), Some(password)) => Some(Login { user, password: password.expose().into() }),
        (Some(_), None) => {
            let hint = "give password_file or password_env";
            s.problem("password_file", Kind::Required, "required beside user", Some(hint));
            None
        }
        (None, Some(_)) => {
            s.problem("user", Kind::Required, "required beside the password", None);
            None
        }
        (None, None) => None,
    }
}

fn tls(s: &mut Section<'_, '_>) -> Option<std::sync::Arc<rustls::ClientConfig>> {
    let wanted = s.choice("tls", "off", &[("off", false), ("on", true)]).unwrap_or(false);
    let authority = s.path("tls_ca_file");
    if !wanted {
        return None;
    }
    match client_tls(authority.as_deref()) {
        Ok(config) => Some(config),
        Err(error) => {
            s.problem("tls_ca_file", Kind::Value, error, None);
            None
        }
    }
}
