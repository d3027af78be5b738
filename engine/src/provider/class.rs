//! The vocabulary of the error tables: what kind of trouble a code is, what it acts on, and what it proves.

use std::time::Duration;

/// What to do about a failure. The advice is ours, not the providers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Transient: the same message again, with backoff and jitter, charged to its retry budget.
    Retry,
    /// Too fast: the message is put back, the line (or all lines of the account) slows down; nothing is charged.
    Slow,
    /// Too fast towards this one recipient: only the pair waits; nothing is charged.
    Pair,
    /// The scope stops for a while with its messages kept; nothing is charged.
    Pause,
    /// Final for this recipient in this campaign.
    Recipient,
    /// Final here; another campaign may try again, not within a day.
    Later,
    /// Template, parameters or content are wrong for every recipient: the campaign is held.
    Campaign,
    /// Token, permission, payment, registration: the line or the account is held.
    Account,
    /// Final, and the recipient belongs on the suppression list of the scope.
    Suppress,
    /// The request as built is not acceptable: final for the message; twenty of one code in a row hold the campaign.
    Bug,
    /// It may have been sent.
    Ambiguous,
    /// Not expected where it was seen; taken as final for the recipient.
    NotApplicable,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Retry,
        Self::Slow,
        Self::Pair,
        Self::Pause,
        Self::Recipient,
        Self::Later,
        Self::Campaign,
        Self::Account,
        Self::Suppress,
        Self::Bug,
        Self::Ambiguous,
        Self::NotApplicable,
    ];

    /// The name in the ledger, in answers and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Slow => "slow",
            Self::Pair => "pair",
            Self::Pause => "pause",
            Self::Recipient => "recipient",
            Self::Later => "later",
            Self::Campaign => "campaign",
            Self::Account => "account",
            Self::Suppress => "suppress",
            Self::Bug => "bug",
            Self::Ambiguous => "ambiguous",
            Self::NotApplicable => "not_applicable",
        }
    }
}

/// What a failure acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// This message.
    Message,
    /// This recipient together with this line.
    Pair,
    /// The line.
    Line,
    /// Every line of the account; also what a provider keeps per app, portfolio or WhatsApp business account.
    Account,
    /// The campaign.
    Campaign,
    /// The campaign's recipients of one country. Acted on message by message, and by the run of twenty.
    Country,
    /// The tenant: a fact about the recipient that holds whatever line is used.
    Tenant,
}

/// What a code says about whether the message may have gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Documented as not processed, whatever HTTP status carries it: rate codes and the like.
    NotProcessed,
    /// Its documented meaning is that the request was turned down. Believed unless a 5xx carries it.
    Refused,
    /// Says nothing about it.
    None,
}

/// One entry of an error table: what to do about a code in one place (answer or webhook).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What kind of trouble.
    pub class: Class,
    /// What it acts on.
    pub scope: Scope,
    /// What it proves.
    pub proof: Proof,
    /// Shortest sensible wait before the message, or the paused scope, is tried again, in seconds; 0 leaves it to the backoff.
    pub wait_s: u32,
    /// Fewer repeats than the retry policy grants, where the provider's text says so.
    pub retries_max: Option<u8>,
    /// Class once the repeats are used up.
    pub then: Class,
}

impl Action {
    const fn new(class: Class, scope: Scope, proof: Proof) -> Self {
        Self {
            class,
            scope,
            proof,
            wait_s: 0,
            retries_max: None,
            then: match class {
                Class::Retry => Class::Recipient,
                other => other,
            },
        }
    }

    /// The wait as a duration, if there is a hint.
    pub const fn wait(&self) -> Option<Duration> {
        match self.wait_s {
            0 => None,
            seconds => Some(Duration::from_secs(seconds as u64)),
        }
    }

    /// With a hint at how long to wait.
    pub(super) const fn after(mut self, seconds: u32) -> Self {
        self.wait_s = seconds;
        self
    }

    /// With a cap on repeats and what it is afterwards.
    pub(super) const fn at_most(mut self, retries: u8, then: Class) -> Self {
        self.retries_max = Some(retries);
        self.then = then;
        self
    }

    /// Documented as not processed.
    pub(super) const fn not_processed(mut self) -> Self {
        self.proof = Proof::NotProcessed;
        self
    }
}

pub(super) const RETRY: Action = Action::new(Class::Retry, Scope::Message, Proof::None);
pub(super) const RETRY_ONCE: Action = RETRY.at_most(1, Class::Recipient);
pub(super) const SLOW_LINE: Action = Action::new(Class::Slow, Scope::Line, Proof::NotProcessed);
pub(super) const SLOW_ACCOUNT: Action = Action::new(Class::Slow, Scope::Account, Proof::NotProcessed);
pub(super) const PAIR: Action = Action::new(Class::Pair, Scope::Pair, Proof::NotProcessed);
pub(super) const RECIPIENT: Action = Action::new(Class::Recipient, Scope::Message, Proof::Refused);
pub(super) const LATER: Action = Action::new(Class::Later, Scope::Message, Proof::Refused);
pub(super) const CAMPAIGN: Action = Action::new(Class::Campaign, Scope::Campaign, Proof::Refused);
pub(super) const CAMPAIGN_COUNTRY: Action = Action::new(Class::Campaign, Scope::Country, Proof::Refused);
pub(super) const ACCOUNT: Action = Action::new(Class::Account, Scope::Account, Proof::Refused);
pub(super) const ACCOUNT_LINE: Action = Action::new(Class::Account, Scope::Line, Proof::Refused);
/// The recipient does not want messages of this sender.
pub(super) const SUPPRESS_PAIR: Action = Action::new(Class::Suppress, Scope::Pair, Proof::Refused);
/// The number cannot take such messages from anybody.
pub(super) const SUPPRESS_TENANT: Action = Action::new(Class::Suppress, Scope::Tenant, Proof::Refused);
pub(super) const BUG: Action = Action::new(Class::Bug, Scope::Message, Proof::Refused);
pub(super) const AMBIGUOUS: Action = Action::new(Class::Ambiguous, Scope::Message, Proof::None);
pub(super) const NOT_APPLICABLE: Action = Action::new(Class::NotApplicable, Scope::Message, Proof::Refused);

/// Stops a scope for a while.
pub(super) const fn pause(scope: Scope, seconds: u32) -> Action {
    Action::new(Class::Pause, scope, Proof::Refused).after(seconds)
}

/// A code, or a run of codes that mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRow {
    /// First code.
    pub first: u32,
    /// Last code; the same as `first` for a single one.
    pub last: u32,
    /// What it says, in a few words of ours.
    pub title: &'static str,
    /// In the answer to a send.
    pub answer: Action,
    /// In a status webhook.
    pub event: Action,
    /// Where the meaning is from.
    pub source: &'static str,
}

impl CodeRow {
    /// A code that means the same in both places.
    pub(super) const fn new(code: u32, title: &'static str, action: Action, source: &'static str) -> Self {
        Self { first: code, last: code, title, answer: action, event: action, source }
    }

    /// A run of codes.
    pub(super) const fn to(mut self, last: u32) -> Self {
        self.last = last;
        self
    }

    /// With another meaning in a webhook.
    pub(super) const fn event(mut self, action: Action) -> Self {
        self.event = action;
        self
    }

    /// Whether the row is about this code.
    pub const fn covers(&self, code: u32) -> bool {
        self.first <= code && code <= self.last
    }
}
