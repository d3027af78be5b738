//! The keyspace's tables and their versions: printed, applied and checked by `sluice schema`.
//!
//! Every step may be taken by several nodes at once and again after a crash: tables are made if they are not there, the version is
//! written last, and only upwards.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::Statement;

use super::OpenError;
use super::error::not_opened;
use super::owner::RecordRow;
use super::statements::within;

/// Version of the tables; a keyspace with a higher one is refused.
pub const SCHEMA_VERSION: u32 = 1;

/// The messages of a segment in one partition, with the segment's counts in static columns of the same partition: one batch moves
/// both, atomically. `register` is one cell (attempt, phase, reached, retries, flags, due, the end that a decision to send again outlives),
/// as is the tally: neither can be half of one write and half of another. Facts are cells by attempt × 100 + kind, each written once.
const MESSAGE: &str = "CREATE TABLE IF NOT EXISTS message (
    tenant text, campaign int, segment int, seq int,
    tally frozen<map<text, bigint>> static, failures frozen<map<int, bigint>> static,
    address text, external_id text, params text, import_no int, row_no bigint, refused boolean,
    register frozen<tuple<int, tinyint, tinyint, smallint, tinyint, bigint, bigint>>,
    fact map<int, frozen<tuple<bigint, bigint, text>>>,
    PRIMARY KEY ((tenant, campaign, segment), seq)
)";

/// The record in static columns, changed by decisions about its version; beside it what the imports count, in the same partition as
/// the imports (`import_no` -1, `row_no` = number) and their chunks (`row_no` = first row), so that one batch moves them together.
const CAMPAIGN: &str = "CREATE TABLE IF NOT EXISTS campaign (
    key int, import_no int, row_no bigint,
    tenant text static, id text static, version bigint static, body text static, ended_as text static, end_version bigint static,
    recipients bigint static, refused bigint static, next_seq bigint static,
    sealed_at bigint static, sealed_digest text static, duplicates bigint static,
    import_id text, next_row bigint, stored bigint, refused_rows bigint, duplicate_rows bigint, created_at bigint, updated_at bigint,
    rows int, digest blob,
    PRIMARY KEY ((key), import_no, row_no)
)";

const REFUSED: &str = "CREATE TABLE IF NOT EXISTS refused (
    campaign int, bucket int, number bigint,
    import_id text, row_no bigint, field text, reason text, first_import text, first_row bigint,
    PRIMARY KEY ((campaign, bucket), number)
)";

/// Small records by home: `installation` (owner, secret, schema, numbers, removals), `lines` (lines, pools, and what must be unique
/// among them), `campaigns/<tenant>` and `templates/<tenant>`, `requests/<tenant>/…`, `line/<key>` (campaigns that used it).
const RECORD: &str = "CREATE TABLE IF NOT EXISTS record (
    home text, slot text, version bigint, number bigint, body text,
    PRIMARY KEY ((home), slot)
)";

/// `mark`: 0 waits, 1 placed, 2 orphaned. Rows are never deleted, they expire.
const PARKED: &str = "CREATE TABLE IF NOT EXISTS parked (
    bucket int, id bigint,
    account text, sender text, provider_id text, campaign int, seq int, attempt int, report text,
    at bigint, look_at bigint, deadline bigint, mark tinyint, orphan bigint,
    PRIMARY KEY ((bucket), id)
)";

const ORPHAN: &str = "CREATE TABLE IF NOT EXISTS orphan (
    account text, id bigint,
    sender text, provider_id text, campaign int, seq int, attempt int, report text, at bigint, look_at bigint, deadline bigint,
    PRIMARY KEY ((account), id)
) WITH CLUSTERING ORDER BY (id DESC)";

const INBOUND: &str = "CREATE TABLE IF NOT EXISTS inbound (
    bucket int, id bigint,
    account text, kind text, provider_id text, body text, at bigint,
    PRIMARY KEY ((bucket), id)
)";

/// Rows that are rewritten some six times in their first days and then rest: levels keep reads of a segment short. A repair within
/// `gc_grace_seconds` is needed only after campaigns were deleted.
const LEVELED: &str = "compaction = {'class': 'LeveledCompactionStrategy'}";

