//! Decides whether a bearer token is good, and whose it is.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use sluice_engine::domain::ids::TenantId;

use super::config::{AuthConfig, ConfigError};
use super::keys::{self, Key};
use super::principal::{Principal, Scope, Scopes};

/// Longest subject that is kept, in bytes.
const SUBJECT_BYTES_MAX: usize = 255;

/// Seconds since the Unix epoch, as tokens count time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub i64);

/// Why a token is refused. The texts are for the caller and name no key and no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthError {
    /// There is no token.
    #[error("a bearer token is required in the `authorization` metadata")]
    Missing,
    /// It is longer than allowed.
    #[error("the token is too long")]
    TooLong,
    /// It is no token.
    #[error("the token is malformed")]
    Malformed,
    /// It is signed in a way that is not accepted here (`none` is such a way).
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// No key of ours is the one it names.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not that of any key of ours.
    #[error("the token's signature is not valid")]
    Signature,
    /// It is past its time.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    Future,
    /// It comes from somebody else.
    #[error("the token's issuer is not accepted")]
    Issuer,
    /// It is meant for somebody else.
    #[error("the token is not meant for this server")]
    Audience,
    /// A needed claim is missing or of the wrong kind.
    #[error("the token lacks a usable `{0}` claim")]
    Claim(ClaimKind),
}

/// A claim that every token needs; its name in the token is configurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// `exp`.
    Expiry,
    /// The tenant.
    Tenant,
    /// The subject.
    Subject,
    /// The scopes.
    Scope,
    /// `nbf` or `iat` that is no number.
    Time,
}

impl std::fmt::Display for ClaimKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Expiry => "exp",
            Self::Tenant => "tenant",
            Self::Subject => "subject",
            Self::Scope => "scope",
            Self::Time => "nbf/iat",
        })
    }
}

impl AuthError {
    /// The label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong | Self::Malformed => "malformed",
            Self::Algorithm | Self::UnknownKey | Self::Signature => "signature",
            Self::Expired => "expired",
            Self::Future | Self::Issuer | Self::Audience | Self::Claim(_) => "claims",
        }
    }

    /// A word for `ErrorInfo`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "TOKEN_MISSING",
            Self::TooLong => "TOKEN_TOO_LONG",
            Self::Malformed => "TOKEN_MALFORMED",
            Self::Algorithm => "TOKEN_ALGORITHM",
            Self::UnknownKey => "TOKEN_KEY_UNKNOWN",
            Self::Signature => "TOKEN_SIGNATURE",
            Self::Expired => "TOKEN_EXPIRED",
            Self::Future => "TOKEN_NOT_YET_VALID",
            Self::Issuer => "TOKEN_ISSUER",
            Self::Audience => "TOKEN_AUDIENCE",
            Self::Claim(_) => "TOKEN_CLAIM",
        }
    }
}

/// Decides about tokens.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<Key>,
    config: AuthConfig,
}

impl Verifier {
    /// Reads the keys. Answers with everything that is wrong, not only the first.
    pub fn from_config(config: AuthConfig) -> Result<Self, Vec<ConfigError>> {
        let mut errors = config.check();
        let mut found = Vec::new();
        if let Some(path) = &config.jwks_file {
            keys::from_jwks_file(path).map_or_else(|error| errors.push(error), |keys| found.extend(keys));
        }
        if let Some(path) = &config.public_key_file {
            keys::from_pem_file(path).map_or_else(|error| errors.push(error), |key| found.push(key));
        }
        if let Some(secret) = &config.development_secret {
            found.push(Key::shared(secret));
        }
        if errors.is_empty() { Ok(Self { keys: found, config }) } else { Err(errors) }
    }

    /// Whether tokens signed with a shared secret are accepted; a server in production should not.
    pub fn accepts_development_tokens(&self) -> bool {
        self.config.development_secret.is_some()
    }

    /// Decides about the token in `bearer` (without the word `Bearer`) at the time `now`.
    pub fn verify(&self, bearer: &str, now: UnixSeconds) -> Result<Principal, AuthError> {
        if bearer.is_empty() {
            return Err(AuthError::Missing);
        }
        if bearer.len() > self.config.token_bytes_max {
            return Err(AuthError::TooLong);
        }
        let claims = self.check_signature(bearer)?;
        self.check_claims(&claims, now)?;
        self.principal(&claims)
    }

    fn check_signature(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        if token.split('.').count() != 3 {
            return Err(AuthError::Malformed);
        }
        // The header's `alg` is a closed set in the library; whatever is not in it (`none`) does not parse.
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Algorithm)?;
        if header.crit.is_some() || !self.keys.iter().any(|key| key.algorithm == header.alg) {
            return Err(AuthError::Algorithm);
        }
        let mut candidates = self.keys.iter().filter(|key| {
            key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        });
        let mut outcome = Err(AuthError::UnknownKey);
        let validation = signature_only(header.alg);
        loop {
            let Some(key) = candidates.next() else { return outcome };
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => {
                    outcome = Err(match error.kind() {
                        jsonwebtoken::errors::ErrorKind::InvalidSignature => AuthError::Signature,
                        _ => AuthError::Malformed,
                    });
                }
            }
        }
    }

    fn check_claims(&self, claims: &Map<String, Value>, now: UnixSeconds) -> Result<(), AuthError> {
        let now = now.0 as f64; // seconds stay far below 2^52
        let leeway = f64::from(self.config.leeway_seconds);
        let expires = claims.get("exp").and_then(Value::as_f64).ok_or(AuthError::Claim(ClaimKind::Expiry))?;
        if now >= expires + leeway {
            return Err(AuthError::Expired);
        }
        for name in ["nbf", "iat"] {
            if let Some(claim) = claims.get(name) {
                let from = claim.as_f64().ok_or(AuthError::Claim(ClaimKind::Time))?;
                if from > now + leeway {
                    return Err(AuthError::Future);
                }
            }
        }
        if claims.get("iss").and_then(Value::as_str) != Some(self.config.issuer.as_str()) {
            return Err(AuthError::Issuer);
        }
        let ours = |value: &Value| value.as_str() == Some(self.config.audience.as_str());
        match claims.get("aud") {
            Some(Value::Array(several)) if several.iter().any(ours) => Ok(()),
            Some(one) if ours(one) => Ok(()),
            _ => Err(AuthError::Audience),
        }
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, AuthError> {
        let text = |name: &str, kind| claims.get(name).and_then(Value::as_str).ok_or(AuthError::Claim(kind));
        let tenant = text(&self.config.tenant_claim, ClaimKind::Tenant)?;
        let tenant = TenantId::new(tenant).map_err(|_| AuthError::Claim(ClaimKind::Tenant))?;
        let subject = text(&self.config.subject_claim, ClaimKind::Subject)?;
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control) {
            return Err(AuthError::Claim(ClaimKind::Subject));
        }
        let scopes =
            claims.get(&self.config.scope_claim).and_then(parse_scopes).ok_or(AuthError::Claim(ClaimKind::Scope))?;
        Ok(Principal { tenant, subject: Arc::from(subject), scopes })
    }
}

/// The library checks the signature alone; everything else is checked here, against the time that is passed in.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// Words separated by spaces (RFC 8693 §4.2) or an array of words. Words that mean nothing here are passed over.
fn parse_scopes(claim: &Value) -> Option<Scopes> {
    match claim {
        Value::String(words) => Some(words.split(' ').filter_map(Scope::from_name).collect()),
        Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            Some(words?.into_iter().filter_map(Scope::from_name).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
