//! The sections that are plain numbers: each struct beside the function that reads it.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use sluice_engine::control::WORKERS_MAX;
use sluice_engine::domain::breaker::BreakerConfig;
use sluice_engine::domain::line::bounds;

use super::reader::Section;
use super::report::Kind;
use crate::grpc::CallTimes;
use crate::telemetry;

const MIB: usize = 1024 * 1024;

/// Limits of the gRPC front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grpc {
    /// Largest message that is read.
    pub message_bytes_max: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most calls at once on one connection.
    pub connection_streams_max: usize,
    /// Most calls at once in all; further ones are answered `RESOURCE_EXHAUSTED`.
    pub requests_max: usize,
    /// About the most bytes of a page of a list, of a batch of an export, or of refused rows in an acknowledgement.
    pub answer_bytes_max: usize,
    /// Most watches at once in all.
    pub watches_max: usize,
    /// Of them, most of one tenant.
    pub watches_tenant_max: usize,
    /// Most imports at once in all; each holds a few chunks in memory.
    pub imports_max: usize,
    /// Of them, most of one tenant.
    pub imports_tenant_max: usize,
    /// Most exports, and recounts of everything that a tenant has, at once in all.
    pub exports_max: usize,
    /// Of them, most of one tenant.
    pub exports_tenant_max: usize,
    /// Longest silence of an importer.
    pub import_idle: Duration,
    /// Longest that the reader of an export or of a recount may take nothing.
    pub export_idle: Duration,
    /// Longest that a connection may be without a call that is let in.
    pub first_call_timeout: Duration,
    /// Longest that a call with one answer may take.
    pub request_timeout: Duration,
    /// Longest that a call may take that works through a whole campaign or ledger.
    pub long_request_timeout: Duration,
    /// How often a silent connection is asked whether it still lives.
    pub keepalive_interval: Duration,
}

impl Grpc {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let this = Self {
            message_bytes_max: s.count("message_bytes_max", 4 * MIB, 64 * 1024..=64 * MIB),
            connections_max: s.count("connections_max", 1_024, 1..=65_536),
            connection_streams_max: s.count("connection_streams_max", 128, 1..=65_536),
            requests_max: s.count("requests_max", 1_024, 1..=65_536),
            answer_bytes_max: s.count("answer_bytes_max", MIB, 64 * 1024..=64 * MIB),
            watches_max: s.count("watches_max", 256, 1..=65_536),
            watches_tenant_max: s.count("watches_tenant_max", 128, 1..=65_536),
            imports_max: s.count("imports_max", 32, 1..=1_024),
            imports_tenant_max: s.count("imports_tenant_max", 16, 1..=1_024),
            exports_max: s.count("exports_max", 32, 1..=1_024),
            exports_tenant_max: s.count("exports_tenant_max", 16, 1..=1_024),
            import_idle: s.seconds("import_idle_s", 120, 1..=3_600),
            export_idle: s.seconds("export_idle_s", 120, 1..=3_600),
            first_call_timeout: s.milliseconds("first_call_timeout_ms", 10_000, 100..=300_000),
            request_timeout: s.milliseconds("request_timeout_ms", 30_000, 100..=600_000),
            long_request_timeout: s.milliseconds("long_request_timeout_ms", 900_000, 100..=7_200_000),
            keepalive_interval: s.milliseconds("keepalive_interval_ms", 30_000, 1_000..=600_000),
        };
        if this.long_request_timeout < this.request_timeout {
            let least = "must be at least request_timeout_ms: it is for the calls that take longer";
            s.problem("long_request_timeout_ms", Kind::Value, least, None);
        }
        this
    }

    /// The longest times of calls.
    pub(crate) fn call_times(&self) -> CallTimes {
        CallTimes { ordinary: self.request_timeout, long: self.long_request_timeout }
    }
}

