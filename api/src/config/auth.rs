//! `[auth]`: whose tokens are believed. What the keys mean is decided by [`crate::auth`]; here they are only read.

use super::reader::Section;
use super::report::Kind;
use crate::auth::{AuthConfig, Verifier};

const SECRET: &str = "development_secret";

/// Reads the section and lets the verifier say what is wrong with it, key files included.
pub(super) fn read(s: &mut Section<'_, '_>) -> AuthConfig {
    let default = AuthConfig::default();
    let secret_given = s.has("development_secret_file") || s.has("development_secret_env");
    let secret = s.secret(SECRET).map(|secret| secret.expose().to_owned());
    // A secret that cannot be read is noted already; it should not be called missing or short as well.
    let secret = if secret_given { secret.or_else(|| Some("x".repeat(64))) } else { None };
    let config = AuthConfig {
        issuer: s.text("issuer").unwrap_or_default(),
        audience: s.text("audience").unwrap_or_default(),
        jwks_file: s.path("jwks_file"),
        public_key_file: s.path("public_key_file"),
        development_secret: secret,
        tenant_claim: s.text_or("tenant_claim", &default.tenant_claim),
        subject_claim: s.text_or("subject_claim", &default.subject_claim),
        scope_claim: s.text_or("scope_claim", &default.scope_claim),
        leeway_seconds: u32::try_from(s.integer("leeway_seconds", u64::from(default.leeway_seconds), 0..=300))
            .unwrap_or(0),
        token_bytes_max: s.count("token_bytes_max", default.token_bytes_max, 256..=65_536),
    };
    if let Err(errors) = Verifier::from_config(config.clone()) {
        for error in errors {
            let key = error.key.strip_prefix("auth.").unwrap_or(error.key);
            let given = s.has(key) || (key == SECRET && secret_given);
            s.problem(key, if given { Kind::Value } else { Kind::Required }, error.problem, None);
        }
    }
    config
}
