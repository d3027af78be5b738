//! `sluice schema`: the tables of a ledger on CQL, printed, made and checked.

use sluice_engine::store::scylla::{OpenError, SCHEMA_VERSION, apply_schema, check_schema, keyspace_cql, tables_cql};

use crate::config::Scylla;

/// The CQL that makes keyspace and tables, ready for `cqlsh`.
#[must_use]
pub fn printed(scylla: &Scylla) -> String {
    let mut text = String::new();
    if scylla.replication > 0 {
        text.push_str(&keyspace_cql(&scylla.config.keyspace, scylla.replication));
        text.push_str(";\n\n");
    }
    text.push_str(&format!("USE {};\n", scylla.config.keyspace));
    for table in tables_cql() {
        text.push_str(&format!("\n{table};\n"));
    }
    text
}

/// Makes what is missing; says what was done.
///
/// # Errors
/// [`OpenError`]: each says what to do.
pub async fn apply(scylla: &Scylla) -> Result<String, OpenError> {
    let replication = (scylla.replication > 0).then_some(scylla.replication);
    let keyspace = &scylla.config.keyspace;
    Ok(match apply_schema(&scylla.config, replication).await? {
        None => format!("keyspace {keyspace}: tables made, version {SCHEMA_VERSION}"),
        Some(SCHEMA_VERSION) => format!("keyspace {keyspace}: version {SCHEMA_VERSION}, nothing to do"),
        Some(found) => format!("keyspace {keyspace}: from version {found} to {SCHEMA_VERSION}"),
    })
}

/// Says whether the tables are those that this program needs.
///
/// # Errors
/// [`OpenError`]: each says what to do.
pub async fn check(scylla: &Scylla) -> Result<String, OpenError> {
    let found = check_schema(&scylla.config).await?;
    Ok(format!("keyspace {}: version {found}, as this program needs it", scylla.config.keyspace))
}
