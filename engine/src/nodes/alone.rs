//! One engine by itself: everything is here, for ever.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Directory, Lease, Mine, NodesView, Peer, PoolRef, Whereabouts};
use crate::domain::ids::{CampaignId, CampaignKey, LineId, PoolId, TenantId};
use crate::domain::line::Line;
use crate::store::StoreResult;

/// Everything is this engine's.
pub(crate) struct Alone {
    lease: Arc<Lease>,
}

impl Alone {
    /// Under a lease: that of the ledger, or one that never ends.
    pub(crate) fn new(lease: Arc<Lease>) -> Self {
        Self { lease }
    }
}

#[async_trait]
impl Directory for Alone {
    fn of_pool(&self, _: &TenantId, _: &PoolId) -> Whereabouts {
        Whereabouts::Here
    }

    async fn of_campaign(&self, _: &TenantId, _: &CampaignId) -> StoreResult<Whereabouts> {
        Ok(Whereabouts::Here)
    }

    async fn of_campaign_key(&self, _: CampaignKey) -> StoreResult<Whereabouts> {
        Ok(Whereabouts::Here)
    }

    async fn of_line(&self, _: &TenantId, _: &LineId) -> StoreResult<Whereabouts> {
        Ok(Whereabouts::Here)
    }

    fn alive(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn epoch(&self) -> u64 {
        0
    }
}

#[async_trait]
impl Mine for Alone {
    fn lease_of(&self, _: &PoolRef) -> Option<Arc<Lease>> {
        Some(Arc::clone(&self.lease))
    }

    async fn line_changed(&self, _: &Line) {}

    fn settles_orphans(&self) -> bool {
        true
    }

    fn view(&self) -> Option<NodesView> {
        None
    }
}
