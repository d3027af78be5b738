//! One campaign while it is compared, and what is reported of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::audience::Audience;
use super::doubts::{Traceless, Unseen};
use super::records::Counts;

/// The campaign's delivery policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nobody is accepted twice.
    AtMostOnce,
    /// Twice only after a doubt.
    AtLeastOnce,
}

/// What one campaign looks like from both sides.
#[derive(Debug, Clone, Serialize)]
pub struct CampaignReport {
    /// The campaign.
    pub campaign: String,
    /// Its policy.
    pub policy: Policy,
    /// As its tally says.
    pub tally: Counts,
    /// As the server's recount says.
    pub recount: Counts,
    /// How long that took, s.
    pub recount_s: f64,
    /// As the exported messages say.
    pub messages: Counts,
    /// As the simulator's ledger says: what must be shown.
    pub ledger: LedgerCounts,
    /// In doubt without a trace at the provider.
    pub traceless: Traceless,
}

/// What the simulator's ledger says about the recipients of a campaign.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerCounts {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests that were not accepted.
    pub refused: u64,
    /// Recipients accepted at least once.
    pub recipients: u64,
    /// Recipients accepted more than once.
    pub doubled: u64,
    /// Recipients by the join of what was acknowledged: nothing, sent, delivered, read, failed.
    pub nothing: u64,
    /// Sent.
    pub sent: u64,
    /// Delivered.
    pub delivered: u64,
    /// Read.
    pub read: u64,
    /// Failed.
    pub failed: u64,
}

/// What the server says of a campaign as a whole, in all the places where it says it.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Its tally.
    pub tally: Counts,
    /// Its recount.
    pub recount: Counts,
    /// How long that took, s.
    pub recount_s: f64,
    /// Its failures by code; the code `other` sums up what the server does not list.
    pub failures: Option<BTreeMap<String, u64>>,
    /// Its tally in the list of campaigns.
    pub listed: Option<Counts>,
    /// Its tally and its failures in the watch stream.
    pub watched: Option<(Counts, BTreeMap<String, u64>)>,
    /// The length of its frozen list.
    pub audience: Option<u64>,
}

/// The messages of one campaign as they go by.
#[derive(Debug)]
pub struct CampaignFold {
    pub(super) campaign: String,
    pub(super) policy: Policy,
    pub(super) messages: Counts,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) ledger: LedgerCounts,
    pub(super) seen: Vec<bool>,
    pub(super) audience: Option<Audience>,
    /// Who of the audience is exported.
    pub(super) here: Vec<bool>,
    pub(super) in_flight: u64,
    pub(super) unsent: bool,
    /// When it was under way, ns since the epoch.
    pub(super) under_way: (u64, u64),
    pub(super) traceless: Traceless,
    pub(super) unseen: Vec<Unseen>,
}

impl CampaignFold {
    /// A fold for one campaign. With an audience the export must hold exactly these.
    #[must_use]
    pub fn new(campaign: &str, policy: Policy, audience: Option<Audience>) -> Self {
        Self {
            campaign: campaign.to_owned(),
            policy,
            messages: Counts::default(),
            failures: BTreeMap::new(),
            ledger: LedgerCounts::default(),
            seen: Vec::new(),
            here: vec![false; audience.map_or(0, |audience| audience.count as usize)],
            audience,
            in_flight: 0,
            unsent: false,
            under_way: (0, u64::MAX),
            traceless: Traceless::default(),
            unseen: Vec::new(),
        }
    }

    /// The most of its messages that can be in flight at once.
    #[must_use]
    pub fn in_flight(mut self, most: u64) -> Self {
        self.in_flight = most;
        self
    }

    /// It was ended early, or has not ended: that messages were not sent is no fault.
    #[must_use]
    pub fn unsent(mut self, unsent: bool) -> Self {
        self.unsent = unsent;
        self
    }

    /// From when to when it could send, ns since the epoch.
    #[must_use]
    pub fn under_way(mut self, from_ns: u64, to_ns: u64) -> Self {
        self.under_way = (from_ns, to_ns);
        self
    }
}
