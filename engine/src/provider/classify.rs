//! From an answer to a [`Verdict`].
//!
//! Three questions in this order: did the provider take it, does the answer prove that it did not, and only then what the
//! code's class advises. A 5xx, an unreadable 2xx, a cut or a time-out after the first byte prove nothing, whatever class the code
//! has; only a code documented as not processed ([`Proof::NotProcessed`]) does even then.

use super::class::{
    ACCOUNT, AMBIGUOUS, Action, BUG, Class, CodeRow, Proof, RECIPIENT, RETRY, SLOW_ACCOUNT, SLOW_LINE, Scope,
};
use super::verdict::{Act, Answer, Effects, Transport, Verdict};
use super::{ProviderKind, meta, twilio};
use crate::domain::message::Failure;
use std::time::Duration;

/// The row of a code, if there is one.
pub fn code_row(kind: ProviderKind, code: u32) -> Option<&'static CodeRow> {
    let table = if kind.is_twilio() { twilio::CODES } else { meta::CODES };
    table.iter().find(|row| row.covers(code))
}

/// What an answer to a send means.
pub fn classify(kind: ProviderKind, answer: Answer<'_>) -> Verdict {
    match answer {
        Answer::Http { status, body } => http(kind, status, body),
        // Without its body an answer is its status: a 429 still proves that nothing was processed.
        Answer::Transport(Transport::AnswerCut { status }) => http(kind, status, b""),
        Answer::Transport(Transport::NothingWritten) => Verdict::NotProcessed {
            class: Class::Retry,
            failure: failure(None, Class::Retry, "nothing was written: no connection to the provider", "", ""),
            // Not charged, or an outage of some minutes would use up every recipient's budget without one try.
            charged: false,
            retries_max: None,
            wait: None,
            effects: Effects { breaker: true, ..Effects::default() },
        },
        Answer::Transport(Transport::CutAfterWrite) => {
            unclear_transport("the connection broke after the request was written")
        }
        Answer::Transport(Transport::TimeoutAfterWrite) => unclear_transport("no answer in time"),
    }
}

/// What a failure in a status webhook means. The attempt is over; the message is final unless it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventVerdict {
    /// The table's action for the code in webhooks, or the default for an unknown one.
    pub action: Action,
    /// Our words for the code, if it is known.
    pub title: Option<&'static str>,
    /// What follows beyond the message.
    pub effects: Effects,
    /// Documented as not sent: may be sent again under either policy.
    pub not_processed: bool,
    /// May be sent again under *at least once*.
    pub repeatable: bool,
}

/// What the code of a failed status means; without a code, or with an unknown one, the recipient has failed.
pub fn classify_event(kind: ProviderKind, code: Option<u32>) -> EventVerdict {
    let row = code.and_then(|code| code_row(kind, code));
    let action = row.map_or(RECIPIENT, |row| row.event);
    let not_processed = action.proof == Proof::NotProcessed;
    EventVerdict {
        action,
        title: row.map(|row| row.title),
        effects: effects(&action),
        not_processed,
        repeatable: not_processed || matches!(action.class, Class::Retry | Class::Slow | Class::Pair),
    }
}

fn http(kind: ProviderKind, status: u16, body: &[u8]) -> Verdict {
    if (200..300).contains(&status) {
        return success(kind, body);
    }
    let said = if kind.is_twilio() { twilio::answer::error(body) } else { meta::answer::error(body) };
    // Zero means a refused token in a 4xx; in a 5xx it is what a server says that has no code, and no reason to hold the account.
    let code = said.code.filter(|code| *code != 0 || status < 500);
    let row = code.and_then(|code| code_row(kind, code));
    let action = row.map_or_else(|| unknown(kind, status), |row| row.answer);
    let by_status;
    let title = match row {
        Some(row) => row.title,
        None => {
            by_status = format!("HTTP {status}");
            &by_status
        }
    };
    decide(status, action, failure(said.code, action.class, title, &said.message, &said.details))
}

fn success(kind: ProviderKind, body: &[u8]) -> Verdict {
    let unreadable = || unclear_transport("the provider's success answer could not be read");
    if !kind.is_twilio() {
        return match meta::answer::accepted(body) {
            Some((provider_id, held)) => Verdict::Accepted { provider_id, held },
            None => unreadable(),
        };
    }
    match twilio::answer::created(body) {
        Some(twilio::answer::Created::Accepted(provider_id)) => Verdict::Accepted { provider_id, held: false },
        Some(twilio::answer::Created::Failed { code, message }) => created_failed(kind, code, message),
        None => unreadable(),
    }
}

