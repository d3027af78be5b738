//! The comparison itself: a pure fold over what both sides say.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::records::{Attempt, Counts, Entry, Exported, Phase, Shown, join, stage};
use crate::sim::ledger::Answer;
use crate::sim::rates::LineRate;

/// How many examples of each kind of difference are kept.
const EXAMPLES: usize = 5;

/// The campaign's delivery policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nobody is accepted twice.
    AtMostOnce,
    /// Twice only after a doubt.
    AtLeastOnce,
}

/// A kind of difference. Each is a lie that a server could tell, or a promise that it could break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A recipient is missing from the export, or the number of recipients is wrong.
    Missing,
    /// A place or a recipient occurs twice in the export.
    Repeated,
    /// The server says that it went out; the provider never accepted it.
    Lost,
    /// The provider accepted it; the server says that nothing went out.
    Denied,
    /// One correlation id was accepted more than once.
    CorrelationDoubled,
    /// One recipient of a campaign was accepted more often than its policy allows.
    RecipientDoubled,
    /// The provider accepted something that no message of the server accounts for.
    Stranger,
    /// The correlation id belongs to another recipient.
    WrongRecipient,
    /// The provider's id is not the one it gave.
    WrongProviderId,
    /// The shown status is not the join of what was acknowledged.
    WrongStatus,
    /// The highest stage is not what was acknowledged.
    WrongStage,
    /// The tally differs from the messages.
    TallyDrift,
    /// The recount differs from the tally or from the messages.
    RecountDrift,
    /// The shown statuses do not add up to the recipients.
    TallySum,
    /// More arrived in a second than the ceiling allows.
    AboveCeiling,
    /// Less was used than asked for in a window with demand.
    BelowUse,
    /// A webhook with a bad signature was taken.
    ForgedAccepted,
    /// Statuses are still not acknowledged: the comparison was made too early, or the server does not answer.
    NotQuiet,
}

