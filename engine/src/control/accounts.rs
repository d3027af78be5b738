//! The provider accounts that the operator configured, as far as the façade needs them: who may use which, for what.

use std::collections::BTreeMap;

use crate::domain::ids::{AccountId, TenantId};
use crate::domain::line::ProviderKind;

/// Who may use an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// Every tenant.
    All,
    /// These.
    Only(Vec<TenantId>),
}

/// One configured account, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub id: AccountId,
    /// The channels that its lines can have.
    pub kinds: Vec<ProviderKind>,
    /// Who may use it.
    pub tenants: Tenants,
}

impl Account {
    /// Whether the tenant may use it.
    pub fn allows(&self, tenant: &TenantId) -> bool {
        match &self.tenants {
            Tenants::All => true,
            Tenants::Only(tenants) => tenants.contains(tenant),
        }
    }

    /// Whether nobody else may use it, so that whatever comes for it concerns this tenant.
    pub fn is_private_to(&self, tenant: &TenantId) -> bool {
        matches!(&self.tenants, Tenants::Only(tenants) if tenants.as_slice() == std::slice::from_ref(tenant))
    }
}

/// All configured accounts.
#[derive(Debug, Clone, Default)]
pub struct Accounts(BTreeMap<AccountId, Account>);

impl Accounts {
    /// The account, if this tenant may use it. Another tenant's account is the same as none.
    pub fn get(&self, tenant: &TenantId, id: &AccountId) -> Option<&Account> {
        self.0.get(id).filter(|account| account.allows(tenant))
    }

    /// All accounts that the tenant may use, in order of id.
    pub fn of<'a>(&'a self, tenant: &'a TenantId) -> impl Iterator<Item = &'a Account> {
        self.0.values().filter(move |account| account.allows(tenant))
    }
}

impl FromIterator<Account> for Accounts {
    fn from_iter<I: IntoIterator<Item = Account>>(accounts: I) -> Self {
        Self(accounts.into_iter().map(|account| (account.id.clone(), account)).collect())
    }
}
