//! What is wrong with one message, given what the provider's books say of it. Plain functions.

use super::fold::Policy;
use super::kinds::Kind;
use super::records::{Attempt, Booked, DELIVERED, Entry, Exported, FAILED, Phase, READ, SENT, Shown, join, stage};
use crate::sim::ledger::Answer;

/// One message with everything that the provider's books say of it.
#[derive(Debug)]
pub struct Case<'a> {
    /// The campaign's policy.
    pub policy: Policy,
    /// Its campaign has not sent everything, so what was not sent is none of its messages' fault.
    pub unsent: bool,
    /// As the server exports it.
    pub message: &'a Exported,
    /// What was accepted of it, with the attempts that it belongs to.
    pub entries: &'a [(&'a Entry, &'a Attempt)],
    /// What was booked of requests of it that were not accepted, with their attempts' numbers.
    pub refused: &'a [(u32, Booked)],
}

/// What became of a message that the provider never accepted and that is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The books say what the provider did to it.
    Booked,
    /// It was never seen; when its newest attempt began.
    Unseen(u64),
}

/// What is wrong with it.
#[must_use]
pub fn judge(case: &Case<'_>) -> Vec<(Kind, String)> {
    let Case { policy, message, entries, .. } = *case;
    let mut wrong = Vec::new();
    let shown = message.shown;
    let Some((newest, _)) = entries.iter().max_by_key(|(_, attempt)| attempt.number) else {
        wrong.extend(never_accepted(case));
        wrong.extend(failure(case));
        wrong.extend(conflict(case));
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
    let refused_at_last = shown == Shown::Failed && booked_failure(case).is_some();
    if !statuses(newest, all_tried).contains(&shown) && !refused_at_last {
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
    wrong.extend(failure(case));
    wrong.extend(double(case));
    wrong.extend(conflict(case));
    wrong
}

/// Of a message in doubt that the provider never accepted; nothing of any other.
#[must_use]
pub fn doubt(case: &Case<'_>) -> Option<Doubt> {
    let message = case.message;
    if !case.entries.is_empty() || !matches!(message.shown, Shown::InDoubt | Shown::Unconfirmed) {
        return None;
    }
    let in_doubt = message.attempts.iter().filter(|a| matches!(a.phase, Phase::InDoubt | Phase::Unconfirmed));
    let newest = in_doubt.max_by_key(|attempt| attempt.number);
    let booked = newest.is_some_and(|newest| case.refused.iter().any(|(number, _)| *number == newest.number));
    Some(if booked { Doubt::Booked } else { Doubt::Unseen(newest.map_or(0, |newest| newest.began_ns)) })
}

/// A message that the provider never accepted must say so, and why.
fn never_accepted(case: &Case<'_>) -> Option<(Kind, String)> {
    let message = case.message;
    let shown = message.shown.word();
    match message.shown {
        _ if message.reached >= 3 => {
            Some((Kind::Lost, format!("shows {shown} (stage {}), never accepted", message.reached)))
        }
        Shown::Queued | Shown::Sent | Shown::Delivered | Shown::Read | Shown::Unknown => {
            Some((Kind::Lost, format!("shows {shown}, never accepted")))
        }
        Shown::Failed if booked_failure(case).is_none() => {
            Some((Kind::Dropped, "shows failed, and the provider never refused it".to_owned()))
        }
        Shown::Pending | Shown::Cancelled | Shown::Expired if !case.unsent => {
            Some((Kind::Dropped, format!("shows {shown} in a campaign that says that it has sent everything")))
        }
        _ => None,
    }
}

/// The booked refusals of the newest attempt.
fn booked_failure<'a>(case: &'a Case<'_>) -> Option<(&'a Attempt, Vec<Booked>)> {
    let newest = case.message.attempts.iter().max_by_key(|attempt| attempt.number)?;
    let of_it = case.refused.iter().filter(|(number, _)| *number == newest.number);
    let booked: Vec<Booked> = of_it.map(|(_, booked)| *booked).collect();
    (!booked.is_empty()).then_some((newest, booked))
}

/// The failure that is shown must be the one that the provider gave.
fn failure(case: &Case<'_>) -> Option<(Kind, String)> {
    if case.message.shown != Shown::Failed {
        return None;
    }
    let newest = case.message.attempts.iter().max_by_key(|attempt| attempt.number)?;
    let said = newest.failure.as_str();
    let wrong = |given: &str| Some((Kind::WrongFailure, format!("failed with {said:?}, the provider said {given}")));
    let reported = case.entries.iter().find(|(_, attempt)| attempt.number == newest.number);
    if let Some((entry, _)) = reported {
        let known = entry.acked & FAILED != 0 && entry.answer == Answer::Given;
        return if known && said != entry.code.to_string() { wrong(&entry.code.to_string()) } else { None };
    }
    let (_, booked) = booked_failure(case)?;
    // An answer without a code of the provider's is known by its HTTP status alone.
    let fits = |booked: &Booked| {
        said == booked.code.to_string() || (booked.code == 0 && (said == booked.http.to_string() || said == "0"))
    };
    if booked.iter().any(fits) {
        return None;
    }
    wrong(&booked.iter().map(|booked| booked.code.to_string()).collect::<Vec<_>>().join(", "))
}

/// A message is marked as gone out twice when two attempts are known to have gone out, and only when two did.
fn double(case: &Case<'_>) -> Option<(Kind, String)> {
    let Case { message, entries, .. } = *case;
    let newest = message.attempts.iter().map(|attempt| attempt.number).max()?;
    let reported = |entry: &Entry| entry.acked & (SENT | DELIVERED | READ) != 0;
    let known =
        |(entry, attempt): &(&Entry, &Attempt)| reported(entry) || (attempt.number == newest && attempt.accepted);
    let known = entries.iter().filter(|one| known(one)).count();
    match (message.double, entries.len()) {
        (true, 0 | 1) => Some((Kind::WrongDouble, "marked as gone out twice, accepted once".to_owned())),
        (false, _) if known > 1 => {
            Some((Kind::WrongDouble, format!("{known} attempts are known to have gone out, not marked")))
        }
        _ => None,
    }
}

/// A message is marked as a conflict when one attempt of it both failed and was delivered (or read), and only then. What was posted without an
/// acknowledgement may have been taken in or not; an attempt whose acceptance was answered with an error may have failed by that.
fn conflict(case: &Case<'_>) -> Option<(Kind, String)> {
    let Case { message, entries, .. } = *case;
    let both = |bits: u8| bits & FAILED != 0 && bits & (DELIVERED | READ) != 0;
    let known = entries.iter().any(|(entry, _)| both(entry.acked));
    let possible = entries.iter().any(|(entry, _)| {
        let answered = if entry.answer == Answer::Error { FAILED } else { 0 };
        both(entry.tried | entry.acked | answered)
    });
    match message.conflict {
        true if !possible => {
            Some((Kind::WrongConflict, "marked as failed and delivered, no attempt was both".to_owned()))
        }
        false if known => Some((Kind::WrongConflict, "one attempt failed and was delivered, not marked".to_owned())),
        _ => None,
    }
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
    let failed = entries.iter().all(|(entry, _)| entry.tried & FAILED != 0);
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
                || entry.tried & FAILED != 0
        })
}
