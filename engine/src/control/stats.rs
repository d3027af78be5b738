//! The figures of a campaign, worked out from its counts.

use std::time::Duration;

use super::runtime::{Binding, Progress};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::line::ProviderKind;
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::provider::code_row;
use crate::store::Counts;

/// Failure codes that are listed one by one; the rest is summed up.
const FAILURES_MAX: usize = 100;

/// What limits a campaign's pace: what its actor says while it runs, otherwise why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binds {
    /// As its actor says.
    Running(Binding),
    /// Waits for `start_at`.
    Schedule,
    /// Paused.
    Paused,
    /// Held.
    Held,
    /// Not started, or over.
    Nothing,
}

/// How often one failure happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCount {
    /// The provider.
    pub kind: ProviderKind,
    /// Its code; `None`: the sum of what is not listed.
    pub code: Option<u32>,
    /// What the code means; empty when our table lacks it.
    pub title: &'static str,
    /// Name of the class that the table gives it; empty when the table lacks it.
    pub class: &'static str,
    /// How many messages show it.
    pub count: u64,
}

/// The figures of a campaign.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// When they were true.
    pub as_of: UnixMillis,
    /// The ledger's counts.
    pub tally: Tally,
    /// Rows that imports refused.
    pub refused: u64,
    /// Failures by code, the most frequent first.
    pub failures: Vec<FailureCount>,
    /// Messages that may still leave.
    pub remaining: u64,
    /// Share of the messages that cannot leave any more, per cent with two decimals.
    pub progress_percent: f64,
    /// Messages accepted per second, now.
    pub rate_now: f64,
    /// Messages accepted per second since it first ran.
    pub rate_average: f64,
    /// When the last message will have left at this pace.
    pub estimated_end: Option<UnixMillis>,
    /// What limits the pace.
    pub binds: Binds,
}

impl Stats {
    /// The figures of `campaign` at `now`, from its counts in the store and what its actor published.
    pub(super) fn of(campaign: &Campaign, tally: Tally, progress: Option<&Progress>, now: UnixMillis) -> Self {
        let remaining = tally.count(Shown::Pending);
        let rate_now = progress.filter(|_| campaign.state.is_live()).map_or(0.0, |progress| progress.rate_now);
        Self {
            as_of: now,
            tally,
            refused: campaign.refused,
            failures: Vec::new(),
            remaining,
            progress_percent: progress_percent(remaining, tally.recipients()),
            rate_now,
            rate_average: progress.map_or_else(|| average(campaign, &tally), |progress| progress.rate_average),
            estimated_end: estimated_end(campaign.state, remaining, rate_now, now),
            binds: binds(campaign.state, progress),
        }
    }

    /// The same with the failures of these counts.
    pub(super) fn with_failures(mut self, kind: ProviderKind, counts: &Counts) -> Self {
        self.failures = failures(kind, counts);
        self
    }
}

/// Failures by code, the most frequent first; what goes beyond the bound is summed up.
pub(super) fn failures(kind: ProviderKind, counts: &Counts) -> Vec<FailureCount> {
    let mut rows: Vec<(u32, u64)> = counts.failures.iter().map(|(code, count)| (*code, *count)).collect();
    rows.retain(|(_, count)| *count > 0);
    rows.sort_by_key(|(code, count)| (std::cmp::Reverse(*count), *code));
    let rest: u64 = rows.iter().skip(FAILURES_MAX).map(|(_, count)| count).sum();
    let mut failures: Vec<FailureCount> = rows
        .into_iter()
        .take(FAILURES_MAX)
        .map(|(code, count)| {
            let row = code_row(kind, code);
            let title = row.map_or("", |row| row.title);
            let class = row.map_or("", |row| row.event.class.as_str());
            FailureCount { kind, code: Some(code), title, class, count }
        })
        .collect();
    if rest > 0 {
        let title = "all other codes together";
        failures.push(FailureCount { kind, code: None, title, class: "", count: rest });
    }
    failures
}

#[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
fn progress_percent(remaining: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let done = (total - remaining.min(total)) as f64;
    // Rounded down, so that 100 means all.
    (done * 10_000.0 / total as f64).floor() / 100.0
}

/// The mean rate of a campaign that nobody watches any more.
#[allow(clippy::cast_precision_loss)]
fn average(campaign: &Campaign, tally: &Tally) -> f64 {
    let span = campaign.started_at.zip(campaign.ended_at).map(|(start, end)| end.since(start));
    match span {
        Some(span) if !span.is_zero() => tally.accepted as f64 / span.as_secs_f64(),
        _ => 0.0,
    }
}

#[allow(clippy::cast_precision_loss)]
fn estimated_end(state: CampaignState, remaining: u64, rate: f64, now: UnixMillis) -> Option<UnixMillis> {
    // Slower than one message in ten seconds is no pace that anything can be told from.
    if !state.is_live() || remaining == 0 || rate < 0.1 {
        return None;
    }
    Some(now.after(Duration::from_secs_f64(remaining as f64 / rate)))
}

fn binds(state: CampaignState, progress: Option<&Progress>) -> Binds {
    match state {
        CampaignState::Running => Binds::Running(progress.map_or(Binding::NotRunning, |progress| progress.binding)),
        CampaignState::Scheduled => Binds::Schedule,
        CampaignState::Paused => Binds::Paused,
        CampaignState::Held => Binds::Held,
        CampaignState::Draft | CampaignState::Completed | CampaignState::Cancelled | CampaignState::Failed => {
            Binds::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_complete_only_when_nothing_remains() {
        assert_eq!(progress_percent(0, 0), 0.0);
        assert_eq!(progress_percent(3, 3), 0.0);
        assert_eq!(progress_percent(1, 3), 66.66);
        assert_eq!(progress_percent(1, 1_000_000), 99.99);
        assert_eq!(progress_percent(0, 1_000_000), 100.0);
    }

    #[test]
    fn an_end_is_estimated_only_where_there_is_a_pace() {
        let now = UnixMillis(1_000);
        let at = |state, remaining, rate| estimated_end(state, remaining, rate, now);
        assert_eq!(at(CampaignState::Running, 100, 10.0), Some(UnixMillis(11_000)));
        assert_eq!(at(CampaignState::Running, 100, 0.0), None);
        assert_eq!(at(CampaignState::Paused, 100, 10.0), None);
        assert_eq!(at(CampaignState::Running, 0, 10.0), None);
    }

    #[test]
    fn failures_are_listed_by_frequency_and_bounded() {
        let counts = Counts { failures: (1..=150).map(|code| (code, u64::from(code))).collect(), ..Counts::default() };
        let listed = failures(ProviderKind::Meta, &counts);
        assert_eq!(listed.len(), FAILURES_MAX + 1);
        assert_eq!((listed[0].code, listed[0].count), (Some(150), 150));
        assert_eq!((listed[100].code, listed[100].count), (None, (1..=50).sum()));
    }
}
