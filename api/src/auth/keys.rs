//! The keys that tokens are checked with.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::config::ConfigError;

/// Shortest RSA modulus that is taken, in bytes (2,048 bits; RFC 7518 §3.3).
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// One key, good for exactly one algorithm: a token cannot choose how it is checked.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl Key {
    /// The HS256 key of development.
    pub(super) fn shared(secret: &str) -> Self {
        Self { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret.as_bytes()) }
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError { key, problem: format!("cannot read {}: {error}", path.display()) })
}

/// The keys of a JWKS file. Keys for other purposes or of other kinds are passed over; at least one must be of use.
pub(super) fn from_jwks_file(path: &Path) -> Result<Vec<Key>, ConfigError> {
    const KEY: &str = "auth.jwks_file";
    let refuse = |problem: String| ConfigError { key: KEY, problem: format!("{}: {problem}", path.display()) };
    let set: JwkSet =
        serde_json::from_str(&read(KEY, path)?).map_err(|error| refuse(format!("is no JSON Web Key Set: {error}")))?;
    let mut keys = Vec::with_capacity(set.keys.len());
    for (index, jwk) in set.keys.iter().enumerate() {
        if let Some(key) = from_jwk(jwk).map_err(|problem| refuse(format!("key {index} {problem}")))? {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(refuse("holds no signing key for RS256, ES256 or EdDSA".to_owned()));
    }
    Ok(keys)
}

fn from_jwk(jwk: &Jwk) -> Result<Option<Key>, String> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Ok(None);
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => {
            return Err("is a shared secret, which does not belong into a file of public keys".to_owned());
        }
        _ => return Ok(None),
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != algorithm.into()) {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("cannot be read: {error}"))?;
    check(&key, algorithm)?;
    Ok(Some(Key { id: jwk.common.key_id.clone(), algorithm, key }))
}

/// The one key of a PEM file.
pub(super) fn from_pem_file(path: &Path) -> Result<Key, ConfigError> {
    const KEY: &str = "auth.public_key_file";
    let refuse = |problem: String| ConfigError { key: KEY, problem: format!("{}: {problem}", path.display()) };
    let text = read(KEY, path)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(refuse("holds a private key; give this server the public one alone".to_owned()));
    }
    let pem = text.as_bytes();
    let (algorithm, key) = DecodingKey::from_rsa_pem(pem)
        .map(|key| (Algorithm::RS256, key))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)))
        .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)))
        .map_err(|_| refuse("holds no public key of RSA, P-256 or Ed25519 in PEM".to_owned()))?;
    check(&key, algorithm).map_err(refuse)?;
    Ok(Key { id: None, algorithm, key })
}

/// Finds a key that could never check a token, so that the server refuses to start rather than every caller.
fn check(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    match key.family() {
        AlgorithmFamily::Rsa => {
            let jwk = Jwk::from_decoding_key(key, None).map_err(|error| format!("cannot be read: {error}"))?;
            // Four characters of base64 carry three bytes.
            let short =
                matches!(&jwk.algorithm, AlgorithmParameters::RSA(p) if p.n.len() * 3 / 4 < RSA_MODULUS_BYTES_MIN);
            if short {
                return Err("is too short: RSA keys need at least 2,048 bits".to_owned());
            }
        }
        // The library cuts the key to 32 bytes without looking, so its length is checked here.
        AlgorithmFamily::Ed if key.try_get_as_bytes().map_or(0, <[u8]>::len) != 32 => {
            return Err("is no Ed25519 key: 32 bytes expected".to_owned());
        }
        AlgorithmFamily::Ed | AlgorithmFamily::Ec | AlgorithmFamily::Hmac => {}
    }
    jsonwebtoken::crypto::verify("", b"", key, algorithm)
        .map(|_| ())
        .map_err(|error| format!("is not fit for {algorithm:?}: {error}"))
}
