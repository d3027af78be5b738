//! Twilio's webhooks: status callbacks and inbound messages, one per POST, as forms.
//!
//! Sources: Twilio's docs on status callbacks, messaging webhooks and webhooks security, and the request validators of its own
//! libraries (Node, Go, Python, Java).

mod form;
mod parse;
#[cfg(test)]
mod parse_tests;
mod signature;
#[cfg(test)]
mod signature_tests;
mod url;

use super::{Event, SignatureError};

pub use form::{Form, FormError};
pub use parse::parse;
pub use signature::SignatureKey;
pub use url::{PublicUrl, PublicUrlError};

/// One account's side of Twilio's webhooks.
pub struct Receiver {
    key: SignatureKey,
    url: PublicUrl,
}

/// What of a POST the signature covers or depends on.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Raw path and query as in the request line.
    pub target: &'a str,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// The value of the header [`SignatureKey::HEADER`].
    pub signature: Option<&'a [u8]>,
    /// The raw body.
    pub body: &'a [u8],
}

impl Receiver {
    /// `url` is how Twilio reaches this server, as configured: never taken from `Host`, which the sender chooses.
    #[must_use]
    pub const fn new(key: SignatureKey, url: PublicUrl) -> Self {
        Self { key, url }
    }

    /// Verifies one POST and reads it.
    ///
    /// # Errors
    /// [`SignatureError`]: answer 401, nothing was interpreted.
    pub fn receive(&self, post: &Post<'_>) -> Result<Vec<Event>, SignatureError> {
        let signature = post.signature.ok_or(SignatureError::Missing)?;
        if is_json(post.content_type) {
            self.key.verify_json(&self.url, post.target, post.body, signature)?;
            return Ok(vec![parse::json(post.body)]);
        }
        let form = Form::parse(post.body).map_err(|FormError| SignatureError::Malformed)?;
        self.key.verify_form(&self.url, post.target, &form, signature)?;
        let query = post.target.split_once('?').map_or("", |(_path, query)| query);
        Ok(vec![parse(query, &form, post.body)])
    }
}

fn is_json(content_type: Option<&[u8]>) -> bool {
    const JSON: &[u8] = b"application/json";
    content_type.and_then(|value| value.get(..JSON.len())).is_some_and(|start| start.eq_ignore_ascii_case(JSON))
}
