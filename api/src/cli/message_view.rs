//! Messages, attempts and orphans as text.

use sluice_proto::v1::{Attempt, Message, Orphan, ResolveMessagesResponse};

use super::messages::last_time;
use super::output::{Table, or_dash};
use super::values;

/// A list of messages.
#[must_use]
pub fn table(messages: &[Message], width: Option<u16>) -> String {
    let mut table =
        Table::new(width, &["SEQ>", "ADDRESS", "EXTERNAL ID", "STATUS", "ATTEMPTS>", "LAST CHANGE", "FAILURE"]);
    for message in messages {
        let failure = message.attempts.last().and_then(|attempt| attempt.failure.as_ref());
        table.row([
            message.seq.to_string(),
            message.address.clone(),
            or_dash(&message.external_id),
            shown(message),
            message.attempts.len().to_string(),
            last_time(message),
            failure.map_or_else(|| "-".to_owned(), |failure| format!("{} {}", failure.code, failure.title)),
        ]);
    }
    table.text()
}

fn shown(message: &Message) -> String {
    let mut text = values::status(message.status());
    if message.conflict {
        text.push_str(" (conflict)");
    }
    if message.double {
        text.push_str(" (double)");
    }
    text
}

/// Messages in doubt, with what a person needs to ask the provider about them.
#[must_use]
pub fn doubt_table(messages: &[Message], width: Option<u16>) -> String {
    let mut table = Table::new(width, &["SEQ>", "ADDRESS", "STATUS", "LINE", "SENT OFF", "CORRELATION ID"]);
    for message in messages {
        let attempt = message.attempts.last();
        table.row([
            message.seq.to_string(),
            message.address.clone(),
            values::status(message.status()),
            attempt.map_or_else(|| "-".to_owned(), |attempt| or_dash(&attempt.line_id)),
            values::time(attempt.and_then(|attempt| attempt.intent_time.as_ref())),
            attempt.map_or_else(|| "-".to_owned(), |attempt| or_dash(&attempt.correlation_id)),
        ]);
    }
    table.text()
}

/// One message with its whole history.
#[must_use]
pub fn history(message: Option<&Message>, width: Option<u16>) -> String {
    let Some(message) = message else { return String::new() };
    let mut pairs = vec![
        ("message", format!("{} of campaign {}", message.seq, message.campaign_id)),
        ("address", message.address.clone()),
        ("external id", or_dash(&message.external_id)),
        ("status", shown(message)),
        ("reached", values::stage(message.stage_reached())),
        ("retries", message.retries.to_string()),
    ];
    if message.next_attempt_time.is_some() {
        pairs.push(("next attempt", values::time(message.next_attempt_time.as_ref())));
    }
    if let Some(origin) = &message.origin {
        // Rows are counted from 1 for people.
        pairs.push(("from", format!("row {} of import {}", origin.row + 1, origin.import_id)));
    }
    for (index, parameter) in message.parameters.iter().enumerate() {
        pairs.push((if index == 0 { "parameters" } else { "" }, format!("{}: {parameter}", index + 1)));
    }
    let mut text = Table::pairs(width, pairs);
    for attempt in &message.attempts {
        text.push('\n');
        text.push_str(&one_attempt(attempt, width));
    }
    text
}

fn one_attempt(attempt: &Attempt, width: Option<u16>) -> String {
    let mut pairs = vec![
        ("attempt", format!("{}: {}", attempt.number, values::attempt_phase(attempt.phase()))),
        ("line", or_dash(&attempt.line_id)),
        ("correlation", or_dash(&attempt.correlation_id)),
        ("provider id", or_dash(&attempt.provider_message_id)),
    ];
    if let Some(failure) = &attempt.failure {
        pairs.push((
            "failure",
            format!("{} {} ({})", failure.code, failure.title, values::failure_class(failure.class())),
        ));
        for (name, text) in [("message", &failure.message), ("details", &failure.details)] {
            if !text.is_empty() {
                pairs.push((name, text.clone()));
            }
        }
    }
    let mut text = Table::pairs(width, pairs);
    let mut table = Table::new(width, &["EVENT", "FIRST SEEN", "PROVIDER'S TIME"]);
    table.row(["intent".to_owned(), values::time(attempt.intent_time.as_ref()), String::new()]);
    if attempt.accepted_time.is_some() {
        table.row(["accepted".to_owned(), values::time(attempt.accepted_time.as_ref()), String::new()]);
    }
    for stage in &attempt.stages {
        table.row([
            values::stage(stage.stage()),
            values::time(stage.first_seen_time.as_ref()),
            values::time(stage.provider_time.as_ref()),
        ]);
    }
    text.push_str(&table.text());
    text
}

/// What became of a decision.
#[must_use]
pub fn resolved(answer: &ResolveMessagesResponse, width: Option<u16>) -> String {
    let mut text = format!("{} messages decided\n", values::count(answer.resolved));
    if !answer.unresolved.is_empty() {
        let mut table = Table::new(width, &["LEFT AS IT IS>", "STATUS", "REASON"]);
        for message in &answer.unresolved {
            table.row([message.seq.to_string(), values::status(message.status()), message.reason.clone()]);
        }
        text.push_str(&table.text());
    }
    text
}

/// Events for which no message was found.
#[must_use]
pub fn orphan_table(orphans: &[Orphan], width: Option<u16>) -> String {
    let mut table = Table::new(width, &["RECEIVED", "ACCOUNT", "STAGE", "PROVIDER ID", "CORRELATION ID"]);
    for orphan in orphans {
        table.row([
            values::time(orphan.receive_time.as_ref()),
            orphan.account_id.clone(),
            values::stage(orphan.stage()),
            or_dash(&orphan.provider_message_id),
            or_dash(&orphan.correlation_id),
        ]);
    }
    table.text()
}
