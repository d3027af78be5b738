//! A digest of what a request asks for: who gets which template or text, with which parameters.
//!
//! Two requests that say the same have the same digest however they are written. It protects against mistakes, not against people: what it is
//! compared with comes from the other side of the same program. Cheap, since every accepted message is digested: a multiplication for every
//! eight bytes.

/// Odd numbers without structure (digits of pi).
const KEYS: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

/// A digest in the making.
#[derive(Debug, Clone, Copy)]
pub struct Digest(u64);

impl Digest {
    /// Of a request to this recipient (digits), in a form that tells kinds of requests apart.
    #[must_use]
    pub fn new(form: &str, recipient: u64) -> Self {
        Self(mix(recipient ^ KEYS[0], KEYS[1])).text(form)
    }

    /// Adds a text; its length counts, so that what belongs to one text cannot move into the next.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let mut state = mix(self.0 ^ text.len() as u64, KEYS[2]);
        for chunk in text.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            state = mix(state ^ u64::from_le_bytes(bytes), KEYS[1]);
        }
        Self(state)
    }

    /// The digest: 53 bits, so that readers of JSON who know only doubles keep it whole.
    #[must_use]
    pub fn done(self) -> u64 {
        mix(self.0, KEYS[0]) >> 11
    }
}

/// Both halves of the product, folded.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ KEYS[2]) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Of a WhatsApp template over Meta: the values of header, body and buttons in this order.
#[must_use]
pub fn template<'a>(recipient: u64, name: &str, language: &str, values: impl Iterator<Item = &'a str>) -> u64 {
    values.fold(Digest::new("template", recipient).text(name).text(language), Digest::text).done()
}

/// Of a free text over Meta.
#[must_use]
pub fn free_text(recipient: u64, body: &str) -> u64 {
    Digest::new("text", recipient).text(body).done()
}

/// Of a text over Twilio.
#[must_use]
pub fn body(recipient: u64, body: &str) -> u64 {
    Digest::new("body", recipient).text(body).done()
}

/// Of a content template over Twilio: its variables, keys and values, in the order of their keys.
#[must_use]
pub fn content<'a>(recipient: u64, sid: &str, variables: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let begun = Digest::new("content", recipient).text(sid);
    variables.fold(begun, |digest, (key, value)| digest.text(key).text(value)).done()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_part_and_its_place_counts() {
        let of = |recipient, name, values: &[&str]| template(recipient, name, "en_US", values.iter().copied());
        let base = of(7, "sale", &["Bob", "12%"]);
        assert_eq!(base, of(7, "sale", &["Bob", "12%"]));
        assert!(base < 1 << 53);
        let others = [
            of(8, "sale", &["Bob", "12%"]),
            of(7, "sales", &["Bob", "12%"]),
            of(7, "sale", &["12%", "Bob"]),
            of(7, "sale", &["Bob1", "2%"]),
            of(7, "sale", &["Bob", "12%", ""]),
            of(7, "sale", &["Bob"]),
            body(7, "Bob"),
            free_text(7, "Bob"),
            content(7, "Bob", std::iter::empty()),
        ];
        assert!(!others.contains(&base));
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
    }

    #[test]
    fn a_hundred_thousand_recipients_have_as_many_digests() {
        let all: HashSet<u64> = (0..100_000).map(|n| body(999_000_000_000 + n, "Hello")).collect();
        assert_eq!(all.len(), 100_000);
    }
}
