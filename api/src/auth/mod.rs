//! Who calls, and what they may do: bearer tokens, tenants and scopes.
//!
//! [`Verifier`] decides about a token (pure but for its keys: the time is passed in), [`scopes`] holds which call needs which
//! scope, and [`layer::AuthLayer`] stands before every gRPC service and puts the [`Principal`] into the request.

mod config;
mod keys;
pub mod layer;
mod principal;
pub mod scopes;
mod verifier;

pub use config::{AuthConfig, ConfigError};
pub use principal::{Principal, Scope, Scopes};
pub use verifier::{AuthError, UnixSeconds, Verifier};

#[cfg(test)]
pub(crate) mod testing;
