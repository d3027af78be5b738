//! A watched campaign: the snapshot kept up to date by deltas, and how it looks.

use sluice_proto::v1::{
    BindingLimit, Campaign, CampaignState, MessageStatus, Stage, Tally, WatchCampaignResponse,
    watch_campaign_response::Update,
};

use super::campaign_view::{reached, shown, state};
use super::values;

/// Cells of a bar at most and at least.
const BAR_MAX: usize = 40;
const BAR_MIN: usize = 10;
/// What stands beside a bar: name, counts, percent.
const BESIDE_BAR: usize = 46;

/// What is known of a campaign now.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    campaign: Campaign,
}

impl Progress {
    /// Takes one step of a watch.
    pub fn apply(&mut self, response: WatchCampaignResponse) {
        match response.update {
            Some(Update::Snapshot(campaign)) => self.campaign = campaign,
            Some(Update::Delta(delta)) => self.campaign.apply(delta),
            None => {}
        }
    }

    /// Whether it ended because it cannot be carried out.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.campaign.state() == CampaignState::Failed
    }

    fn tally(&self) -> Option<&Tally> {
        self.campaign.stats.as_ref().and_then(|stats| stats.tally.as_ref())
    }

    /// Lines for a terminal of the given width: a headline, three bars, the rest. Always the same number of lines.
    #[must_use]
    pub fn lines(&self, width: usize) -> [String; 6] {
        let stats = self.campaign.stats.clone().unwrap_or_default();
        let tally = self.tally();
        let total = tally.map_or(0, |tally| tally.total);
        let (sent, delivered, read) =
            (reached(tally, Stage::Sent), reached(tally, Stage::Delivered), reached(tally, Stage::Read));
        let lines = [
            self.headline(),
            bar("sent", sent, total, width),
            bar("delivered", delivered, total, width),
            bar("read", read, total, width),
            format!("  {}", self.rest()),
            format!(
                "  delivered {:.2} % of sent, read {:.2} % of delivered, {} left",
                stats.delivery_rate_percent,
                stats.read_rate_percent,
                values::count(stats.remaining)
            ),
        ];
        lines.map(|line| line.chars().take(width).collect())
    }

    fn headline(&self) -> String {
        let stats = self.campaign.stats.clone().unwrap_or_default();
        let pace = values::per_second(stats.current_rate);
        let mut text = format!("{}  {}  {pace}", self.campaign.campaign_id, state(&self.campaign));
        if self.campaign.state() == CampaignState::Running {
            match stats.binding_limit() {
                BindingLimit::Unspecified => {}
                limit => text = format!("{text}, limited by {}", values::binding_words(limit)),
            }
            if let Some(left) = self.seconds_left() {
                text = format!("{text}, {} to go", values::span(left));
            }
        }
        if self.campaign.settled_time.is_some() {
            text.push_str(", settled");
        }
        text
    }

    /// Between the server's clock of the counts and its estimate, so that our own clock does not matter.
    fn seconds_left(&self) -> Option<u64> {
        let stats = self.campaign.stats.as_ref()?;
        let left = stats.estimated_end_time.as_ref()?.seconds - stats.as_of.as_ref()?.seconds;
        u64::try_from(left).ok()
    }

    fn rest(&self) -> String {
        let tally = self.tally();
        let in_flight = self.campaign.stats.as_ref().map_or(0, |stats| stats.in_flight);
        let mut parts = vec![format!("in flight {}", values::count(in_flight))];
        use MessageStatus as S;
        for (name, status, always) in [
            ("failed", S::Failed, true),
            ("in doubt", S::InDoubt, true),
            ("unconfirmed", S::Unconfirmed, false),
            ("cancelled", S::Cancelled, false),
            ("expired", S::Expired, false),
        ] {
            let count = shown(tally, status);
            if always || count > 0 {
                parts.push(format!("{name} {}", values::count(count)));
            }
        }
        for (name, count) in [
            ("conflicts", tally.map_or(0, |tally| tally.conflicts)),
            ("doubles", tally.map_or(0, |tally| tally.doubles)),
        ] {
            if count > 0 {
                parts.push(format!("{name} {}", values::count(count)));
            }
        }
        parts.join("   ")
    }

    /// One line for a log: `key=value` pairs that `grep` and `awk` find.
    #[must_use]
    pub fn log_line(&self) -> String {
        let stats = self.campaign.stats.clone().unwrap_or_default();
        let tally = self.tally();
        let time = values::time(stats.as_of.as_ref()).replace(' ', "T");
        let mut text = format!(
            "{time} campaign={} state={} progress={:.2}% total={} sent={} delivered={} read={} failed={} in_doubt={} unconfirmed={} in_flight={} left={} rate={:.1}/s limited_by={}",
            self.campaign.campaign_id,
            values::campaign_state(self.campaign.state()),
            stats.progress_percent,
            tally.map_or(0, |tally| tally.total),
            reached(tally, Stage::Sent),
            reached(tally, Stage::Delivered),
            reached(tally, Stage::Read),
            shown(tally, MessageStatus::Failed),
            shown(tally, MessageStatus::InDoubt),
            shown(tally, MessageStatus::Unconfirmed),
            stats.in_flight,
            stats.remaining,
            stats.current_rate,
            values::binding_limit(stats.binding_limit()),
        );
        if let Some(left) = self.seconds_left() {
            text.push_str(&format!(" eta={left}s"));
        }
        if self.campaign.settled_time.is_some() {
            text.push_str(" settled=true");
        }
        text
    }
}

