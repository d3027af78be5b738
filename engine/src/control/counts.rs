//! Sums over a tenant, and counting anew.

use super::campaigns::CampaignView;
use super::error::{OrNotFound, Result};
use super::page::PAGE_SIZE_MAX;
use super::{Control, stats::Stats};
use crate::domain::campaign::CampaignState;
use crate::domain::ids::TenantId;
use crate::domain::stage::{Shown, Stage};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::{CampaignFilter, Counts, Page};

/// The sums over a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantView {
    /// When they were true.
    pub as_of: UnixMillis,
    /// Campaigns by state, every state once.
    pub campaigns: Vec<(CampaignState, u64)>,
    /// The tallies added up.
    pub tally: Tally,
    /// Rows that imports refused.
    pub refused: u64,
    /// Accepted per second by all campaigns that run.
    pub rate_now: f64,
}

/// One count that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub name: String,
    /// As kept.
    pub kept: u64,
    /// As counted.
    pub counted: u64,
}

/// A campaign counted anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Recount {
    /// The campaign's id.
    pub campaign: String,
    /// When both were true.
    pub as_of: UnixMillis,
    /// As the tally has it.
    pub kept: Tally,
    /// As the messages have it.
    pub counted: Tally,
    /// Where they differ; anything here is a defect.
    pub differences: Vec<Difference>,
}

impl Control {
    /// The sums over all campaigns of the tenant.
    pub async fn tenant_totals(&self, tenant: &TenantId) -> Result<TenantView> {
        let totals = self.store.tenant_totals(tenant).await?;
        let count = |state| totals.campaigns.get(&state).copied().unwrap_or(0);
        let campaigns = CampaignState::ALL.into_iter().map(|state| (state, count(state))).collect();
        let rate_now = self.running(tenant).await?.iter().map(|view| view.stats.rate_now).sum();
        Ok(TenantView { as_of: self.now(), campaigns, tally: totals.tally, refused: totals.refused, rate_now })
    }

    async fn running(&self, tenant: &TenantId) -> Result<Vec<CampaignView>> {
        let filter = CampaignFilter {
            tenant: Some(tenant.clone()),
            states: vec![CampaignState::Running],
            ..CampaignFilter::default()
        };
        // More than a page of them at once is far beyond what one machine runs.
        let page = self.store.list_campaigns(&filter, Page { size: PAGE_SIZE_MAX, after: None }).await?;
        let mut views = Vec::with_capacity(page.items.len());
        for (record, tally) in page.items {
            let kind = self.kind_of(&record).await?;
            let progress = self.runtime.progress(record.key).map(|progress| progress.borrow().clone());
            let stats = Stats::of(&record, tally, progress.as_ref(), self.now());
            views.push(CampaignView { record, kind, stats });
        }
        Ok(views)
    }

    /// Counts the messages of a campaign anew; counts and messages are compared as of the same moment.
    pub async fn recount(&self, tenant: &TenantId, id: &str) -> Result<Recount> {
        let campaign = self.campaign_record(tenant, id).await?;
        let (kept, counted) = self.store.recount(campaign.key).await.or_not_found("campaign", id)?;
        let differences = differences(&kept, &counted);
        if !differences.is_empty() {
            tracing::error!(campaign = %campaign.key, ?differences, "a tally differs from its messages");
        }
        Ok(Recount {
            campaign: campaign.id.as_str().to_owned(),
            as_of: self.now(),
            kept: kept.tally,
            counted: counted.tally,
            differences,
        })
    }

    /// A page of the tenant's campaign ids, for walking over all of them.
    pub async fn campaign_ids(
        &self,
        tenant: &TenantId,
        after: Option<Vec<u8>>,
    ) -> Result<(Vec<String>, Option<Vec<u8>>)> {
        let filter = CampaignFilter { tenant: Some(tenant.clone()), ..CampaignFilter::default() };
        let page = self.store.list_campaigns(&filter, Page { size: PAGE_SIZE_MAX, after }).await?;
        Ok((page.items.into_iter().map(|(campaign, _)| campaign.id.as_str().to_owned()).collect(), page.next))
    }
}

/// Where two counts of one campaign differ.
pub(crate) fn differences(kept: &Counts, counted: &Counts) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut compare = |name: String, kept: u64, counted: u64| {
        if kept != counted {
            differences.push(Difference { name, kept, counted });
        }
    };
    let (a, b) = (&kept.tally, &counted.tally);
    for shown in Shown::ALL {
        compare(format!("by_status.{}", shown.name()), a.count(shown), b.count(shown));
    }
    for (name, stage) in [("sent", Stage::Sent), ("delivered", Stage::Delivered), ("read", Stage::Read)] {
        compare(format!("by_stage.{name}"), a.reached(stage), b.reached(stage));
    }
    compare("accepted".to_owned(), a.accepted, b.accepted);
    compare("conflicts".to_owned(), a.conflicts, b.conflicts);
    compare("doubles".to_owned(), a.doubles, b.doubles);
    compare("in_flight".to_owned(), a.open, b.open);
    let codes: std::collections::BTreeSet<u32> = kept.failures.keys().chain(counted.failures.keys()).copied().collect();
    for code in codes {
        let of = |counts: &Counts| counts.failures.get(&code).copied().unwrap_or(0);
        compare(format!("failures.{code}"), of(kept), of(counted));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_compared() {
        let mut kept = Counts { tally: Tally::untouched(3, None), ..Counts::default() };
        assert_eq!(differences(&kept, &kept.clone()), []);
        let counted = kept.clone();
        kept.tally.shown[0] += 1;
        kept.tally.reached = [1, 1, 1];
        kept.tally.accepted = 1;
        kept.tally.conflicts = 1;
        kept.tally.doubles = 1;
        kept.tally.open = 1;
        kept.failures.insert(7, 1);
        let names: Vec<String> = differences(&kept, &counted).into_iter().map(|d| d.name).collect();
        assert_eq!(
            names,
            [
                "by_status.pending",
                "by_stage.sent",
                "by_stage.delivered",
                "by_stage.read",
                "accepted",
                "conflicts",
                "doubles",
                "in_flight",
                "failures.7"
            ]
        );
    }
}
