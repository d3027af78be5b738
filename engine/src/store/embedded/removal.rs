//! Removing a campaign in short steps. What is being removed is noted first, so that a crash only delays it.

use rusqlite::{Connection, OptionalExtension as _};

use super::campaigns;
use super::error::Try;
use super::ledger::Ledger;
use super::rows::row_ids;
use crate::domain::ids::{CampaignKey, SEGMENT_LEN};
use crate::store::rules;

/// Pages given back to the file system in one step: 8 MiB.
const PAGES_FREED: u32 = 2_048;

/// Takes the campaign out of sight; what belongs to it is removed by [`next_step`].
pub(super) fn begin(ledger: &mut Ledger<'_>, key: CampaignKey, version: u64) -> Try<()> {
    let conn = ledger.conn();
    rules::expect_version(campaigns::by_key(conn, key)?.version, version)?;
    ledger.forget_campaign(key);
    conn.execute("INSERT INTO removal (campaign) VALUES (?1)", [key.0])?;
    conn.execute("DELETE FROM campaign WHERE key = ?1", [key.0])?;
    Ok(())
}

/// One step of whatever is to be removed; false: nothing is left.
pub(super) fn next_step(ledger: &mut Ledger<'_>) -> Try<bool> {
    let conn = ledger.conn();
    let next = conn.query_row("SELECT campaign FROM removal LIMIT 1", [], |row| row.get(0)).optional()?;
    if let Some(key) = next {
        step(conn, CampaignKey(key))?;
        return Ok(true);
    }
    let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    // Many times more than a step frees: some free pages are used again soon.
    if free > 4 * i64::from(PAGES_FREED) {
        conn.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_FREED})"))?;
        return Ok(true);
    }
    Ok(false)
}

/// Removes the next segment's messages and recipients, and at last the rest.
fn step(conn: &Connection, key: CampaignKey) -> Try<()> {
    let (from, to) = row_ids(key, 0, u32::MAX);
    let first = |table: &str| -> Try<Option<i64>> {
        let sql = format!("SELECT id FROM {table} WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1");
        Ok(conn.prepare_cached(&sql)?.query_row([from, to], |row| row.get(0)).optional()?)
    };
    if let Some(first) = first("message")?.into_iter().chain(first("recipient")?).min() {
        let last = first.saturating_add(i64::from(SEGMENT_LEN)).min(to);
        for sql in [
            "DELETE FROM attempt WHERE message BETWEEN ?1 AND ?2",
            "DELETE FROM message WHERE id BETWEEN ?1 AND ?2",
            "DELETE FROM recipient WHERE id BETWEEN ?1 AND ?2",
        ] {
            conn.prepare_cached(sql)?.execute([first, last])?;
        }
        return Ok(());
    }
    let rows = i64::from(SEGMENT_LEN);
    let removed = conn.execute(
        "DELETE FROM refused WHERE campaign = ?1 AND number IN
         (SELECT number FROM refused WHERE campaign = ?1 LIMIT ?2)",
        (key.0, rows),
    )?;
    if removed > 0 {
        return Ok(());
    }
    for table in ["segment", "failure", "line_use", "import", "import_chunk", "removal"] {
        conn.execute(&format!("DELETE FROM {table} WHERE campaign = ?1"), [key.0])?;
    }
    Ok(())
}
