//! The way of every change of a message: load it, apply the event, move the tallies, write each changed row once.
//!
//! A group of calls shares one transaction and one [`Ledger`]. What is in memory is written at the end of the group
//! ([`Ledger::flush`]), and is what the database holds once the transaction is committed; when it is not, everything held is
//! forgotten and read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Statement};

use super::cache::{CachedRow, RowCache};
use super::counts;
use super::error::{Try, damaged};
use super::rows::{self, bind_facts, bind_register, read_state, row_id};
use super::tallies::{self, HotCampaign, bind_segment};
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::message::{Attempt, MessageState};
use crate::domain::tally::Tally;
use crate::store::step::step;
use crate::store::{Entry, EntryResult};

/// Most segments held between groups: 4 MiB, enough for 130 million messages being worked on.
const SEGMENTS_HELD_MAX: usize = 16_384;

/// Most campaigns held between groups.
const CAMPAIGNS_HELD_MAX: usize = 1_024;

/// The statements of the hot path, compiled once a connection.
struct Statements<'c> {
    load: Statement<'c>,
    is_recipient: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    save_older: Statement<'c>,
    save_segment: Statement<'c>,
    count_failure: Statement<'c>,
    use_line: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        let all = rows::REGISTER.len() + rows::FACTS.len();
        let marks = |count: usize| (1..=count).map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ");
        let names: Vec<_> = rows::REGISTER.iter().chain(&rows::FACTS).enumerate().collect();
        let sets: Vec<_> = names.iter().map(|(i, name)| format!("{name} = ?{}", i + 1)).collect();
        let (columns, facts, last) = (rows::columns(""), rows::FACTS.join(", "), all + 1);
        Ok(Self {
            load: conn.prepare(&format!("SELECT {columns} FROM message WHERE id = ?1"))?,
            is_recipient: conn.prepare("SELECT 1 FROM recipient WHERE id = ?1")?,
            insert: conn.prepare(&format!("INSERT INTO message ({columns}, id) VALUES ({})", marks(last)))?,
            update: conn.prepare(&format!("UPDATE message SET {} WHERE id = ?{last}", sets.join(", ")))?,
            save_older: conn.prepare(&format!(
                "INSERT OR REPLACE INTO attempt ({facts}, message) VALUES ({})",
                marks(rows::FACTS.len() + 1)
            ))?,
            save_segment: conn.prepare(&tallies::update_segment_sql())?,
            count_failure: conn.prepare(
                "INSERT INTO failure (campaign, segment, code, count) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET count = count + excluded.count",
            )?,
            use_line: conn.prepare("INSERT OR IGNORE INTO line_use (line, campaign) VALUES (?1, ?2)")?,
        })
    }
}

/// The writer's view of the ledger: a connection, its hot statements, and what is held in memory.
pub(super) struct Ledger<'c> {
    conn: &'c Connection,
    sql: Statements<'c>,
    campaigns: HashMap<CampaignKey, HotCampaign>,
    rows: RowCache,
    dirty_rows: Vec<i64>,
    dirty_segments: BTreeSet<(CampaignKey, u32)>,
    /// By campaign, segment and code.
    failures: BTreeMap<(CampaignKey, u32, u32), i64>,
    line_uses: Vec<(LineKey, CampaignKey)>,
}