/// Limits of the webhook listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Webhooks {
    /// Largest body that is read. Meta sends up to 3 MB.
    pub body_bytes_max: usize,
    /// Largest body that is read from Twilio, whose forms are small; unverified bytes are signed over several times.
    pub twilio_body_bytes_max: usize,
    /// Longest that a request's head may take; also how long an idle connection is kept.
    pub header_read_timeout: Duration,
    /// Longest that a request's body may take.
    pub body_read_timeout: Duration,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Most bodies of one account under way at once, from their last byte on; further ones are answered 503.
    pub account_bodies_max: usize,
    /// Most bytes of one account's bodies under way at once; further ones are answered 503.
    pub account_bytes_max: usize,
    /// Most inbound messages and other entries kept for later features; the oldest give way.
    pub inbound_max: usize,
}

impl Webhooks {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let this = Self {
            body_bytes_max: s.count("body_bytes_max", 3 * MIB + MIB / 4, 64 * 1024..=64 * MIB),
            twilio_body_bytes_max: s.count("twilio_body_bytes_max", MIB / 4, 16 * 1024..=4 * MIB),
            header_read_timeout: s.milliseconds("header_read_timeout_ms", 15_000, 100..=300_000),
            body_read_timeout: s.milliseconds("body_read_timeout_ms", 10_000, 100..=300_000),
            connections_max: s.count("connections_max", 4_096, 1..=65_536),
            account_bodies_max: s.count("account_bodies_max", 1_024, 1..=65_536),
            account_bytes_max: s.count("account_bytes_max", 32 * MIB, 64 * 1024..=4_096 * MIB),
            inbound_max: s.count("inbound_max", 100_000, 100..=100_000_000),
        };
        if this.account_bytes_max < this.body_bytes_max {
            s.problem(
                "account_bytes_max",
                Kind::Value,
                "must be at least body_bytes_max, or the largest body is never admitted",
                None,
            );
        }
        this
    }
}

/// How lines are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Added to the second in which no more than the ceiling may leave, for the jitter on the way to the provider.
    pub jitter_guard: Duration,
    /// How far smooth spacing may catch up after a delay.
    pub aim_allowance: Duration,
    /// How much of a line's rate is granted at once.
    pub look_ahead: Duration,
}

impl Pacing {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            jitter_guard: s.milliseconds("jitter_guard_ms", 5, 0..=500),
            aim_allowance: s.milliseconds("aim_allowance_ms", 10, 0..=100),
            look_ahead: s.milliseconds("look_ahead_ms", 25, 1..=1_000),
        }
    }
}

/// Reads when a line stops by itself.
pub(super) fn breaker(s: &mut Section<'_, '_>) -> BreakerConfig {
    let run_max = u32::try_from(s.integer("run_max", 20, 1..=10_000)).unwrap_or(20);
    let backoff_min = s.milliseconds("backoff_ms_min", 1_000, 10..=600_000);
    let backoff_max = s.milliseconds("backoff_ms_max", 30_000, 10..=3_600_000);
    ordered(s, "backoff_ms_min", backoff_min, backoff_max, "backoff_ms_max");
    BreakerConfig { run_max, backoff_min, backoff_max }
}

/// Connections to providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Certificates that may sign a provider's, beside the roots of this machine.
    pub roots: Vec<CertificateDer<'static>>,
    /// Longest for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Longest from the first byte written to the whole answer; what takes longer is in doubt.
    pub read_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Most messages of a line in flight, unless the line says otherwise. Needed are rate times the provider's latency.
    pub line_in_flight_max: usize,
}

impl Provider {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            roots: s.roots("ca_file"),
            connect_timeout: s.milliseconds("connect_timeout_ms", 3_000, 10..=60_000),
            read_timeout: s.milliseconds("read_timeout_ms", 20_000, 10..=300_000),
            idle_timeout: s.milliseconds("idle_timeout_ms", 30_000, 100..=600_000),
            line_in_flight_max: s.count("line_in_flight_max", 256, 1..=bounds::IN_FLIGHT_MAX as usize),
        }
    }
}

/// Attempts after failures that the retry policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts of one message in all.
    pub attempts_max: u64,
    /// The first wait.
    pub backoff_min: Duration,
    /// The longest wait; waits double up to it, with jitter.
    pub backoff_max: Duration,
}

