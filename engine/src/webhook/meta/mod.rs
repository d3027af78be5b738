//! Meta's webhooks: the verification request, the signature, the envelope.
//!
//! Sources: Meta's docs "Webhooks overview" and "Create a webhook endpoint" (endpoint, signature, delivery rules), "Status messages
//! webhook reference" (statuses), and the reference page of each other field.

mod careful;
mod parse;
#[cfg(test)]
mod parse_tests;
mod signature;
#[cfg(test)]
mod signature_tests;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use super::{Event, SignatureError};

pub use parse::parse;
pub use signature::SignatureKey;

/// One account's side of Meta's webhooks: its secrets, ready for use.
pub struct Receiver {
    key: SignatureKey,
    verify_token: Box<str>,
}

impl Receiver {
    /// `app_secret` is the Meta app's secret as text (not hex-decoded); `verify_token` is the text that the operator also
    /// entered in Meta's webhook settings.
    #[must_use]
    pub fn new(app_secret: &str, verify_token: &str) -> Self {
        Self { key: SignatureKey::new(app_secret.as_bytes()), verify_token: verify_token.into() }
    }

    /// Verifies one POST and reads it. `signature` is the value of the header [`SignatureKey::HEADER`].
    ///
    /// # Errors
    /// [`SignatureError`]: answer 401, nothing was parsed.
    pub fn receive(&self, signature: Option<&[u8]>, body: &[u8]) -> Result<Vec<Event>, SignatureError> {
        self.key.verify(signature, body)?;
        Ok(parse(body))
    }

    /// Answers the verification GET: the challenge to send back as the whole body with 200, or `None` for 403.
    ///
    /// `query` is the raw query string.
    #[must_use]
    pub fn challenge(&self, query: &str) -> Option<String> {
        let mut mode = None;
        let mut token = None;
        let mut challenge = None;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match decode(name).as_ref() {
                "hub.mode" => mode = Some(decode(value)),
                "hub.verify_token" => token = Some(decode(value)),
                "hub.challenge" => challenge = Some(decode(value)),
                _ => {}
            }
        }
        let right_token = bool::from(token?.as_bytes().ct_eq(self.verify_token.as_bytes()));
        let challenge = challenge?;
        // Documented as digits. Kept to plain characters, so that this endpoint never echoes markup.
        let plain = !challenge.is_empty()
            && challenge.len() <= CHALLENGE_BYTES_MAX
            && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        (mode? == "subscribe" && right_token && plain).then(|| challenge.into_owned())
    }
}

const CHALLENGE_BYTES_MAX: usize = 256;

fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}
