//! `X-Twilio-Signature`: HMAC-SHA1 over URL and parameters, keyed with the account's auth token, as Twilio's docs on webhooks
//! security and its libraries' request validators have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use subtle::ConstantTimeEq;

use super::form::Form;
use super::url::{PublicUrl, spellings};
use crate::webhook::SignatureError;

/// The auth tokens of one account, keyed once. Two while they are being rotated.
#[derive(Clone)]
pub struct SignatureKey {
    tokens: Vec<hmac::Key>,
}

impl SignatureKey {
    /// The header that carries the signature, in hyper's lower-case form.
    pub const HEADER: &'static str = "x-twilio-signature";

    /// Takes the account's primary auth token and, during a rotation, the secondary one. Webhooks are signed with the auth token
    /// even when messages are sent with an API key.
    #[must_use]
    pub fn new(primary: &str, secondary: Option<&str>) -> Self {
        let keyed = |token: &str| hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
        Self { tokens: std::iter::once(primary).chain(secondary).map(keyed).collect() }
    }

    /// Checks a form POST: the signature covers the URL and all parameters.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] or [`SignatureError::Mismatch`].
    pub fn verify_form(
        &self,
        url: &PublicUrl,
        target: &str,
        form: &Form<'_>,
        header: &[u8],
    ) -> Result<(), SignatureError> {
        self.verify(url, target, &form.signed_order(), header)
    }

    /// Checks a JSON POST: the signature covers the URL, whose query holds the body's SHA-256.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] or [`SignatureError::Mismatch`].
    pub fn verify_json(&self, url: &PublicUrl, target: &str, body: &[u8], header: &[u8]) -> Result<(), SignatureError> {
        let query = target.split_once('?').map_or("", |(_path, query)| query);
        let query = Form::parse(query.as_bytes()).map_err(|_| SignatureError::Malformed)?;
        let claimed = query.text("bodySHA256").ok_or(SignatureError::Malformed)?;
        let actual: String =
            digest::digest(&digest::SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let fits = bool::from(actual.as_bytes().ct_eq(claimed.to_ascii_lowercase().as_bytes()));
        self.verify(url, target, &[], header)?;
        if fits { Ok(()) } else { Err(SignatureError::Mismatch) }
    }

    fn verify(
        &self,
        url: &PublicUrl,
        target: &str,
        pairs: &[(&[u8], &[u8])],
        header: &[u8],
    ) -> Result<(), SignatureError> {
        let mut presented = [0; 20];
        match STANDARD.decode_slice(header, &mut presented) {
            Ok(20) => {}
            _ => return Err(SignatureError::Malformed),
        }
        // Usually the first of these matches: the spelling as it came, the port form as configured, the primary token.
        for spelling in spellings(target) {
            for base in url.forms() {
                for token in &self.tokens {
                    let mut mac = hmac::Context::with_key(token);
                    mac.update(base.as_bytes());
                    mac.update(spelling.as_bytes());
                    for (name, value) in pairs {
                        mac.update(name);
                        mac.update(value);
                    }
                    if bool::from(mac.sign().as_ref().ct_eq(&presented)) {
                        return Ok(());
                    }
                }
            }
        }
        Err(SignatureError::Mismatch)
    }
}
