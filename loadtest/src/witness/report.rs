//! The result of a check, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::compare::{CampaignReport, Differences, Kind};
use super::doubts::Traceless;
use super::records::Shown;
use crate::sim::rates::LineRate;
use crate::sim::records::Summary;
use crate::sim::stamp::Stamping;

/// Everything that a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// No difference.
    pub ok: bool,
    /// The campaigns from both sides.
    pub campaigns: Vec<CampaignReport>,
    /// In doubt without a trace at the provider, over all campaigns.
    pub traceless: Traceless,
    /// The simulator's totals.
    pub ledger: Summary,
    /// The rates of all lines with traffic.
    pub rates: Vec<LineRate>,
    /// The stamping's own report: how exact the rates are.
    pub stamping: Stamping,
    /// What differs.
    pub differences: Differences,
    /// What weakens the result, in words.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether nothing differs but ceilings, and every second above one is explained by the machine itself standing still in it, for as long
    /// as the excess takes: such a run says nothing about the ceiling and is to be repeated, but all the rest of it holds.
    #[must_use]
    pub fn only_stalled(&self) -> bool {
        let above = self.rates.iter().filter(|rate| rate.highest > u64::from(rate.ceiling));
        self.differences.0.keys().all(|kind| *kind == Kind::AboveCeiling)
            && above.clone().count() as u64 == self.differences.of(Kind::AboveCeiling)
            && above.clone().all(|rate| rate.unexplained == 0)
    }

    /// The report as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for campaign in &self.campaigns {
            write_campaign(&mut out, campaign);
        }
        write_rates(&mut out, &self.rates);
        if !self.ledger.refused.is_empty() {
            let _ = writeln!(out, "\nRefused by the simulator");
            for (line, codes) in &self.ledger.refused {
                let codes: Vec<String> = codes.iter().map(|(code, n)| format!("{code} × {n}")).collect();
                let line = if line.is_empty() { "(no line)" } else { line };
                let _ = writeln!(out, "  {line:<34} {}", codes.join(", "));
            }
        }
        if self.traceless.unanswered > 0 {
            let words = self.traceless.words();
            let bound =
                self.traceless.allowed.map_or_else(String::new, |most| format!(", {most} at most are explained"));
            let _ = writeln!(out, "\nIn doubt for good and never seen by the provider: {words}{bound}.");
        }
        for note in &self.notes {
            let _ = writeln!(out, "\nNote: {note}");
        }
        if self.ok {
            let _ = writeln!(out, "\nNo difference: tally, recount, messages and the simulator's ledger agree.");
        } else {
            let _ = writeln!(out, "\nDIFFERENCES");
            for (kind, found) in &self.differences.0 {
                let _ = writeln!(out, "  {} × {}", kind.word(), found.count);
                for example in &found.examples {
                    let _ = writeln!(out, "      {example}");
                }
            }
        }
        out
    }
}

fn write_campaign(out: &mut String, campaign: &CampaignReport) {
    let CampaignReport { tally, recount, messages, ledger, .. } = campaign;
    let _ = writeln!(out, "\n{} ({:?})", campaign.campaign, campaign.policy);
    let _ = writeln!(out, "  {:<14} {:>10} {:>10} {:>10} {:>12}", "", "tally", "recount", "messages", "simulator");
    let mut row = |name: &str, values: [Option<u64>; 4]| {
        let _ = write!(out, "  {name:<14}");
        for (place, value) in values.into_iter().enumerate() {
            let width = if place == 3 { 12 } else { 10 };
            let text = value.map_or_else(|| "·".to_owned(), |v| v.to_string());
            let _ = write!(out, " {text:>width$}");
        }
        out.push('\n');
    };
    row("recipients", [Some(tally.total), Some(recount.total), Some(messages.total), None]);
    let accepted = ledger.recipients;
    row("accepted", [Some(tally.accepted), Some(recount.accepted), Some(messages.accepted), Some(accepted)]);
    for shown in Shown::ALL {
        let side = match shown {
            Shown::Sent => Some(ledger.sent),
            Shown::Delivered => Some(ledger.delivered),
            Shown::Read => Some(ledger.read),
            Shown::Failed => Some(ledger.failed),
            _ => None,
        };
        let values = [tally.of(shown), recount.of(shown), messages.of(shown)];
        if values.iter().any(|v| *v > 0) || side.is_some_and(|v| v > 0) {
            row(shown.word(), [Some(values[0]), Some(values[1]), Some(values[2]), side]);
        }
    }
    for (name, value) in [("conflicts", tally.conflicts), ("doubles", tally.doubles)] {
        if value > 0 {
            row(name, [Some(value), None, None, None]);
        }
    }
    if ledger.nothing > 0 {
        row("no status yet", [None, None, None, Some(ledger.nothing)]);
    }
    if ledger.doubled > 0 {
        row("accepted twice", [None, None, None, Some(ledger.doubled)]);
    }
}

fn write_rates(out: &mut String, rates: &[LineRate]) {
    if rates.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nLines, by the simulator's receive times");
    let _ = writeln!(
        out,
        "  {:<34} {:>8} {:>9} {:>12} {:>9} {:>12}",
        "", "ceiling", "arrivals", "highest 1 s", "mean/s", "lowest use"
    );
    for rate in rates {
        let lowest = rate.lowest_window_used.map_or_else(|| "·".to_owned(), |used| format!("{used:.4}"));
        let _ = writeln!(
            out,
            "  {:<34} {:>8} {:>9} {:>12} {:>9.1} {:>12}",
            rate.line, rate.ceiling, rate.arrivals, rate.highest, rate.mean, lowest
        );
    }
}
