//! Counts as kept, and counted again from the messages.

use rusqlite::Connection;

use super::campaigns;
use super::error::{Try, damaged};
use super::rows::{self, read_facts, read_state, row_ids};
use super::tallies::{read_tally, tally_sums, unsigned};
use crate::domain::campaign::CampaignState;
use crate::domain::ids::{CampaignKey, TenantId};
use crate::domain::message::Attempt;
use crate::domain::tally::Tally;
use crate::store::step::rejoin;
use crate::store::{Counts, TenantTotals};

/// The counts as kept.
pub(super) fn kept(conn: &Connection, key: CampaignKey) -> Try<Counts> {
    let tally = campaigns::tally(conn, key, &campaigns::head(conn, key)?)?;
    let mut statement = conn.prepare_cached("SELECT code, count FROM failure WHERE campaign = ?1 AND count <> 0")?;
    let failures =
        statement.query_map([key.0], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?.collect::<Result<_, _>>()?;
    Ok(Counts { tally, failures, revision: 0 })
}

/// As kept, and as counted. Inside one transaction, so that both are of the same moment.
pub(super) fn recount(conn: &Connection, key: CampaignKey) -> Try<(Counts, Counts)> {
    Ok((kept(conn, key)?, counted(conn, key)?))
}

fn counted(conn: &Connection, key: CampaignKey) -> Try<Counts> {
    let head = campaigns::head(conn, key)?;
    let (from, to) = row_ids(key, 0, u32::MAX);
    let recipients =
        conn.query_row("SELECT count(*) FROM recipient WHERE id BETWEEN ?1 AND ?2", [from, to], |row| {
            unsigned(row, 0)
        })?;
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
