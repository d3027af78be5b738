//! The keys of a scenario file. Every key has a default; `scenarios/smoke.toml` shows them with their meaning.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::sim::faults::Rule;
use crate::sim::plan::{Dice, Plan};
use crate::witness::compare::Policy;

/// A whole scenario, read and checked.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Its name: the file's.
    pub name: String,
    /// The file as it was read, for the report.
    pub text: String,
    /// The keys at the top.
    pub top: Top,
    /// What is tested.
    pub server: Server,
    /// Those who measure.
    pub witness: Witness,
    /// The lines.
    pub lines: Vec<Line>,
    /// The campaigns.
    pub campaigns: Vec<Campaign>,
    /// How statuses come.
    pub statuses: Plan,
    /// How the provider answers.
    pub provider: Provider,
    /// The probe campaign.
    pub probe: Option<Probe>,
    /// The bare run beside it.
    pub floor: Option<Floor>,
    /// What disturbs.
    pub disturbances: Vec<Disturbance>,
    /// Bounds by the name of a figure.
    pub pass: BTreeMap<String, String>,
}

/// Keys at the top of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Top {
    /// A sentence for `loadtest list`.
    pub about: String,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Longest from the first start until everything has left and no doubt is left, seconds.
    pub end_s: u32,
    /// Window of `line.use_min`, seconds.
    pub window_s: u32,
}

impl Default for Top {
    fn default() -> Self {
        Self { about: String::new(), seed: 1, end_s: 300, window_s: 10 }
    }
}

/// Which store the server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// The embedded one.
    #[default]
    Embedded,
    /// ScyllaDB or what speaks its protocol: the CQL server of `.ci/cql`.
    Scylla,
}

/// What is tested.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Its store.
    pub store: StoreKind,
    /// How many of them.
    pub nodes: u32,
    /// Sections of its configuration file, as they stand there.
    pub config: toml::Table,
}

impl Default for Server {
    fn default() -> Self {
        Self { store: StoreKind::Embedded, nodes: 1, config: toml::Table::new() }
    }
}

/// Those who measure, and what is borne of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Witness {
    /// Connections over which each account's webhooks come.
    pub webhook_connections: usize,
    /// Threads that serve the simulated provider's API.
    pub api_threads: usize,
    /// Time between two readings, ms.
    pub sample_ms: u64,
    /// Longest lateness of harness and simulator (p99), ms.
    pub lag_ms_max: f64,
    /// CPU share of one of their threads from which on it counts as full.
    pub busy_max: f64,
    /// Largest share of the machine's time that a hypervisor may give to others over ten readings.
    pub stolen_max: f64,
    /// A ceiling exceeded in a second in which the machine stood still is no verdict. True: it is told and the rest of the run counts;
    /// false: the run is void and repeated.
    pub stalls_excused: bool,
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            webhook_connections: 64,
            api_threads: 1,
            sample_ms: 500,
            lag_ms_max: 50.0,
            busy_max: 0.95,
            stolen_max: 0.3,
            stalls_excused: false,
        }
    }
}

/// Which channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// WhatsApp over Meta.
    #[default]
    Meta,
    /// SMS over Twilio.
    Sms,
}

/// Some lines of one kind; all of a kind are one pool.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    /// The channel.
    pub channel: Channel,
    /// How many.
    pub count: u32,
    /// Ceiling of each, per second; the simulator enforces it.
    pub ceiling: u32,
}

impl Default for Line {
    fn default() -> Self {
        Self { channel: Channel::Meta, count: 1, ceiling: 80 }
    }
}

/// A number, or two between which it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a whole number, or [lowest, highest]")]
pub enum Span {
    /// This.
    One(u32),
    /// Evenly between both, ends included.
    Between([u32; 2]),
}

impl Span {
    /// Lowest and highest.
    #[must_use]
    pub fn ends(self) -> [u32; 2] {
        match self {
            Self::One(number) => [number, number],
            Self::Between(ends) => ends,
        }
    }

    /// Draws one.
    pub fn draw(self, dice: &mut Dice) -> u32 {
        dice.between(self.ends())
    }
}

/// What happens to an attempt in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It waits for its echo.
    #[default]
    AtMostOnce,
    /// It is sent again after a grace.
    AtLeastOnce,
    /// The first campaign so, the next so.
    Alternating,
}

impl Delivery {
    /// The policy of the n-th campaign.
    #[must_use]
    pub fn of(self, n: u32) -> Policy {
        match self {
            Self::AtMostOnce => Policy::AtMostOnce,
            Self::AtLeastOnce => Policy::AtLeastOnce,
            Self::Alternating if n.is_multiple_of(2) => Policy::AtMostOnce,
            Self::Alternating => Policy::AtLeastOnce,
        }
    }
}

