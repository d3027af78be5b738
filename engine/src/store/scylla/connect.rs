//! From a configuration to a session that may be used: every check that a start makes, each with its own clear answer.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, MetadataError, NewSessionError,
};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::{Consistency, SerialConsistency};

use super::config::{ConsistencyLevel, OpenError, ScyllaConfig};

/// How often a silent connection is asked whether it still lives: a node that is frozen must not hold up more than one request.
const ALIVE: Duration = Duration::from_secs(1);

/// How long it has to answer. Half of a default lease after it froze a node is out of the way; shorter, and a server that is merely slow for
/// a second (a pause of its collector, a sync that waits for a busy disk) loses all its connections, and has to answer them all anew.
const ANSWERS: Duration = Duration::from_secs(2);

/// What stands for the data centre where copies are put anywhere (`SimpleStrategy`).
const ANYWHERE: &str = "replication_factor";

impl ConsistencyLevel {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalQuorum => "local_quorum",
            Self::Quorum => "quorum",
            Self::One => "one",
            Self::All => "all",
        }
    }

    pub(super) fn level(self) -> Consistency {
        match self {
            Self::LocalQuorum => Consistency::LocalQuorum,
            Self::Quorum => Consistency::Quorum,
            Self::One => Consistency::One,
            Self::All => Consistency::All,
        }
    }

    /// Decisions are made among the same copies.
    pub(super) fn serial(self) -> SerialConsistency {
        if self == Self::LocalQuorum { SerialConsistency::LocalSerial } else { SerialConsistency::Serial }
    }

    /// Refuses a level at which a read could miss what a write reached: read and written copies together must be more than there are. And
    /// one that asks for copies in a data centre that has none: nothing would ever be answered. `local`: the data centre whose nodes are
    /// asked, if one is named.
    pub(super) fn suits(self, copies: &[(String, u32)], local: Option<&str>) -> Result<(), OpenError> {
        let refuse = |reason: String| Err(OpenError::Consistency { level: self.name(), reason });
        let names = || copies.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and ");
        match (self, local) {
            (Self::LocalQuorum, _) if copies.len() > 1 => refuse(format!(
                "it is replicated to the data centres {}, and a read in one would miss a write in another: use quorum",
                names()
            )),
            (Self::LocalQuorum, Some(local)) if copies.iter().any(|(name, _)| name != local && name != ANYWHERE) => {
                refuse(format!(
                    "its copies are in the data centre {}, and [store.scylla] local_datacenter is {local:?}: name the one that has them",
                    names()
                ))
            }
            (Self::One, _) if copies.iter().map(|(_, copies)| copies).sum::<u32>() > 1 => {
                refuse("with more than one copy a read would miss what a write reached: use local_quorum".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Connects, and checks server and data centre. No keyspace is used yet.
pub(super) async fn connect(config: &ScyllaConfig) -> Result<Session, OpenError> {
    let mut balancing = DefaultPolicy::builder();
    if let Some(datacenter) = &config.local_datacenter {
        balancing = balancing.prefer_datacenter(datacenter.clone()).permit_dc_failover(false);
    }
    let profile = ExecutionProfile::builder()
        .consistency(config.consistency.level())
        .serial_consistency(Some(config.consistency.serial()))
        .request_timeout(Some(config.request_timeout))
        .load_balancing_policy(balancing.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .tls_context(config.tls.clone())
        .connection_timeout(config.request_timeout)
        .keepalive_interval(ALIVE)
        .keepalive_timeout(ANSWERS)
        .schema_agreement_timeout(Duration::from_secs(60))
        .fetch_full_schema_metadata(false);
    if let Some(login) = &config.login {
        builder = builder.user(login.user.as_str(), login.password.to_string());
    }
    let session = builder.build().await.map_err(|error| not_connected(&error))?;
    // First of all: of a data centre that does not exist no node would be asked anything.
    expect_datacenter(&session, config.local_datacenter.as_deref())?;
    expect_server(&session).await?;
    Ok(session)
}

fn not_connected(error: &NewSessionError) -> OpenError {
    if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
    })) = error
        && let ConnectionSetupRequestErrorKind::MissingAuthentication
        | ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _) = &setup.error
    {
        return OpenError::Credentials { reason: setup.error.to_string() };
    }
    OpenError::Away { reason: error.to_string() }
}

fn refused(error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Refused { reason: error.to_string() }
}

fn away(error: &dyn std::fmt::Display) -> OpenError {
    OpenError::Away { reason: error.to_string() }
}

/// Its own version, where the server is a ScyllaDB: that says which Cassandra it resembles in `release_version`, and what it is in a
/// table of its own.
async fn scylla_version(session: &Session) -> Option<String> {
    let answer = session.query_unpaged("SELECT version FROM system.versions WHERE key = 'local'", ()).await.ok()?;
    answer.into_rows_result().ok()?.maybe_first_row::<(String,)>().ok()?.map(|(version,)| version)
}

/// Whether a keyspace must be made without tablets there.
pub(super) async fn wants_no_tablets(session: &Session) -> bool {
    scylla_version(session).await.is_some_and(|version| knows_no_lwt_in_tablets(&version))
}

/// ScyllaDB has tablets from 6.0 (of the versions named by years: 2024.2) on, 2025.1 makes them by default, and lightweight transactions
/// work in them from 2025.4 on.
fn knows_no_lwt_in_tablets(scylla: &str) -> bool {
    let version = version_of(scylla);
    ((6, 0)..(2_000, 0)).contains(&version) || ((2_024, 2)..(2_025, 4)).contains(&version)
}

async fn expect_server(session: &Session) -> Result<(), OpenError> {
    let own = scylla_version(session).await;
    let release = match &own {
        Some(_) => String::new(),
        None => {
            let answer = session.query_unpaged("SELECT release_version FROM system.local", ()).await;
            let rows = answer.map_err(|e| away(&e))?.into_rows_result().map_err(|e| refused(&e))?;
            rows.first_row::<(String,)>().map_err(|e| refused(&e))?.0
        }
    };
    expect_version(own.as_deref(), &release)
}

/// Refuses a server that lacks what the statements need. `scylla`: its own version where it is one; `release`: of Cassandra.
fn expect_version(scylla: Option<&str>, release: &str) -> Result<(), OpenError> {
    let (name, version, least) = match scylla {
        Some(version) => ("ScyllaDB", version, (5, 2)),
        None => ("Cassandra", release, (4, 0)),
    };
    if version_of(version) < least {
        return Err(OpenError::Server { found: format!("{name} {version}") });
    }
    Ok(())
}

/// Farthest that this machine's clock may be from the server's: ScyllaDB refuses times three days ahead of its own.
const CLOCKS_APART_MAX: i64 = 86_400_000;

/// From which difference of the clocks on a line is written about it.
const CLOCKS_APART_TOLD: i64 = 5_000;

/// Compares this machine's clock with the server's, milliseconds since 1970.
pub(super) async fn expect_clock(session: &Session, ours: impl Fn() -> i64) -> Result<(), OpenError> {
    let before = ours();
    let answer = session.query_unpaged("SELECT toUnixTimestamp(now()) FROM system.local", ()).await;
    let rows = answer.map_err(|e| away(&e))?.into_rows_result().map_err(|e| refused(&e))?;
    let (theirs,): (i64,) = rows.first_row().map_err(|e| refused(&e))?;
    // What the answer took is nobody's error.
    let apart = if theirs < before { before - theirs } else { (ours() - theirs).min(0) };
    let told = clock_told(apart);
    if apart.abs() > CLOCKS_APART_MAX {
        return Err(OpenError::Clock { reason: told });
    }
    if apart.abs() > CLOCKS_APART_TOLD {
        tracing::warn!("{told}: set it right; times in the ledger are this machine's");
    }
    Ok(())
}

/// How far this machine's clock is from the server's, in words.
fn clock_told(apart_ms: i64) -> String {
    let (seconds, way) = (apart_ms.unsigned_abs() / 1_000, if apart_ms > 0 { "ahead of" } else { "behind" });
    format!("this machine's clock is {seconds} seconds {way} the CQL server's")
}

/// The first two numbers of a version.
fn version_of(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn expect_datacenter(session: &Session, wanted: Option<&str>) -> Result<(), OpenError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let state = session.get_cluster_state();
    let found: BTreeSet<String> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.clone()).collect();
    if found.contains(wanted) {
        return Ok(());
    }
    Err(OpenError::Datacenter { wanted: wanted.to_owned(), found: found.into_iter().collect() })
}

