//! What the operator says about tokens.

use std::fmt;
use std::path::PathBuf;

/// The `[auth]` section of the configuration. At least one of `jwks_file`, `public_key_file` and `development_secret` is needed.
#[derive(Clone)]
pub struct AuthConfig {
    /// The issuer (`iss`) that tokens must name exactly. Required.
    pub issuer: String,
    /// The audience (`aud`) that tokens must name, alone or among others. Required.
    pub audience: String,
    /// A JWKS file with the issuer's public keys (RS256, ES256, EdDSA). Several keys allow rotation.
    pub jwks_file: Option<PathBuf>,
    /// A PEM file with one public key.
    pub public_key_file: Option<PathBuf>,
    /// A shared secret for HS256, for development only: whoever can check tokens with it can also make them. At least 32 bytes.
    pub development_secret: Option<String>,
    /// Name of the claim with the tenant.
    pub tenant_claim: String,
    /// Name of the claim with the subject.
    pub subject_claim: String,
    /// Name of the claim with the scopes: words separated by spaces, or an array of words.
    pub scope_claim: String,
    /// How far the issuer's clock and ours may differ, seconds, 0 to 300.
    pub leeway_seconds: u32,
    /// Longest token, bytes, 256 to 65,536. Longer ones are refused before they are looked at.
    pub token_bytes_max: usize,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            jwks_file: None,
            public_key_file: None,
            development_secret: None,
            tenant_claim: "tenant".to_owned(),
            subject_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
            leeway_seconds: 30,
            token_bytes_max: 8_192,
        }
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("jwks_file", &self.jwks_file)
            .field("public_key_file", &self.public_key_file)
            .field("development_secret", &self.development_secret.as_ref().map(|_| "(not shown)"))
            .field("tenant_claim", &self.tenant_claim)
            .field("subject_claim", &self.subject_claim)
            .field("scope_claim", &self.scope_claim)
            .field("leeway_seconds", &self.leeway_seconds)
            .field("token_bytes_max", &self.token_bytes_max)
            .finish()
    }
}

impl AuthConfig {
    /// What is wrong with the values themselves, all of it; files are looked at by [`super::Verifier::from_config`].
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut refuse = |bad: bool, key: &'static str, problem: &str| {
            if bad {
                errors.push(ConfigError { key, problem: problem.to_owned() });
            }
        };
        refuse(self.issuer.is_empty(), "auth.issuer", "is required: the `iss` that your tokens carry");
        refuse(
            self.audience.is_empty(),
            "auth.audience",
            "is required: the `aud` that your tokens carry for this server",
        );
        refuse(
            self.jwks_file.is_none() && self.public_key_file.is_none() && self.development_secret.is_none(),
            "auth.jwks_file",
            "one of jwks_file, public_key_file and (for development) development_secret is required",
        );
        refuse(
            self.development_secret.as_ref().is_some_and(|s| s.len() < 32),
            "auth.development_secret",
            "must have at least 32 bytes",
        );
        for (key, claim) in [
            ("auth.tenant_claim", &self.tenant_claim),
            ("auth.subject_claim", &self.subject_claim),
            ("auth.scope_claim", &self.scope_claim),
        ] {
            refuse(claim.is_empty(), key, "must not be empty");
        }
        refuse(self.leeway_seconds > 300, "auth.leeway_seconds", "must be 0 to 300");
        refuse(!(256..=65_536).contains(&self.token_bytes_max), "auth.token_bytes_max", "must be 256 to 65,536");
        errors
    }
}

/// A key of the configuration and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct ConfigError {
    /// The key, with its section.
    pub key: &'static str,
    /// What is wrong and what would be right; never the value of a secret.
    pub problem: String,
}
