//! A whole ledger out of this store; what is written into it stands in `taking`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::cql::Cql;
use super::error::damaged;
use super::owner::RecordRow;
use super::requests::Made;
use super::{ScyllaStore, campaigns, inbound, lines, list, parked, taking};
use crate::domain::ids::{AccountId, CampaignKey, LineKey, TemplateId, TenantId};
use crate::store::moving::{ChunkRecord, Mark, Movable, Numbers, Part, RequestRecord};
use crate::store::rules::Kind;
use crate::store::text::{from_json, to_json};
use crate::store::{InboundEvent, Page, Paged, ParkedEvent, Store as _, StoreError, StoreResult, paging};

const INSTALLATION: &str = "installation";
const MARK: &str = "move";

/// Homes read at a time.
const HOMES: i32 = 1_000;

/// Reads of single records under way at once.
const READS: usize = 16;

/// `(row_no, rows, digest, stored, refused)`.
type ChunkRow = (i64, Option<i32>, Option<Vec<u8>>, Option<i64>, Option<i64>);

/// The ledger's part in a move, as the server's decisions left it; `None`: it has none.
pub(super) async fn mark(cql: &Cql) -> StoreResult<Option<Mark>> {
    Ok(marked(cql).await?.1)
}

/// The version of the mark's row, and what it says.
async fn marked(cql: &Cql) -> StoreResult<(Option<i64>, Option<Mark>)> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (INSTALLATION, MARK)).await?;
    let Some((_, version, _, body)) = row else { return Ok((None, None)) };
    let mark = body.filter(|body| !body.is_empty()).map(|body| from_json(&body)).transpose()?;
    Ok((version, mark))
}

#[async_trait]
impl Movable for ScyllaStore {
    async fn mark(&self) -> StoreResult<Option<Mark>> {
        mark(&self.cql).await
    }

    async fn set_mark(&self, mark: Option<&Mark>) -> StoreResult<()> {
        let cql = &self.cql;
        let body = mark.map_or_else(|| Ok(String::new()), to_json)?;
        let (seen, _) = marked(cql).await?;
        let next = seen.unwrap_or_default() + 1;
        let settled = || async {
            let (version, found) = marked(cql).await?;
            Ok(if version == seen { None } else { Some(version == Some(next) && found.as_ref() == mark) })
        };
        let ours = match seen {
            None => cql.decide(&cql.st.claim, (INSTALLATION, MARK, next, 0_i64, body.as_str()), settled).await?,
            Some(seen) => {
                let values = (next, 0_i64, body.as_str(), INSTALLATION, MARK, seen);
                cql.decide(&cql.st.replace, values, settled).await?
            }
        };
        if ours { Ok(()) } else { Err(StoreError::Unavailable("somebody else moves this ledger".to_owned())) }
    }

    async fn is_empty(&self) -> StoreResult<bool> {
        let cql = &self.cql;
        if self.numbers().await? != Numbers::default() || !self.tenants().await?.is_empty() {
            return Ok(false);
        }
        Ok(parked::accounts(cql).await?.is_empty()
            && parked::waiting(cql).await?.is_empty()
            && inbound::kept(cql).await?.is_empty())
    }

    async fn tenants(&self) -> StoreResult<Vec<TenantId>> {
        let mut tenants = BTreeSet::new();
        let mut note = |name: &str| -> StoreResult<()> {
            tenants.insert(TenantId::new(name).map_err(damaged)?);
            Ok(())
        };
        let rows: Vec<RecordRow> = self.cql.rows(&self.cql.st.records, ("lines",)).await?;
        for (slot, ..) in &rows {
            if let Some((tenant, _)) = slot.strip_prefix("pool/").and_then(|slot| slot.split_once('/')) {
                note(tenant)?;
            }
        }
        let mut after = None;
        loop {
            let homes = homes(&self.cql, after).await?;
            for (home, _) in &homes {
                let of = |kind: &str| home.strip_prefix(kind);
                let name = of("campaigns/").or_else(|| of("templates/"));
                let name = name.or_else(|| of("requests/").and_then(|rest| Some(rest.split_once('/')?.0)));
                if let Some(name) = name {
                    note(name)?;
                }
            }
            match homes.last() {
                Some((_, token)) => after = Some(*token),
                None => return Ok(tenants.into_iter().collect()),
            }
        }
    }

    async fn numbers(&self) -> StoreResult<Numbers> {
        let given = async |kind: Kind| -> StoreResult<u32> {
            let slot = format!("next/{}", kind.name());
            let row: Option<RecordRow> = self.cql.decided_row(&self.cql.st.record, (INSTALLATION, slot)).await?;
            u32::try_from(row.and_then(|(_, last, ..)| last).unwrap_or_default()).map_err(damaged)
        };
        Ok(Numbers { campaign: given(Kind::Campaign).await?, line: given(Kind::Line).await? })
    }

