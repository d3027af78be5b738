//! Tokens that are good, and every way in which one is not.

use super::super::testing::{Issuer, claims, config, raw_token, verifier_of};
use super::*;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use std::io::Write as _;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn verify(claims: &Value) -> Result<Principal, AuthError> {
    let issuer = Issuer::ed25519(1);
    issuer.verifier().verify(&issuer.sign(claims), NOW)
}

fn changed(change: impl FnOnce(&mut Map<String, Value>)) -> Result<Principal, AuthError> {
    let mut claims = claims(NOW.0);
    change(claims.as_object_mut().unwrap());
    verify(&claims)
}

#[test]
fn each_kind_of_key_is_accepted() {
    let issuers = [Issuer::rsa(), Issuer::p256(2), Issuer::ed25519(3), Issuer::ed25519(4)];
    let verifier = verifier_of(&issuers.each_ref());
    for issuer in &issuers {
        let principal = verifier.verify(&issuer.sign(&claims(NOW.0)), NOW).unwrap();
        assert_eq!(principal.tenant.as_str(), "acme");
        assert_eq!(&*principal.subject, "ada");
        assert!(Scope::ALL.iter().all(|scope| principal.scopes.contains(*scope)));
        // Without a key id every key of the algorithm is tried.
        let anonymous = issuer.sign_with(&Header::new(issuer.algorithm), &claims(NOW.0));
        assert!(verifier.verify(&anonymous, NOW).is_ok());
    }
    assert!(!verifier.accepts_development_tokens());
}

#[test]
fn none_is_no_algorithm() {
    let verifier = Issuer::rsa().verifier();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "RS384", "PS256", "ES384", "EdDSA"] {
        for signature in [&b""[..], &[0; 64]] {
            let token = raw_token(&json!({ "alg": alg, "typ": "JWT" }), &claims(NOW.0), signature);
            assert_eq!(verifier.verify(&token, NOW), Err(AuthError::Algorithm), "{alg}");
        }
    }
}

/// The classic confusion: a token signed with HMAC, whose secret is the public key of the server.
#[test]
fn a_public_key_is_no_shared_secret() {
    let rsa = Issuer::rsa();
    let public = serde_json::to_string(&rsa.jwk()).unwrap();
    let forged = Issuer {
        algorithm: jsonwebtoken::Algorithm::HS256,
        key: EncodingKey::from_secret(public.as_bytes()),
        key_id: rsa.key_id.clone(),
    };
    assert_eq!(rsa.verifier().verify(&forged.sign(&claims(NOW.0)), NOW), Err(AuthError::Algorithm));
}

#[test]
fn another_issuers_key_is_refused() {
    let verifier = Issuer::ed25519(1).verifier();
    let stranger = Issuer::ed25519(2);
    assert_eq!(verifier.verify(&stranger.sign(&claims(NOW.0)), NOW), Err(AuthError::UnknownKey));
    let liar = Issuer { key_id: Some("ed-1".to_owned()), ..stranger };
    assert_eq!(verifier.verify(&liar.sign(&claims(NOW.0)), NOW), Err(AuthError::Signature));
    let anonymous = Issuer { key_id: None, ..liar };
    assert_eq!(verifier.verify(&anonymous.sign(&claims(NOW.0)), NOW), Err(AuthError::Signature));
}

#[test]
fn every_changed_byte_is_noticed() {
    let issuer = Issuer::ed25519(1);
    let verifier = issuer.verifier();
    let token = issuer.sign(&claims(NOW.0));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&changed, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let verifier = Issuer::ed25519(1).verifier();
    assert_eq!(verifier.verify("", NOW), Err(AuthError::Missing));
    for text in ["a", "a.b", "a.b.c.d", "..", "....", "€.€.€"] {
        assert!(verifier.verify(text, NOW).is_err(), "{text}");
    }
    // A critical extension that nobody here understands (RFC 7515 §4.1.11).
    let header = json!({ "alg": "EdDSA", "crit": ["exp"] });
    assert_eq!(verifier.verify(&raw_token(&header, &claims(NOW.0), &[0; 64]), NOW), Err(AuthError::Algorithm));
}

