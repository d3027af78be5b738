//! What a simulator is told at start: accounts, lines with their ceilings, templates, plan, faults.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::faults::Rule;
use super::pairs::PairLimit;
use super::plan::Plan;
use super::tls::TlsFiles;

/// The whole configuration. Every key has a default, so that a test states only what it is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// Where the provider APIs listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key of the provider APIs; without them they speak plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Where the control API listens. It has no authentication: keep it on loopback.
    pub control: SocketAddr,
    /// Seed of every random choice. The same seed gives every recipient the same journey.
    pub seed: u64,
    /// Meta accounts.
    pub meta: Vec<MetaAccount>,
    /// Twilio accounts.
    pub twilio: Vec<TwilioAccount>,
    /// How statuses are reported.
    pub plan: Plan,
    /// Faults that are on from the start.
    pub faults: Vec<Rule>,
    /// Webhook connections per account; a POST occupies one until it is answered.
    pub webhook_connections: usize,
    /// Threads that serve the provider APIs (each with its own runtime).
    pub api_threads: usize,
    /// Lines (identities) whose first posts are kept one by one with their times, for `GET /posts`.
    pub timed_lines: Vec<String>,
    /// Name of the `StatusCallback` query parameter that holds the sender's correlation id.
    pub correlation_parameter: String,
}

impl Default for SimConfig {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any,
            tls: None,
            control: any,
            seed: 1,
            meta: Vec::new(),
            twilio: Vec::new(),
            plan: Plan::default(),
            faults: Vec::new(),
            webhook_connections: 64,
            api_threads: 1,
            timed_lines: Vec::new(),
            correlation_parameter: "c".to_owned(),
        }
    }
}

/// A Meta app with its business account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaAccount {
    /// Name used in reports and in control calls.
    pub account: String,
    /// The access token that sends must carry.
    pub token: String,
    /// The app secret that signs webhooks.
    pub app_secret: String,
    /// The business account id shown in webhooks.
    #[serde(default = "default_waba")]
    pub waba_id: String,
    /// Full `http://` URL of the webhook endpoint; statuses wait until there is one.
    #[serde(default)]
    pub webhook: Option<String>,
    /// HTTP status of rate-limit answers: Meta's documents say 400, some resellers 429.
    #[serde(default = "default_rate_http")]
    pub rate_http: u16,
    /// How often one number may write to one user.
    #[serde(default)]
    pub pair: PairLimit,
    /// The phone numbers.
    pub lines: Vec<MetaLine>,
    /// The approved templates.
    #[serde(default)]
    pub templates: Vec<MetaTemplate>,
}

/// A business phone number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaLine {
    /// The phone number id of the path.
    pub id: String,
    /// The number itself in E.164.
    #[serde(default = "default_number")]
    pub number: String,
    /// Messages accepted in any window of one second.
    #[serde(default = "default_ceiling")]
    pub ceiling: u32,
}

/// A template that the provider knows. Parameter counts are checked exactly.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaTemplate {
    /// Template name.
    pub name: String,
    /// Language code.
    #[serde(default = "default_language")]
    pub language: String,
    /// What the header takes.
    #[serde(default)]
    pub header: Header,
    /// Number of positional body parameters (ignored when `body_names` is given).
    #[serde(default)]
    pub body: usize,
    /// Names of the body parameters, for a template with named parameters.
    #[serde(default)]
    pub body_names: Vec<String>,
    /// Buttons that take a parameter.
    #[serde(default)]
    pub buttons: Vec<Button>,
}

/// What the header of a template takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// No parameter.
    #[default]
    None,
    /// One text parameter.
    Text,
    /// An image.
    Image,
    /// A video.
    Video,
    /// A document.
    Document,
}

/// A button that takes a parameter.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Button {
    /// Zero-based place.
    pub index: u8,
    /// `url`, `quick_reply` or `copy_code`.
    pub sub_type: String,
}

