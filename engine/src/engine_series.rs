//! Series of lines and running campaigns: bounded, and gone when the line or the campaign is.

use crate::control::Progress;
use crate::domain::campaign::CampaignState;
use crate::domain::stage::Shown;
use crate::engine::Engine;
use crate::metrics::{CAMPAIGN_MESSAGES, CAMPAIGN_RATE, Family, LINE_ALLOWED, LINE_IN_FLIGHT, LINE_USED};

/// The label of campaigns beyond the bound, summed up.
const OTHERS: &str = "other";

impl Engine {
    /// Appends the series of lines and of running campaigns to a metrics page, and sets the gauges that are read, not counted.
    pub fn write_series(&self, page: &mut String) {
        self.refresh_gauges();
        self.write_lines(page);
        self.write_campaigns(page);
    }

    fn write_lines(&self, page: &mut String) {
        let mut lines: Vec<_> = self.context().lines().into_iter().map(|entry| entry.shared).collect();
        lines.sort_by_key(|line| line.key);
        let statuses: Vec<_> = lines.iter().map(|line| (line.key.to_string(), line.status())).collect();
        let help = "What a line may send now, per second, by the line's number. Below the ceiling: slowed by the provider; 0: held, or stopped by its breaker.";
        let mut allowed = Family::gauge(page, LINE_ALLOWED, help);
        statuses.iter().for_each(|(key, status)| allowed.sample(&[("line", key)], status.allowed));
        let mut used = Family::gauge(page, LINE_USED, "What a line sent within the last second.");
        statuses.iter().for_each(|(key, status)| used.sample(&[("line", key)], f64::from(status.used)));
        let help =
            "Requests of a line at its provider. At the line's maximum the provider's latency, not the ceiling, binds.";
        let mut in_flight = Family::gauge(page, LINE_IN_FLIGHT, help);
        statuses.iter().for_each(|(key, status)| in_flight.sample(&[("line", key)], f64::from(status.in_flight)));
    }

    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
    fn write_campaigns(&self, page: &mut String) {
        let mut running: Vec<_> = self
            .context()
            .registry
            .all()
            .into_iter()
            .filter(|shared| shared.record().state == CampaignState::Running)
            .collect();
        running.sort_by_key(|shared| shared.key);
        let shown_alone = self.config().campaign_series_max.min(running.len());
        let (alone, others) = running.split_at(shown_alone);
        let progress =
            |shared: &std::sync::Arc<crate::campaign::shared::CampaignShared>| shared.subscribe().borrow().clone();
        let mut rows: Vec<(String, Progress)> = alone.iter().map(|s| (s.key.to_string(), progress(s))).collect();
        if !others.is_empty() {
            let mut sum = Progress::default();
            for other in others.iter().map(progress) {
                sum.tally.absorb(&other.tally);
                sum.rate_now += other.rate_now;
            }
            rows.push((OTHERS.to_owned(), sum));
        }
        let help = "Messages of a running campaign, by the campaign's number and shown status.";
        let mut messages = Family::gauge(page, CAMPAIGN_MESSAGES, help);
        for (key, progress) in &rows {
            for shown in Shown::ALL {
                messages.sample(&[("campaign", key), ("status", shown.name())], progress.tally.count(shown) as f64);
            }
        }
        let help = "Messages of a running campaign accepted per second, over the last seconds. Far below its setting: ask the campaign what binds it.";
        let mut rate = Family::gauge(page, CAMPAIGN_RATE, help);
        rows.iter().for_each(|(key, progress)| rate.sample(&[("campaign", key)], progress.rate_now));
    }

    /// What keeps the engine from being ready; empty: nothing.
    pub fn not_ready_because(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.context().is_draining() {
            reasons.push("shutting down".to_owned());
        }
        if !self.context().store.health().writable {
            reasons.push("the ledger cannot be written".to_owned());
        }
        reasons
    }
}