#[test]
fn time_is_checked_to_the_second_with_leeway() {
    let leeway = i64::from(config().leeway_seconds);
    let at = |name: &str, time: i64| changed(|c| _ = c.insert(name.to_owned(), time.into()));
    assert!(at("exp", NOW.0 - leeway + 1).is_ok());
    assert_eq!(at("exp", NOW.0 - leeway), Err(AuthError::Expired));
    assert_eq!(at("exp", i64::MIN), Err(AuthError::Expired));
    for name in ["nbf", "iat"] {
        assert!(at(name, NOW.0 + leeway).is_ok());
        assert_eq!(at(name, NOW.0 + leeway + 1), Err(AuthError::Future));
        assert!(changed(|c| _ = c.remove(name)).is_ok());
        assert_eq!(changed(|c| _ = c.insert(name.to_owned(), "soon".into())), Err(AuthError::Claim(ClaimKind::Time)));
    }
    assert_eq!(changed(|c| _ = c.remove("exp")), Err(AuthError::Claim(ClaimKind::Expiry)));
    assert_eq!(changed(|c| _ = c.insert("exp".to_owned(), "never".into())), Err(AuthError::Claim(ClaimKind::Expiry)));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let with = |name: &str, value: Value| changed(|c| _ = c.insert(name.to_owned(), value));
    assert!(with("aud", json!(["other", "sluice"])).is_ok());
    for wrong in [json!("other"), json!([]), json!(["other"]), json!(1), json!("sluice2"), json!([["sluice"]])] {
        assert_eq!(with("aud", wrong), Err(AuthError::Audience));
    }
    assert_eq!(changed(|c| _ = c.remove("aud")), Err(AuthError::Audience));
    for wrong in [json!("https://issuer.test/"), json!(""), json!(["https://issuer.test"])] {
        assert_eq!(with("iss", wrong), Err(AuthError::Issuer));
    }
    assert_eq!(changed(|c| _ = c.remove("iss")), Err(AuthError::Issuer));
}

#[test]
fn tenant_subject_and_scope_must_be_usable() {
    let with = |name: &str, value: Value| changed(|c| _ = c.insert(name.to_owned(), value));
    for wrong in [json!(""), json!(1), json!("a b"), json!("../x"), json!("x".repeat(64)), json!(null)] {
        assert_eq!(with("tenant", wrong), Err(AuthError::Claim(ClaimKind::Tenant)));
    }
    for wrong in [json!(""), json!(1), json!("x".repeat(256)), json!("a\nb")] {
        assert_eq!(with("sub", wrong), Err(AuthError::Claim(ClaimKind::Subject)));
    }
    for wrong in [json!(1), json!([1]), json!({})] {
        assert_eq!(with("scope", wrong), Err(AuthError::Claim(ClaimKind::Scope)));
    }
    let scopes = |value: Value| with("scope", value).unwrap().scopes.iter().collect::<Vec<_>>();
    assert_eq!(scopes(json!("read write readx")), [Scope::Read]);
    assert_eq!(scopes(json!(["send", "admin"])), [Scope::Send, Scope::Admin]);
    assert_eq!(scopes(json!("")), []);
}

#[test]
fn oversized_tokens_are_not_looked_at() {
    let issuer = Issuer::ed25519(1);
    let mut claims = claims(NOW.0);
    claims["padding"] = "x".repeat(config().token_bytes_max).into();
    assert_eq!(issuer.verifier().verify(&issuer.sign(&claims), NOW), Err(AuthError::TooLong));
}