impl Kind {
    /// The word in reports.
    #[must_use]
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// How often one kind of difference was found, with examples.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

/// All differences.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Differences(pub BTreeMap<Kind, Found>);

impl Differences {
    /// Notes one; its words are made only while they are kept.
    pub fn note(&mut self, kind: Kind, words: impl FnOnce() -> String) {
        let found = self.0.entry(kind).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES {
            found.examples.push(words());
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How often this kind was found.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).map_or(0, |found| found.count)
    }
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
    /// As the exported messages say.
    pub messages: Counts,
    /// As the simulator's ledger says: what must be shown.
    pub ledger: LedgerCounts,
}

/// What the simulator's ledger says about the recipients of a campaign.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerCounts {
    /// Requests accepted.
    pub accepted: u64,
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

/// A comparison under way: the ledger first, then every exported message once, then the counts of each campaign.
#[derive(Debug)]
pub struct Comparison {
    entries: Vec<Entry>,
    by_correlation: HashMap<Box<str>, u32>,
    /// Further entries of a correlation id that occurs more than once.
    again: HashMap<Box<str>, Vec<u32>>,
    accounted: Vec<bool>,
    differences: Differences,
    campaigns: Vec<CampaignReport>,
}

/// The messages of one campaign as they go by.
#[derive(Debug)]
pub struct CampaignFold {
    campaign: String,
    policy: Policy,
    messages: Counts,
    ledger: LedgerCounts,
    seen: Vec<bool>,
    addresses: Option<HashMap<Box<str>, bool>>,
}

impl CampaignFold {
    /// A fold for one campaign. With `recipients` the export must hold exactly these.
    #[must_use]
    pub fn new(campaign: &str, policy: Policy, recipients: Option<&[String]>) -> Self {
        let addresses = recipients.map(|all| all.iter().map(|a| (a.as_str().into(), false)).collect());
        Self {
            campaign: campaign.to_owned(),
            policy,
            messages: Counts::default(),
            ledger: LedgerCounts::default(),
            seen: Vec::new(),
            addresses,
        }
    }
}

impl Comparison {
    /// A comparison with this ledger.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut comparison = Self {
            by_correlation: HashMap::with_capacity(entries.len()),
            again: HashMap::new(),
            accounted: vec![false; entries.len()],
            differences: Differences::default(),
            campaigns: Vec::new(),
            entries,
        };
        for (place, entry) in comparison.entries.iter().enumerate() {
            let place = place as u32;
            if let Some(first) = comparison.by_correlation.insert(entry.correlation.clone(), place) {
                comparison.by_correlation.insert(entry.correlation.clone(), first);
                comparison.again.entry(entry.correlation.clone()).or_default().push(place);
                comparison.differences.note(Kind::CorrelationDoubled, || {
                    format!("{} to {} as {}", entry.correlation, entry.to, entry.id)
                });
            }
        }
        comparison
    }

    /// Compares one exported message.
    pub fn message(&mut self, fold: &mut CampaignFold, message: &Exported) {
        fold.messages.add(message);
        self.place(fold, message);
        let mut found: Vec<(usize, &Attempt)> = Vec::new();
        for attempt in &message.attempts {
            let first = self.by_correlation.get(attempt.correlation.as_str());
            let more = self.again.get(attempt.correlation.as_str());
            for place in first.into_iter().chain(more.into_iter().flatten()) {
                found.push((*place as usize, attempt));
            }
        }
        for (place, _) in &found {
            self.accounted[*place] = true;
        }
        let where_ = || format!("{} #{} {}", fold.campaign, message.seq, message.address);
        for (place, attempt) in &found {
            let entry = &self.entries[*place];
            if *entry.to != *message.address {
                let words = || format!("{}: the provider got {}", where_(), entry.to);
                self.differences.note(Kind::WrongRecipient, words);
            }
            if !attempt.provider_id.is_empty() && *attempt.provider_id != *entry.id {
                let words = || format!("{}: {} instead of {}", where_(), attempt.provider_id, entry.id);
                self.differences.note(Kind::WrongProviderId, words);
            }
        }
        let accepted_without =
            message.attempts.iter().find(|a| a.accepted && !found.iter().any(|(_, other)| other.number == a.number));
        if let Some(attempt) = accepted_without {
            let words = || format!("{}: attempt {} is accepted, but not in the ledger", where_(), attempt.number);
            self.differences.note(Kind::Lost, words);
        }
        let entries: Vec<(&Entry, &Attempt)> = found.iter().map(|(place, a)| (&self.entries[*place], *a)).collect();
        let verdict = judge(fold.policy, message, &entries);
        for (kind, words) in verdict {
            self.differences.note(kind, || format!("{}: {words}", where_()));
        }
        fold.ledger.accepted += entries.len() as u64;
        if let Some((newest, _)) = entries.iter().max_by_key(|(_, a)| a.number) {
            fold.ledger.recipients += 1;
            fold.ledger.doubled += u64::from(entries.len() > 1);
            *match join(newest.acked) {
                Some(Shown::Failed) => &mut fold.ledger.failed,
                Some(Shown::Read) => &mut fold.ledger.read,
                Some(Shown::Delivered) => &mut fold.ledger.delivered,
                Some(_) => &mut fold.ledger.sent,
                None => &mut fold.ledger.nothing,
            } += 1;
        }
    }

    /// Every place and every recipient once.
    fn place(&mut self, fold: &mut CampaignFold, message: &Exported) {
        let place = message.seq as usize;
        if fold.seen.len() <= place {
            fold.seen.resize(place + 1, false);
        }
        if std::mem::replace(&mut fold.seen[place], true) {
            let words = || format!("{} #{} is exported twice", fold.campaign, message.seq);
            self.differences.note(Kind::Repeated, words);
        }
        let Some(addresses) = &mut fold.addresses else {
            return;
        };
        match addresses.get_mut(message.address.as_str()) {
            Some(seen @ false) => *seen = true,
            Some(true) => {
                let words = || format!("{}: {} is exported twice", fold.campaign, message.address);
                self.differences.note(Kind::Repeated, words);
            }
            None => {
                let words = || format!("{}: {} was never imported", fold.campaign, message.address);
                self.differences.note(Kind::Repeated, words);
            }
        }
    }

    /// Ends a campaign: its counts against its messages.
    pub fn campaign(&mut self, fold: CampaignFold, tally: Counts, recount: Counts) {
        let name = &fold.campaign;
        for (place, _) in fold.seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            self.differences.note(Kind::Missing, || format!("{name} #{place} is not exported"));
        }
        if let Some(addresses) = &fold.addresses {
            for (address, _) in addresses.iter().filter(|(_, seen)| !**seen) {
                self.differences.note(Kind::Missing, || format!("{name}: {address} is not exported"));
            }
        }
        for (kind, what, counts) in [(Kind::TallyDrift, "tally", &tally), (Kind::RecountDrift, "recount", &recount)] {
            let pairs = counts.named().into_iter().zip(fold.messages.named());
            for ((field, said), (_, real)) in pairs.filter(|((field, _), _)| field != "accepted") {
                if said != real {
                    let words = || format!("{name}: {what} says {field} = {said}, the messages say {real}");
                    self.differences.note(kind, words);
                }
            }
            let sum: u64 = counts.shown.iter().sum();
            if sum != counts.total {
                let words = || format!("{name}: {what} adds up to {sum}, not {}", counts.total);
                self.differences.note(Kind::TallySum, words);
            }
        }
        // Accepted is counted by the answer, which a crash may have cut off; an echo may or may not make up for it.
        let bounds = fold.messages.accepted..=fold.ledger.recipients.max(fold.messages.accepted);
        if tally.accepted != recount.accepted || !bounds.contains(&tally.accepted) {
            let words = || {
                format!(
                    "{name}: accepted is {} in the tally, {} in the recount, {} in the messages, {} in the ledger",
                    tally.accepted, recount.accepted, fold.messages.accepted, fold.ledger.recipients
                )
            };
            self.differences.note(Kind::TallyDrift, words);
        }
        self.campaigns.push(CampaignReport {
            campaign: fold.campaign,
            policy: fold.policy,
            tally,
            recount,
            messages: fold.messages,
            ledger: fold.ledger,
        });
    }

    /// Compares the rates of lines with their ceilings; `use_min` is the share to be used in every window that was measured.
    pub fn rates(&mut self, rates: &[LineRate], ceilings: &HashMap<String, u32>, use_min: Option<f64>) {
        for rate in rates.iter().filter(|rate| rate.arrivals > 0) {
            let ceiling = ceilings.get(&rate.line).copied().unwrap_or(rate.ceiling);
            if rate.highest > u64::from(ceiling) {
                let words = || format!("{}: {} in one second, ceiling {ceiling}", rate.line, rate.highest);
                self.differences.note(Kind::AboveCeiling, words);
            }
            let (Some(min), Some(mean)) = (use_min, rate.lowest_window_mean) else {
                continue;
            };
            let used = mean / f64::from(ceiling);
            if used < min {
                let words =
                    || format!("{}: {used:.4} used over {} s, at least {min} asked for", rate.line, rate.window_s);
                self.differences.note(Kind::BelowUse, words);
            }
        }
    }

    /// Notes what was found elsewhere.
    pub fn note(&mut self, kind: Kind, words: String) {
        self.differences.note(kind, || words);
    }

    /// Ends the comparison. With `strangers` everything in the ledger must belong to a message that was compared.
    #[must_use]
    pub fn finish(mut self, strangers: bool) -> (Differences, Vec<CampaignReport>) {
        if strangers {
            for (entry, _) in self.entries.iter().zip(&self.accounted).filter(|(_, seen)| !**seen) {
                self.differences
                    .note(Kind::Stranger, || format!("{} to {} as {}", entry.correlation, entry.to, entry.id));
            }
        }
        (self.differences, self.campaigns)
    }
}

