//! The engine's own metrics: names, units and what a rise tells the person on call. Labels come from closed sets; no label holds
//! a phone number, a tenant's text or an id that a tenant can make up.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use crate::provider::{ProviderKind, Verdict};

/// Requests to providers by outcome (`accepted`, `not_processed`, `failed`, `unclear`).
pub const PROVIDER_REQUESTS: &str = "sluice_provider_requests_total";
/// Time from the first byte of a request to the end of its answer.
pub const PROVIDER_REQUEST_SECONDS: &str = "sluice_provider_request_duration_seconds";
/// Webhook entries by what became of them.
pub const WEBHOOK_ENTRIES: &str = "sluice_webhook_entries_total";
/// Entries that wait for a commit.
pub const LEDGER_WAITING: &str = "sluice_ledger_waiting_entries";
/// Inbound entries that gave way to newer ones.
pub const INBOUND_GONE: &str = "sluice_inbound_removed_total";
/// Entries that the ledger could not take and that were given up.
pub const LEDGER_GIVEN_UP: &str = "sluice_ledger_entries_given_up_total";
/// Messages in flight.
pub const IN_FLIGHT: &str = "sluice_messages_in_flight";
/// Events parked, waiting for their message.
pub const PARKED: &str = "sluice_parked_events";
/// Running campaigns.
pub const CAMPAIGNS_RUNNING: &str = "sluice_campaigns_running";
/// What a line may send now.
pub const LINE_ALLOWED: &str = "sluice_line_allowed_per_second";
/// What a line sent in the last second.
pub const LINE_USED: &str = "sluice_line_used_per_second";
/// Requests of a line at its provider.
pub const LINE_IN_FLIGHT: &str = "sluice_line_in_flight";
/// Messages of a running campaign by shown status.
pub const CAMPAIGN_MESSAGES: &str = "sluice_campaign_messages";
/// What a running campaign sends now.
pub const CAMPAIGN_RATE: &str = "sluice_campaign_rate_per_second";
/// Lines held.
pub const LINES_HELD: &str = "sluice_lines_held";

/// Describes all of them; right after the recorder is installed.
pub fn describe() {
    describe_counter!(
        PROVIDER_REQUESTS,
        Unit::Count,
        "Requests to providers by kind and outcome. A rising share of 'unclear' means messages in doubt: look at the provider's status page and at the lines' breakers; of 'not_processed': the provider says slow down."
    );
    describe_histogram!(
        PROVIDER_REQUEST_SECONDS,
        Unit::Seconds,
        "Time from the first byte of a request to the end of its answer. A rise lowers the rate that the in-flight maximum of a line allows."
    );
    describe_counter!(
        WEBHOOK_ENTRIES,
        Unit::Count,
        "Entries of verified webhooks: applied, duplicate, parked, dropped (no room to park), bad, other. 'parked' rising while sending means that correlation ids do not come back."
    );
    describe_gauge!(
        LEDGER_WAITING,
        Unit::Count,
        "Entries that wait for a commit. A sustained rise means that the disk is too slow or full: sending and webhooks will be held back."
    );
    describe_counter!(
        INBOUND_GONE,
        Unit::Count,
        "Inbound messages and other webhook entries that were kept for later and gave way to newer ones, at inbound_max. A rise means that the ledger forgets what people wrote: raise the limit, or take the entries out in time."
    );
    describe_counter!(
        LEDGER_GIVEN_UP,
        Unit::Count,
        "Entries that the ledger refused for what they touch (a damaged row, a defect), and that were dropped so that the others could be applied. Any rise needs a person: each is logged with its campaign and message."
    );
    describe_gauge!(
        IN_FLIGHT,
        Unit::Count,
        "Messages with a durable intent and no durable outcome: at most so many are in doubt after a crash."
    );
    describe_gauge!(
        PARKED,
        Unit::Count,
        "Events waiting for their message. They become orphans when their deadline passes."
    );
    describe_gauge!(CAMPAIGNS_RUNNING, Unit::Count, "Campaigns that are running.");
    describe_gauge!(
        LINES_HELD,
        Unit::Count,
        "Lines that are held, by hand or by the system. Their messages stay pending: see the reason with 'sluice lines list'."
    );
}

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
        let outcome = match verdict {
            Verdict::Accepted { .. } => 0,
            Verdict::NotProcessed { .. } => 1,
            Verdict::Failed { .. } => 2,
            Verdict::Unclear { .. } => 3,
        };
        self.requests[kind as usize][outcome].increment(1);
        self.seconds[kind as usize].record(latency.as_secs_f64());
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
    pub(crate) fn gauge(page: &'a mut String, name: &'static str, help: &str) -> Self {
        use std::fmt::Write as _;
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
        Self { page, name }
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        use std::fmt::Write as _;
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.page, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}
