//! Creations that may be repeated, and numbers that are never given twice: both decided by the server.

use serde::{Deserialize, Serialize};

use super::cql::Cql;
use super::error::{conflict, damaged};
use super::owner::RecordRow;
use crate::domain::ids::TenantId;
use crate::store::StoreResult;
use crate::store::rules::{self, Kind};
use crate::store::text::{from_json, to_json};

/// What a request made, or is about to make: it is noted before the record can be found by its id, so that a repetition after a
/// crash finishes what the first began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) kind: Kind,
    /// Its public id.
    pub(super) id: String,
    /// Its key; of a template, the version that it gets.
    pub(super) number: i64,
}

impl Made {
    /// What a request of another ledger made there.
    pub(super) fn new(kind: Kind, id: String, number: i64) -> Self {
        Self { kind, id, number }
    }
}

const SLOT: &str = "made";

fn home(tenant: &TenantId, request: &str) -> String {
    format!("requests/{tenant}/{request}")
}

/// What this request made before; `None`: nothing, or the caller gave no request id.
pub(super) async fn made(cql: &Cql, tenant: &TenantId, request: Option<&str>, kind: Kind) -> StoreResult<Option<Made>> {
    let Some(request) = request else { return Ok(None) };
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (home(tenant, request), SLOT)).await?;
    let Some((.., body)) = row else { return Ok(None) };
    let made: Made = from_json(&body.unwrap_or_default())?;
    if made.kind != kind {
        return rules::request_made(made.kind.name(), &made.id);
    }
    Ok(Some(made))
}

/// What a request made, of whatever kind.
pub(super) async fn noted(cql: &Cql, tenant: &TenantId, request: &str) -> StoreResult<Option<Made>> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (home(tenant, request), SLOT)).await?;
    row.map(|(.., body)| from_json(&body.unwrap_or_default())).transpose()
}

/// Writes a note as it stands; the same note may be there already.
pub(super) async fn take(cql: &Cql, tenant: &TenantId, request: &str, made: &Made) -> StoreResult<()> {
    let body = to_json(made)?;
    super::taking::claim(cql, "request id", (&home(tenant, request), SLOT), (1, made.number, &body)).await
}

/// Notes what a request makes; gives back what it made already if another call of the same request was first.
pub(super) async fn note(
    cql: &Cql,
    tenant: &TenantId,
    request: Option<&str>,
    kind: Kind,
    id: &str,
    number: i64,
) -> StoreResult<Option<Made>> {
    let Some(text) = request else { return Ok(None) };
    let ours = Made { kind, id: id.to_owned(), number };
    let settled = || async { Ok(made(cql, tenant, request, kind).await?.map(|found| found == ours)) };
    let values = (home(tenant, text), SLOT, 1_i64, number, to_json(&ours)?);
    if cql.decide(&cql.st.claim, values, settled).await? {
        return Ok(None);
    }
    made(cql, tenant, request, kind).await
}

/// Takes a note back: the creation was refused.
pub(super) async fn forget(cql: &Cql, tenant: &TenantId, request: Option<&str>, number: i64) -> StoreResult<()> {
    if let Some(request) = request {
        let settled = || async { Ok(Some(true)) };
        cql.decide(&cql.st.unclaim, (home(tenant, request), SLOT, number), settled).await?;
    }
    Ok(())
}

/// The next number of a kind. One whose creation fails is left out.
pub(super) async fn next_number(cql: &Cql, kind: Kind) -> StoreResult<u32> {
    let slot = format!("next/{}", kind.name());
    loop {
        let row: Option<RecordRow> = cql.decided_row(&cql.st.record, ("installation", slot.as_str())).await?;
        let last = row.and_then(|(_, last, ..)| last);
        let next = last.unwrap_or(0) + 1;
        // A decision whose outcome is not known may have been ours: the number is left out.
        let settled = || async { Ok(Some(false)) };
        let ours = match last {
            None => cql.decide(&cql.st.claim, ("installation", slot.as_str(), next, 0_i64, ""), settled).await?,
            Some(last) => {
                cql.decide(&cql.st.replace, (next, 0_i64, "", "installation", slot.as_str(), last), settled).await?
            }
        };
        if ours {
            return match i32::try_from(next) {
                Ok(next) => Ok(next.unsigned_abs()),
                Err(_) => conflict(format!("this installation has used up its {} numbers", kind.name())),
            };
        }
    }
}

/// The number in a record.
pub(super) fn number(number: Option<i64>) -> StoreResult<u32> {
    number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| damaged("a record without its number"))
}
