//! Where traces go, and how many there are.

use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Endpoint;

use super::reader::Section;
use super::report::Kind;
use super::secret::Secret;

/// Export of spans by OTLP over gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector; `None`: nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// Root certificates beside those of this machine, for a collector with a private one.
    pub ca_file: Option<PathBuf>,
    /// Sent along with every export: names and values.
    pub headers: Vec<(String, Secret)>,
    /// Share of messages that are traced.
    pub message_ratio: f64,
    /// Share of gRPC calls that are traced when their caller does not say.
    pub call_ratio: f64,
    /// Longest that one export may take.
    pub timeout: Duration,
    /// Most spans that wait for their export; further ones are dropped.
    pub queue_max: usize,
    /// Most spans of one export.
    pub batch_max: usize,
    /// How long spans wait for company.
    pub batch_wait: Duration,
    /// How long the last spans get when the server stops.
    pub flush_timeout: Duration,
}

impl Traces {
    pub(super) fn read(s: &mut Section<'_, '_>) -> Self {
        let this = Self {
            otlp_endpoint: s.text("otlp_endpoint"),
            ca_file: s.path("ca_file"),
            headers: headers(s),
            message_ratio: s.ratio("message_ratio", 0.001),
            call_ratio: s.ratio("call_ratio", 1.0),
            timeout: s.milliseconds("timeout_ms", 5_000, 10..=60_000),
            queue_max: s.count("queue_max", 8_192, 1..=1_000_000),
            batch_max: s.count("batch_max", 512, 1..=10_000),
            batch_wait: s.milliseconds("batch_wait_ms", 1_000, 0..=60_000),
            flush_timeout: s.milliseconds("flush_timeout_ms", 1_000, 0..=60_000),
        };
        if let Some(endpoint) = &this.otlp_endpoint {
            let read = Endpoint::from_shared(endpoint.clone()).ok();
            let scheme = read.as_ref().and_then(|endpoint| endpoint.uri().scheme_str());
            if !matches!(scheme, Some("http" | "https")) {
                let hint = "for example http://127.0.0.1:4317, a collector's port for OTLP over gRPC";
                s.problem("otlp_endpoint", Kind::Value, format!("{endpoint:?} is no http or https URL"), Some(hint));
            }
        }
        if let Some(file) = &this.ca_file
            && let Err(error) = crate::tls::roots(file)
        {
            s.problem("ca_file", Kind::Value, error.to_string(), None);
        }
        this
    }
}

/// `name=value` pairs, separated by commas or lines; a value may hold a password, so they are a secret altogether.
fn headers(s: &mut Section<'_, '_>) -> Vec<(String, Secret)> {
    let Some(text) = s.secret("headers") else { return Vec::new() };
    let key = if s.has("headers_env") { "headers_env" } else { "headers_file" };
    let mut headers = Vec::new();
    let pairs = text.expose().split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty());
    for (place, pair) in pairs.enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.trim().to_ascii_lowercase();
        let good = AsciiMetadataKey::from_bytes(name.as_bytes()).is_ok()
            && AsciiMetadataValue::try_from(value.trim()).is_ok()
            && !value.is_empty();
        if good {
            headers.push((name, Secret::new(value.trim())));
        } else {
            // Neither half is repeated: it may be the secret.
            let message = format!("entry {} is no header", place + 1);
            s.problem(
                key,
                Kind::Value,
                message,
                Some("write name=value, separated by commas or on lines of their own"),
            );
        }
    }
    headers
}
