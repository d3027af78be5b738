//! Creations that may be repeated: which request made what.

use rusqlite::{Connection, OptionalExtension as _};

use super::error::Try;
use crate::domain::ids::TenantId;
use crate::store::rules::{self, Kind};

/// The record that a request made.
#[derive(Debug)]
pub(super) struct Made {
    /// Its public id then.
    pub(super) id: String,
    /// Its key, where it has one.
    pub(super) key: Option<u32>,
}

/// What this request made before; `None`: nothing, or the caller gave no request id.
pub(super) fn made(conn: &Connection, tenant: &TenantId, request: Option<&str>, kind: Kind) -> Try<Option<Made>> {
    let Some(request) = request else { return Ok(None) };
    let found = conn
        .prepare_cached("SELECT kind, id, key FROM request WHERE tenant = ?1 AND request_id = ?2")?
        .query_row([tenant.as_str(), request], |row| {
            Ok((row.get::<_, String>(0)?, Made { id: row.get(1)?, key: row.get(2)? }))
        })
        .optional()?;
    match found {
        Some((found, made)) if found != kind.name() => Ok(rules::request_made(&found, &made.id)?),
        found => Ok(found.map(|(_, made)| made)),
    }
}

/// Remembers what a request made.
pub(super) fn note(
    conn: &Connection,
    tenant: &TenantId,
    request: Option<&str>,
    kind: Kind,
    id: &str,
    key: Option<u32>,
) -> Try<()> {
    if let Some(request) = request {
        conn.prepare_cached("INSERT INTO request (tenant, request_id, kind, id, key) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((tenant.as_str(), request, kind.name(), id, key))?;
    }
    Ok(())
}
