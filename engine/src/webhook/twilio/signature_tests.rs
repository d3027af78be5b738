//! Signature vectors (those of the test suites of Twilio's own libraries, and our own with realistic callbacks), and forgeries.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::*;

const PUBLISHED_TOKEN: &str = "12345";
pub(super) const OWN_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FORM: &[u8] = b"application/x-www-form-urlencoded";
const JSON: &[u8] = b"application/json; charset=utf-8";

pub(super) struct Vector {
    name: String,
    base: String,
    target: String,
    body: Vec<u8>,
    content_type: &'static [u8],
    signature: String,
    signature_443: Option<String>,
}

impl Vector {
    fn read(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let url = text("url").expect("every vector has a URL");
        let authority_end = url.find("://").expect("absolute") + 3;
        let path = authority_end + url[authority_end..].find('/').expect("every vector has a path");
        let (body, content_type) = match (text("body"), text("raw")) {
            (Some(body), _) => (body, JSON),
            (None, Some(raw)) => (raw, FORM),
            (None, None) => (encode(&json["params"]), FORM),
        };
        Self {
            name: text("n").expect("every vector has a name"),
            base: url[..path].to_owned(),
            target: url[path..].to_owned(),
            body: body.into_bytes(),
            content_type,
            signature: text("sig").expect("every vector has a signature"),
            signature_443: text("sig_with_443"),
        }
    }

    pub(super) fn receive(&self, token: &str) -> Result<Vec<Event>, SignatureError> {
        self.receive_as(
            &SignatureKey::new(token, None),
            &self.base,
            &self.target,
            &self.body,
            self.signature.as_bytes(),
        )
    }

    fn receive_as(
        &self,
        key: &SignatureKey,
        base: &str,
        target: &str,
        body: &[u8],
        signature: &[u8],
    ) -> Result<Vec<Event>, SignatureError> {
        let url = PublicUrl::parse(base).expect("the vectors' bases are URLs");
        let receiver = Receiver { key: key.clone(), url };
        receiver.receive(&Post { target, content_type: Some(self.content_type), signature: Some(signature), body })
    }
}

fn encode(params: &Value) -> String {
    let mut pairs = Vec::new();
    let mut push = |name: &str, value: &Value| {
        let value = value.as_str().expect("values are strings");
        pairs.push(format!(
            "{}={}",
            utf8_percent_encode(name, NON_ALPHANUMERIC),
            utf8_percent_encode(value, NON_ALPHANUMERIC)
        ));
    };
    for (name, value) in params.as_object().expect("params is an object") {
        match value {
            Value::Array(values) => values.iter().for_each(|value| push(name, value)),
            one => push(name, one),
        }
    }
    // Against the order of signing, so that the sort is put to work.
    pairs.reverse();
    pairs.join("&")
}

fn vectors(text: &str) -> Vec<Vector> {
    let list: Vec<Value> = serde_json::from_str(text).expect("the vector file is JSON");
    list.iter().map(Vector::read).collect()
}

fn published() -> Vec<Vector> {
    vectors(include_str!("vectors_published.json"))
}

pub(super) fn own() -> Vec<Vector> {
    vectors(include_str!("vectors_own.json"))
}

fn published_named(start: &str) -> Vector {
    published().into_iter().find(|vector| vector.name.starts_with(start)).expect("the vector exists")
}

#[test]
fn every_published_vector_is_accepted() {
    let vectors = published();
    assert_eq!(vectors.len(), 24);
    for vector in vectors {
        assert!(vector.receive(PUBLISHED_TOKEN).is_ok(), "{}", vector.name);
        assert_eq!(
            vector.receive("12346").err(),
            Some(SignatureError::Mismatch),
            "{} under another token",
            vector.name
        );
    }
}

#[test]
fn every_own_vector_is_accepted_in_both_port_forms() {
    for vector in own() {
        assert!(vector.receive(OWN_TOKEN).is_ok(), "{}", vector.name);
        let with_443 = vector.signature_443.as_deref().expect("own vectors have both").as_bytes();
        let key = SignatureKey::new(OWN_TOKEN, None);
        for base in [vector.base.clone(), format!("{}:443", vector.base)] {
            for signature in [vector.signature.as_bytes(), with_443] {
                assert!(
                    vector.receive_as(&key, &base, &vector.target, &vector.body, signature).is_ok(),
                    "{}",
                    vector.name
                );
            }
        }
    }
}

#[test]
fn a_request_without_port_is_accepted_under_the_port_forms_signature() {
    let vector = published_named("T7");
    let key = SignatureKey::new(PUBLISHED_TOKEN, None);
    let without = "https://mycompany.com";
    for signature in [vector.signature.as_str(), "rw/jVviOgicj2+kHZULvebnA4ag="] {
        assert!(vector.receive_as(&key, without, &vector.target, &vector.body, signature.as_bytes()).is_ok());
    }
}

