//! `X-Hub-Signature-256`: HMAC-SHA256 over the raw body, keyed with the app secret.

use ring::hmac;

use crate::webhook::SignatureError;

/// An app secret with the key-dependent half of the HMAC done once: verifying copies that state instead of hashing the key
/// again for every POST.
pub struct SignatureKey {
    keyed: hmac::Key,
}

impl SignatureKey {
    /// The header that carries the signature; names of HTTP headers are case-insensitive, this is hyper's lower-case form.
    pub const HEADER: &'static str = "x-hub-signature-256";

    const PREFIX: &'static [u8] = b"sha256=";

    /// Takes the app secret as the bytes of its text.
    #[must_use]
    pub fn new(app_secret: &[u8]) -> Self {
        Self { keyed: hmac::Key::new(hmac::HMAC_SHA256, app_secret) }
    }

    /// Checks `header` against the raw `body`.
    ///
    /// The raw bytes decide. Only when they do not match and the body has a byte that is not ASCII, its escaped form is tried:
    /// Meta documents the signature as made over text with `\uXXXX` escapes, and a proxy that re-encodes the body would leave
    /// us the unescaped one.
    ///
    /// # Errors
    /// [`SignatureError`] as it says.
    pub fn verify(&self, header: Option<&[u8]>, body: &[u8]) -> Result<(), SignatureError> {
        let header = header.ok_or(SignatureError::Missing)?;
        let hex = header.strip_prefix(Self::PREFIX).ok_or(SignatureError::Malformed)?;
        let presented = decode_hex(hex).ok_or(SignatureError::Malformed)?;
        if self.matches(&presented, body) {
            return Ok(());
        }
        if !body.is_ascii()
            && let Ok(text) = std::str::from_utf8(body)
            && self.matches(&presented, escape_non_ascii(text).as_bytes())
        {
            return Ok(());
        }
        Err(SignatureError::Mismatch)
    }

    /// Constant in time.
    fn matches(&self, presented: &[u8; 32], message: &[u8]) -> bool {
        hmac::verify(&self.keyed, message, presented).is_ok()
    }
}

/// 64 hex digits of either case.
fn decode_hex(hex: &[u8]) -> Option<[u8; 32]> {
    let hex: &[u8; 64] = hex.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Every non-ASCII character as lower-case `\uXXXX`, by UTF-16 units (two for characters beyond the basic plane). ASCII stays
/// as it is, slashes and control characters too.
fn escape_non_ascii(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len() * 2);
    let mut units = [0u16; 2];
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}
