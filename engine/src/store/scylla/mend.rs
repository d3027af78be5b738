//! Late facts: what a former owner's write left behind that landed after its campaign was taken over.
//!
//! Its counts and registers lose by timestamp; cells that the taker never wrote appear. The rows are the truth, so a segment is
//! read anew, and what differs from what was known is a transition that is counted now: a fact joins its message, an intent is taken
//! back, for its writer's lease was over before it was durable, so that it was never sent.

use std::collections::HashMap;

use super::cache::Cache;
use super::cql::Unit;
use super::hot::Hot;
use super::segment::{Segment, push_summary};
use super::summary::{Summary, SummaryRow};
use crate::domain::ids::CampaignKey;
use crate::domain::message::Phase;
use crate::store::StoreResult;

/// Mends a campaign of ours, segment by segment; returns at how many messages something had landed.
pub(super) async fn mend(cache: &Cache, key: CampaignKey) -> StoreResult<u64> {
    let hot = cache.hot(key).await?;
    if !hot.head().sealed || hot.expect_ours(&cache.cql).is_err() {
        return Ok(0);
    }
    let mut found = 0;
    for number in hot.segments(0, |_| true) {
        found += mend_segment(cache, &hot, number).await?;
    }
    Ok(found)
}

async fn mend_segment(cache: &Cache, hot: &Hot, number: u32) -> StoreResult<u64> {
    let cql = &cache.cql;
    let place = cache.place((hot.key, number));
    // As a batch does it: nothing of this segment is written meanwhile, and its campaign does not end.
    let mut held = cache.between_batches(&place).await?;
    let _shared = hot.gate.read().await;
    hot.expect_ours(cql)?;
    let mut segment = Segment::load(cql, hot, number).await?;
    let known = hot.segment(number);
    match held.as_ref() {
        Some(before) => segment
            .judge_foreign(|seq| before.message(seq).is_some_and(|message| message.phase() == Some(Phase::InFlight))),
        None => {
            let is_void = hot.knows_none_open(number);
            segment.judge_foreign(|_| !is_void);
        }
    }
    hot.read_from_rows(number);
    let row: Option<SummaryRow> = cql.row(&cql.st.segment_tally, hot.partition(number)).await?;
    let kept = match row {
        Some((_, Some(tally), failures)) => {
            Some(Summary::of_cells(&tally, failures.unwrap_or_default(), hot.head().end_version)?)
        }
        _ => None,
    };
    let differs = |summary: &Option<Summary>| {
        summary.as_ref().is_none_or(|s| s.counts != segment.summary.counts || s.failures != segment.summary.failures)
    };
    let (is_kept, is_known) = (!differs(&kept), !differs(&known));
    let late = held.as_ref().map_or(u64::from(!is_known || !is_kept), |before| segment.differences(before));
    if late == 0 && is_kept && is_known {
        return Ok(0);
    }
    loop {
        let void = segment.withdraw_void(cql.clock.wall(), cache.limits.rows);
        let more = void.len() == cache.limits.rows;
        let mut change = segment.begin();
        for (seq, event) in void {
            segment.apply(&mut change, &HashMap::new(), seq, event, hot.head().end)?;
        }
        let unit = match segment.unit(&mut change, cql, hot)? {
            Some(unit) => unit,
            None => {
                let mut unit = Unit::new();
                push_summary(&mut unit, cql, hot, number, &segment.summary);
                unit
            }
        };
        // What is held from here on is only what is known to be written.
        *held = None;
        cql.write_unit_in(hot.term, unit).await?;
        segment.publish(change, &mut place.unclaimed.lock());
        hot.publish(number, &segment.summary, &cache.revision);
        if !more {
            break;
        }
    }
    *held = Some(segment);
    Ok(late.max(1))
}
