//! Records of templates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cql::Cql;
use super::owner::RecordRow;
use super::requests;
use crate::domain::ids::{TemplateId, TenantId};
use crate::domain::time::UnixMillis;
use crate::store::rules::{self, Kind};
use crate::store::text::{from_json, to_json};
use crate::store::{Page, Paged, StoreError, StoreResult, TemplateRecord, paging};

#[derive(Serialize, Deserialize)]
struct Body {
    created_at: UnixMillis,
    updated_at: UnixMillis,
    definition: Arc<str>,
}

fn home(tenant: &TenantId) -> String {
    format!("templates/{tenant}")
}

fn missing() -> StoreError {
    StoreError::NotFound("template")
}

fn read(tenant: &TenantId, (id, version, _, body): RecordRow) -> StoreResult<TemplateRecord> {
    let Body { created_at, updated_at, definition } = from_json(&body.unwrap_or_default())?;
    let id = TemplateId::new(&id).map_err(super::error::damaged)?;
    let version = version.map_or(0, i64::unsigned_abs);
    Ok(TemplateRecord { tenant: tenant.clone(), id, version, definition, created_at, updated_at })
}

async fn find(cql: &Cql, tenant: &TenantId, id: &TemplateId) -> StoreResult<Option<TemplateRecord>> {
    let row = cql.decided_row(&cql.st.record, (home(tenant), id.as_str())).await?;
    row.map(|row| read(tenant, row)).transpose()
}

/// By its public id.
pub(super) async fn by_id(cql: &Cql, tenant: &TenantId, id: &TemplateId) -> StoreResult<TemplateRecord> {
    find(cql, tenant, id).await?.ok_or_else(missing)
}

/// Stores a template or its next version. A template not yet there has version 0.
pub(super) async fn put(
    cql: &Cql,
    template: &TemplateRecord,
    expected: Option<u64>,
    request: Option<&str>,
) -> StoreResult<TemplateRecord> {
    let (tenant, id) = (&template.tenant, &template.id);
    loop {
        let mut noted = requests::made(cql, tenant, request, Kind::Template).await?;
        let stored = find(cql, tenant, id).await?;
        let version = stored.as_ref().map_or(0, |stored| stored.version);
        if noted.is_none() {
            if let Some(expected) = expected {
                if version == 0 && expected > 0 {
                    return Err(missing());
                }
                rules::expect_version(version, expected)?;
            }
            let makes = version.cast_signed() + 1;
            noted = requests::note(cql, tenant, request, Kind::Template, id.as_str(), makes).await?;
        }
        if let Some(made) = noted
            && (made.id != id.as_str() || version >= made.number.unsigned_abs())
        {
            let made_id = TemplateId::new(&made.id).map_err(super::error::damaged)?;
            return by_id(cql, tenant, &made_id).await;
        }
        if replace(cql, template, stored.as_ref()).await? {
            return by_id(cql, tenant, id).await;
        }
        // Somebody else's put came between.
        requests::forget(cql, tenant, request, version.cast_signed() + 1).await?;
    }
}

/// Writes a template as it stands; the same may be there already.
pub(super) async fn take(cql: &Cql, template: &TemplateRecord) -> StoreResult<()> {
    let (created_at, updated_at) = (template.created_at, template.updated_at);
    let body = to_json(&Body { created_at, updated_at, definition: Arc::clone(&template.definition) })?;
    let (home, id) = (home(&template.tenant), template.id.as_str());
    super::taking::claim(cql, "template", (&home, id), (template.version, 0, &body)).await
}

/// Puts a template into the place of what was seen; false: something else stands there.
async fn replace(cql: &Cql, template: &TemplateRecord, stored: Option<&TemplateRecord>) -> StoreResult<bool> {
    let created_at = stored.map_or(template.created_at, |stored| stored.created_at);
    let (updated_at, definition) = (template.updated_at, Arc::clone(&template.definition));
    let body = to_json(&Body { created_at, updated_at, definition })?;
    let (home, id) = (home(&template.tenant), template.id.as_str());
    let seen = stored.map_or(0, |stored| stored.version.cast_signed());
    let settled = || async {
        let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (home.as_str(), id)).await?;
        Ok(match row {
            Some((_, Some(version), _, Some(found))) if version == seen + 1 => Some(found == body),
            Some((_, Some(version), ..)) if version == seen => None,
            None if seen == 0 => None,
            _ => Some(false),
        })
    };
    if stored.is_none() {
        let values = (home.as_str(), id, 1_i64, 0_i64, body.as_str());
        return cql.decide(&cql.st.claim, values, settled).await;
    }
    let values = (seen + 1, 0_i64, body.as_str(), home.as_str(), id, seen);
    cql.decide(&cql.st.replace, values, settled).await
}

/// A page in order of id.
pub(super) async fn list(cql: &Cql, tenant: &TenantId, page: &Page) -> StoreResult<Paged<TemplateRecord>> {
    let size = page.size.max(1);
    let limit = i32::try_from(size.saturating_add(1)).unwrap_or(i32::MAX);
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records_from, (home(tenant), paging::text_after(page)?, limit)).await?;
    let mut items = rows.into_iter().map(|row| read(tenant, row)).collect::<StoreResult<Vec<_>>>()?;
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|last| last.id.as_str().as_bytes().to_vec());
    Ok(Paged { items, next })
}