impl<'c> Ledger<'c> {
    /// A ledger that holds nothing yet; `rows_held_max` bounds the messages kept between groups.
    pub(super) fn new(conn: &'c Connection, rows_held_max: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            sql: Statements::new(conn)?,
            campaigns: HashMap::new(),
            rows: RowCache::new(rows_held_max),
            dirty_rows: Vec::new(),
            dirty_segments: BTreeSet::new(),
            failures: BTreeMap::new(),
            line_uses: Vec::new(),
        })
    }

    /// The connection, inside the group's transaction.
    pub(super) fn conn(&self) -> &'c Connection {
        self.conn
    }

    /// Applies entries in order.
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Try<Vec<EntryResult>> {
        entries.into_iter().map(|entry| self.apply_one(entry)).collect()
    }

    /// The total of a campaign after what was applied so far; `None`: there is no such campaign.
    pub(super) fn total(&self, campaign: CampaignKey) -> Option<Tally> {
        self.campaigns.get(&campaign).map(|hot| hot.total)
    }

    fn apply_one(&mut self, entry: Entry) -> Try<EntryResult> {
        let Entry { key, event } = entry;
        let campaign = match self.campaigns.entry(key.campaign) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => match HotCampaign::read(self.conn, key.campaign)? {
                Some(read) => place.insert(read),
                None => return Ok(EntryResult::Unknown),
            },
        };
        if !campaign.sealed || key.seq >= campaign.next_seq {
            return Ok(EntryResult::Unknown);
        }
        let (number, end, full) = (key.segment(), campaign.end, campaign.full_segment(key.segment()));
        let segment = match campaign.segments.entry(number) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                match tallies::read_segment(self.conn, key.campaign, number)? {
                    Some(read) => place.insert(read),
                    None => return Ok(EntryResult::Unknown),
                }
            }
        };
        let id = row_id(key);
        let sql = &mut self.sql;
        let has_holes = segment.counts.tally.recipients() < full;
        let Some(row) = self.rows.get_or_load(id, || load(sql, id, has_holes))? else {
            return Ok(EntryResult::Unknown);
        };
        let newest = row.state.newest.as_ref().map_or(0, |newest| newest.number);
        let about_older = event.attempt().filter(|attempt| *attempt < newest);
        if about_older.is_some() || row.state.older_sent {
            remember_older(self.conn, id, &mut row.state)?;
        }
        let was_dirty = segment.dirty;
        let moved = match step(&mut row.state, event, end, end) {
            Ok(moved) => moved,
            Err(result) => return Ok(result),
        };
        if let Some(line) = moved.line {
            if newest > 0 {
                row.older_changed.push(newest);
            }
            if !campaign.lines.contains(&line) {
                campaign.lines.push(line);
                self.line_uses.push((line, key.campaign));
            }
        }
        row.older_changed.extend(about_older);
        if !row.dirty {
            row.dirty = true;
            self.dirty_rows.push(id);
        }
        if moved.counts() {
            segment.counts.follow(&moved)?;
            campaign.total.shift(&moved.old, &moved.new);
            segment.dirty = true;
            for (code, by) in moved.codes() {
                *self.failures.entry((key.campaign, number, code)).or_default() += by;
            }
        }
        if segment.dirty && !was_dirty {
            self.dirty_segments.insert((key.campaign, number));
        }
        Ok(EntryResult::Applied)
    }

    /// Writes what was changed, in order of the keys, so that each page is touched once.
    pub(super) fn flush(&mut self) -> Try<()> {
        self.dirty_rows.sort_unstable();
        for id in self.dirty_rows.drain(..) {
            let Some(row) = self.rows.held_mut(id) else { continue };
            save(&mut self.sql, id, row)?;
        }
        for (key, number) in std::mem::take(&mut self.dirty_segments) {
            let held = self.campaigns.get_mut(&key).and_then(|campaign| campaign.segments.get_mut(&number));
            if let Some(segment) = held {
                bind_segment(&mut self.sql.save_segment, key, number, segment)?;
                self.sql.save_segment.raw_execute()?;
                segment.dirty = false;
            }
        }
        for ((key, number, code), by) in std::mem::take(&mut self.failures) {
            if by != 0 {
                self.sql.count_failure.execute((key.0, number, code, by))?;
            }
        }
        for (line, key) in self.line_uses.drain(..) {
            self.sql.use_line.execute((line.0, key.0))?;
        }
        Ok(())
    }

    /// Lets go of what is too much to hold. Only between groups, when everything is written and committed.
    pub(super) fn trim(&mut self) {
        self.rows.trim();
        let segments: usize = self.campaigns.values().map(|campaign| campaign.segments.len()).sum();
        if segments > SEGMENTS_HELD_MAX || self.campaigns.len() > CAMPAIGNS_HELD_MAX {
            self.campaigns.clear();
        }
    }

    /// Forgets one campaign, so that a call may change it by statements of its own. Everything must have been flushed.
    pub(super) fn forget_campaign(&mut self, campaign: CampaignKey) {
        debug_assert!(self.dirty_rows.is_empty(), "flush before forgetting");
        self.campaigns.remove(&campaign);
        self.rows.forget(campaign);
    }

    /// Forgets everything: the transaction was not committed, so that only the database knows what is true.
    pub(super) fn forget_all(&mut self) {
        self.campaigns.clear();
        self.rows.clear();
        self.dirty_rows.clear();
        self.dirty_segments.clear();
        self.failures.clear();
        self.line_uses.clear();
    }
}

/// Reads a message; a recipient without a row is one that was never tried. `None`: no such recipient.
fn load(sql: &mut Statements<'_>, id: i64, has_holes: bool) -> Try<Option<CachedRow>> {
    let mut found = sql.load.query([id])?;
    if let Some(row) = found.next()? {
        return Ok(Some(CachedRow::stored(read_state(row, 0)?)));
    }
    drop(found);
    if has_holes && sql.is_recipient.query_row([id], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    Ok(Some(CachedRow::default()))
}

/// Puts the older attempts into the state, for an event about one of them, and for those where it matters how they ended.
fn remember_older(conn: &Connection, id: i64, state: &mut MessageState) -> Try<()> {
    for read in counts::older(conn, id)? {
        // What is held may be newer than what is written.
        if !state.older.iter().any(|held| held.number == read.number) {
            state.older.push(read);
        }
    }
    state.older.sort_unstable_by_key(|older| older.number);
    Ok(())
}

/// Writes one message and the older attempts that changed, and forgets the older ones.
fn save(sql: &mut Statements<'_>, id: i64, row: &mut CachedRow) -> Try<()> {
    let newest: &Attempt = row.state.newest.as_ref().ok_or_else(|| damaged("a changed message without an attempt"))?;
    let statement = if row.stored { &mut sql.update } else { &mut sql.insert };
    bind_register(statement, &row.state)?;
    bind_facts(statement, rows::REGISTER.len() + 1, newest)?;
    statement.raw_bind_parameter(rows::REGISTER.len() + rows::FACTS.len() + 1, id)?;
    statement.raw_execute()?;
    for older in row.state.older.iter().filter(|older| row.older_changed.contains(&older.number)) {
        bind_facts(&mut sql.save_older, 1, older)?;
        sql.save_older.raw_bind_parameter(rows::FACTS.len() + 1, id)?;
        sql.save_older.raw_execute()?;
    }
    row.stored = true;
    row.dirty = false;
    row.older_changed.clear();
    row.state.older.clear();
    Ok(())
}