/// A message that was created as failed is over; what its code says of line or campaign still holds.
fn created_failed(kind: ProviderKind, code: Option<u32>, message: String) -> Verdict {
    let verdict = classify_event(kind, code);
    let class = verdict.action.class;
    let title = verdict.title.unwrap_or("created as failed");
    Verdict::Failed { class, failure: failure(code, class, title, &message, ""), effects: verdict.effects }
}

/// The default for an answer whose code is missing or unknown.
fn unknown(kind: ProviderKind, status: u16) -> Action {
    match status {
        429 if kind.is_twilio() => SLOW_ACCOUNT,
        429 => SLOW_LINE,
        // Holding keeps every message; failing them one by one would not.
        401 | 403 => ACCOUNT,
        // Twilio's path holds the account id, so nothing else can be missing there.
        404 if kind.is_twilio() => ACCOUNT,
        // The server gave up waiting for the request; it does not say how much it had read.
        408 => AMBIGUOUS,
        400..500 => BUG,
        500..600 => RETRY,
        _ => AMBIGUOUS,
    }
}

fn decide(status: u16, action: Action, failure: Box<Failure>) -> Verdict {
    let mut effects = effects(&action);
    let proven = match action.proof {
        Proof::NotProcessed => true,
        Proof::Refused => status < 500,
        Proof::None => false,
    } || status == 429;
    if !proven {
        effects.breaker = true;
        effects.bug_run = false;
        effects.suppress = false;
        return Verdict::Unclear {
            class: action.class,
            failure,
            retries_max: action.retries_max,
            wait: action.wait(),
            effects,
        };
    }
    let charged = match (action.class, action.scope) {
        // A 429 is about our pace, whatever its code: never charged, and somebody has to slow down.
        (Class::Retry | Class::Ambiguous, _) if status == 429 => {
            effects.act = Some(Act::SlowLine);
            false
        }
        (Class::Retry | Class::Ambiguous, _) => true,
        (Class::Slow | Class::Pair | Class::Pause | Class::Account, _) => false,
        // Held with the campaign, so that its messages go out once the template is mended.
        (Class::Campaign, Scope::Campaign) => false,
        (
            Class::Campaign | Class::Recipient | Class::Later | Class::Suppress | Class::Bug | Class::NotApplicable,
            _,
        ) => return Verdict::Failed { class: action.class, failure, effects },
    };
    Verdict::NotProcessed {
        class: action.class,
        failure,
        charged,
        retries_max: action.retries_max,
        wait: action.wait(),
        effects,
    }
}

/// What an action does beyond its message.
fn effects(action: &Action) -> Effects {
    let wait = Duration::from_secs(u64::from(action.wait_s));
    let act = match (action.class, action.scope) {
        (Class::Slow, Scope::Account) => Some(Act::SlowAccount),
        (Class::Slow, _) => Some(Act::SlowLine),
        (Class::Pause, Scope::Account) => Some(Act::PauseAccount(wait)),
        (Class::Pause, Scope::Campaign) => Some(Act::PauseCampaign(wait)),
        (Class::Pause, _) => Some(Act::PauseLine(wait)),
        (Class::Account, Scope::Line) => Some(Act::HoldLine),
        (Class::Account, _) => Some(Act::HoldAccount),
        (Class::Campaign, Scope::Campaign) => Some(Act::HoldCampaign),
        _ => None,
    };
    Effects {
        act,
        bug_run: action.class == Class::Bug || (action.class, action.scope) == (Class::Campaign, Scope::Country),
        breaker: false,
        suppress: action.class == Class::Suppress,
    }
}

fn failure(code: Option<u32>, class: Class, title: &str, message: &str, details: &str) -> Box<Failure> {
    Box::new(Failure::new(code.unwrap_or(0), class.as_str(), title, message, details))
}

fn unclear_transport(title: &'static str) -> Verdict {
    Verdict::Unclear {
        class: Class::Ambiguous,
        failure: failure(None, Class::Ambiguous, title, "", ""),
        retries_max: None,
        wait: None,
        effects: Effects { breaker: true, ..Effects::default() },
    }
}

#[cfg(test)]
mod tests;