/// One bar, e.g. `  sent       ██████░░░░      12,345 of     20,000   61.7%`.
fn bar(name: &str, count: u64, total: u64, width: usize) -> String {
    let cells = width.saturating_sub(BESIDE_BAR).clamp(BAR_MIN, BAR_MAX);
    let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
    // Full only when it is: the last cell stays open until the last message.
    let filled = if count >= total && total > 0 { cells } else { ((share * cells as f64) as usize).min(cells - 1) };
    let percent = if count >= total { share * 100.0 } else { (share * 1000.0).floor() / 10.0 };
    format!(
        "  {name:<10} {}{} {:>10} of {:>10} {percent:>6.1}%",
        "█".repeat(filled),
        "░".repeat(cells - filled),
        values::count(count),
        values::count(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_proto::v1::{CampaignDelta, CampaignStats, StageCount, StatusCount};

    fn time(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn snapshot() -> WatchCampaignResponse {
        let count = |status: MessageStatus, count| StatusCount { status: status as i32, count };
        let stage = |stage: Stage, count| StageCount { stage: stage as i32, count };
        WatchCampaignResponse {
            update: Some(Update::Snapshot(Campaign {
                campaign_id: "spring".into(),
                state: CampaignState::Running as i32,
                stats: Some(CampaignStats {
                    as_of: time(1_900_000_000),
                    tally: Some(Tally {
                        total: 1_000,
                        by_status: vec![count(MessageStatus::Pending, 900), count(MessageStatus::Sent, 100)],
                        by_stage: vec![stage(Stage::Sent, 100), stage(Stage::Delivered, 0), stage(Stage::Read, 0)],
                        ..Tally::default()
                    }),
                    remaining: 900,
                    binding_limit: BindingLimit::LineCeiling as i32,
                    ..CampaignStats::default()
                }),
                ..Campaign::default()
            })),
        }
    }

    fn delta() -> WatchCampaignResponse {
        WatchCampaignResponse {
            update: Some(Update::Delta(CampaignDelta {
                as_of: time(1_900_000_001),
                state: CampaignState::Running as i32,
                by_status: vec![
                    StatusCount { status: MessageStatus::Pending as i32, count: 400 },
                    StatusCount { status: MessageStatus::Sent as i32, count: 593 },
                    StatusCount { status: MessageStatus::Failed as i32, count: 7 },
                ],
                by_stage: vec![StageCount { stage: Stage::Sent as i32, count: 593 }],
                conflicts: Some(2),
                in_flight: 12,
                remaining: 400,
                progress_percent: 60.0,
                current_rate: 493.0,
                estimated_end_time: time(1_900_000_062),
                binding_limit: BindingLimit::Workers as i32,
                ..CampaignDelta::default()
            })),
        }
    }

    #[test]
    fn deltas_replace_what_changed_and_keep_the_rest() {
        let mut progress = Progress::default();
        progress.apply(snapshot());
        progress.apply(delta());
        progress.apply(delta());
        let tally = progress.tally().expect("tally");
        assert_eq!(
            (tally.total, shown(Some(tally), MessageStatus::Pending), shown(Some(tally), MessageStatus::Sent)),
            (1_000, 400, 593)
        );
        assert_eq!(
            (shown(Some(tally), MessageStatus::Failed), reached(Some(tally), Stage::Sent), tally.conflicts),
            (7, 593, 2)
        );
        let by_status = vec![StatusCount { status: MessageStatus::Pending as i32, count: 390 }];
        let sealed = CampaignDelta { by_status, total: Some(990), refused: Some(10), ..CampaignDelta::default() };
        progress.apply(WatchCampaignResponse { update: Some(Update::Delta(sealed)) });
        assert_eq!(progress.tally().map(|tally| tally.total), Some(990), "ten were duplicates");
        assert_eq!(progress.campaign.stats.as_ref().map(|stats| stats.refused), Some(10));
        progress.apply(snapshot());
        assert_eq!(progress.tally().map(|tally| tally.conflicts), Some(0), "a snapshot replaces everything");
    }

    #[test]
    fn it_looks_like_this() {
        let mut progress = Progress::default();
        progress.apply(snapshot());
        progress.apply(delta());
        assert_eq!(
            progress.lines(80),
            [
                "spring  running  493/s, limited by its workers, all in flight, 1m 01s to go".to_owned(),
                format!("  sent       {}{}        593 of      1,000   59.3%", "█".repeat(20), "░".repeat(14)),
                format!("  delivered  {}          0 of      1,000    0.0%", "░".repeat(34)),
                format!("  read       {}          0 of      1,000    0.0%", "░".repeat(34)),
                "  in flight 12   failed 7   in doubt 0   conflicts 2".to_owned(),
                "  delivered 0.00 % of sent, read 0.00 % of delivered, 400 left".to_owned(),
            ]
        );
        assert_eq!(
            progress.log_line(),
            "2030-03-17T17:46:41Z campaign=spring state=running progress=60.00% total=1000 sent=593 delivered=0 read=0 failed=7 \
             in_doubt=0 unconfirmed=0 in_flight=12 left=400 rate=493.0/s limited_by=workers eta=61s"
        );
        for width in [20, 60, 80, 200] {
            assert!(progress.lines(width).iter().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        assert!(bar("sent", 9_999, 10_000, 80).contains("░ ") && bar("sent", 9_999, 10_000, 80).contains("99.9%"));
        assert!(!bar("sent", 10_000, 10_000, 80).contains('░'));
        assert!(bar("sent", 0, 0, 80).contains("0.0%"));
    }
}
