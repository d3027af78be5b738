//! Handles of the engine's metrics: registered once, so that the hot path only adds.

use std::fmt::Write as _;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::{INBOUND_GONE, PROVIDER_FAILURES, PROVIDER_REQUEST_SECONDS, PROVIDER_REQUESTS, WEBHOOK_ENTRIES, find};
use crate::provider::{Class, ProviderKind, Verdict, code_row};

const KINDS: usize = ProviderKind::ALL.len();
const OUTCOMES: [&str; 4] = ["accepted", "not_processed", "failed", "unclear"];

/// Handles of the provider metrics, registered once.
pub(crate) struct ProviderMetrics {
    requests: [[Counter; OUTCOMES.len()]; KINDS],
    seconds: [Histogram; KINDS],
}

impl ProviderMetrics {
    pub(crate) fn new() -> Self {
        let requests = ProviderKind::ALL.map(|kind| {
            OUTCOMES.map(|outcome| counter!(PROVIDER_REQUESTS, "provider" => kind.as_str(), "outcome" => outcome))
        });
        let seconds = ProviderKind::ALL.map(|kind| histogram!(PROVIDER_REQUEST_SECONDS, "provider" => kind.as_str()));
        Self { requests, seconds }
    }

    pub(crate) fn concluded(&self, kind: ProviderKind, verdict: &Verdict, latency: Duration) {
        self.requests[kind as usize][outcome(verdict)].increment(1);
        self.seconds[kind as usize].record(latency.as_secs_f64());
        if let (Some(class), Some(failure)) = (verdict.class(), verdict.failure()) {
            failed(kind, "answer", class, failure.code);
        }
    }
}

fn outcome(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Accepted { .. } => 0,
        Verdict::NotProcessed { .. } => 1,
        Verdict::Failed { .. } => 2,
        Verdict::Unclear { .. } => 3,
    }
}

/// The word for how a request ended.
pub(crate) fn outcome_name(verdict: &Verdict) -> &'static str {
    OUTCOMES[outcome(verdict)]
}

/// A failure that a webhook reported.
pub(crate) fn reported_failure(kind: ProviderKind, class: Class, code: u32) {
    failed(kind, "webhook", class, code);
}

/// Registered when it first happens: of the hundreds of codes an installation meets a few.
fn failed(kind: ProviderKind, via: &'static str, class: Class, code: u32) {
    counter!(PROVIDER_FAILURES, "provider" => kind.as_str(), "via" => via, "class" => class.as_str(), "code" => code_label(kind, code))
        .increment(1);
}

/// Codes that our tables know stand for themselves; a provider cannot make series up.
fn code_label(kind: ProviderKind, code: u32) -> String {
    match code {
        0 => "none".to_owned(),
        code if code_row(kind, code).is_some() => code.to_string(),
        _ => "other".to_owned(),
    }
}

/// Handles of the webhook entry metrics.
pub(crate) struct EntryMetrics {
    pub(crate) applied: Counter,
    pub(crate) duplicate: Counter,
    pub(crate) parked: Counter,
    pub(crate) dropped: Counter,
    pub(crate) bad: Counter,
    pub(crate) other: Counter,
    pub(crate) gone: Counter,
}

impl EntryMetrics {
    pub(crate) fn new() -> Self {
        let entries = |result: &'static str| counter!(WEBHOOK_ENTRIES, "result" => result);
        Self {
            applied: entries("applied"),
            duplicate: entries("duplicate"),
            parked: entries("parked"),
            dropped: entries("dropped"),
            bad: entries("bad"),
            other: entries("other"),
            gone: counter!(INBOUND_GONE),
        }
    }
}

/// A label value as the exposition format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One family of series that come and go: written by ourselves, since the recorder can never forget a series.
pub(crate) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    /// Begins the family of a gauge in [`METRICS`](super::METRICS).
    pub(crate) fn gauge(page: &'a mut String, name: &'static str) -> Self {
        let help = find(name).map_or("", |metric| metric.help);
        let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} gauge", help.replace('\\', "\\\\"));
        Self { page, name }
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.page, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_cannot_make_series_up() {
        assert_eq!(code_label(ProviderKind::TwilioSms, 0), "none");
        assert_eq!(code_label(ProviderKind::TwilioSms, 20_003), "20003");
        assert_eq!(code_label(ProviderKind::Meta, 20_003_999), "other");
    }

    #[test]
    fn what_a_label_holds_cannot_end_it() {
        let mut page = String::new();
        Family::gauge(&mut page, crate::metrics::LINE_INFO).sample(&[("account", "a\"\\\n")], 1.0);
        assert!(page.ends_with("{account=\"a\\\"\\\\\\n\"} 1\n"), "{page}");
    }
}
