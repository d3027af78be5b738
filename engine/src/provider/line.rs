//! A line's identity at its provider: who sends, with which credentials, to which server.

use super::ProviderKind;
pub use crate::domain::line::SenderIdentity;
use hyper::http::Uri;
use std::fmt;

/// A secret text. `Debug` does not show it, there is no `Display`, and it is never serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret; surrounding white space (a newline at the end of a file) is dropped.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// What an account authenticates its sends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Meta: a system user's access token.
    Meta {
        /// Sent as bearer token.
        access_token: Secret,
    },
    /// Twilio: the account and what signs in to it.
    Twilio {
        /// `AC…`; stands in the path.
        account_sid: String,
        /// An API key (`SK…`) to sign in with; absent: the account itself.
        api_key_sid: Option<String>,
        /// The auth token, or the API key's secret.
        secret: Secret,
    },
}

/// Everything that the requests of a line have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineIdentity {
    /// What it speaks.
    pub kind: ProviderKind,
    /// Our id of the account; part of the webhook path.
    pub account: String,
    /// How it signs in.
    pub credentials: Credentials,
    /// Who sends.
    pub sender: SenderIdentity,
    /// Where to: `https://graph.facebook.com`, or any `http(s)://host[:port][/prefix]`.
    pub base_url: String,
    /// Meta: `v25.0`. Twilio: `2010-04-01`.
    pub api_version: String,
    /// Twilio: our own public address, under which it reaches `/webhooks/twilio/{account}`. Not used for Meta, whose
    /// webhook is configured in its app.
    pub public_base_url: Option<String>,
}

/// One thing wrong with a line's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: must be {expected}")]
pub struct LineError {
    /// Field of [`LineIdentity`].
    pub field: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// The server of a base URL: `http(s)://host[:port][/path]`.
    pub fn parse(base_url: &str) -> Option<Self> {
        Base::parse(base_url).map(|base| base.endpoint)
    }
}

/// A base URL taken apart.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) endpoint: Endpoint,
    /// Value of the `Host` header.
    pub(super) authority: String,
    /// Path before the API's own, without a slash at its end.
    pub(super) prefix: String,
}