/// Uses the keyspace, after the same checks: for a session that makes tables and ends.
pub(super) async fn use_keyspace(session: &Session, config: &ScyllaConfig) -> Result<(), OpenError> {
    expect_keyspace(session, config).await?;
    session.use_keyspace(config.keyspace.as_str(), true).await.map_err(|e| refused(&e))
}

/// Checks that the keyspace is there and that the consistency does for its copies.
pub(super) async fn expect_keyspace(session: &Session, config: &ScyllaConfig) -> Result<(), OpenError> {
    const READ: &str = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let answer = session.query_unpaged(READ, (config.keyspace.as_str(),)).await.map_err(|e| away(&e))?;
    let rows = answer.into_rows_result().map_err(|e| refused(&e))?;
    let row: Option<(HashMap<String, String>,)> = rows.maybe_first_row().map_err(|e| refused(&e))?;
    let Some((replication,)) = row else { return Err(OpenError::Keyspace { keyspace: config.keyspace.clone() }) };
    config.consistency.suits(&copies(&replication), config.local_datacenter.as_deref())
}

/// Copies by data centre, of those that have any.
fn copies(replication: &HashMap<String, String>) -> Vec<(String, u32)> {
    let mut copies: Vec<(String, u32)> = replication
        .iter()
        .filter(|(name, _)| *name != "class")
        // `3/1` are three copies of which one is transient.
        .filter_map(|(name, text)| Some((name.clone(), text.split('/').next()?.parse().ok()?)))
        .filter(|(_, copies)| *copies > 0)
        .collect();
    copies.sort();
    copies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_must_meet() {
        let one = [("a".to_owned(), 1)];
        let three = [("a".to_owned(), 3)];
        let two_places = [("a".to_owned(), 3), ("b".to_owned(), 3)];
        use ConsistencyLevel::{All, LocalQuorum, One, Quorum};
        for (level, copies) in [(One, &one[..]), (LocalQuorum, &three), (Quorum, &two_places), (All, &two_places)] {
            assert_eq!(level.suits(copies, None), Ok(()));
        }
        for (level, copies) in [(One, &three[..]), (One, &two_places), (LocalQuorum, &two_places)] {
            let told = level.suits(copies, Some("a")).unwrap_err().to_string();
            assert!(told.contains("use "), "{told}");
        }
    }

    #[test]
    fn a_data_centre_without_copies_cannot_be_the_local_one() {
        use ConsistencyLevel::{LocalQuorum, One, Quorum};
        let copies_of = |replication: &[(&str, &str)]| {
            copies(&replication.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
        };
        let network = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        for there in [copies_of(&[network, ("a", "3")]), copies_of(&[network, ("a", "3/1"), ("b", "0")])] {
            assert_eq!((LocalQuorum.suits(&there, Some("a")), LocalQuorum.suits(&there, None)), (Ok(()), Ok(())));
            let told = LocalQuorum.suits(&there, Some("b")).unwrap_err().to_string();
            assert!(told.contains("in the data centre a,") && told.contains("local_datacenter is \"b\""), "{told}");
            assert!(!told.contains('\n'), "one line: {told}");
            // Whichever node is asked, it asks the copies wherever they are.
            assert_eq!(Quorum.suits(&there, Some("b")), Ok(()));
        }
        let anywhere =
            copies_of(&[("class", "org.apache.cassandra.locator.SimpleStrategy"), ("replication_factor", "1")]);
        assert_eq!((LocalQuorum.suits(&anywhere, Some("b")), One.suits(&anywhere, Some("b"))), (Ok(()), Ok(())));
    }

    #[test]
    fn old_servers_are_refused_by_name() {
        assert!(expect_version(None, "4.0.1").is_ok() && expect_version(Some("5.2.0"), "").is_ok());
        for (scylla, release, named) in [(None, "3.11.2", "Cassandra 3.11.2"), (Some("5.1.9"), "", "ScyllaDB 5.1.9")] {
            let told = expect_version(scylla, release).unwrap_err().to_string();
            assert!(told.contains(named) && told.contains("ScyllaDB 5.2 or Cassandra 4.0"), "{told}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, wants_none) in [
            ("5.4.9", false),
            ("6.2.0", true),
            ("2024.1.3", false),
            ("2025.3.1", true),
            ("2025.4.0~rc1", false),
            ("2026.1.0", false),
        ] {
            assert_eq!(knows_no_lwt_in_tablets(version), wants_none, "{version}");
        }
        assert!(version_of("5.0.9") > (4, 0) && version_of("2025.4.0~rc1") > (5, 2) && version_of("3.11.2") < (4, 0));
    }
}
