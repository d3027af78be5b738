//! Twilio's Messages resource, for SMS and WhatsApp.

pub(super) mod answer;
mod codes;
pub(super) mod render;

pub use codes::CODES;

/// Base URL when none is configured.
pub const BASE_URL: &str = "https://api.twilio.com";
/// API version when none is configured; the only one there is.
pub const API_VERSION: &str = "2010-04-01";
/// Asks Twilio to repeat a status callback up to five times whatever went wrong; by default it tries twice, and only
/// when it could not connect. Appended to the callback URL as its fragment, which is neither sent back nor signed.
pub const CALLBACK_OVERRIDES: &str = "#rc=5&rp=all";