#[test]
fn claim_names_are_configurable() {
    let secret = "a secret of thirty-two bytes or more";
    let config = AuthConfig {
        development_secret: Some(secret.to_owned()),
        tenant_claim: "org".to_owned(),
        subject_claim: "client_id".to_owned(),
        scope_claim: "scp".to_owned(),
        ..config()
    };
    let verifier = Verifier::from_config(config).unwrap();
    assert!(verifier.accepts_development_tokens());
    let mut claims = claims(NOW.0);
    let refused = verifier.verify(&Issuer::shared(secret).sign(&claims), NOW);
    assert_eq!(refused, Err(AuthError::Claim(ClaimKind::Tenant)));
    claims["org"] = "umbrella".into();
    claims["client_id"] = "svc".into();
    claims["scp"] = json!(["read"]);
    claims.as_object_mut().unwrap().remove("tenant");
    let principal = verifier.verify(&Issuer::shared(secret).sign(&claims), NOW).unwrap();
    assert_eq!((principal.tenant.as_str(), &*principal.subject), ("umbrella", "svc"));
    let wrong = Issuer::shared("another secret of thirty-two bytes..");
    assert_eq!(verifier.verify(&wrong.sign(&claims), NOW), Err(AuthError::Signature));
}

#[test]
fn a_wrong_configuration_is_refused_with_everything_that_is_wrong() {
    let keys =
        |config: AuthConfig| Verifier::from_config(config).unwrap_err().into_iter().map(|e| e.key).collect::<Vec<_>>();
    assert_eq!(keys(AuthConfig::default()), ["auth.issuer", "auth.audience", "auth.jwks_file"]);
    assert_eq!(
        keys(AuthConfig {
            development_secret: Some("short".to_owned()),
            leeway_seconds: 301,
            token_bytes_max: 1,
            scope_claim: String::new(),
            ..config()
        }),
        ["auth.development_secret", "auth.scope_claim", "auth.leeway_seconds", "auth.token_bytes_max"]
    );
    assert_eq!(
        keys(AuthConfig {
            jwks_file: Some("/nowhere/keys.json".into()),
            public_key_file: Some("/nowhere/key.pem".into()),
            ..config()
        }),
        ["auth.jwks_file", "auth.public_key_file"]
    );
    let shown = format!("{:?}", AuthConfig { development_secret: Some("hush hush".to_owned()), ..config() });
    assert!(!shown.contains("hush"), "{shown}");
}

fn file_of(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn unusable_keys_are_refused_at_start() {
    for (content, word) in [
        ("{}", "JSON Web Key Set"),
        (r#"{"keys":[]}"#, "no signing key"),
        (r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#, "shared secret"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#, "32 bytes"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#, "not fit for ES256"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "too short"),
        (r#"{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}"#, "no signing key"),
    ] {
        let file = file_of(content);
        let errors =
            Verifier::from_config(AuthConfig { jwks_file: Some(file.path().to_owned()), ..config() }).unwrap_err();
        assert!(errors[0].problem.contains(word), "{content}: {errors:?}");
    }
}

#[test]
fn pem_files_hold_one_public_key() {
    let verifier_of_pem = |pem: &str| {
        let file = file_of(pem);
        Verifier::from_config(AuthConfig { public_key_file: Some(file.path().to_owned()), ..config() })
    };
    let pem = |der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let ed = Issuer::ed25519(5);
    let jsonwebtoken::jwk::AlgorithmParameters::OctetKeyPair(parameters) = ed.jwk().algorithm else { panic!() };
    let public = {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(parameters.x).unwrap()
    };
    let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    der.extend(public);
    let verifier = verifier_of_pem(&pem(&der)).unwrap();
    assert!(verifier.verify(&ed.sign(&claims(NOW.0)), NOW).is_ok());

    let rsa = verifier_of_pem(include_str!("testdata/rsa_2048_public.pem")).unwrap();
    assert!(rsa.verify(&Issuer::rsa().sign(&claims(NOW.0)), NOW).is_ok());

    let private = verifier_of_pem(include_str!("testdata/rsa_2048.pem")).unwrap_err();
    assert!(private[0].problem.contains("private key"), "{private:?}");
    assert!(verifier_of_pem("hello").unwrap_err()[0].problem.contains("no public key"));
    let short = verifier_of_pem(include_str!("testdata/rsa_1024_public.pem")).unwrap_err();
    assert!(short[0].problem.contains("2,048"), "{short:?}");
}
