//! The comparison itself: a pure fold over what both sides say.

use std::collections::{BTreeMap, HashMap};

use super::doubts::beyond;
pub use super::fold::{CampaignFold, CampaignReport, LedgerCounts, Policy, Said};
use super::judge::{Case, Doubt, doubt, judge};
pub use super::kinds::{Differences, Found, Kind};
use super::records::{Attempt, Booked, Counts, Entry, Exported, Refused, Shown, join};
use crate::sim::digest::Digest;
use crate::sim::ledger::Why;
use crate::sim::rates::LineRate;
use crate::sim::text::e164;

/// A comparison under way: the ledger first, then every exported message once, then the counts of each campaign.
#[derive(Debug)]
pub struct Comparison {
    entries: Vec<Entry>,
    /// By a digest of the correlation id; the id itself is looked at in the entry.
    by_correlation: HashMap<u64, u32>,
    /// Further entries with the same digest.
    again: HashMap<u64, Vec<u32>>,
    /// What was not accepted, by correlation id; true once a message accounts for it.
    refused: HashMap<Box<str>, Vec<(Booked, bool)>>,
    /// What was not accepted and shows no correlation id.
    nameless: Vec<Booked>,
    interruptions: Option<Vec<u64>>,
    accounted: Vec<bool>,
    differences: Differences,
    campaigns: Vec<CampaignReport>,
}

fn key(correlation: &str) -> u64 {
    Digest::new("correlation", 0).text(correlation).done()
}

