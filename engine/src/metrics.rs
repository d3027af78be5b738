//! The engine's own metrics: names, units and what a rise tells the person on call. Labels come from closed sets; no label holds
//! a phone number, a tenant's text or an id that a tenant can make up.

pub(crate) mod delays;
mod handles;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) use handles::{EntryMetrics, Family, ProviderMetrics, outcome_name, reported_failure};

/// Requests to providers by outcome (`accepted`, `not_processed`, `failed`, `unclear`).
pub const PROVIDER_REQUESTS: &str = "sluice_provider_requests_total";
/// Time from the first byte of a request to the end of its answer.
pub const PROVIDER_REQUEST_SECONDS: &str = "sluice_provider_request_duration_seconds";
/// Failures by class and code, as answered and as reported by webhook.
pub const PROVIDER_FAILURES: &str = "sluice_provider_failures_total";
/// Webhook entries by what became of them.
pub const WEBHOOK_ENTRIES: &str = "sluice_webhook_entries_total";
/// Entries that wait for a commit.
pub const LEDGER_WAITING: &str = "sluice_ledger_waiting_entries";
/// Inbound entries that gave way to newer ones.
pub const INBOUND_GONE: &str = "sluice_inbound_removed_total";
/// Entries that the ledger could not take and that were given up.
pub const LEDGER_GIVEN_UP: &str = "sluice_ledger_entries_given_up_total";
/// Time from taking up a group to its commit.
pub const COMMIT_SECONDS: &str = "sluice_store_commit_duration_seconds";
/// Time of the commit statement alone: the disk's part.
pub const SYNC_SECONDS: &str = "sluice_store_sync_duration_seconds";
/// Entries of a commit.
pub const GROUP_ENTRIES: &str = "sluice_store_group_entries";
/// Groups that were not committed.
pub const COMMITS_FAILED: &str = "sluice_store_failed_commits_total";
/// Whether the last write succeeded.
pub const STORE_WRITABLE: &str = "sluice_store_writable";
/// How long the oldest entry of the commit under way has been waiting.
pub const COMMIT_LAG: &str = "sluice_store_commit_lag_seconds";
/// Size of the ledger.
pub const STORE_SIZE: &str = "sluice_store_size_bytes";
/// Messages in flight.
pub const IN_FLIGHT: &str = "sluice_messages_in_flight";
/// Messages of all unsettled campaigns by shown status.
pub const MESSAGES: &str = "sluice_messages";
/// Of those: both failed and delivered.
pub const CONFLICTS: &str = "sluice_messages_conflicting";
/// Of those: sent twice.
pub const DOUBLES: &str = "sluice_messages_doubled";
/// Events parked, waiting for their message.
pub const PARKED: &str = "sluice_parked_events";
/// Age of the oldest of them.
pub const PARKED_AGE: &str = "sluice_parked_oldest_age_seconds";
/// Events whose message never appeared.
pub const ORPHANS: &str = "sluice_orphan_events";
/// Difference between tallies and messages, as last sampled.
pub const DRIFT: &str = "sluice_tally_drift_messages";
/// Campaigns counted anew for it.
pub const DRIFT_SAMPLES: &str = "sluice_tally_samples_total";
/// Pools that this node owns.
pub const POOLS_OWNED: &str = "sluice_node_pools";
/// How long this node's lease still is.
pub const LEASE_LEFT: &str = "sluice_node_lease_left_seconds";
/// Renewals of the lease that failed.
pub const RENEWALS_FAILED: &str = "sluice_node_failed_renewals_total";
/// Terms of this node that another ended.
pub const TERMS_LOST: &str = "sluice_node_lost_terms_total";
/// Terms of other nodes that this one ended.
pub const NODES_DEPOSED: &str = "sluice_node_ended_terms_total";
/// Pools taken, by how.
pub const POOLS_TAKEN: &str = "sluice_node_pools_taken_total";
/// Pools given away.
pub const POOLS_GIVEN: &str = "sluice_node_pools_given_total";
/// The farthest wall clock.
pub const CLOCK_SKEW: &str = "sluice_node_clock_skew_seconds";
/// Facts of former owners that were found late.
pub const LATE_FACTS: &str = "sluice_late_facts_total";
/// Actors that panicked.
pub const ACTOR_PANICS: &str = "sluice_actor_panics_total";
/// How late actors come to their messages.
pub const ACTOR_DELAY: &str = "sluice_actor_mailbox_delay_seconds";
/// Running campaigns.
pub const CAMPAIGNS_RUNNING: &str = "sluice_campaigns_running";
/// Campaigns held by the system.
pub const CAMPAIGNS_HELD: &str = "sluice_campaigns_held";
/// Lines held.
pub const LINES_HELD: &str = "sluice_lines_held";
/// A line's provider and account.
pub const LINE_INFO: &str = "sluice_line_info";
/// A line's configured ceiling.
pub const LINE_CEILING: &str = "sluice_line_ceiling_per_second";
/// What a line may send now.
pub const LINE_ALLOWED: &str = "sluice_line_allowed_per_second";
/// What a line sent in the last second.
pub const LINE_USED: &str = "sluice_line_used_per_second";
/// Requests of a line at its provider.
pub const LINE_IN_FLIGHT: &str = "sluice_line_in_flight";
/// How many there may be at once.
pub const LINE_IN_FLIGHT_LIMIT: &str = "sluice_line_in_flight_limit";
/// Whether a line is held, and by whom.
pub const LINE_HELD: &str = "sluice_line_held";
/// Whether the provider slowed a line down.
pub const LINE_SLOWED: &str = "sluice_line_slowed";
/// Whether a line's breaker stopped it.
pub const LINE_STOPPED: &str = "sluice_line_breaker_open";
/// Messages of a running campaign by shown status.
pub const CAMPAIGN_MESSAGES: &str = "sluice_campaign_messages";
/// What a running campaign sends now.
pub const CAMPAIGN_RATE: &str = "sluice_campaign_rate_per_second";
/// What a running campaign was told to send.
pub const CAMPAIGN_RATE_LIMIT: &str = "sluice_campaign_rate_limit_per_second";
/// What keeps running campaigns from sending faster.
pub const CAMPAIGN_BOUND: &str = "sluice_campaign_bound";

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process starts anew.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// One metric: what the metrics page and the reference page say of it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What one of it is, for people.
    pub unit: &'static str,
    /// Its labels (`le` aside).
    pub labels: &'static [&'static str],
    /// What it is and what a change means, for the person on call.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, unit, labels, help }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, unit, labels, help }
    }

    /// A histogram.
    pub const fn histogram(
        name: &'static str,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Histogram, unit, labels, help }
    }

    /// Tells the recorder. To be called right after it is installed: earlier descriptions are lost.
    pub fn describe(&self) {
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, unit, self.help),
            Kind::Histogram => describe_histogram!(self.name, unit, self.help),
        }
    }
}