impl Base {
    pub(super) fn parse(url: &str) -> Option<Self> {
        if url.contains(['?', '#', '@']) || url.contains(char::is_whitespace) {
            return None;
        }
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host();
        if host.is_empty() {
            return None;
        }
        let port = match authority.port_u16() {
            Some(0) => return None,
            Some(port) => port,
            // A colon without a usable number behind it.
            None if authority.as_str() != host => return None,
            None if tls => 443,
            None => 80,
        };
        Some(Self {
            endpoint: Endpoint { tls, host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port },
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl LineIdentity {
    /// Checks every field; all findings at once.
    pub fn validate(&self) -> Result<(), Vec<LineError>> {
        let mut errors = Vec::new();
        let mut expect = |good: bool, field, expected| {
            if !good {
                errors.push(LineError { field, expected });
            }
        };
        let account_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let account = !self.account.is_empty() && self.account.len() <= 63 && self.account.bytes().all(account_ok);
        expect(account, "account", "an id of letters, digits, `.`, `_` or `-`");
        expect(Base::parse(&self.base_url).is_some(), "base_url", "http(s)://host[:port][/path]");
        match self.kind {
            ProviderKind::Meta => {
                expect(
                    matches!(&self.credentials, Credentials::Meta { access_token } if is_token(access_token)),
                    "credentials",
                    "a Meta access token of visible ASCII characters",
                );
                expect(
                    matches!(&self.sender, SenderIdentity::PhoneNumberId(id) if is_digits(id, 1, 24)),
                    "sender",
                    "a Meta phone number id (digits)",
                );
                expect(is_meta_version(&self.api_version), "api_version", "a Graph API version such as v25.0");
            }
            ProviderKind::TwilioSms | ProviderKind::TwilioWhatsapp => {
                expect(
                    self.twilio_credentials_ok(),
                    "credentials",
                    "a Twilio account SID (AC and 32 hex digits), optionally an API key (SK…), and its secret",
                );
                let (sender, expected) = self.twilio_sender();
                expect(sender, "sender", expected);
                let version = self.api_version.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                expect(version && !self.api_version.is_empty(), "api_version", "2010-04-01");
                expect(
                    self.public_base_url.as_deref().is_some_and(is_public_base),
                    "public_base_url",
                    "the http(s) URL under which Twilio reaches this server, with no underscore in its host",
                );
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn twilio_credentials_ok(&self) -> bool {
        match &self.credentials {
            Credentials::Twilio { account_sid, api_key_sid, secret } => {
                is_sid(account_sid, "AC")
                    && api_key_sid.as_ref().is_none_or(|sid| is_sid(sid, "SK"))
                    && is_token(secret)
            }
            Credentials::Meta { .. } => false,
        }
    }

    fn twilio_sender(&self) -> (bool, &'static str) {
        let number = |text: &str| crate::domain::phone::Address::parse_e164(text).is_ok();
        match (self.kind, &self.sender) {
            (_, SenderIdentity::MessagingService(sid)) => {
                (is_sid(sid, "MG"), "a messaging service (MG and 32 hex digits)")
            }
            (ProviderKind::TwilioSms, SenderIdentity::From(from)) => (
                number(from) || is_digits(from, 3, 8) || is_alphanumeric_sender(from),
                "an E.164 number, a short code, or an alphanumeric sender of at most 11 characters",
            ),
            (ProviderKind::TwilioWhatsapp, SenderIdentity::From(from)) => (number(from), "an E.164 number"),
            _ => (false, "a Twilio number or messaging service"),
        }
    }
}

fn is_digits(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.len() == 34 && text.starts_with(prefix) && text.bytes().skip(2).all(|b| b.is_ascii_hexdigit())
}

/// Visible ASCII, so that it can stand in a header.
fn is_token(secret: &Secret) -> bool {
    let text = secret.expose();
    !text.is_empty() && text.len() <= 4096 && text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_meta_version(text: &str) -> bool {
    let parts = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(major, minor)| is_digits(major, 1, 3) && is_digits(minor, 1, 3))
}

fn is_alphanumeric_sender(text: &str) -> bool {
    (1..=11).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'&' | b'-' | b'_' | b'+'))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Twilio refuses callbacks to a host with an underscore (21609).
fn is_public_base(url: &str) -> bool {
    Base::parse(url).is_some_and(|base| !base.endpoint.host.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        let base = Base::parse("https://graph.facebook.com").unwrap();
        assert_eq!((base.endpoint.tls, base.endpoint.port, base.prefix.as_str()), (true, 443, ""));
        let base = Base::parse("http://[::1]:8080/meta/").unwrap();
        assert_eq!((base.endpoint.host.as_str(), base.endpoint.port), ("::1", 8080));
        assert_eq!((base.authority.as_str(), base.prefix.as_str()), ("[::1]:8080", "/meta"));
        for bad in [
            "",
            "graph.facebook.com",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x?y",
            "https://x#y",
            "https://x:99999",
            "https://a b",
        ] {
            assert!(Base::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let credentials =
            Credentials::Twilio { account_sid: "AC1".into(), api_key_sid: None, secret: Secret::new("hush\n") };
        assert!(!format!("{credentials:?}").contains("hush"));
        assert_eq!(Secret::new("hush\n").expose(), "hush");
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let line = LineIdentity {
            kind: ProviderKind::TwilioSms,
            account: "a/b".into(),
            credentials: Credentials::Meta { access_token: Secret::new("x") },
            sender: SenderIdentity::From("not a sender!".into()),
            base_url: "nowhere".into(),
            api_version: String::new(),
            public_base_url: Some("https://my_host.example.test".into()),
        };
        let fields: Vec<&str> = line.validate().unwrap_err().iter().map(|error| error.field).collect();
        assert_eq!(fields, ["account", "base_url", "credentials", "sender", "api_version", "public_base_url"]);
        let meta = LineIdentity {
            kind: ProviderKind::Meta,
            account: "acme".into(),
            base_url: "https://graph.facebook.com".into(),
            api_version: "25.0".into(),
            credentials: Credentials::Meta { access_token: Secret::new("a b") },
            ..line
        };
        let fields: Vec<&str> = meta.validate().unwrap_err().iter().map(|error| error.field).collect();
        assert_eq!(fields, ["credentials", "sender", "api_version"]);
    }

    #[test]
    fn sms_senders_may_be_numbers_codes_or_names() {
        let line = |kind, from: &str| LineIdentity {
            kind,
            account: "acme".into(),
            credentials: Credentials::Twilio {
                account_sid: format!("AC{}", "0".repeat(32)),
                api_key_sid: None,
                secret: Secret::new("x"),
            },
            sender: SenderIdentity::From(from.into()),
            base_url: super::super::twilio::BASE_URL.into(),
            api_version: super::super::twilio::API_VERSION.into(),
            public_base_url: Some("https://hooks.example.test".into()),
        };
        for from in ["+15550100123", "12345", "ACME Shop"] {
            assert!(line(ProviderKind::TwilioSms, from).validate().is_ok(), "{from}");
        }
        assert!(line(ProviderKind::TwilioWhatsapp, "+15550100123").validate().is_ok());
        assert!(line(ProviderKind::TwilioWhatsapp, "12345").validate().is_err());
        assert!(line(ProviderKind::TwilioSms, "way too long a name").validate().is_err());
    }
}