impl Retry {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let this = Self {
            attempts_max: s.integer("attempts_max", 5, 1..=100),
            backoff_min: s.milliseconds("backoff_ms_min", 2_000, 10..=3_600_000),
            backoff_max: s.milliseconds("backoff_ms_max", 300_000, 10..=86_400_000),
        };
        ordered(s, "backoff_ms_min", this.backoff_min, this.backoff_max, "backoff_ms_max");
        this
    }
}

/// What waits for what, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// At most once: how long an attempt in doubt waits for an echo before it stands as unconfirmed.
    pub echo_wait: Duration,
    /// At least once: how long it waits before a new attempt is sent.
    pub resend_grace: Duration,
    /// How long a webhook event for an unknown message is kept for the message to appear.
    pub parked_wait: Duration,
    /// Most events parked at once.
    pub parked_max: usize,
}

impl InDoubt {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            echo_wait: s.seconds("echo_wait_s", 900, 1..=86_400),
            resend_grace: s.seconds("resend_grace_s", 60, 1..=86_400),
            parked_wait: s.seconds("parked_wait_s", 900, 1..=86_400),
            parked_max: s.count("parked_max", 100_000, 100..=10_000_000),
        }
    }
}

/// Defaults and bounds of campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Campaigns {
    /// Most messages of a campaign in flight, unless the campaign says otherwise.
    pub workers: usize,
    /// How long after the last dispatch statuses are waited for before the campaign counts as settled.
    pub settle_window: Duration,
    /// Template or parameter errors in a row that hold a campaign.
    pub held_after: u64,
    /// Panics in a row that quarantine a campaign or a line.
    pub quarantined_after: u64,
}

impl Campaigns {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            workers: s.count("workers", 256, 1..=WORKERS_MAX as usize),
            settle_window: s.seconds("settle_window_s", 259_200, 1..=2_592_000),
            held_after: s.integer("held_after", 20, 1..=10_000),
            quarantined_after: s.integer("quarantined_after", 5, 1..=100),
        }
    }
}

/// Deadlines of a graceful stop, in the order of its steps. Together they should be below the supervisor's own patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// For messages in flight to get their answers.
    pub drain_senders: Duration,
    /// For statuses under way to become durable.
    pub flush_statuses: Duration,
    /// For webhook requests under way to be answered.
    pub close_webhooks: Duration,
    /// For gRPC calls under way to be answered.
    pub close_grpc: Duration,
    /// For the store to close.
    pub close_store: Duration,
}

impl Shutdown {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            drain_senders: s.milliseconds("drain_senders_ms", 25_000, 0..=600_000),
            flush_statuses: s.milliseconds("flush_statuses_ms", 5_000, 0..=600_000),
            close_webhooks: s.milliseconds("close_webhooks_ms", 5_000, 0..=600_000),
            close_grpc: s.milliseconds("close_grpc_ms", 5_000, 0..=600_000),
            close_store: s.milliseconds("close_store_ms", 10_000, 0..=600_000),
        }
    }
}

/// The metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Most running campaigns with series of their own; the rest are summed up as `other`.
    pub campaigns_max: usize,
    /// Pause between two campaigns that are counted anew for the drift gauge; zero: none are.
    pub drift_pause: Duration,
    /// Campaigns with more recipients are not counted anew for it.
    pub drift_recipients_max: usize,
}

impl Metrics {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            campaigns_max: s.count("campaigns_max", 100, 0..=10_000),
            drift_pause: s.seconds("drift_pause_s", 30, 0..=86_400),
            drift_recipients_max: s.count("drift_recipients_max", 1_000_000, 0..=100_000_000),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs, written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A level, or directives such as `info,sluice_engine=debug`.
    pub level: String,
}

impl Log {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            format: s
                .choice("format", "text", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
                .unwrap_or(LogFormat::Text),
            level: s
                .parsed("level", "info", |text| telemetry::filter(text).map(|_| text.to_owned()))
                .unwrap_or_default(),
        }
    }
}

fn ordered(s: &Section<'_, '_>, low_key: &str, low: Duration, high: Duration, high_key: &str) {
    if low > high {
        s.problem(low_key, Kind::Value, format!("must not be above {high_key}"), None);
    }
}
