//! Reading the answer to a send: typed, borrowed, tolerant.

use crate::provider::loose::Text;
use crate::provider::verdict::{ErrorSaid, kept};
use serde::Deserialize;

/// Longest message id that is believed, in bytes; a SID has 34.
const ID_MAX: usize = 64;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    sid: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(borrow, default)]
    error_code: Text<'a>,
    #[serde(borrow, default)]
    error_message: Text<'a>,
}

/// What a 2xx says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// Taken under this SID.
    Accepted(Box<str>),
    /// Created as failed: no callback follows for a first status.
    Failed {
        /// `error_code`.
        code: Option<u32>,
        /// `error_message`, shortened.
        message: String,
    },
}

/// Reads a success; `None` when it cannot be read.
pub(crate) fn created(body: &[u8]) -> Option<Created> {
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let sid = message.sid.0.as_ref();
    if sid.is_empty() || sid.len() > ID_MAX {
        return None;
    }
    if matches!(message.status.0.as_ref(), "failed" | "undelivered" | "canceled") {
        return Some(Created::Failed { code: message.error_code.number(), message: kept(&message.error_message.0) });
    }
    Some(Created::Accepted(sid.into()))
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    code: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
    #[serde(borrow, default)]
    more_info: Text<'a>,
}

/// Reads an error body; everything stays empty when it is not Twilio's JSON.
pub(crate) fn error(body: &[u8]) -> ErrorSaid {
    let Ok(error) = serde_json::from_slice::<ErrorBody<'_>>(body) else {
        return ErrorSaid::default();
    };
    ErrorSaid { code: error.code.number(), message: kept(&error.message.0), details: kept(&error.more_info.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sid_and_an_early_failure() {
        let body = br#"{"sid":"SM00000000000000000000000000000001","status":"accepted","num_segments":"0",
            "error_code":null,"error_message":null,"from":null,"subresource_uris":{"media":"/x"}}"#;
        assert_eq!(created(body), Some(Created::Accepted("SM00000000000000000000000000000001".into())));
        let failed = br#"{"sid":"SM1","status":"failed","error_code":21610,"error_message":"stopped"}"#;
        assert_eq!(created(failed), Some(Created::Failed { code: Some(21610), message: "stopped".into() }));
        for unreadable in ["", "<Response/>", "{}", r#"{"sid":null}"#, r#"{"sid":"SM1""#] {
            assert_eq!(created(unreadable.as_bytes()), None, "{unreadable}");
        }
    }

    #[test]
    fn reads_errors_with_and_without_code() {
        let body = br#"{"code":21610,"message":"stop","more_info":"https://docs.example.test/21610","status":400}"#;
        let said = error(body);
        assert_eq!((said.code, said.message.as_str()), (Some(21610), "stop"));
        assert_eq!(error(br#"{"status":503,"message":"busy"}"#).code, None);
        assert_eq!(error(b"busy"), ErrorSaid::default());
    }
}
