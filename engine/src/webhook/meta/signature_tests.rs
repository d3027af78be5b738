//! Signature vectors (computed with another program, and RFC 4231's), forgeries, and the verification request.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const KEY: &str = "s3cr3t-app-key-0123456789abcdef0";

const M1: &str = r#"{"object":"whatsapp_business_account","entry":[]}"#;
const M2: &str = r#"{"object":"whatsapp_business_account","entry":[{"id":"100000000000001","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550001111","phone_number_id":"200000000000002"},"statuses":[{"id":"wamid.TEST0001","status":"delivered","timestamp":"1750263773","recipient_id":"16505551234","biz_opaque_callback_data":"c=42;m=7"}]},"field":"messages"}]}]}"#;
const M3: &str = r#"{"text":"caf\u00e9 \u0645\u0631\u062d\u0628\u0627","url":"https:\/\/example.test\/a"}"#;
const M4: &str = r#"{"text":"café مرحبا","url":"https://example.test/a"}"#;
const M4_ESCAPED: &str = r#"{"text":"caf\u00e9 \u0645\u0631\u062d\u0628\u0627","url":"https://example.test/a"}"#;
const M7: &str = r#"{"text":"ok \ud83d\udc4d"}"#;
const M8: &str = r#"{"text":"ok 👍"}"#;

const SIGNATURE_M1: &str = "sha256=8f029d4a50a14661000a418e726af10233a23eab447c38959708bd9dc076d776";
const SIGNATURE_M2: &str = "sha256=add05f070db6e87d1545a271a2f0505e983f14bddd5e8a8d28e3d66636cfe721";
const SIGNATURE_M3: &str = "sha256=9c79d777d2d97eb5d52bf4081fcd89b437d3f887453a323c8b1c267943f3c866";
const SIGNATURE_M4: &str = "sha256=b953dc91e39e0a3441f4f31f158084e4921f8fae0583243fd75e7918a8acd00d";
const SIGNATURE_M4_ESCAPED: &str = "sha256=689674d804c91a56c25db652b02bdde8f57224ef2afd1ce0f123ff3c53039df8";
const SIGNATURE_M5: &str = "sha256=4d9f5a7fe8279240af19643a9bafa721164e9305ffe1252dc61c57a5f013d515";
const SIGNATURE_M6: &str = "sha256=c62adf344c8f16e246133f85c423259c95ed22ebc5ae3743b37f8e3aa5655fe6";
const SIGNATURE_M7: &str = "sha256=8328c873553064cf4cf210e9599b02e3c87546edce1cdc7047240be7542e1e83";
const SIGNATURE_M8: &str = "sha256=e5dc90dd04a9723c5c2333366f4117f763397af00c7780355f59e1dd50f49625";
const SIGNATURE_M1_WRONG_KEY: &str = "sha256=6189116ee51284bd08db6fc929c35a1e7c5f275ee582887eb107cd85b51d745e";

fn verify(body: &str, header: &str) -> Result<(), SignatureError> {
    SignatureKey::new(KEY.as_bytes()).verify(Some(header.as_bytes()), body.as_bytes())
}

#[test]
fn every_vector_is_accepted() {
    let m6 = format!("{M1}\n");
    for (body, bytes, header) in [
        (M1, 49, SIGNATURE_M1),
        (M2, 383, SIGNATURE_M2),
        (M3, 85, SIGNATURE_M3),
        (M4, 58, SIGNATURE_M4),
        (M4_ESCAPED, 82, SIGNATURE_M4_ESCAPED),
        ("", 0, SIGNATURE_M5),
        (m6.as_str(), 50, SIGNATURE_M6),
        (M7, 26, SIGNATURE_M7),
        (M8, 18, SIGNATURE_M8),
    ] {
        assert_eq!(body.len(), bytes, "{body}");
        assert_eq!(verify(body, header), Ok(()), "{body}");
        let upper = format!("sha256={}", header["sha256=".len()..].to_ascii_uppercase());
        assert_eq!(verify(body, &upper), Ok(()), "upper-case hex");
    }
}

#[test]
fn the_escaped_form_is_accepted_for_text_that_is_not_ascii() {
    assert_eq!(verify(M4, SIGNATURE_M4_ESCAPED), Ok(()));
    assert_eq!(verify(M8, SIGNATURE_M7), Ok(()), "a surrogate pair");
    // And not the other way round: an escaped body is what it is.
    assert_eq!(verify(M4_ESCAPED, SIGNATURE_M4), Err(SignatureError::Mismatch));
    assert_eq!(verify(M7, SIGNATURE_M8), Err(SignatureError::Mismatch));
}

