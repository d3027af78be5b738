//! `[accounts.<name>]`: provider accounts with their credentials.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sluice_engine::domain::ids::TenantId;

use super::reader::Section;
use super::report::{Kind, excerpt};
use super::secret::Secret;

/// A provider account. Its name stands in webhook paths and is what lines refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `[a-z0-9][a-z0-9._-]{0,62}`.
    pub name: String,
    /// Tenants that may use it; `["*"]` for all.
    pub tenants: Vec<String>,
    /// The provider's API, without a trailing slash.
    pub base_url: String,
    /// When the token that sends expires, for the metrics; `None`: never, or not known.
    pub token_expires: Option<Timestamp>,
    /// What only this provider has.
    pub provider: ProviderAccount,
}

/// The provider-specific half of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderAccount {
    /// Meta's Cloud API.
    Meta(MetaAccount),
    /// Twilio's Messages API.
    Twilio(TwilioAccount),
}

/// A Meta app with access to one or more business accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaAccount {
    /// Graph API version, e.g. `v25.0`; versions live about two years.
    pub api_version: String,
    /// System user token that sends.
    pub access_token: Secret,
    /// The app's secret: signs webhooks.
    pub app_secret: Secret,
    /// The text entered in Meta's webhook settings.
    pub verify_token: Secret,
}

/// A Twilio account or subaccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwilioAccount {
    /// `AC…`
    pub account_sid: String,
    /// Signs webhooks, and sends unless there is an API key.
    pub auth_token: Secret,
    /// Accepted on webhooks too, while tokens are rotated.
    pub secondary_token: Option<Secret>,
    /// `SK…` and its secret: sends instead of the auth token.
    pub api_key: Option<(String, Secret)>,
}

impl ProviderAccount {
    /// The name as a metric label.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Twilio(_) => "twilio",
        }
    }
}

#[derive(Clone, Copy)]
enum Kinds {
    Meta,
    Twilio,
}

impl Account {
    pub(super) fn read(name: &str, s: &mut Section<'_, '_>) -> Self {
        if !is_id(name) {
            let hint = "use a-z, 0-9, dot, dash and underscore, at most 63, starting with a letter or digit";
            s.problem("", Kind::Value, "not a name for an account", Some(hint));
        }
        let tenants = s.list("tenants");
        if tenants.is_empty() {
            s.problem(
                "tenants",
                Kind::Required,
                "no tenant may use this account",
                Some("for example [\"acme\"], or [\"*\"] for all"),
            );
        }
        for tenant in tenants.iter().filter(|tenant| *tenant != "*") {
            if let Err(error) = TenantId::new(tenant) {
                let text = format!("{:?} can be no tenant of a token: {error}", excerpt(tenant));
                s.problem("tenants", Kind::Value, text, Some("[\"*\"] stands for all"));
            }
        }
        let given = s.has("provider");
        let words = [("meta", Kinds::Meta), ("twilio", Kinds::Twilio)];
        let kind = s.choice("provider", "meta", &words).unwrap_or(Kinds::Meta);
        if !given {
            s.problem("provider", Kind::Required, "required", Some("\"meta\" or \"twilio\""));
        }
        let (default_url, provider) = match kind {
            Kinds::Meta => ("https://graph.facebook.com", ProviderAccount::Meta(MetaAccount::read(s))),
            Kinds::Twilio => ("https://api.twilio.com", ProviderAccount::Twilio(TwilioAccount::read(s))),
        };
        let base_url = s.parsed("base_url", default_url, base_url).unwrap_or_else(|| default_url.to_owned());
        let token_expires = s.text("token_expires").and_then(|text| {
            let at = expiry(&text);
            if at.is_none() {
                s.problem(
                    "token_expires",
                    Kind::Value,
                    "must be a date such as 2027-03-31, or with time and offset",
                    None,
                );
            }
            at
        });
        Self { name: name.to_owned(), tenants, base_url, token_expires, provider }
    }

    /// Whether `tenant` may use this account.
    #[must_use]
    pub fn allows(&self, tenant: &str) -> bool {
        self.tenants.iter().any(|allowed| allowed == "*" || allowed == tenant)
    }
}

impl MetaAccount {
    fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            api_version: s.parsed("api_version", "v25.0", version).unwrap_or_default(),
            access_token: s.secret_required("access_token"),
            app_secret: s.secret_required("app_secret"),
            verify_token: s.secret_required("verify_token"),
        }
    }
}

impl TwilioAccount {
    fn read(s: &mut Section<'_, '_>) -> Self {
        let account_sid = s.text("account_sid").unwrap_or_default();
        if !is_sid(&account_sid, "AC") {
            let kind = if account_sid.is_empty() { Kind::Required } else { Kind::Value };
            s.problem(
                "account_sid",
                kind,
                "must be AC and 32 hex digits",
                Some("it is on the first page of Twilio's console"),
            );
        }
        Self {
            account_sid,
            auth_token: s.secret_required("auth_token"),
            secondary_token: s.secret("secondary_token"),
            api_key: Self::api_key(s),
        }
    }

    fn api_key(s: &mut Section<'_, '_>) -> Option<(String, Secret)> {
        let sid = s.text("api_key_sid");
        let secret_given = s.has("api_key_secret_file") || s.has("api_key_secret_env");
        let secret = s.secret("api_key_secret");
        match (&sid, secret_given) {
            (Some(_), false) => s.problem("api_key_secret_file", Kind::Required, "required beside api_key_sid", None),
            (None, true) => s.problem("api_key_sid", Kind::Required, "required beside the API key's secret", None),
            (Some(sid), true) if !is_sid(sid, "SK") => {
                s.problem("api_key_sid", Kind::Value, "must be SK and 32 hex digits", None)
            }
            _ => {}
        }
        sid.zip(secret)
    }
}

/// A date, which ends at its first moment in UTC, or a moment.
fn expiry(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    text.parse().ok().or_else(day)
}

/// `[a-z0-9][a-z0-9._-]{0,62}`
fn is_id(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!(name.len(), 1..=63)
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn version(text: &str) -> Result<String, &'static str> {
    let number = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let parts = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    match parts {
        Some((major, minor)) if number(major) && number(minor) => Ok(text.to_owned()),
        _ => Err("must be a version such as v25.0"),
    }
}

fn base_url(text: &str) -> Result<String, String> {
    // The same rules as for our own address: scheme, host, maybe port and path.
    let url = sluice_engine::webhook::twilio::PublicUrl::parse(text).map_err(|error| error.to_string())?;
    Ok(url.as_str().to_owned())
}
