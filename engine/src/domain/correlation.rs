//! The correlation id: our own name for an attempt, sent with it and echoed by the provider in its webhooks.
//!
//! ```text
//! base64url( version 1B = 1 | campaign u32 BE | seq u32 BE | attempt u16 BE | mac 10B )    21 bytes, 28 characters
//! mac = first 10 bytes of HMAC-SHA256(installation secret, the 11 bytes before it)
//! ```
//!
//! It carries everything that routing a status needs, so that no index stands on the hot path, and nobody without the
//! secret can make one up (2⁻⁸⁰ per try). Trust in an event still comes from the webhook's signature, not from this.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use std::fmt;
use subtle::ConstantTimeEq as _;

const VERSION: u8 = 1;
const PLAIN_LEN: usize = 11;
const MAC_LEN: usize = 10;
const RAW_LEN: usize = PLAIN_LEN + MAC_LEN;

/// Characters of a correlation id: letters, digits, `-` and `_`, which stand for themselves in JSON, forms and URLs.
pub const CORRELATION_ID_LEN: usize = 28;

/// A correlation id as it is sent. Made by [`CorrelationKey::encode`] only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CorrelationId([u8; CORRELATION_ID_LEN]);

impl CorrelationId {
    /// The 28 ASCII characters.
    pub fn as_bytes(&self) -> &[u8; CORRELATION_ID_LEN] {
        &self.0
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        // Only the base64 alphabet is ever written, so the fallback cannot be reached.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationId({})", self.as_str())
    }
}

/// The installation's key for correlation ids, with both HMAC states prepared. Cheap to clone and to share.
#[derive(Clone)]
pub struct CorrelationKey {
    keyed: hmac::Key,
}

impl fmt::Debug for CorrelationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CorrelationKey(redacted)")
    }
}

impl CorrelationKey {
    /// Prepares the key. The secret must stay the same over the life of a ledger, or late echoes are not recognised.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { keyed: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// The id of one attempt.
    pub fn encode(&self, campaign: u32, seq: u32, attempt: u16) -> CorrelationId {
        let mut raw = [0u8; RAW_LEN];
        raw[0] = VERSION;
        raw[1..5].copy_from_slice(&campaign.to_be_bytes());
        raw[5..9].copy_from_slice(&seq.to_be_bytes());
        raw[9..PLAIN_LEN].copy_from_slice(&attempt.to_be_bytes());
        let mac = self.mac(&raw[..PLAIN_LEN]);
        raw[PLAIN_LEN..].copy_from_slice(&mac);
        let mut id = [0u8; CORRELATION_ID_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(raw, &mut id);
        debug_assert_eq!(written.ok(), Some(CORRELATION_ID_LEN));
        CorrelationId(id)
    }

    /// Reads `(campaign, seq, attempt)` out of an echoed text; `None` unless this key made it. The check of the MAC takes the
    /// same time wherever it fails.
    pub fn decode(&self, text: &str) -> Option<(u32, u32, u16)> {
        if text.len() != CORRELATION_ID_LEN {
            return None;
        }
        let mut raw = [0u8; RAW_LEN];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut raw).ok()?;
        if read != RAW_LEN || raw[0] != VERSION {
            return None;
        }
        let (plain, mac) = raw.split_at(PLAIN_LEN);
        if !bool::from(self.mac(plain).ct_eq(mac)) {
            return None;
        }
        let campaign = u32::from_be_bytes([raw[1], raw[2], raw[3], raw[4]]);
        let seq = u32::from_be_bytes([raw[5], raw[6], raw[7], raw[8]]);
        let attempt = u16::from_be_bytes([raw[9], raw[10]]);
        Some((campaign, seq, attempt))
    }

    /// What this installation's traces begin with ([`Sampling`](super::trace::Sampling)). It says nothing of the secret.
    pub fn trace_salt(&self) -> u64 {
        // No id's plain bytes are as short as this text.
        let mac: [u8; MAC_LEN] = self.mac(b"traces");
        mac.iter().take(8).fold(0, |salt, byte| (salt << 8) | u64::from(*byte))
    }

    fn mac(&self, plain: &[u8]) -> [u8; MAC_LEN] {
        let whole = hmac::sign(&self.keyed, plain);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&whole.as_ref()[..MAC_LEN]);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computed once with Python's `hmac`, `hashlib` and `base64`.
    const VECTOR: &str = "AQAAACoAAeJAAAcbVtNY7taLF7Zn";

    fn key(byte: u8) -> CorrelationKey {
        CorrelationKey::new([byte; 32])
    }

    #[test]
    fn matches_an_independent_vector() {
        let key = CorrelationKey::new(std::array::from_fn(|i| i as u8));
        let id = key.encode(42, 123_456, 7);
        assert_eq!(id.as_str(), VECTOR);
        assert_eq!(key.decode(VECTOR), Some((42, 123_456, 7)));
    }

    #[test]
    fn refuses_what_it_did_not_make() {
        let id = key(1).encode(1, 2, 3);
        assert_eq!(key(2).decode(id.as_str()), None, "another installation");
        for text in ["", "x", &"A".repeat(28), &"=".repeat(28), &format!("{id}A"), &"é".repeat(14)] {
            assert_eq!(key(1).decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(campaign: u32, seq: u32, attempt: u16) {
            let id = key(9).encode(campaign, seq, attempt);
            prop_assert_eq!(key(9).decode(id.as_str()), Some((campaign, seq, attempt)));
            prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        }

        #[test]
        fn any_changed_character_is_refused(campaign: u32, seq: u32, attempt: u16, place in 0usize..28, put in "[A-Za-z0-9_-]") {
            let id = key(9).encode(campaign, seq, attempt);
            let mut text = id.as_str().to_owned();
            text.replace_range(place..=place, &put);
            let expected = (text == id.as_str()).then_some((campaign, seq, attempt));
            prop_assert_eq!(key(9).decode(&text), expected);
        }
    }
}
