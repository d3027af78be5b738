//! Reading the answer to a send: typed, borrowed, tolerant.

use crate::provider::loose::Text;
use crate::provider::verdict::{ErrorSaid, kept};
use serde::Deserialize;

/// Longest message id that is believed, in bytes; seen ones are under 100.
const ID_MAX: usize = 256;

#[derive(Deserialize)]
struct Success<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    message_status: Text<'a>,
}

/// The message id of a success, and whether the message is held back; `None` when it cannot be read.
pub(crate) fn accepted(body: &[u8]) -> Option<(Box<str>, bool)> {
    let success: Success<'_> = serde_json::from_slice(body).ok()?;
    let message = success.messages.first()?;
    let id = message.id.0.as_ref();
    if id.is_empty() || id.len() > ID_MAX {
        return None;
    }
    let held = matches!(message.message_status.0.as_ref(), "held_for_quality_assessment" | "paused");
    Some((id.into(), held))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: ErrorBody<'a>,
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    code: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
    #[serde(borrow, default)]
    error_data: Text<'a>,
    #[serde(borrow, default)]
    fbtrace_id: Text<'a>,
}

/// Reads an error body; everything stays empty when it is not Meta's JSON (an edge may answer HTML).
pub(crate) fn error(body: &[u8]) -> ErrorSaid {
    let Ok(Envelope { error }) = serde_json::from_slice::<Envelope<'_>>(body) else {
        return ErrorSaid::default();
    };
    let mut details = kept(&error.error_data.0);
    if !error.fbtrace_id.0.is_empty() {
        if !details.is_empty() {
            details.push(' ');
        }
        details.push_str("fbtrace_id=");
        details.push_str(&error.fbtrace_id.0);
    }
    ErrorSaid { code: error.code.number(), message: kept(&error.message.0), details: kept(&details) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_id_and_the_hold() {
        let body = br#"{"messaging_product":"whatsapp","contacts":[{"input":"+999","wa_id":"999"}],
            "messages":[{"id":"wamid.A/=","message_status":"accepted"}]}"#;
        assert_eq!(accepted(body), Some(("wamid.A/=".into(), false)));
        let held = br#"{"messages":[{"message_status":"held_for_quality_assessment","id":"wamid.B","x":{}}]}"#;
        assert_eq!(accepted(held), Some(("wamid.B".into(), true)));
        let bare = br#"{"messages":[{"id":"wamid.C","message_status":null}]}"#;
        assert_eq!(accepted(bare), Some(("wamid.C".into(), false)));
        for unreadable in
            ["", "<html>", "{}", r#"{"messages":[]}"#, r#"{"messages":[{}]}"#, r#"{"messages":[{"id":"x"}"#]
        {
            assert_eq!(accepted(unreadable.as_bytes()), None, "{unreadable}");
        }
        let long = format!(r#"{{"messages":[{{"id":"{}"}}]}}"#, "x".repeat(257));
        assert_eq!(accepted(long.as_bytes()), None);
    }

    #[test]
    fn reads_errors_of_every_shape() {
        let body = br#"{"error":{"message":"(#130429) Rate limit hit","type":"OAuthException","code":130429,
            "error_subcode":2494055,"error_data":{"messaging_product":"whatsapp","details":"Too many."},"fbtrace_id":"AbC"}}"#;
        let said = error(body);
        assert_eq!(said.code, Some(130429));
        assert_eq!(said.message, "(#130429) Rate limit hit");
        assert_eq!(said.details, "Too many. fbtrace_id=AbC");

        assert_eq!(error(br#"{"error":{"code":"100","error_data":"plain"}}"#).details, "plain");
        assert_eq!(error(br#"{"error":{"code":"100","error_data":"plain"}}"#).code, Some(100));
        assert_eq!(error(br#"{"error":{"message":null}}"#).code, None);
        assert_eq!(error(br#"{"error":"gone"}"#), ErrorSaid::default());
        assert_eq!(error(b"<html>502</html>"), ErrorSaid::default());
    }
}
