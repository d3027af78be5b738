//! What can differ, and how often it did.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many examples of each kind of difference are kept.
const EXAMPLES: usize = 5;

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
    /// It was given up (failed, cancelled, expired) without anything that the provider or the run did to it.
    Dropped,
    /// In doubt or unconfirmed, never seen by the provider, and more of them than what happened to the server explains.
    Vanished,
    /// The provider found fault with a request, without being told to.
    Malformed,
    /// The provider accepted something else than what was imported: another template, other parameters.
    WrongContent,
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
    /// The parameters or the external id in the export are not those that were imported.
    WrongRecord,
    /// The failure in the export is not the one that the provider gave.
    WrongFailure,
    /// Marked as gone out twice although it was accepted once, or not marked although both were reported.
    WrongDouble,
    /// Marked as failed and delivered in one attempt although none was both, or not marked although both were acknowledged.
    WrongConflict,
    /// The tally differs from the messages.
    TallyDrift,
    /// The recount differs from the tally or from the messages.
    RecountDrift,
    /// The shown statuses do not add up to the recipients.
    TallySum,
    /// Failures by code differ from the messages.
    FailureDrift,
    /// The list of campaigns says something else than the campaign itself.
    ListDrift,
    /// The tenant's totals are not the sum of its campaigns.
    TotalsDrift,
    /// The watch stream says something else than the campaign itself.
    WatchDrift,
    /// The frozen list has another length than what is exported.
    AudienceDrift,
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