/// Every metric of the engine.
#[rustfmt::skip] // a line says what it is, the next what it means
pub const METRICS: &[Metric] = &[
    Metric::counter(PROVIDER_REQUESTS, "requests", &["provider", "outcome"],
        "Requests to providers by kind and outcome. A rising share of 'unclear' means messages in doubt: look at the provider's status page and at the lines' breakers; of 'not_processed': the provider says slow down."),
    Metric::histogram(PROVIDER_REQUEST_SECONDS, "seconds", &["provider"],
        "Time from the first byte of a request to the end of its answer. A rise lowers the rate that the in-flight maximum of a line allows."),
    Metric::counter(PROVIDER_FAILURES, "failures", &["provider", "via", "class", "code"],
        "Failures by the provider's code and our class of it: via 'answer' (of a request) or 'webhook' (reported later, counted as often as the provider repeats it). Class 'account' stops lines, 'campaign' and 'bug' hold campaigns, 'slow' lowers the rate; 'recipient' is about single numbers. Code 'none': the answer had none; 'other': one that our tables lack."),
    Metric::counter(WEBHOOK_ENTRIES, "entries", &["result"],
        "Entries of verified webhooks: applied, duplicate, parked, dropped (no room to park), bad, other. 'parked' rising while sending means that correlation ids do not come back."),
    Metric::gauge(LEDGER_WAITING, "entries", &[],
        "Entries that wait for a commit. A sustained rise means that the disk is too slow or full: sending and webhooks will be held back."),
    Metric::counter(INBOUND_GONE, "entries", &[],
        "Inbound messages and other webhook entries that were kept for later and gave way to newer ones, at inbound_max. A rise means that the ledger forgets what people wrote: raise the limit, or take the entries out in time."),
    Metric::counter(LEDGER_GIVEN_UP, "entries", &[],
        "Entries that the ledger refused for what they touch (a damaged row, a defect), and that were dropped so that the others could be applied. Any rise needs a person: each is logged with its campaign and message."),
    Metric::histogram(COMMIT_SECONDS, "seconds", &[],
        "Time from taking up a group of ledger entries until it is durable. Webhooks are answered and messages sent only after it."),
    Metric::histogram(SYNC_SECONDS, "seconds", &[],
        "Of a commit, the time of the commit statement alone: writing the log and waiting for the disk. If this is most of the commit, the disk is what is slow."),
    Metric::histogram(GROUP_ENTRIES, "entries", &[],
        "Ledger entries of one commit (a call that is not about messages counts 512). Large groups mean that commits are slow or that much arrives at once."),
    Metric::counter(COMMITS_FAILED, "commits", &[],
        "Groups that were not committed; whoever waited was told so and nothing was changed. Any rise means a full or failing disk, or a defect: the log has the error."),
    Metric::gauge(STORE_WRITABLE, "yes or no", &[],
        "1: the last write to the ledger succeeded. 0: it failed; sending stands still and webhooks are answered 503 until a write succeeds."),
    Metric::gauge(COMMIT_LAG, "seconds", &[],
        "How long the oldest entry of the commit under way has been waiting, at the moment of the scrape; 0 when there is none."),
    Metric::gauge(STORE_SIZE, "bytes", &[],
        "Size of the ledger with its log on disk."),
    Metric::gauge(IN_FLIGHT, "messages", &[],
        "Messages with a durable intent and no durable outcome: at most so many are in doubt after a crash."),
    Metric::gauge(MESSAGES, "messages", &["status"],
        "Messages of all campaigns that are not settled, by shown status; they add up to their recipients. 'in_doubt' that grows: requests end without a clear answer; 'unconfirmed' waits for a person's decision."),
    Metric::gauge(CONFLICTS, "messages", &[],
        "Messages of unsettled campaigns that both failed and were delivered. A few are a provider's habit; list them with 'sluice messages CAMPAIGN --conflict'."),
    Metric::gauge(DOUBLES, "messages", &[],
        "Messages of unsettled campaigns that are known to have gone out twice. Only 'at least once' or a person's 'send again' can cause one."),
    Metric::gauge(PARKED, "events", &[],
        "Events waiting for their message. They become orphans when their deadline passes."),
    Metric::gauge(PARKED_AGE, "seconds", &[],
        "Age of the oldest parked event; 0 when there is none. Near the deadline (parked_wait_s, 900 unless configured) it is about to become an orphan."),
    Metric::gauge(ORPHANS, "events", &[],
        "Events kept for people since their message never appeared: 'sluice orphans'. A rise means that somebody else sends with the same account, or that webhooks of another installation come here."),
    Metric::gauge(DRIFT, "messages", &[],
        "Sum of the differences between tallies and messages, as last counted, campaign after campaign. Must be 0; anything else is a defect."),
    Metric::counter(DRIFT_SAMPLES, "campaigns", &[],
        "Campaigns whose messages were counted anew for the drift. It stands still only while no campaign is unsettled."),
    Metric::gauge(POOLS_OWNED, "pools", &[],
        "Pools that this node owns, where several share a ledger. All nodes together should own all pools: 'sluice nodes'."),
    Metric::gauge(LEASE_LEFT, "seconds", &[],
        "How long this node may still send and write without another renewal; it is renewed four times in its length. Near 0: the CQL server is away or slow, and everything stops until it answers."),
    Metric::counter(RENEWALS_FAILED, "renewals", &[],
        "Renewals of this node's lease that were not answered in time. Some in a row end the lease; then another node takes its pools over."),
    Metric::counter(TERMS_LOST, "terms", &[],
        "Terms of this node that another ended, because it had not renewed its lease: it stood still, or did not reach the CQL server. What was in flight is in doubt at the pools' new owners."),
    Metric::counter(NODES_DEPOSED, "terms", &[],
        "Terms of other nodes that this one ended: they died, stood still, or did not reach the CQL server for longer than a lease."),
    Metric::counter(POOLS_TAKEN, "pools", &["how"],
        "Pools that this node took: 'first' (nobody had them), 'handed_over' (given by their owner, without silence), 'taken_over' (their owner was gone: its attempts in flight are in doubt)."),
    Metric::counter(POOLS_GIVEN, "pools", &[],
        "Pools that this node gave to others, draining or for balance."),
    Metric::gauge(CLOCK_SKEW, "seconds", &[],
        "How far the wall clock of the node that differs most is ahead of this one's (below 0: behind); too low by up to half a second. Nothing is decided by it, but times in reports and schedules follow these clocks: keep them together."),
    Metric::counter(LATE_FACTS, "messages", &[],
        "Messages at which a former owner's write landed after the pool was taken over, found by counting anew and counted since. A few follow a take-over; a steady rise is a defect."),
    Metric::counter(ACTOR_PANICS, "panics", &["actor"],
        "Actors that panicked and were started anew: status, line, campaign. Any rise is a defect; the fifth in a row holds the line or the campaign."),
    Metric::gauge(ACTOR_DELAY, "seconds", &["actor"],
        "How late an actor (supervisor, line, campaign) came at worst to what it had set itself for a moment, over the last 15 to 30 s: as long a message to it waits in its mailbox. A few thousandths as a rule; a tenth and more means that the process gets too little CPU or that one actor has too much to do."),
    Metric::gauge(CAMPAIGNS_RUNNING, "campaigns", &[],
        "Campaigns that are running."),
    Metric::gauge(CAMPAIGNS_HELD, "campaigns", &[],
        "Campaigns that the system holds: a template refused, the same request error many times in a row. The reason: 'sluice campaigns show'."),
    Metric::gauge(LINES_HELD, "lines", &[],
        "Lines that are held, by hand or by the system. Their messages stay pending: see the reason with 'sluice lines list'."),
    Metric::gauge(LINE_INFO, "always 1", &["line", "provider", "account"],
        "Provider and account of a line, by the line's number."),
    Metric::gauge(LINE_CEILING, "messages per second", &["line"],
        "The ceiling that a line was given (Twilio SMS: in SMS parts)."),
    Metric::gauge(LINE_ALLOWED, "messages per second", &["line"],
        "What a line may send now, per second, by the line's number. Below the ceiling: slowed by the provider; 0: held, or stopped by its breaker."),
    Metric::gauge(LINE_USED, "messages per second", &["line"],
        "What a line sent within the last second."),
    Metric::gauge(LINE_IN_FLIGHT, "requests", &["line"],
        "Requests of a line at its provider. At the limit the provider's latency, not the ceiling, binds."),
    Metric::gauge(LINE_IN_FLIGHT_LIMIT, "requests", &["line"],
        "How many requests of a line may be at its provider at once now: it follows rate and latency, up to the line's maximum."),
    Metric::gauge(LINE_HELD, "yes or no", &["line", "kind"],
        "1: the line is held and sends nothing; kind says by whom: operator, line or account (the provider refused it), panics. 0: not held."),
    Metric::gauge(LINE_SLOWED, "yes or no", &["line"],
        "1: the provider told the line to slow down; it grows back by itself."),
    Metric::gauge(LINE_STOPPED, "yes or no", &["line"],
        "1: unclear outcomes in a row stopped the line; single messages probe it until one gets a clear answer."),
    Metric::gauge(CAMPAIGN_MESSAGES, "messages", &["campaign", "status"],
        "Messages of a running campaign, by the campaign's number and shown status; 'other' sums up those beyond metrics.campaigns_max."),
    Metric::gauge(CAMPAIGN_RATE, "messages per second", &["campaign"],
        "Messages of a running campaign accepted per second, over the last seconds. Far below its setting: look at what binds it."),
    Metric::gauge(CAMPAIGN_RATE_LIMIT, "messages per second", &["campaign"],
        "A running campaign's own rate; none where only the lines' ceilings bind."),
    Metric::gauge(CAMPAIGN_BOUND, "campaigns", &["campaign", "binding"],
        "What keeps a running campaign from sending faster now: line_ceiling and campaign_rate are as wanted; workers, line_in_flight, slowed, lines_unavailable, ledger, waiting_for_retry are worth a look."),
];

/// The entry of `name`.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// Describes all of them; right after the recorder is installed.
pub fn describe() {
    METRICS.iter().for_each(Metric::describe);
}