/// A Twilio account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioAccount {
    /// Name used in reports and in control calls.
    pub account: String,
    /// Account SID (`AC` and 32 hex digits).
    pub sid: String,
    /// Auth token: authenticates sends and signs callbacks.
    pub auth_token: String,
    /// An API key SID that may send, too.
    #[serde(default)]
    pub api_key: Option<String>,
    /// The secret of `api_key`.
    #[serde(default)]
    pub api_secret: Option<String>,
    /// `host:port` to connect to instead of the host in `StatusCallback`, which stays the signed URL.
    #[serde(default)]
    pub connect: Option<String>,
    /// The senders.
    pub lines: Vec<TwilioLine>,
    /// The approved content templates.
    #[serde(default)]
    pub contents: Vec<TwilioContent>,
}

/// A sender: a number (`+…`), a WhatsApp number (`whatsapp:+…`), a short code or a messaging service (`MG…`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioLine {
    /// `From` or `MessagingServiceSid`.
    pub id: String,
    /// SMS parts (WhatsApp: messages) accepted in any window of one second.
    #[serde(default = "default_ceiling")]
    pub ceiling: u32,
}

/// A content template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioContent {
    /// Content SID (`HX` and 32 hex digits).
    pub sid: String,
    /// Number of variables `{{1}}`….
    #[serde(default)]
    pub variables: usize,
}

fn default_waba() -> String {
    "100000000000001".to_owned()
}

fn default_number() -> String {
    "+15550100001".to_owned()
}

fn default_language() -> String {
    "en_US".to_owned()
}

fn default_ceiling() -> u32 {
    80
}

fn default_rate_http() -> u16 {
    400
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid TOML or JSON of this shape.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: String,
        /// The parser's words with the place.
        message: String,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

impl SimConfig {
    /// Reads a TOML file, or JSON when the name ends in `.json`.
    ///
    /// # Errors
    /// When the file cannot be read, does not parse, or holds a value that makes no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        let parsed: Result<Self, String> = if path.extension().is_some_and(|e| e == "json") {
            serde_json::from_str(&text).map_err(|e| e.to_string())
        } else {
            toml::from_str(&text).map_err(|e| e.to_string())
        };
        let config = parsed.map_err(|message| ConfigError::Parse { path: shown, message })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// With a sentence that names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bad = |text: String| Err(ConfigError::Value(text));
        self.plan.validate().map_err(ConfigError::Value)?;
        let mut lines: Vec<(&str, u32)> = Vec::new();
        for account in &self.meta {
            lines.extend(account.lines.iter().map(|l| (l.id.as_str(), l.ceiling)));
        }
        for account in &self.twilio {
            lines.extend(account.lines.iter().map(|l| (l.id.as_str(), l.ceiling)));
        }
        if let Some((id, _)) = lines.iter().find(|(_, ceiling)| *ceiling == 0) {
            return bad(format!("line {id}: ceiling must be at least 1"));
        }
        lines.sort_unstable();
        if let Some(pair) = lines.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return bad(format!("line {} is configured twice", pair[0].0));
        }
        if lines.len() > usize::from(u16::MAX) {
            return bad("more than 65,535 lines".to_owned());
        }
        if self.webhook_connections == 0 || self.api_threads == 0 {
            return bad("webhook_connections and api_threads must be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_in_the_documentation_reads() {
        let config: SimConfig = toml::from_str(include_str!("sample.toml")).expect("sample reads");
        config.validate().expect("sample is valid");
        assert_eq!(config.meta[0].lines[0].ceiling, 80);
        let back = toml::to_string(&config).expect("it can be written");
        let again: SimConfig = toml::from_str(&back).expect("and read again");
        assert_eq!(again.twilio.len(), config.twilio.len());
    }

    #[test]
    fn unknown_keys_and_twice_the_same_line_are_refused() {
        assert!(toml::from_str::<SimConfig>("colour = 1").is_err());
        let text = r#"
            [[meta]]
            account = "a"
            token = "t"
            app_secret = "s"
            lines = [{ id = "1" }, { id = "1" }]
        "#;
        let config: SimConfig = toml::from_str(text).expect("reads");
        assert!(config.validate().is_err());
    }
}
