//! A whole ledger out of this store; what is written into it stands in `taking`.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::error::{Try, damaged};
use super::rows::text;
use super::tallies::unsigned;
use super::{EmbeddedStore, parked, taking};
use crate::domain::ids::{CampaignKey, TenantId};
use crate::store::moving::{ChunkRecord, Mark, Movable, Numbers, Part, RequestRecord};
use crate::store::rules::Kind;
use crate::store::text::{from_json, to_json};
use crate::store::{InboundEvent, Page, Paged, ParkedEvent, StoreResult, paging};

/// The ledger's part in a move; `None`: it has none.
pub(super) fn mark(conn: &Connection) -> Try<Option<Mark>> {
    let json: Option<Vec<u8>> =
        conn.query_row("SELECT value FROM meta WHERE name = 'move'", [], |row| row.get(0)).optional()?;
    match json {
        Some(json) => Ok(Some(from_json(std::str::from_utf8(&json).map_err(|error| damaged(error.to_string()))?)?)),
        None => Ok(None),
    }
}

#[async_trait]
impl Movable for EmbeddedStore {
    async fn mark(&self) -> StoreResult<Option<Mark>> {
        self.readers.read(mark).await
    }

    async fn set_mark(&self, mark: Option<&Mark>) -> StoreResult<()> {
        let json = mark.map(to_json).transpose()?;
        self.write(move |ledger| {
            match json {
                None => ledger.conn().execute("DELETE FROM meta WHERE name = 'move'", [])?,
                Some(json) => ledger
                    .conn()
                    .execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('move', ?1)", [json.as_bytes()])?,
            };
            Ok(())
        })
        .await
    }

    async fn is_empty(&self) -> StoreResult<bool> {
        let tables = ["campaign", "line", "pool", "template", "request", "recipient", "parked", "orphan", "inbound"];
        let any: Vec<String> = tables.iter().map(|table| format!("EXISTS (SELECT 1 FROM {table})")).collect();
        let sql = format!("SELECT {} OR EXISTS (SELECT 1 FROM sqlite_sequence WHERE seq > 0)", any.join(" OR "));
        self.readers.read(move |conn| Ok(!conn.query_row(&sql, [], |row| row.get::<_, bool>(0))?)).await
    }

    async fn tenants(&self) -> StoreResult<Vec<TenantId>> {
        const ALL: &str = "SELECT tenant FROM campaign UNION SELECT tenant FROM pool UNION SELECT tenant FROM template
             UNION SELECT tenant FROM request ORDER BY tenant";
        self.readers
            .read(|conn| {
                let mut statement = conn.prepare(ALL)?;
                let mut rows = statement.query([])?;
                let mut tenants = Vec::new();
                while let Some(row) = rows.next()? {
                    tenants.push(tenant(row, 0)?);
                }
                Ok(tenants)
            })
            .await
    }

    async fn numbers(&self) -> StoreResult<Numbers> {
        let given = |conn: &Connection, table: &str| -> Try<u32> {
            let number = conn
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0))
                .optional()?;
            Ok(number.unwrap_or(0))
        };
        self.readers
            .read(move |conn| Ok(Numbers { campaign: given(conn, "campaign")?, line: given(conn, "line")? }))
            .await
    }

    async fn requests(&self, page: Page) -> StoreResult<Paged<RequestRecord>> {
        self.readers.read(move |conn| requests(conn, &page)).await
    }

    async fn chunks(&self, campaign: CampaignKey, import: u32, page: Page) -> StoreResult<Paged<ChunkRecord>> {
        self.readers.read(move |conn| chunks(conn, campaign, import, &page)).await
    }

    async fn all_orphans(&self, page: Page) -> StoreResult<Paged<ParkedEvent>> {
        self.readers.read(move |conn| parked::all(conn, parked::Where::Orphans, &page)).await
    }

    async fn all_parked(&self, page: Page) -> StoreResult<Paged<ParkedEvent>> {
        self.readers.read(move |conn| parked::all(conn, parked::Where::Parked, &page)).await
    }

    async fn all_inbound(&self, page: Page) -> StoreResult<Paged<InboundEvent>> {
        self.readers.read(move |conn| parked::all_inbound(conn, &page)).await
    }

    async fn adopt(&self, secret: [u8; 32], numbers: Numbers) -> StoreResult<()> {
        self.write(move |ledger| {
            let conn = ledger.conn();
            conn.execute("UPDATE meta SET value = ?1 WHERE name = 'installation_secret'", [secret])?;
            for (table, number) in [("campaign", numbers.campaign), ("line", numbers.line)] {
                conn.execute("DELETE FROM sqlite_sequence WHERE name = ?1 AND seq < ?2", (table, number))?;
                conn.execute(
                    "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, ?2
                     WHERE ?2 > 0 AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
                    (table, number),
                )?;
            }
            Ok(())
        })
        .await?;
        *self.secret.lock() = secret;
        Ok(())
    }

    async fn take(&self, part: Part) -> StoreResult<()> {
        self.write(move |ledger| taking::take(ledger, part)).await
    }
}

fn tenant(row: &Row<'_>, column: usize) -> Try<TenantId> {
    TenantId::new(&text(row, column)?).map_err(|error| damaged(error.to_string()))
}

fn requests(conn: &Connection, page: &Page) -> Try<Paged<RequestRecord>> {
    let after = paging::text_after(page)?;
    let (after_tenant, after_id) = after.split_once('/').unwrap_or_default();
    let size = page.size.max(1);
    let sql = format!(
        "SELECT tenant, request_id, kind, id, coalesce(key, 0) FROM request WHERE (tenant, request_id) > (?1, ?2)
         ORDER BY tenant, request_id LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query((after_tenant, after_id))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = text(row, 2)?;
        items.push(RequestRecord {
            tenant: tenant(row, 0)?,
            request_id: text(row, 1)?.into(),
            kind: Kind::named(&kind).ok_or_else(|| damaged(format!("a request that made a {kind:?}")))?,
            id: text(row, 3)?.into(),
            key: row.get(4)?,
        });
    }
    let more = items.len() > size;
    items.truncate(size);
    let last = items.last().filter(|_| more);
    let next = last.map(|last| format!("{}/{}", last.tenant, last.request_id).into_bytes());
    Ok(Paged { items, next })
}

fn chunks(conn: &Connection, campaign: CampaignKey, import: u32, page: &Page) -> Try<Paged<ChunkRecord>> {
    let size = page.size.max(1);
    let sql = format!(
        "SELECT offset, rows, digest, stored_after, refused_after FROM import_chunk
         WHERE campaign = ?1 AND import = ?2 AND offset > ?3 ORDER BY offset LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query((campaign.0, import, paging::number_after(page)?.unwrap_or(-1)))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(ChunkRecord {
            offset: unsigned(row, 0)?,
            rows: row.get(1)?,
            digest: row.get(2)?,
            stored: unsigned(row, 3)?,
            refused: unsigned(row, 4)?,
        });
    }
    Ok(paging::cut(items, size, |chunk| chunk.offset.cast_signed()))
}