/// Events expire; nothing is read of them but what is young.
const SIZE_TIERED: &str = "compaction = {'class': 'SizeTieredCompactionStrategy'}";

/// All tables, as CQL.
#[must_use]
pub fn tables() -> Vec<String> {
    let with = |table: &str, options: &str| {
        let word = if table.contains(" WITH ") { "AND" } else { "WITH" };
        format!("{table} {word} {options}")
    };
    let leveled = [MESSAGE, CAMPAIGN, REFUSED, RECORD].map(|table| with(table, LEVELED));
    let tiered = [PARKED, ORPHAN, INBOUND].map(|table| with(table, SIZE_TIERED));
    leveled.into_iter().chain(tiered).collect()
}

/// The keyspace, as CQL. `replication`: copies in every data centre.
#[must_use]
pub fn keyspace(name: &str, replication: u8) -> String {
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}} AND durable_writes = true"
    )
}

/// What is added to [`keyspace`] where lightweight transactions do not work in tablets yet. Other servers do not know the word.
pub(super) const WITHOUT_TABLETS: &str = " AND tablets = {'enabled': false}";

/// The version written in a keyspace; `None`: it has no tables of ours.
pub(super) async fn version(session: &Session, keyspace: &str) -> Result<Option<u32>, OpenError> {
    const READ: &str = "SELECT slot, version, number, body FROM record WHERE home = 'installation' AND slot = 'schema'";
    use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
    let answer = match session.query_unpaged(within(keyspace, READ), ()).await {
        Ok(answer) => answer,
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, _))) => return Ok(None),
        Err(ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { .. })) => return Ok(None),
        Err(error) => return Err(not_opened(&error)),
    };
    let refuse = |error: &dyn std::fmt::Display| OpenError::Refused { reason: error.to_string() };
    let rows = answer.into_rows_result().map_err(|e| refuse(&e))?;
    let row: Option<RecordRow> = rows.maybe_first_row().map_err(|e| refuse(&e))?;
    Ok(row.and_then(|(_, version, ..)| version).and_then(|version| u32::try_from(version).ok()))
}

/// Makes what is missing in the keyspace that the session uses and writes the version; returns the version found before.
pub(super) async fn apply(session: &Session, keyspace: &str) -> Result<Option<u32>, OpenError> {
    let found = version(session, keyspace).await?;
    expect_known(found)?;
    let refuse = |error: scylla::errors::ExecutionError| match not_opened(&error) {
        OpenError::Away { reason } => OpenError::Refused { reason },
        other => other,
    };
    for table in tables() {
        session.query_unpaged(patient(table), ()).await.map_err(refuse)?;
    }
    const FIRST: &str =
        "INSERT INTO record (home, slot, version, body) VALUES ('installation', 'schema', ?, '') IF NOT EXISTS";
    session.query_unpaged(patient(FIRST.to_owned()), (i64::from(SCHEMA_VERSION),)).await.map_err(refuse)?;
    const NEXT: &str = "UPDATE record SET version = ? WHERE home = 'installation' AND slot = 'schema' IF version < ?";
    session
        .query_unpaged(patient(NEXT.to_owned()), (i64::from(SCHEMA_VERSION), i64::from(SCHEMA_VERSION)))
        .await
        .map_err(refuse)?;
    Ok(found)
}

/// A change of the schema takes the nodes longer than any other request: all of them must agree.
pub(super) fn patient(cql: String) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_request_timeout(Some(Duration::from_secs(60)));
    statement
}

/// Refuses a later version.
pub(super) fn expect_known(found: Option<u32>) -> Result<(), OpenError> {
    match found {
        Some(found) if found > SCHEMA_VERSION => Err(OpenError::Newer { found, known: SCHEMA_VERSION }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only one of the two servers knows, and what the way of the messages must not need.
    #[test]
    fn the_tables_are_of_both_servers() {
        for table in tables() {
            let lower = table.to_lowercase();
            for word in [
                "counter",
                "index",
                "materialized",
                "tablets",
                "unified",
                "incremental",
                "sstable_compression",
                "vector",
            ] {
                assert!(!lower.contains(word), "{word} in {table}");
            }
            assert!(lower.starts_with("create table if not exists"), "{table}");
        }
    }
}
