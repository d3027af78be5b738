//! Webhook signatures as both providers make them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// A Meta app secret, ready to sign.
#[derive(Clone)]
pub struct MetaSigner(hmac::Key);

impl std::fmt::Debug for MetaSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetaSigner")
    }
}

impl MetaSigner {
    /// The key is the text of the app secret.
    #[must_use]
    pub fn new(app_secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, app_secret.as_bytes()))
    }

    /// The value of `X-Hub-Signature-256` over the raw body.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut value = String::with_capacity(71);
        value.push_str("sha256=");
        for byte in hmac::sign(&self.0, body).as_ref() {
            value.push(char::from(HEX[usize::from(byte >> 4)]));
            value.push(char::from(HEX[usize::from(byte & 15)]));
        }
        value
    }
}

/// A Twilio auth token, ready to sign.
#[derive(Clone)]
pub struct TwilioSigner(hmac::Key);

impl std::fmt::Debug for TwilioSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TwilioSigner")
    }
}

impl TwilioSigner {
    /// The key is the text of the auth token.
    #[must_use]
    pub fn new(auth_token: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes()))
    }

    /// The value of `X-Twilio-Signature`: the public URL without fragment, then every parameter's name and value,
    /// sorted by name; the values of a repeated name are sorted and each distinct one counts once.
    #[must_use]
    pub fn sign(&self, url: &str, params: &[(&str, &str)]) -> String {
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(url.as_bytes());
        let mut sorted: Vec<&(&str, &str)> = params.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        for (name, value) in sorted {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        STANDARD.encode(mac.sign())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "s3cr3t-app-key-0123456789abcdef0";

    #[test]
    fn meta_vectors() {
        let m2 = r#"{"object":"whatsapp_business_account","entry":[{"id":"100000000000001","changes":[{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550001111","phone_number_id":"200000000000002"},"statuses":[{"id":"wamid.TEST0001","status":"delivered","timestamp":"1750263773","recipient_id":"16505551234","biz_opaque_callback_data":"c=42;m=7"}]},"field":"messages"}]}]}"#;
        let vectors: [(&str, &str); 6] = [
            (
                r#"{"object":"whatsapp_business_account","entry":[]}"#,
                "8f029d4a50a14661000a418e726af10233a23eab447c38959708bd9dc076d776",
            ),
            (m2, "add05f070db6e87d1545a271a2f0505e983f14bddd5e8a8d28e3d66636cfe721"),
            (
                r#"{"text":"caf\u00e9 \u0645\u0631\u062d\u0628\u0627","url":"https:\/\/example.test\/a"}"#,
                "9c79d777d2d97eb5d52bf4081fcd89b437d3f887453a323c8b1c267943f3c866",
            ),
            (
                r#"{"text":"café مرحبا","url":"https://example.test/a"}"#,
                "b953dc91e39e0a3441f4f31f158084e4921f8fae0583243fd75e7918a8acd00d",
            ),
            ("", "4d9f5a7fe8279240af19643a9bafa721164e9305ffe1252dc61c57a5f013d515"),
            (r#"{"text":"ok \ud83d\udc4d"}"#, "8328c873553064cf4cf210e9599b02e3c87546edce1cdc7047240be7542e1e83"),
        ];
        let signer = MetaSigner::new(KEY);
        for (body, hex) in vectors {
            assert_eq!(signer.sign(body.as_bytes()), format!("sha256={hex}"), "{body}");
        }
        let rfc = MetaSigner::new("Jefe").sign(b"what do ya want for nothing?");
        assert_eq!(rfc, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn twilio_vectors() {
        let call = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ];
        let signer = TwilioSigner::new("12345");
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        assert_eq!(signer.sign(url, &call), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        assert_eq!(
            signer.sign("http://mycompany.com:1234/myapp.php?foo=1&bar=2", &call),
            "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="
        );
        assert_eq!(signer.sign(url, &[]), "zYQTYrRWXE7LtzbG4PfP7/bkkGo=");
        let repeated =
            [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")];
        assert_eq!(signer.sign(url, &repeated), "IK+Dwps556ElfBT0I3Rgjkr1wJU=");
        let mut prefix = call.to_vec();
        prefix.push(("ReasonConferenceEnded", "test"));
        prefix.push(("Reason", "Participant"));
        assert_eq!(signer.sign(url, &prefix), "vOEb5UThFn24KEfnOFLQY2AE5FY=");
        let cases = [("callSid", "lowercase"), ("CallSid", "uppercase"), ("CALLSID", "allcaps")];
        assert_eq!(signer.sign(url, &cases), "jDK7WKT8wiNrwggd4ceTv4e1MJ4=");
        let empty = [("Digits", ""), ("CallSid", "CA1234567890ABCDE"), ("EmptyParam", "")];
        assert_eq!(signer.sign(url, &empty), "9HHp/OqQMEwdrVebHDdA/+tqjX8=");
    }

    #[test]
    fn twilio_message_callback() {
        let raw = "To=%2B16505551234&SmsStatus=delivered&SmsSid=SM00000000000000000000000000000001&RawDlrDoneDate=2607171206&MessageStatus=delivered&MessageSid=SM00000000000000000000000000000001&From=%2B15550001111&ApiVersion=2010-04-01&AccountSid=AC00000000000000000000000000000001";
        let form = crate::sim::form::parse(raw.as_bytes()).expect("a form");
        let params: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        let signer = TwilioSigner::new("0123456789abcdef0123456789abcdef");
        let url = "https://hooks.example.test/twilio/status?c=42&m=7";
        assert_eq!(signer.sign(url, &params), "EJPwWcR13UEW3z6yrfQoL68uFGI=");
    }
}