/// Some campaigns of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Campaign {
    /// Their name; with a number behind it their id.
    pub name: String,
    /// How many.
    pub count: u32,
    /// The channel, and so the pool and the template.
    pub channel: Channel,
    /// Recipients of each.
    pub recipients: Option<Span>,
    /// Instead: as many as the rate (without one: an even part of the pool's ceilings) sends in so many seconds.
    pub lasts_s: Option<u32>,
    /// Own rate of each, per second.
    pub rate: Option<Span>,
    /// In-flight maximum of each.
    pub workers: u32,
    /// What happens to attempts in doubt.
    pub delivery: Delivery,
    /// How long these wait for an echo (or before they are sent again), seconds.
    pub echo_wait_s: u32,
    /// When the first starts, seconds after the begin.
    pub start_s: f64,
    /// Time between two starts, ms.
    pub stagger_ms: u32,
    /// They are sealed from the begin on and started by the server, which looks once a second whose time has come: all of one second at the
    /// same look.
    pub scheduled: bool,
    /// One that has ended is followed by another, until the disturbances are over.
    pub refill: bool,
    /// Recipients have external ids.
    pub external_ids: bool,
    /// Text messages are two SMS parts long.
    pub long: bool,
    /// Share of the recipients that are imported a second time, with other parameters.
    pub repeated: f64,
}

impl Default for Campaign {
    fn default() -> Self {
        Self {
            name: "campaign".to_owned(),
            count: 1,
            channel: Channel::Meta,
            recipients: None,
            lasts_s: None,
            rate: None,
            workers: 256,
            delivery: Delivery::AtMostOnce,
            echo_wait_s: 2,
            start_s: 0.0,
            stagger_ms: 0,
            scheduled: false,
            refill: false,
            external_ids: false,
            long: false,
            repeated: 0.0,
        }
    }
}

/// How the provider answers when nothing is disturbed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Every answer comes later by this, ms.
    pub latency_ms: Option<[u32; 2]>,
    /// Faults that are always on, in the simulator's words.
    pub faults: Vec<Rule>,
}

/// A campaign of a few messages a second on a line of its own; shows how soon a status is visible in the watch stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Messages per second.
    pub rate: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { rate: 10 }
    }
}

/// The bare client and receiver against the same simulator, in turn with the engine.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Floor {
    /// Pairs.
    pub pairs: u32,
    /// Messages of each half of a pair.
    pub messages: u32,
    /// Connections of the bare client.
    pub connections: u32,
    /// In-flight maximum of the engine's campaign. Not the same number: a message of the floor is in flight for one round trip, the
    /// engine's from its durable intent to its durable outcome.
    pub workers: u32,
}

impl Default for Floor {
    fn default() -> Self {
        Self { pairs: 7, messages: 50_000, connections: 64, workers: 1_024 }
    }
}

/// What disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// kill -9 and start again.
    #[default]
    Kill,
    /// SIGTERM and start again.
    Restart,
    /// The server stands still (SIGSTOP, SIGCONT).
    Stop,
    /// The provider is down: connections are reset, hang, or answer 5xx.
    Outage,
    /// The provider says "too fast".
    RateLimit,
    /// The provider answers later.
    Slow,
    /// No file of the server may grow.
    StoreFull,
    /// The CQL server stands still (SIGSTOP, SIGCONT).
    StoreStop,
    /// Lines get another ceiling.
    Ceiling,
    /// Campaigns get another rate.
    Rate,
    /// Campaigns are paused and resumed.
    Pause,
    /// Webhooks arrive by schedule, whatever the answers.
    Flood,
}

/// How an outage looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Connections are reset before anything is read.
    #[default]
    Reset,
    /// No answer for a long time.
    Hang,
    /// 503.
    Error,
    /// The message is accepted, and the connection reset instead of an answer.
    AcceptThenReset,
}

/// One disturbance; keys that say nothing for its kind are refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disturbance {
    /// What.
    pub kind: Kind,
    /// When first, seconds after the begin.
    pub at_s: f64,
    /// When again, milliseconds after the one before has ended.
    pub every_ms: Option<Span>,
    /// How often in all; 1 without `every_ms`.
    pub times: Option<u32>,
    /// How long it lasts, ms.
    pub for_ms: Option<u32>,
    /// Share of requests that it hits.
    pub share: Option<f64>,
    /// How an outage looks.
    pub how: Option<How>,
    /// Name of the campaigns (their entry's, not the id); without it all.
    pub campaign: Option<String>,
    /// New ceiling or rate; 0 takes a campaign's own rate away.
    pub to: Option<u32>,
    /// Added to each answer, ms.
    pub ms: Option<[u32; 2]>,
    /// Arrivals per second of a flood.
    pub per_second: Option<u32>,
    /// Connections of a flood.
    pub connections: Option<u32>,
}