    async fn requests(&self, page: Page) -> StoreResult<Paged<RequestRecord>> {
        let cql = &self.cql;
        let homes = homes(cql, paging::number_after(&page)?).await?;
        let next = homes.last().map(|(_, token)| paging::mark(*token));
        let reads = homes.into_iter().map(|(home, _)| request_of(self, home));
        let items: Vec<Option<RequestRecord>> = stream::iter(reads).buffered(READS).try_collect().await?;
        Ok(Paged { items: items.into_iter().flatten().collect(), next })
    }

    async fn chunks(&self, campaign: CampaignKey, import: u32, page: Page) -> StoreResult<Paged<ChunkRecord>> {
        let cql = &self.cql;
        let size = page.size.max(1);
        let after = paging::number_after(&page)?.unwrap_or(-1);
        // A chunk that landed late stands where its import has not come to.
        let imports = list::read(cql, campaign).await?.imports;
        let next_row = imports.get(import as usize).map_or(0, |import| import.record.next_row);
        let limit = i32::try_from(size.saturating_add(1)).unwrap_or(i32::MAX);
        let values = (campaign.0.cast_signed(), import.cast_signed(), after, limit);
        let rows: Vec<ChunkRow> = cql.rows(&cql.st.chunks, values).await?;
        let mut items = Vec::with_capacity(rows.len());
        for (offset, rows, digest, stored, refused) in rows {
            if offset.unsigned_abs() >= next_row {
                break;
            }
            let digest = digest.and_then(|digest| <[u8; 32]>::try_from(digest).ok());
            items.push(ChunkRecord {
                offset: offset.unsigned_abs(),
                rows: rows.map_or(0, i32::unsigned_abs),
                digest: digest.ok_or_else(|| damaged("a chunk of an import without its digest"))?,
                stored: stored.map_or(0, i64::unsigned_abs),
                refused: refused.map_or(0, i64::unsigned_abs),
            });
        }
        Ok(paging::cut(items, size, |chunk| chunk.offset.cast_signed()))
    }

    async fn all_orphans(&self, page: Page) -> StoreResult<Paged<ParkedEvent>> {
        let accounts: Vec<AccountId> = parked::accounts(&self.cql).await?;
        self.orphans(&accounts, page).await
    }

    async fn all_parked(&self, page: Page) -> StoreResult<Paged<ParkedEvent>> {
        parked::all(&self.cql, &page).await
    }

    async fn all_inbound(&self, page: Page) -> StoreResult<Paged<InboundEvent>> {
        inbound::all(&self.cql, &page).await
    }

    async fn adopt(&self, secret: [u8; 32], numbers: Numbers) -> StoreResult<()> {
        taking::adopt(&self.cql, secret, numbers).await?;
        *self.secret.lock() = secret;
        Ok(())
    }

    async fn take(&self, part: Part) -> StoreResult<()> {
        taking::take(&self.cql, self.cache.limits, part).await
    }
}

/// Homes of records behind a token, in the order of the tokens; empty: there are no more.
async fn homes(cql: &Cql, after: Option<i64>) -> StoreResult<Vec<(String, i64)>> {
    cql.rows(&cql.st.homes, (after.unwrap_or(i64::MIN), HOMES)).await
}

/// What a request made, by its home; `None`: it is no request's, or the creation was cut short, so that its repetition makes it anew.
async fn request_of(store: &ScyllaStore, home: String) -> StoreResult<Option<RequestRecord>> {
    let cql = &store.cql;
    let Some((tenant, request)) = home.strip_prefix("requests/").and_then(|rest| rest.split_once('/')) else {
        return Ok(None);
    };
    let tenant = TenantId::new(tenant).map_err(damaged)?;
    let Some(Made { kind, id, number }) = super::requests::noted(cql, &tenant, request).await? else { return Ok(None) };
    let key = u32::try_from(number).map_err(damaged)?;
    let is_whole = match kind {
        Kind::Campaign => campaigns::is_named_or_gone(cql, &tenant, &id, CampaignKey(key)).await?,
        Kind::Line => lines::is_there(cql, LineKey(key)).await?,
        Kind::Template => {
            let named = TemplateId::new(&id).map_err(damaged)?;
            match store.template(&tenant, &named).await {
                Ok(template) => template.version >= u64::from(key),
                Err(StoreError::NotFound(_)) => false,
                Err(error) => return Err(error),
            }
        }
    };
    let key = if kind == Kind::Template { 0 } else { key };
    Ok(is_whole.then(|| RequestRecord { tenant, request_id: request.to_owned(), kind, id, key }))
}
