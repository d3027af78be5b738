//! Records of lines and their pools.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::error::{Try, conflict};
use super::requests;
use super::rows::text;
use super::tallies::unsigned;
use crate::domain::ids::{LineId, LineKey, PoolId, TenantId};
use crate::domain::line::{Line, Pool};
use crate::domain::time::UnixMillis;
use crate::store::rules::{self, Kind};
use crate::store::text::{from_json, to_json};
use crate::store::{Created, LineFilter, StoreError};

fn read(row: &Row<'_>) -> Try<Line> {
    let mut line: Line = from_json(&text(row, 2)?)?;
    line.key = LineKey(row.get(0)?);
    line.version = unsigned(row, 1)?;
    Ok(line)
}

fn find(conn: &Connection, wanted: &str, params: impl rusqlite::Params) -> Try<Option<Line>> {
    let mut statement = conn.prepare_cached(&format!("SELECT key, version, body FROM line WHERE {wanted}"))?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

fn missing() -> StoreError {
    StoreError::NotFound("line")
}

/// By its public id.
pub(super) fn by_id(conn: &Connection, tenant: &TenantId, id: &LineId) -> Try<Line> {
    find(conn, "tenant = ?1 AND id = ?2", [tenant.as_str(), id.as_str()])?.ok_or_else(|| missing().into())
}

fn by_key(conn: &Connection, key: LineKey) -> Try<Line> {
    find(conn, "key = ?1", [key.0])?.ok_or_else(|| missing().into())
}

/// All lines of the filter.
pub(super) fn list(conn: &Connection, filter: &LineFilter) -> Try<Vec<Line>> {
    let mut statement = conn.prepare_cached(
        "SELECT key, version, body FROM line
         WHERE tenant = coalesce(?1, tenant) AND pool = coalesce(?2, pool) AND account = coalesce(?3, account) ORDER BY key",
    )?;
    let (tenant, pool) = (filter.tenant.as_ref().map(TenantId::as_str), filter.pool.as_ref().map(PoolId::as_str));
    let account = filter.account.as_ref().map(|account| account.as_str());
    let mut rows = statement.query((tenant, pool, account))?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(read(row)?);
    }
    Ok(lines)
}

/// Stores a new line, and its pool if that is new.
pub(super) fn create(conn: &Connection, mut line: Line, request: Option<&str>) -> Try<Created<Line>> {
    let tenant = line.tenant.clone();
    if let Some(made) = requests::made(conn, &tenant, request, Kind::Line)? {
        return Ok(Created { record: by_key(conn, LineKey(made.key.unwrap_or(0)))?, fresh: false });
    }
    if find(conn, "tenant = ?1 AND id = ?2", [tenant.as_str(), line.id.as_str()])?.is_some() {
        return Err(StoreError::Exists { what: "line", id: line.id.to_string() }.into());
    }
    expect_new_sender(conn, &line, None)?;
    join_pool(conn, &line, line.created_at)?;
    line.version = 1;
    conn.execute(
        "INSERT INTO line (tenant, id, version, pool, account, kind, sender, body) VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)",
        (
            tenant.as_str(),
            line.id.as_str(),
            line.pool.as_str(),
            line.account.as_str(),
            line.kind.as_str(),
            line.sender.text(),
            to_json(&line)?,
        ),
    )?;
    let Ok(key) = u32::try_from(conn.last_insert_rowid()) else {
        return conflict("this installation has used up its line numbers");
    };
    requests::note(conn, &tenant, request, Kind::Line, line.id.as_str(), Some(key))?;
    Ok(Created { record: by_key(conn, LineKey(key))?, fresh: true })
}

/// Replaces a line's record.
pub(super) fn update(conn: &Connection, line: &Line) -> Try<Line> {
    let stored = by_key(conn, line.key)?;
    if (&stored.tenant, &stored.id) != (&line.tenant, &line.id) {
        return Err(missing().into());
    }
    rules::expect_version(stored.version, line.version)?;
    expect_new_sender(conn, line, Some(line.key))?;
    join_pool(conn, line, line.updated_at)?;
    conn.execute(
        "UPDATE line SET version = version + 1, pool = ?2, account = ?3, kind = ?4, sender = ?5, body = ?6 WHERE key = ?1",
        (line.key.0, line.pool.as_str(), line.account.as_str(), line.kind.as_str(), line.sender.text(), to_json(line)?),
    )?;
    by_key(conn, line.key)
}

/// Fails if another line sends as this one.
fn expect_new_sender(conn: &Connection, line: &Line, own: Option<LineKey>) -> Try<()> {
    let other = conn
        .prepare_cached("SELECT key FROM line WHERE kind = ?1 AND sender = ?2")?
        .query_row([line.kind.as_str(), line.sender.text()], |row| row.get::<_, u32>(0))
        .optional()?;
    if other.is_some_and(|other| Some(LineKey(other)) != own) {
        return Err(rules::sender_taken(line).into());
    }
    Ok(())
}

/// The line's pool exists afterwards, and is of the line's kind.
fn join_pool(conn: &Connection, line: &Line, now: UnixMillis) -> Try<()> {
    match find_pool(conn, &line.tenant, &line.pool)? {
        Some(pool) => Ok(rules::expect_joinable(&pool, line)?),
        None => {
            let pool = rules::pool_of(line, now);
            conn.execute(
                "INSERT INTO pool (tenant, id, version, kind, body) VALUES (?1, ?2, 1, ?3, ?4)",
                (pool.tenant.as_str(), pool.id.as_str(), pool.kind.as_str(), to_json(&pool)?),
            )?;
            Ok(())
        }
    }
}

fn read_pool(row: &Row<'_>) -> Try<Pool> {
    let mut pool: Pool = from_json(&text(row, 1)?)?;
    pool.version = unsigned(row, 0)?;
    Ok(pool)
}

/// By its public id.
pub(super) fn pool(conn: &Connection, tenant: &TenantId, id: &PoolId) -> Try<Pool> {
    find_pool(conn, tenant, id)?.ok_or_else(|| StoreError::NotFound("pool").into())
}

fn find_pool(conn: &Connection, tenant: &TenantId, id: &PoolId) -> Try<Option<Pool>> {
    let mut statement = conn.prepare_cached("SELECT version, body FROM pool WHERE tenant = ?1 AND id = ?2")?;
    let mut rows = statement.query([tenant.as_str(), id.as_str()])?;
    rows.next()?.map(read_pool).transpose()
}

/// All pools of a tenant.
pub(super) fn pools(conn: &Connection, tenant: &TenantId) -> Try<Vec<Pool>> {
    let mut statement = conn.prepare_cached("SELECT version, body FROM pool WHERE tenant = ?1 ORDER BY id")?;
    let mut rows = statement.query([tenant.as_str()])?;
    let mut pools = Vec::new();
    while let Some(row) = rows.next()? {
        pools.push(read_pool(row)?);
    }
    Ok(pools)
}

/// Replaces a pool's record.
pub(super) fn update_pool(conn: &Connection, changed: &Pool) -> Try<Pool> {
    let stored = pool(conn, &changed.tenant, &changed.id)?;
    rules::expect_same_pool(&stored, changed)?;
    conn.execute(
        "UPDATE pool SET version = version + 1, body = ?3 WHERE tenant = ?1 AND id = ?2",
        (changed.tenant.as_str(), changed.id.as_str(), to_json(changed)?),
    )?;
    pool(conn, &changed.tenant, &changed.id)
}