impl Comparison {
    /// A comparison with this ledger.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut comparison = Self {
            by_correlation: HashMap::with_capacity(entries.len()),
            again: HashMap::new(),
            refused: HashMap::new(),
            nameless: Vec::new(),
            interruptions: None,
            accounted: vec![false; entries.len()],
            differences: Differences::default(),
            campaigns: Vec::new(),
            entries,
        };
        for (place, entry) in comparison.entries.iter().enumerate() {
            let key = key(&entry.correlation);
            let Some(first) = comparison.by_correlation.get(&key) else {
                comparison.by_correlation.insert(key, place as u32);
                continue;
            };
            let others = comparison.again.entry(key).or_default();
            let same = |other: &u32| comparison.entries[*other as usize].correlation == entry.correlation;
            if std::iter::once(first).chain(others.iter()).any(same) {
                comparison.differences.note(Kind::CorrelationDoubled, || {
                    format!("{} to +{} as {}", entry.correlation, entry.to, entry.id)
                });
            }
            others.push(place as u32);
        }
        comparison
    }

    /// With what the simulator did not accept.
    #[must_use]
    pub fn refused(mut self, refused: impl IntoIterator<Item = Refused>) -> Self {
        for one in refused {
            if one.correlation.is_empty() {
                self.nameless.push(one.booked);
            } else {
                self.refused.entry(one.correlation).or_default().push((one.booked, false));
            }
        }
        self
    }

    /// With the moments at which the server was killed or stood still, ns since the epoch. Without them it is not known how many doubts are
    /// explained, and none is held against the server.
    #[must_use]
    pub fn interrupted(mut self, moments: Option<Vec<u64>>) -> Self {
        self.interruptions = moments;
        self
    }

    /// Places of the entries with this correlation id.
    fn places(&self, correlation: &str) -> Vec<usize> {
        let key = key(correlation);
        let all = self.by_correlation.get(&key).into_iter().chain(self.again.get(&key).into_iter().flatten());
        all.map(|place| *place as usize).filter(|place| *self.entries[*place].correlation == *correlation).collect()
    }

    /// Compares one exported message.
    pub fn message(&mut self, fold: &mut CampaignFold, message: &Exported) {
        fold.messages.add(message);
        if message.shown == Shown::Failed {
            let code = message.attempts.iter().max_by_key(|a| a.number).map_or("", |a| a.failure.as_str());
            *fold.failures.entry(if code.is_empty() { "0" } else { code }.to_owned()).or_default() += 1;
        }
        let person = self.place(fold, message);
        let mut found: Vec<(usize, &Attempt)> = Vec::new();
        let mut refused: Vec<(u32, Booked)> = Vec::new();
        for attempt in &message.attempts {
            found.extend(self.places(&attempt.correlation).into_iter().map(|place| (place, attempt)));
            if self.refused.is_empty() {
                continue;
            }
            for (booked, claimed) in self.refused.get_mut(attempt.correlation.as_str()).into_iter().flatten() {
                *claimed = true;
                refused.push((attempt.number, *booked));
            }
        }
        for (place, _) in &found {
            self.accounted[*place] = true;
        }
        let where_ = || format!("{} #{} {}", fold.campaign, message.seq, message.address);
        let recipient = e164(&message.address);
        for (place, attempt) in &found {
            let entry = &self.entries[*place];
            if Some(entry.to) != recipient {
                let words = || format!("{}: the provider got +{}", where_(), entry.to);
                self.differences.note(Kind::WrongRecipient, words);
            }
            if let (Some(audience), Some(person)) = (&fold.audience, person)
                && !audience.is_content(person, entry)
            {
                let words = || {
                    let parameters = audience.parameters(person);
                    format!("{}: imported with {parameters:?}, the provider got something else", where_())
                };
                self.differences.note(Kind::WrongContent, words);
            }
            if !attempt.provider_id.is_empty() && *attempt.provider_id != *entry.id {
                let words = || format!("{}: {} instead of {}", where_(), attempt.provider_id, entry.id);
                self.differences.note(Kind::WrongProviderId, words);
            }
        }
        for (number, booked) in refused.iter().filter(|(_, booked)| booked.why == Why::Wrong) {
            let words = || format!("{}: attempt {number} was refused as wrong, {booked}", where_());
            self.differences.note(Kind::Malformed, words);
        }
        let accepted_without =
            message.attempts.iter().find(|a| a.accepted && !found.iter().any(|(_, other)| other.number == a.number));
        if let Some(attempt) = accepted_without {
            let words = || format!("{}: attempt {} is accepted, but not in the ledger", where_(), attempt.number);
            self.differences.note(Kind::Lost, words);
        }
        let entries: Vec<(&Entry, &Attempt)> = found.iter().map(|(place, a)| (&self.entries[*place], *a)).collect();
        let case = Case { policy: fold.policy, unsent: fold.unsent, message, entries: &entries, refused: &refused };
        for (kind, words) in judge(&case) {
            self.differences.note(kind, || format!("{}: {words}", where_()));
        }
        match doubt(&case) {
            Some(Doubt::Booked) => fold.traceless.booked += 1,
            Some(Doubt::Unseen(began_ns)) => fold.unseen.push((began_ns, message.seq)),
            None => {}
        }
        fold.ledger.accepted += entries.len() as u64;
        fold.ledger.refused += refused.len() as u64;
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

    /// Every place and every recipient once, each as it was imported. Returns the recipient's place in the audience.
    fn place(&mut self, fold: &mut CampaignFold, message: &Exported) -> Option<u32> {
        let place = message.seq as usize;
        if fold.seen.len() <= place {
            fold.seen.resize(place + 1, false);
        }
        if std::mem::replace(&mut fold.seen[place], true) {
            let words = || format!("{} #{} is exported twice", fold.campaign, message.seq);
            self.differences.note(Kind::Repeated, words);
        }
        let audience = fold.audience?;
        let Some(person) = audience.place(&message.address) else {
            let words = || format!("{}: {} was never imported", fold.campaign, message.address);
            self.differences.note(Kind::Repeated, words);
            return None;
        };
        if std::mem::replace(&mut fold.here[person as usize], true) {
            let words = || format!("{}: {} is exported twice", fold.campaign, message.address);
            self.differences.note(Kind::Repeated, words);
        }
        let (parameters, external_id) = (audience.parameters(person), audience.external_id(person));
        if message.parameters != parameters || message.external_id != external_id {
            let words = || {
                let Exported { seq, address, parameters: said, external_id: id, .. } = message;
                let campaign = &fold.campaign;
                format!("{campaign} #{seq} {address}: {said:?} {id:?}, imported with {parameters:?} {external_id:?}")
            };
            self.differences.note(Kind::WrongRecord, words);
        }
        Some(person)
    }

    /// Ends a campaign: its counts against its messages.
    pub fn campaign(&mut self, mut fold: CampaignFold, said: Said) {
        let name = fold.campaign.clone();
        for (place, _) in fold.seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            self.differences.note(Kind::Missing, || format!("{name} #{place} is not exported"));
        }
        if let Some(audience) = &fold.audience {
            for (place, _) in fold.here.iter().enumerate().filter(|(_, here)| !**here) {
                let words = || format!("{name}: {} is not exported", audience.address(place as u32));
                self.differences.note(Kind::Missing, words);
            }
        }
        self.unseen(&mut fold);
        let Said { tally, recount, .. } = &said;
        for (kind, what, counts) in [(Kind::TallyDrift, "tally", tally), (Kind::RecountDrift, "recount", recount)] {
            self.drift(kind, &format!("{name}: {what}"), counts, &fold.messages, &["accepted"]);
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
        if let Some(length) = said.audience.filter(|length| *length != fold.messages.total) {
            let words = || format!("{name}: the frozen list has {length}, the export {}", fold.messages.total);
            self.differences.note(Kind::AudienceDrift, words);
        }
        if let Some(listed) = &said.listed {
            self.drift(Kind::ListDrift, &format!("{name}: the list"), listed, tally, &[]);
        }
        if let Some((watched, failures)) = &said.watched {
            self.drift(Kind::WatchDrift, &format!("{name}: the watch stream"), watched, tally, &[]);
            self.failures(Kind::WatchDrift, &format!("{name}: the watch stream"), failures, &fold.failures);
        }
        if let Some(failures) = &said.failures {
            self.failures(Kind::FailureDrift, &name, failures, &fold.failures);
        }
        self.campaigns.push(CampaignReport {
            campaign: fold.campaign,
            policy: fold.policy,
            tally: said.tally,
            recount: said.recount,
            recount_s: said.recount_s,
            messages: fold.messages,
            ledger: fold.ledger,
            traceless: fold.traceless,
        });
    }

    fn drift(&mut self, kind: Kind, who: &str, said: &Counts, real: &Counts, but: &[&str]) {
        let pairs = said.named().into_iter().zip(real.named());
        for ((field, said), (_, real)) in pairs.filter(|((field, _), _)| !but.contains(&field.as_str())) {
            if said != real {
                self.differences.note(kind, || format!("{who} says {field} = {said}, it is {real}"));
            }
        }
    }

    fn failures(&mut self, kind: Kind, who: &str, said: &BTreeMap<String, u64>, real: &BTreeMap<String, u64>) {
        let sum = |of: &BTreeMap<String, u64>| of.values().sum::<u64>();
        // What is summed up as "other" can only be compared as a sum.
        let same = if said.contains_key("other") { sum(said) == sum(real) } else { said == real };
        if !same {
            self.differences.note(kind, || format!("{who}: failures by code {said:?}, the messages say {real:?}"));
        }
    }

    /// How many doubts without a trace what happened to the server explains.
    fn unseen(&mut self, fold: &mut CampaignFold) {
        let unseen = fold.unseen.len() as u64;
        fold.traceless.unseen = unseen;
        fold.traceless.unanswered = fold.traceless.booked + unseen;
        let Some(moments) = &self.interruptions else { return };
        let (from, to) = fold.under_way;
        // What is under way at the end of a campaign still is for a while.
        let within =
            moments.iter().filter(|moment| (from..=to.saturating_add(super::doubts::FLIGHT_NS)).contains(moment));
        fold.traceless.interruptions = within.count() as u64;
        fold.traceless.allowed = Some(fold.traceless.interruptions * fold.in_flight);
        for (_, seq) in beyond(&fold.unseen, moments, fold.in_flight) {
            fold.traceless.beyond += 1;
            let words =
                || format!("{} #{seq} is in doubt, never seen by the provider, and nothing explains it", fold.campaign);
            self.differences.note(Kind::Vanished, words);
        }
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

    /// Compares the tenant's totals with the sum over its campaigns.
    pub fn totals(&mut self, totals: &Counts, sum: &Counts) {
        self.drift(Kind::TotalsDrift, "the tenant's totals", totals, sum, &[]);
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
                    .note(Kind::Stranger, || format!("{} to +{} as {}", entry.correlation, entry.to, entry.id));
            }
            for (correlation, all) in &self.refused {
                for (booked, _) in all.iter().filter(|(_, claimed)| !claimed) {
                    let kind = if booked.why == Why::Wrong { Kind::Malformed } else { Kind::Stranger };
                    self.differences.note(kind, || format!("{correlation}: not accepted ({booked}), of no message"));
                }
            }
            for booked in self.nameless.iter().filter(|booked| booked.why == Why::Wrong) {
                self.differences
                    .note(Kind::Malformed, || format!("a request without an id was refused as wrong, {booked}"));
            }
        }
        (self.differences, self.campaigns)
    }
}
