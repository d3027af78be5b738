//! Meta's WhatsApp Cloud API.

pub(super) mod answer;
mod codes;
pub(super) mod render;

pub use codes::CODES;

/// Base URL when none is configured.
pub const BASE_URL: &str = "https://graph.facebook.com";
/// API version when none is configured. Versions live about two years: check this one when it is older.
pub const API_VERSION: &str = "v25.0";
