//! Places of long-lived streams: so many in all, and so many of them for one tenant, so that none can hold them all.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sluice_engine::domain::ids::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::status;
use crate::metrics as names;

/// The places of one kind of stream; each kind has its own, so that watchers cannot keep importers out.
pub(super) struct Places {
    what: &'static str,
    free: Arc<Semaphore>,
    tenant_max: usize,
    /// How many each tenant holds; who holds none is not in it.
    held: Mutex<HashMap<TenantId, usize>>,
}

/// A place, held as long as its stream is.
pub(super) struct Place {
    of: Arc<Places>,
    tenant: TenantId,
    _place: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(what: &'static str, max: usize, tenant_max: usize) -> Arc<Self> {
        Arc::new(Self { what, free: Arc::new(Semaphore::new(max)), tenant_max, held: Mutex::default() })
    }

    /// A place for a stream of `tenant`, or `RESOURCE_EXHAUSTED` at once.
    pub(super) fn take(self: &Arc<Self>, tenant: &TenantId) -> Result<Place, Status> {
        let refuse = |text: String| {
            metrics::counter!(names::GRPC_REFUSED, "reason" => self.what).increment(1);
            Err(status::too_much(&text))
        };
        let what = self.what;
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            return refuse(format!("too many {what} are under way: try again later"));
        };
        let mut all = self.held.lock();
        let held = all.get(tenant).copied().unwrap_or(0);
        if held >= self.tenant_max {
            return refuse(format!("too many {what} of this tenant are under way: end one, or try again later"));
        }
        all.insert(tenant.clone(), held + 1);
        drop(all);
        Ok(Place { of: Arc::clone(self), tenant: tenant.clone(), _place: place })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.of.held.lock();
        match all.get_mut(&self.tenant) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                all.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_places_to_the_others() {
        let places = Places::new("exports", 3, 2);
        let tenant = |name| TenantId::new(name).unwrap();
        let (acme, other) = (tenant("acme"), tenant("other"));
        let first = places.take(&acme).unwrap();
        let _second = places.take(&acme).unwrap();
        let refused = places.take(&acme).map(drop).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("exports of this tenant"), "{refused:?}");
        let third = places.take(&other).map_err(|_| ()).unwrap();
        // Now it is all of them together.
        let refused = places.take(&other).map(drop).unwrap_err();
        assert!(refused.message().contains("too many exports are"), "{refused:?}");
        drop((first, third));
        drop(places.take(&acme).map_err(|_| ()).unwrap());
        assert_eq!(*places.held.lock(), HashMap::from([(acme, 1)]), "who holds none takes no room");
    }
}
