//! Segment tallies and campaign totals: rows of the ledger, held in memory while their campaign is being worked on.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::error::Try;
use super::rows::end_named;
use crate::domain::ids::{CampaignKey, LineKey, SEGMENT_LEN};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::store::step::{SegmentCounts, TALLY_WIDTH, tally_names, tally_of, tally_values};

/// The tally's columns in the order of `tally_values`.
pub(super) fn tally_columns() -> Vec<&'static str> {
    tally_names().collect()
}

/// A count: an integer that is not negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// Reads a tally whose columns begin at `first`.
pub(super) fn read_tally(row: &Row<'_>, first: usize) -> rusqlite::Result<Tally> {
    let mut values = [0_u64; TALLY_WIDTH];
    for (i, value) in values.iter_mut().enumerate() {
        *value = unsigned(row, first + i)?;
    }
    Ok(tally_of(&values))
}

/// `coalesce(sum(x), 0)` of every column of the tally.
pub(super) fn tally_sums(prefix: &str) -> String {
    let sums: Vec<_> = tally_columns().iter().map(|name| format!("coalesce(sum({prefix}{name}), 0)")).collect();
    sums.join(", ")
}

/// One segment's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Segment {
    /// The counts; those never tried have no message row yet.
    pub(super) counts: SegmentCounts,
    /// Changed and not yet written.
    pub(super) dirty: bool,
}

/// Statement that inserts a segment; the parameters as [`bind_segment`] binds them.
pub(super) fn insert_segment_sql() -> String {
    let names = tally_columns().join(", ");
    let marks: Vec<_> = (1..=TALLY_WIDTH + 4).map(|i| format!("?{i}")).collect();
    format!("INSERT INTO segment ({names}, again, untried, campaign, segment) VALUES ({})", marks.join(", "))
}

/// Statement that writes a segment; the parameters as [`bind_segment`] binds them.
pub(super) fn update_segment_sql() -> String {
    let sets: Vec<_> = tally_columns().iter().enumerate().map(|(i, name)| format!("{name} = ?{}", i + 1)).collect();
    let next = TALLY_WIDTH + 1;
    format!(
        "UPDATE segment SET {}, again = ?{next}, untried = ?{} WHERE campaign = ?{} AND segment = ?{}",
        sets.join(", "),
        next + 1,
        next + 2,
        next + 3
    )
}

/// Binds what [`insert_segment_sql`] and [`update_segment_sql`] ask for.
pub(super) fn bind_segment(
    statement: &mut Statement<'_>,
    campaign: CampaignKey,
    number: u32,
    segment: &Segment,
) -> rusqlite::Result<()> {
    let keys = [segment.counts.again, segment.counts.untried, u64::from(campaign.0), u64::from(number)];
    for (i, value) in tally_values(&segment.counts.tally).chain(keys).enumerate() {
        statement.raw_bind_parameter(i + 1, value.cast_signed())?;
    }
    Ok(())
}

/// Reads one segment; `None`: it has no recipients.
pub(super) fn read_segment(conn: &Connection, campaign: CampaignKey, number: u32) -> Try<Option<Segment>> {
    let sql = format!(
        "SELECT {}, again, untried FROM segment WHERE campaign = ?1 AND segment = ?2",
        tally_columns().join(", ")
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_row([campaign.0, number], |row| {
        let (again, untried) = (unsigned(row, TALLY_WIDTH)?, unsigned(row, TALLY_WIDTH + 1)?);
        Ok(Segment { counts: SegmentCounts { tally: read_tally(row, 0)?, again, untried }, dirty: false })
    });
    Ok(found.optional()?)
}

/// What the writer holds of a campaign that it works on.
#[derive(Debug)]
pub(super) struct HotCampaign {
    /// How it ended.
    pub(super) end: Option<End>,
    /// Only a sealed campaign has messages.
    pub(super) sealed: bool,
    /// The sum over all segments.
    pub(super) total: Tally,
    /// Lines that are known to have been used.
    pub(super) lines: Vec<LineKey>,
    /// The next free `seq`.
    pub(super) next_seq: u32,
    /// Segments by number, as far as they were needed.
    pub(super) segments: HashMap<u32, Segment>,
}

impl HotCampaign {
    /// Reads a campaign; `None`: there is none.
    pub(super) fn read(conn: &Connection, campaign: CampaignKey) -> Try<Option<Self>> {
        let mut statement =
            conn.prepare_cached("SELECT next_seq, sealed_at IS NOT NULL, ended_as FROM campaign WHERE key = ?1")?;
        let mut rows = statement.query([campaign.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (next_seq, sealed) = (row.get(0)?, row.get(1)?);
        let end = end_named(row.get_ref(2)?.as_str_or_null().ok().flatten())?;
        let sql = format!("SELECT {} FROM segment WHERE campaign = ?1", tally_sums(""));
        let total = conn.prepare_cached(&sql)?.query_row([campaign.0], |row| read_tally(row, 0))?;
        Ok(Some(Self { end, sealed, total, lines: Vec::new(), next_seq, segments: HashMap::new() }))
    }

    /// How many recipients a segment has when none of its places is empty.
    pub(super) fn full_segment(&self, number: u32) -> u64 {
        u64::from(self.next_seq.saturating_sub(number.saturating_mul(SEGMENT_LEN)).min(SEGMENT_LEN))
    }
}
