//! Records of templates.

use rusqlite::{Connection, Row};

use super::error::Try;
use super::requests;
use super::rows::text;
use super::tallies::unsigned;
use crate::domain::ids::{TemplateId, TenantId};
use crate::domain::time::UnixMillis;
use crate::store::paging;
use crate::store::rules::{self, Kind};
use crate::store::{Page, Paged, StoreError, TemplateRecord};

const COLUMNS: &str = "id, version, created_at, updated_at, definition";

fn read(row: &Row<'_>, tenant: &TenantId) -> Try<TemplateRecord> {
    let id = TemplateId::new(&text(row, 0)?).map_err(super::error::damaged)?;
    Ok(TemplateRecord {
        tenant: tenant.clone(),
        id,
        version: unsigned(row, 1)?,
        definition: text(row, 4)?.into(),
        created_at: UnixMillis(row.get(2)?),
        updated_at: UnixMillis(row.get(3)?),
    })
}

fn find(conn: &Connection, tenant: &TenantId, id: &str) -> Try<Option<TemplateRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM template WHERE tenant = ?1 AND id = ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([tenant.as_str(), id])?;
    rows.next()?.map(|row| read(row, tenant)).transpose()
}

/// By its public id.
pub(super) fn by_id(conn: &Connection, tenant: &TenantId, id: &TemplateId) -> Try<TemplateRecord> {
    find(conn, tenant, id.as_str())?.ok_or_else(|| StoreError::NotFound("template").into())
}

/// Stores a template or its next version. A template not yet there has version 0.
pub(super) fn put(
    conn: &Connection,
    template: &TemplateRecord,
    expected: Option<u64>,
    request: Option<&str>,
) -> Try<TemplateRecord> {
    let tenant = &template.tenant;
    if let Some(made) = requests::made(conn, tenant, request, Kind::Template)? {
        return find(conn, tenant, &made.id)?.ok_or_else(|| StoreError::NotFound("template").into());
    }
    let stored = find(conn, tenant, template.id.as_str())?.map_or(0, |stored| stored.version);
    if let Some(expected) = expected {
        if stored == 0 && expected > 0 {
            return Err(StoreError::NotFound("template").into());
        }
        rules::expect_version(stored, expected)?;
    }
    conn.execute(
        "INSERT INTO template (tenant, id, version, created_at, updated_at, definition) VALUES (?1, ?2, 1, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET version = version + 1, updated_at = excluded.updated_at, definition = excluded.definition",
        (
            tenant.as_str(),
            template.id.as_str(),
            template.created_at.0,
            template.updated_at.0,
            template.definition.as_ref(),
        ),
    )?;
    requests::note(conn, tenant, request, Kind::Template, template.id.as_str(), None)?;
    by_id(conn, tenant, &template.id)
}

/// A page in order of id.
pub(super) fn list(conn: &Connection, tenant: &TenantId, page: &Page) -> Try<Paged<TemplateRecord>> {
    let size = page.size.max(1);
    let sql = format!(
        "SELECT {COLUMNS} FROM template WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query((tenant.as_str(), paging::text_after(page)?))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read(row, tenant)?);
    }
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|last| last.id.as_str().as_bytes().to_vec());
    Ok(Paged { items, next })
}
