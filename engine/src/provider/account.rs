//! A provider account as the operator configured it.

use std::sync::Arc;

use super::{Credentials, Endpoint, LineError, LineIdentity, ProviderKind};
use crate::domain::ids::{AccountId, TenantId};
use crate::domain::line::{Line, SenderIdentity};

/// A provider account with its credentials; names the tenants that may use it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// Who may use it; empty: everybody.
    pub tenants: Vec<TenantId>,
    /// Who we are to the provider.
    pub credentials: Credentials,
    /// The provider's server: scheme, host, port, path prefix.
    pub base_url: String,
    /// The version in the path.
    pub api_version: String,
    endpoint: Endpoint,
}

impl Account {
    /// Checks the URL; everything else is checked with each line ([`LineIdentity::validate`]).
    pub fn new(
        id: AccountId,
        tenants: Vec<TenantId>,
        credentials: Credentials,
        base_url: String,
        api_version: String,
    ) -> Result<Arc<Self>, LineError> {
        let endpoint = Endpoint::parse(&base_url)
            .ok_or(LineError { field: "base_url", expected: "http(s)://host[:port][/path]" })?;
        Ok(Arc::new(Self { id, tenants, credentials, base_url, api_version, endpoint }))
    }

    /// Where its requests go.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the tenant may use it.
    pub fn serves(&self, tenant: &TenantId) -> bool {
        self.tenants.is_empty() || self.tenants.contains(tenant)
    }

    /// Whether lines of this kind can use it.
    pub fn suits(&self, kind: ProviderKind) -> bool {
        matches!(self.credentials, Credentials::Twilio { .. }) == kind.is_twilio()
    }

    /// A line's identity with this account's credentials.
    pub fn identity(&self, line: &Line, public_base_url: &str) -> LineIdentity {
        self.identity_of(line.kind, line.sender.clone(), public_base_url)
    }

    /// The identity of a line that is not made yet: to check it.
    pub fn identity_of(&self, kind: ProviderKind, sender: SenderIdentity, public_base_url: &str) -> LineIdentity {
        LineIdentity {
            kind,
            account: self.id.to_string(),
            credentials: self.credentials.clone(),
            sender,
            base_url: self.base_url.clone(),
            api_version: self.api_version.clone(),
            public_base_url: Some(public_base_url.to_owned()),
        }
    }
}