/// What is wrong with one message, given what the provider accepted of it.
fn judge(policy: Policy, message: &Exported, entries: &[(&Entry, &Attempt)]) -> Vec<(Kind, String)> {
    let mut wrong = Vec::new();
    let shown = message.shown;
    let Some((newest, _)) = entries.iter().max_by_key(|(_, attempt)| attempt.number) else {
        let gone = matches!(shown, Shown::Queued | Shown::Sent | Shown::Delivered | Shown::Read | Shown::Unknown);
        if gone || message.reached >= 3 {
            let words = format!("shows {} (stage {}), never accepted", shown.word(), message.reached);
            wrong.push((Kind::Lost, words));
        }
        return wrong;
    };
    if matches!(shown, Shown::Pending | Shown::Cancelled | Shown::Expired) && !superseded(message, entries) {
        wrong.push((Kind::Denied, format!("shows {}, accepted as {}", shown.word(), newest.id)));
        return wrong;
    }
    if entries.len() > 1 && !allowed_twice(policy, message, entries) {
        wrong.push((Kind::RecipientDoubled, format!("accepted {} times", entries.len())));
    }
    let all_acked = entries.iter().fold(0, |bits, (entry, _)| bits | entry.acked);
    let all_tried = entries.iter().fold(0, |bits, (entry, _)| bits | entry.tried);
    if !statuses(newest, all_tried).contains(&shown) {
        let words = format!(
            "shows {}, acknowledged {:04b}, posted {:04b}, answered {:?}",
            shown.word(),
            newest.acked,
            all_tried,
            newest.answer
        );
        wrong.push((Kind::WrongStatus, words));
    }
    let (low, high) = (stage(all_acked), stage(all_tried).max(2));
    if !(low..=high).contains(&message.reached) {
        let words = format!("stage {}, acknowledged {low}, posted {high}", message.reached);
        wrong.push((Kind::WrongStage, words));
    }
    wrong
}

