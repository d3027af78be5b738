//! Issuers for tests: keys from fixed seeds (RSA from a file, since making one takes seconds), tokens of any content.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{AuthConfig, Verifier};

/// A key of 2,048 bits made for these tests and used nowhere else.
const RSA_KEY: &[u8] = include_bytes!("testdata/rsa_2048.pem");

pub(crate) struct Issuer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    pub(crate) key_id: Option<String>,
}

impl Issuer {
    pub(crate) fn ed25519(seed: u8) -> Self {
        // PKCS#8 (RFC 8410 §7) around 32 bytes of seed.
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend([seed; 32]);
        Self { algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(&der), key_id: Some(format!("ed-{seed}")) }
    }

    pub(crate) fn p256(seed: u8) -> Self {
        // PKCS#8 around SEC 1's ECPrivateKey (RFC 5915) with 32 bytes of scalar and no public key.
        let mut der = vec![0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
        der.extend([6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20]);
        der.extend([seed; 32]);
        Self { algorithm: Algorithm::ES256, key: EncodingKey::from_ec_der(&der), key_id: Some(format!("ec-{seed}")) }
    }

    pub(crate) fn rsa() -> Self {
        let key = EncodingKey::from_rsa_pem(RSA_KEY).unwrap();
        Self { algorithm: Algorithm::RS256, key, key_id: Some("rsa-1".to_owned()) }
    }

    pub(crate) fn shared(secret: &str) -> Self {
        Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret.as_bytes()), key_id: None }
    }

    pub(crate) fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id.clone_from(&self.key_id);
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.key_id);
        self.sign_with(&header, claims)
    }

    pub(crate) fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        verifier_of(&[self])
    }
}

/// A verifier that knows these issuers' public keys.
pub(crate) fn verifier_of(issuers: &[&Issuer]) -> Verifier {
    let keys: Vec<Jwk> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&serde_json::to_vec(&json!({ "keys": keys })).unwrap()).unwrap();
    Verifier::from_config(AuthConfig { jwks_file: Some(file.path().to_owned()), ..config() }).unwrap()
}

pub(crate) fn config() -> AuthConfig {
    AuthConfig { issuer: "https://issuer.test".to_owned(), audience: "sluice".to_owned(), ..AuthConfig::default() }
}

/// Claims that are good at `now`.
pub(crate) fn claims(now: i64) -> Value {
    json!({
        "iss": "https://issuer.test", "aud": "sluice", "iat": now - 10, "nbf": now - 10, "exp": now + 600,
        "tenant": "acme", "sub": "ada", "scope": "read send admin",
    })
}

/// A token with any header and a signature of the caller's choice.
pub(crate) fn raw_token(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()), part(signature))
}