#[test]
fn an_apostrophe_on_the_wire_is_accepted_under_the_escaped_signature() {
    let vector = published_named("T9");
    let key = SignatureKey::new(PUBLISHED_TOKEN, None);
    let wire = vector.target.replace("%27", "'");
    assert!(vector.receive_as(&key, &vector.base, &wire, &vector.body, vector.signature.as_bytes()).is_ok());
}

#[test]
fn names_are_sorted_not_joined_text() {
    let vector = published_named("T12");
    let key = SignatureKey::new(PUBLISHED_TOKEN, None);
    let joined = b"95+Bu0JVPi0r/SsESZCVf0dWAjw=";
    assert_eq!(
        vector.receive_as(&key, &vector.base, &vector.target, &vector.body, joined).err(),
        Some(SignatureError::Mismatch)
    );
}

#[test]
fn a_changed_status_is_refused() {
    let vector = &own()[0];
    let text = String::from_utf8(vector.body.clone()).expect("ASCII");
    let changed = text.replace("MessageStatus=delivered", "MessageStatus=read");
    let key = SignatureKey::new(OWN_TOKEN, None);
    let receive = |signature: &str| {
        vector.receive_as(&key, &vector.base, &vector.target, changed.as_bytes(), signature.as_bytes())
    };
    assert_eq!(receive(&vector.signature).err(), Some(SignatureError::Mismatch));
    assert!(receive("3aqF5bkBA/PwpYg69RK01UopHYs=").is_ok(), "the signature of the changed body is right for it");
}

#[test]
fn a_json_body_must_fit_the_signed_hash() {
    for name in ["T5", "T6", "T7"] {
        let vector = published_named(name);
        let key = SignatureKey::new(PUBLISHED_TOKEN, None);
        let refused =
            vector.receive_as(&key, &vector.base, &vector.target, b"{\"property\":1}", vector.signature.as_bytes());
        assert_eq!(refused.err(), Some(SignatureError::Mismatch), "{name}");
    }
}

#[test]
fn both_tokens_are_accepted_during_a_rotation() {
    let vector = &own()[0];
    for key in [SignatureKey::new("new", Some(OWN_TOKEN)), SignatureKey::new(OWN_TOKEN, Some("new"))] {
        assert!(
            vector.receive_as(&key, &vector.base, &vector.target, &vector.body, vector.signature.as_bytes()).is_ok()
        );
    }
}

#[test]
fn missing_and_malformed_headers_are_told_apart() {
    let url = PublicUrl::parse("https://hooks.example.test").expect("a URL");
    let receiver = Receiver::new(SignatureKey::new(OWN_TOKEN, None), url);
    let receive =
        |signature| receiver.receive(&Post { target: "/x", content_type: None, signature, body: b"A=1" }).err();
    assert_eq!(receive(None), Some(SignatureError::Missing));
    for header in [
        &b""[..],
        b"abc",
        b"not base64 at all!",
        b"RSOYDt4T1cUTdK1PDd93/VVr8B8",
        b"AAAA",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(receive(Some(header)), Some(SignatureError::Malformed), "{header:?}");
    }
}

#[test]
fn a_thousand_mutated_signatures_and_none_accepted() {
    let seed = 0x51_u64;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let key = SignatureKey::new(OWN_TOKEN, Some("another-token"));
    let vectors = own();
    for round in 0..1_000 {
        let vector = &vectors[random.random_range(0..vectors.len())];
        let mut signature = vector.signature.clone().into_bytes();
        let mut body = vector.body.clone();
        let mut target = vector.target.clone();
        match round % 5 {
            0 => {
                let at = random.random_range(0..signature.len());
                let bit = 1 << random.random_range(0..7);
                signature[at] ^= bit;
            }
            1 => signature.truncate(random.random_range(0..signature.len())),
            2 => {
                // A digit or letter of the body becomes another one.
                let at = random.random_range(0..body.len());
                body[at] = if body[at] == b'x' { b'y' } else { b'x' };
            }
            3 => target.push(char::from(random.random_range(b'a'..=b'z'))),
            _ => body.extend_from_slice(b"&Extra=1"),
        }
        let answer = vector.receive_as(&key, &vector.base, &target, &body, &signature);
        assert!(answer.is_err(), "round {round}: {}", vector.name);
    }
}

proptest! {
    #[test]
    fn verifying_never_panics(target in ".*", header in proptest::collection::vec(any::<u8>(), 0..64), body in ".*") {
        let url = PublicUrl::parse("https://hooks.example.test").expect("a URL");
        let receiver = Receiver::new(SignatureKey::new(OWN_TOKEN, None), url);
        for content_type in [FORM, JSON] {
            let post = Post { target: &target, content_type: Some(content_type), signature: Some(&header), body: body.as_bytes() };
            prop_assert!(receiver.receive(&post).is_err());
        }
    }
}
