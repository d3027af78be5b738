//! Watching a campaign: a snapshot, then whatever changed, as fast as the reader takes it and no faster than it asked.
//!
//! Nothing is queued: each step reads the newest state, so a slow reader misses steps and never the end.

use std::time::Duration;

use tokio::sync::watch;

use super::Control;
use super::campaigns::CampaignView;
use super::error::{OrNotFound, Result};
use super::runtime::Progress;
use super::stats::{Stats, failures};
use crate::domain::campaign::Campaign;
use crate::domain::ids::TenantId;
use crate::domain::stage::Shown;
use crate::domain::time::Mono;

/// How often the record is looked at while no actor works for the campaign.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// How often failures by code are read anew at most: they are only in the store.
const FAILURES_LOOK: Duration = Duration::from_secs(1);
/// Fewest and most updates per second.
const UPDATES_PER_SECOND: (f64, f64) = (0.1, 20.0);
/// Updates per second when nothing is said.
const UPDATES_DEFAULT: f64 = 2.0;

/// When a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchUntil {
    /// When the campaign has settled.
    Settled,
    /// When no message can leave any more.
    Dispatched,
}

/// One step of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The first: everything.
    Snapshot(Box<CampaignView>),
    /// Every further one: before and now.
    Change {
        /// As it was told before.
        before: Box<CampaignView>,
        /// As it is.
        now: Box<CampaignView>,
    },
}

/// A watch under way.
pub struct Watcher {
    control: Control,
    tenant: TenantId,
    id: String,
    until: WatchUntil,
    interval: Duration,
    told: Option<CampaignView>,
    told_at: Mono,
    failures_at: Mono,
    progress: Option<watch::Receiver<Progress>>,
}

impl Control {
    /// Begins to watch. `per_second`: most updates, 0 for the default; values out of bounds are brought within.
    pub async fn watch(&self, tenant: &TenantId, id: &str, per_second: f64, until: WatchUntil) -> Result<Watcher> {
        let record = self.campaign_record(tenant, id).await?;
        let (least, most) = UPDATES_PER_SECOND;
        let per_second = if per_second > 0.0 { per_second.clamp(least, most) } else { UPDATES_DEFAULT };
        Ok(Watcher {
            progress: self.runtime.progress(record.key),
            control: self.clone(),
            tenant: tenant.clone(),
            id: id.to_owned(),
            until,
            interval: Duration::from_secs_f64(1.0 / per_second),
            told: None,
            told_at: Mono(0),
            failures_at: Mono(0),
        })
    }
}

impl Watcher {
    /// The next step; `None` when the end that was asked for is reached and told.
    pub async fn next(&mut self) -> Result<Option<Update>> {
        let Some(told) = self.told.clone() else {
            let record = self.control.campaign_record(&self.tenant, &self.id).await?;
            let view = self.control.view(record).await?;
            self.remember(view.clone());
            return Ok(Some(Update::Snapshot(Box::new(view))));
        };
        if self.is_over(&told.record) {
            return Ok(None);
        }
        loop {
            self.wait().await;
            let now = self.look(&told).await?;
            if differs(&told, &now) {
                self.remember(now.clone());
                return Ok(Some(Update::Change { before: Box::new(told), now: Box::new(now) }));
            }
        }
    }

    fn is_over(&self, record: &Campaign) -> bool {
        record.settled_at.is_some() || (self.until == WatchUntil::Dispatched && record.state.is_ended())
    }

    fn remember(&mut self, view: CampaignView) {
        self.told = Some(view);
        self.told_at = self.control.clock.mono();
    }

    /// Waits until the reader's interval is over and something may have changed.
    async fn wait(&mut self) {
        self.control.clock.sleep_until(self.told_at + self.interval).await;
        let look_at = self.control.clock.mono() + IDLE_LOOK.max(self.interval);
        let Some(progress) = &mut self.progress else {
            self.control.clock.sleep_until(look_at).await;
            return;
        };
        tokio::select! {
            changed = progress.changed() => if changed.is_err() {
                // The actor is gone; whoever comes next is found at the next look.
                self.progress = None;
            },
            () = self.control.clock.sleep_until(look_at) => {}
        }
    }

    /// The campaign as it is now: from what the actor published where that is enough, otherwise from the store.
    async fn look(&mut self, told: &CampaignView) -> Result<CampaignView> {
        let seen = self.progress.as_mut().map(|progress| progress.borrow_and_update().clone());
        let record = match &seen {
            Some(seen) if seen.version == told.record.version => told.record.clone(),
            _ => {
                let key = told.record.key;
                let record = self.control.store.campaign_by_key(key).await.or_not_found("campaign", &self.id)?;
                if self.progress.is_none() {
                    self.progress = self.control.runtime.progress(key);
                }
                record
            }
        };
        let Some(seen) = seen else { return self.control.view(record).await };
        let mut stats = Stats::of(&record, seen.tally, Some(&seen), seen.as_of);
        let failed = |stats: &Stats| stats.tally.count(Shown::Failed);
        let mono = self.control.clock.mono();
        let over = self.is_over(&record);
        if failed(&stats) != failed(&told.stats) && (over || mono.since(self.failures_at) >= FAILURES_LOOK) {
            self.failures_at = mono;
            stats.failures = failures(told.kind, &self.control.store.tally(record.key).await?);
        } else {
            stats.failures.clone_from(&told.stats.failures);
        }
        Ok(CampaignView { record, kind: told.kind, stats })
    }
}

/// Whether anything but the time differs.
fn differs(told: &CampaignView, now: &CampaignView) -> bool {
    let timeless = |view: &CampaignView| {
        let mut stats = view.stats.clone();
        stats.as_of = told.stats.as_of;
        stats.estimated_end = None;
        (view.record.version, view.record.state, view.record.settled_at, stats)
    };
    timeless(told) != timeless(now)
}
