//! `application/x-www-form-urlencoded`, kept as bytes: the signature is over what was sent, valid UTF-8 or not.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Most parameters of one form. A status callback has about 20, an inbound message with media under 100.
const PARAMETERS_MAX: usize = 1_000;

/// Name and value.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// A decoded form: every parameter, in order of arrival, duplicates and empty values included.
#[derive(Debug)]
pub struct Form<'a> {
    pairs: Vec<Pair<'a>>,
}

/// The form has more parameters than we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a form of more than {PARAMETERS_MAX} parameters")]
pub struct FormError;

impl<'a> Form<'a> {
    /// Decodes a form body or a query string. A broken percent sequence stays as it is, as browsers and the SDKs do.
    ///
    /// # Errors
    /// [`FormError`] beyond 1,000 parameters.
    pub fn parse(text: &'a [u8]) -> Result<Self, FormError> {
        let mut pairs = Vec::with_capacity(24);
        for part in text.split(|&b| b == b'&').filter(|part| !part.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                return Err(FormError);
            }
            let (name, value) = match part.iter().position(|&b| b == b'=') {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &[][..]),
            };
            pairs.push((decode(name), decode(value)));
        }
        Ok(Self { pairs })
    }

    /// The first value of `name`, with broken characters replaced; `None` if absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.pairs.iter().find(|(key, _)| key.as_ref() == name.as_bytes())?;
        Some(String::from_utf8_lossy(value))
    }

    /// Name and value in order of arrival.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The pairs as they are signed: by name in byte order, the values of one name sorted and without repetitions.
    pub(super) fn signed_order(&self) -> Vec<(&[u8], &[u8])> {
        let mut pairs: Vec<_> = self.pairs().collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
        Cow::Owned(percent_decode(&spaced).collect())
    } else {
        percent_decode(text).into()
    }
}