#[test]
fn published_vectors_of_others() {
    // RFC 4231, case 2.
    let rfc = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let key = SignatureKey::new(b"Jefe");
    assert_eq!(key.verify(Some(rfc.as_bytes()), b"what do ya want for nothing?"), Ok(()));
}

#[test]
fn neighbours_signatures_are_refused() {
    let m6 = format!("{M1}\n");
    assert_eq!(verify(M1, SIGNATURE_M6), Err(SignatureError::Mismatch), "one newline is another body");
    assert_eq!(verify(&m6, SIGNATURE_M1), Err(SignatureError::Mismatch));
    assert_eq!(verify(M1, SIGNATURE_M1_WRONG_KEY), Err(SignatureError::Mismatch));
    assert_eq!(verify("", SIGNATURE_M1), Err(SignatureError::Mismatch));
}

#[test]
fn missing_and_malformed_headers_are_told_apart() {
    let key = SignatureKey::new(KEY.as_bytes());
    assert_eq!(key.verify(None, M1.as_bytes()), Err(SignatureError::Missing));
    let sha1 = "sha1=8f029d4a50a14661000a418e726af10233a23eab";
    let short = &SIGNATURE_M1[..SIGNATURE_M1.len() - 1];
    let long = format!("{SIGNATURE_M1}0");
    let bare = &SIGNATURE_M1["sha256=".len()..];
    let letters = SIGNATURE_M1.replace('f', "g");
    for header in ["", "sha256=", sha1, short, &long, bare, &letters] {
        assert_eq!(verify(M1, header), Err(SignatureError::Malformed), "{header}");
    }
}

#[test]
fn a_thousand_mutated_signatures_and_none_accepted() {
    let seed = 0x3e7a_u64;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let good = [(M1, SIGNATURE_M1), (M2, SIGNATURE_M2), (M3, SIGNATURE_M3), (M4, SIGNATURE_M4), (M8, SIGNATURE_M8)];
    let key = SignatureKey::new(KEY.as_bytes());
    for round in 0..1_000 {
        let (body, header) = good[random.random_range(0..good.len())];
        let mut header = header.as_bytes().to_vec();
        let mut body = body.as_bytes().to_vec();
        match round % 4 {
            0 => {
                // Another hex digit, so that the value differs and not only its spelling.
                let at = random.random_range(b"sha256=".len()..header.len());
                header[at] = if header[at] == b'0' { b'1' } else { b'0' };
            }
            1 => header.truncate(random.random_range(0..header.len())),
            2 => {
                let at = random.random_range(0..body.len());
                body[at] ^= 1 << random.random_range(0..8);
            }
            _ => body.truncate(random.random_range(0..body.len())),
        }
        assert!(key.verify(Some(&header), &body).is_err(), "round {round}");
    }
}

#[test]
fn nothing_is_parsed_under_a_wrong_signature() {
    let receiver = Receiver::new(KEY, "token");
    assert!(receiver.receive(Some(SIGNATURE_M1.as_bytes()), M2.as_bytes()).is_err());
    assert_eq!(receiver.receive(Some(SIGNATURE_M2.as_bytes()), M2.as_bytes()).map(|events| events.len()), Ok(1));
}

#[test]
fn the_verification_request_is_answered_with_its_challenge() {
    let receiver = Receiver::new(KEY, "tok en+1");
    let right = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=tok%20en%2B1";
    assert_eq!(receiver.challenge(right).as_deref(), Some("1158201444"));
    assert_eq!(receiver.challenge(&right.replace("%20", "+")).as_deref(), Some("1158201444"), "plus is a space");
    assert_eq!(
        receiver.challenge(&right.replace("hub.", "hub%2E")).as_deref(),
        Some("1158201444"),
        "names are decoded too"
    );
    for wrong in [
        "",
        "hub.mode=subscribe&hub.challenge=1158201444",
        "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=other",
        "hub.mode=unsubscribe&hub.challenge=1158201444&hub.verify_token=tok%20en%2B1",
        "hub.mode=subscribe&hub.challenge=&hub.verify_token=tok%20en%2B1",
        "hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=tok%20en%2B1",
        "hub.mode=subscribe&hub.verify_token=tok%20en%2B1",
    ] {
        assert_eq!(receiver.challenge(wrong), None, "{wrong}");
    }
}
