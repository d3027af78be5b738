//! Series of lines and running campaigns: bounded, and gone when the line or the campaign is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::campaign::shared::CampaignShared;
use crate::control::{LineStatus, Progress};
use crate::domain::campaign::CampaignState;
use crate::domain::line::{Line, LineHoldKind};
use crate::domain::stage::Shown;
use crate::engine::Engine;
use crate::line::gate::LineShared;
use crate::metrics::{
    CAMPAIGN_BOUND, CAMPAIGN_MESSAGES, CAMPAIGN_RATE, CAMPAIGN_RATE_LIMIT, Family, LINE_ALLOWED, LINE_CEILING,
    LINE_HELD, LINE_IN_FLIGHT, LINE_IN_FLIGHT_LIMIT, LINE_INFO, LINE_SLOWED, LINE_STOPPED, LINE_USED,
};

/// The label of campaigns beyond the bound, summed up.
const OTHERS: &str = "other";

/// A line as the page shows it.
struct LineRow {
    key: String,
    record: Arc<Line>,
    status: LineStatus,
    in_flight_limit: u32,
}

/// One figure of a line.
type Figure = fn(&LineRow) -> f64;

impl LineRow {
    fn of(line: &LineShared) -> Self {
        let in_flight_limit = line.in_flight_limit();
        Self { key: line.key.to_string(), record: line.record(), status: line.status(), in_flight_limit }
    }
}

fn hold_name(kind: LineHoldKind) -> &'static str {
    match kind {
        LineHoldKind::Operator => "operator",
        LineHoldKind::Line => "line",
        LineHoldKind::Account => "account",
        LineHoldKind::Panics => "panics",
    }
}

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
        let lines: Vec<LineRow> = lines.iter().map(|line| LineRow::of(line)).collect();
        let mut info = Family::gauge(page, LINE_INFO);
        for line in &lines {
            let (provider, account) = (line.record.kind.as_str(), line.record.account.as_str());
            info.sample(&[("line", &line.key), ("provider", provider), ("account", account)], 1.0);
        }
        let figures: [(&'static str, Figure); 7] = [
            (LINE_CEILING, |line| f64::from(line.record.ceiling)),
            (LINE_ALLOWED, |line| line.status.allowed),
            (LINE_USED, |line| f64::from(line.status.used)),
            (LINE_IN_FLIGHT, |line| f64::from(line.status.in_flight)),
            (LINE_IN_FLIGHT_LIMIT, |line| f64::from(line.in_flight_limit)),
            (LINE_SLOWED, |line| f64::from(u8::from(line.status.slowed))),
            (LINE_STOPPED, |line| f64::from(u8::from(line.status.probing))),
        ];
        for (name, figure) in figures {
            let mut family = Family::gauge(page, name);
            lines.iter().for_each(|line| family.sample(&[("line", &line.key)], figure(line)));
        }
        let mut held = Family::gauge(page, LINE_HELD);
        for line in &lines {
            match &line.record.hold {
                Some(hold) => held.sample(&[("line", &line.key), ("kind", hold_name(hold.kind))], 1.0),
                None => held.sample(&[("line", &line.key)], 0.0),
            }
        }
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
        let progress = |shared: &Arc<CampaignShared>| shared.subscribe().borrow().clone();
        let mut rows: Vec<(String, Progress)> = alone.iter().map(|s| (s.key.to_string(), progress(s))).collect();
        let mut bound: Vec<(String, &'static str, u32)> =
            rows.iter().map(|(key, progress)| (key.clone(), progress.binding.name(), 1)).collect();
        if !others.is_empty() {
            let mut sum = Progress::default();
            let mut by_binding: BTreeMap<&'static str, u32> = BTreeMap::new();
            for other in others.iter().map(progress) {
                sum.tally.absorb(&other.tally);
                sum.rate_now += other.rate_now;
                *by_binding.entry(other.binding.name()).or_default() += 1;
            }
            bound.extend(by_binding.into_iter().map(|(name, count)| (OTHERS.to_owned(), name, count)));
            rows.push((OTHERS.to_owned(), sum));
        }
        let mut messages = Family::gauge(page, CAMPAIGN_MESSAGES);
        for (key, progress) in &rows {
            for shown in Shown::ALL {
                messages.sample(&[("campaign", key), ("status", shown.name())], progress.tally.count(shown) as f64);
            }
        }
        let mut rate = Family::gauge(page, CAMPAIGN_RATE);
        rows.iter().for_each(|(key, progress)| rate.sample(&[("campaign", key)], progress.rate_now));
        let mut limit = Family::gauge(page, CAMPAIGN_RATE_LIMIT);
        for shared in alone {
            if let Some(rate) = shared.record().settings.rate {
                let per_second = f64::from(rate.count) / rate.per.span().as_secs_f64();
                limit.sample(&[("campaign", &shared.key.to_string())], per_second);
            }
        }
        let mut family = Family::gauge(page, CAMPAIGN_BOUND);
        for (key, binding, count) in &bound {
            family.sample(&[("campaign", key), ("binding", binding)], f64::from(*count));
        }
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
