//! Counts as kept, and counted again from the messages: segment by segment, each in a read of its own, so that counting a large
//! campaign holds no snapshot that would keep the log from being emptied.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::campaigns::{self, Head};
use super::error::{Try, damaged};
use super::rows::{self, read_facts, read_state, row_ids};
use super::tallies::{read_tally, tally_sums, unsigned};
use crate::domain::campaign::CampaignState;
use crate::domain::ids::{CampaignKey, SEGMENT_LEN, TenantId};
use crate::domain::message::Attempt;
use crate::domain::tally::Tally;
use crate::store::step::rejoin;
use crate::store::{Counts, TenantTotals};

/// The counts as kept.
pub(super) fn kept(conn: &Connection, key: CampaignKey) -> Try<Counts> {
    let tally = campaigns::tally(conn, key, &campaigns::head(conn, key)?)?;
    Ok(Counts { tally, failures: kept_failures(conn, key, (0, u32::MAX))?, revision: 0 })
}

fn kept_failures(conn: &Connection, key: CampaignKey, (first, last): (u32, u32)) -> Try<BTreeMap<u32, u64>> {
    let mut statement = conn.prepare_cached(
        "SELECT code, sum(count) FROM failure WHERE campaign = ?1 AND segment BETWEEN ?2 AND ?3
         GROUP BY code HAVING sum(count) <> 0",
    )?;
    let read = statement.query_map([key.0, first, last], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?;
    Ok(read.collect::<Result<_, _>>()?)
}

/// A recount under way.
#[derive(Debug)]
pub(super) struct Recount {
    key: CampaignKey,
    /// The list as it was when the count began: before the seal it grows behind this, and nothing in it changes.
    head: Head,
    /// The next segment.
    next: u32,
    kept: Counts,
    counted: Counts,
}

impl Recount {
    /// Begins with nothing counted.
    pub(super) fn begin(conn: &Connection, key: CampaignKey) -> Try<Self> {
        let head = campaigns::head(conn, key)?;
        let mut kept = Counts::default();
        if !head.sealed {
            kept.tally = Tally::untouched(head.recipients, head.end);
        }
        Ok(Self { key, head, next: 0, kept, counted: Counts::default() })
    }

    /// Counts the next segment and adds what is kept of it. Inside one transaction, so that both are of the same moment; segments
    /// may be of different ones. Gives itself back until the last is counted.
    pub(super) fn step(mut self, conn: &Connection) -> Try<Progress> {
        let now = campaigns::head(conn, self.key)?;
        if now.sealed != self.head.sealed {
            // Sealed meanwhile: what was counted is another list.
            return Ok(Progress::More(Self::begin(conn, self.key)?));
        }
        // The last one takes in what may stand behind the list's end.
        let last = self.head.next_seq.div_ceil(SEGMENT_LEN).saturating_sub(1);
        let is_last = self.next >= last;
        let first_seq = self.next * SEGMENT_LEN;
        let last_seq = match (is_last, now.sealed) {
            (false, _) => first_seq + (SEGMENT_LEN - 1),
            (true, true) => u32::MAX,
            // Recipients that were added since the count began stand behind this.
            (true, false) => self.head.next_seq.saturating_sub(1),
        };
        if self.head.next_seq > 0 || now.sealed {
            let counted = counted(conn, &now, row_ids(self.key, first_seq, last_seq))?;
            add(&mut self.counted, &counted);
        }
        if now.sealed {
            let segments = (self.next, if is_last { u32::MAX } else { self.next });
            let failures = kept_failures(conn, self.key, segments)?;
            let tally = kept_tally(conn, self.key, segments)?;
            add(&mut self.kept, &Counts { tally, failures, revision: 0 });
        }
        self.next += 1;
        Ok(if is_last { Progress::Done(self.kept, self.counted) } else { Progress::More(self) })
    }
}

/// How far a recount is.
#[derive(Debug)]
pub(super) enum Progress {
    /// Segments are left.
    More(Recount),
    /// As kept, and as counted.
    Done(Counts, Counts),
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.tally.absorb(&more.tally);
    for (code, count) in &more.failures {
        *sum.failures.entry(*code).or_default() += count;
    }
}

fn kept_tally(conn: &Connection, key: CampaignKey, (first, last): (u32, u32)) -> Try<Tally> {
    let sql = format!("SELECT {} FROM segment WHERE campaign = ?1 AND segment BETWEEN ?2 AND ?3", tally_sums(""));
    Ok(conn.prepare_cached(&sql)?.query_row([key.0, first, last], |row| read_tally(row, 0))?)
}

fn counted(conn: &Connection, head: &Head, (from, to): (i64, i64)) -> Try<Counts> {
    let mut count = conn.prepare_cached("SELECT count(*) FROM recipient WHERE id BETWEEN ?1 AND ?2")?;
    let recipients = count.query_row([from, to], |row| unsigned(row, 0))?;
    if !head.sealed {
        return Ok(Counts { tally: Tally::untouched(recipients, head.end), ..Counts::default() });
    }
    let sql = format!("SELECT id, {} FROM message WHERE id BETWEEN ?1 AND ?2", rows::columns(""));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut messages = statement.query([from, to])?;
    let (mut counts, mut tried) = (Counts::default(), 0_u64);
    while let Some(row) = messages.next()? {
        let mut state = read_state(row, 1)?;
        if state.newest.as_ref().is_some_and(|newest| newest.number > 1) {
            state.older = older(conn, row.get(0)?)?;
        }
        rejoin(&mut state);
        let facets = state.facets(head.end);
        counts.tally.add(&facets);
        if let Some(code) = facets.failure_code {
            *counts.failures.entry(code).or_default() += 1;
        }
        tried += 1;
    }
    let Some(untried) = recipients.checked_sub(tried) else {
        return Err(damaged(format!("{tried} messages of {recipients} recipients")));
    };
    counts.tally.absorb(&Tally::untouched(untried, head.end));
    Ok(counts)
}

/// The older attempts of a message, oldest first.
pub(super) fn older(conn: &Connection, id: i64) -> Try<Vec<Attempt>> {
    let sql = format!("SELECT {} FROM attempt WHERE message = ?1 ORDER BY attempt", rows::FACTS.join(", "));
    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = statement.query([id])?;
    let mut attempts = Vec::new();
    while let Some(row) = found.next()? {
        attempts.push(read_facts(row, 0)?);
    }
    Ok(attempts)
}

/// The sum over a tenant's campaigns.
pub(super) fn tenant_totals(conn: &Connection, tenant: &TenantId) -> Try<TenantTotals> {
    let mut totals = TenantTotals::default();
    let mut states =
        conn.prepare_cached("SELECT state, count(*), sum(refused) FROM campaign WHERE tenant = ?1 GROUP BY state")?;
    let mut rows = states.query([tenant.as_str()])?;
    while let Some(row) = rows.next()? {
        let name = rows::text(row, 0)?;
        let state = CampaignState::ALL.into_iter().find(|state| state.name() == name.as_ref());
        let state = state.ok_or_else(|| damaged(format!("a campaign that is {name:?}")))?;
        totals.campaigns.insert(state, unsigned(row, 1)?);
        totals.refused += unsigned(row, 2)?;
    }
    let sql = format!(
        "SELECT {} FROM campaign AS c JOIN segment AS s ON s.campaign = c.key WHERE c.tenant = ?1",
        tally_sums("s.")
    );
    totals.tally = conn.prepare_cached(&sql)?.query_row([tenant.as_str()], |row| read_tally(row, 0))?;
    let mut drafts = conn.prepare_cached(
        "SELECT ended_as, sum(recipients) FROM campaign WHERE tenant = ?1 AND sealed_at IS NULL GROUP BY ended_as",
    )?;
    let mut rows = drafts.query([tenant.as_str()])?;
    while let Some(row) = rows.next()? {
        let end = rows::end_named(rows::optional_text(row, 0)?.as_deref())?;
        totals.tally.absorb(&Tally::untouched(unsigned(row, 1)?, end));
    }
    Ok(totals)
}