/// What may be shown: the join of what was acknowledged and of any part of what was posted without an acknowledgement;
/// while no status is known, queued, or a doubt where the answer may have been lost.
fn statuses(newest: &Entry, all_tried: u8) -> Vec<Shown> {
    let mut allowed = Vec::new();
    let open = (newest.tried | all_tried) & !newest.acked;
    for extra in 0..16u8 {
        if extra & !open != 0 {
            continue;
        }
        match join(newest.acked | extra) {
            Some(shown) => allowed.push(shown),
            // A crash of the server loses the answer, whatever the simulator did, so a doubt is always possible.
            None => allowed.extend([Shown::Queued, Shown::InDoubt, Shown::Unconfirmed]),
        }
    }
    if newest.acked == 0 && newest.answer != Answer::Given {
        allowed.retain(|shown| *shown != Shown::Queued);
    }
    allowed
}

/// Whether a later attempt than those the provider accepted explains that nothing seems to have gone out: the accepted one failed
/// and a retry was due.
fn superseded(message: &Exported, entries: &[(&Entry, &Attempt)]) -> bool {
    let failed = entries.iter().all(|(entry, _)| entry.tried & super::records::FAILED != 0);
    failed && message.shown == Shown::Pending
}

/// Whether a recipient may have been accepted more than once: never at most once; otherwise when each attempt but the newest was in
/// doubt, or failed, or the message is marked as doubled.
fn allowed_twice(policy: Policy, message: &Exported, entries: &[(&Entry, &Attempt)]) -> bool {
    let newest = entries.iter().map(|(_, attempt)| attempt.number).max();
    policy == Policy::AtLeastOnce
        && entries.iter().all(|(entry, attempt)| {
            Some(attempt.number) == newest
                || message.double
                || matches!(attempt.phase, Phase::InDoubt | Phase::Unconfirmed)
                || entry.tried & super::records::FAILED != 0
        })
}
