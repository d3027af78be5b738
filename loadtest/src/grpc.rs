//! Reaching a server: channels with a bearer token, and development tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Puts the token on every call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel as every client here uses it.
pub type Authed = InterceptedService<Channel, Bearer>;

/// Connects, waiting at most `deadline`.
///
/// # Errors
/// When the address is bad, nobody answers, or the token holds what no header may.
pub async fn connect(address: &str, token: &str, deadline: Duration) -> anyhow::Result<Authed> {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url)?.connect_timeout(deadline).tcp_nodelay(true);
    let channel = endpoint.connect().await.with_context(|| format!("cannot reach the server at {address}"))?;
    let value = format!("Bearer {token}").parse().context("the token holds characters that no header may")?;
    Ok(InterceptedService::new(channel, Bearer(value)))
}

/// Signs a development token (HS256) for `tenant` with all scopes, valid for a day. Only a server that is configured for it takes such
/// tokens.
///
/// # Errors
/// Never with a valid clock; the signature takes keys of any length.
pub fn development_token(secret: &str, tenant: &str) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = serde_json::json!({
        "tenant": tenant,
        "sub": "loadtest",
        "scope": "read send admin",
        "aud": "sluice",
        "iss": "sluice-loadtest",
        "iat": now,
        "nbf": now.saturating_sub(5),
        "exp": now + 86_400,
    });
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, format!("{head}.{body}").as_bytes()));
    Ok(format!("{head}.{body}.{signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_and_its_claims() {
        let token = development_token("secret", "acme").expect("signs");
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!(claims["tenant"], "acme");
        assert!(claims["exp"].as_u64() > claims["iat"].as_u64());
    }
}
