//! Counts and figures.

use sluice_engine::control::{Binding, Binds, CampaignView, FailureCount, Recount, Stats, TenantView};
use sluice_engine::domain::stage::{Shown, Stage};
use sluice_engine::domain::tally::Tally;
use sluice_proto::v1;

use super::campaign::{hold, state};
use super::{failure_class, provider, timestamp};

pub(super) fn shown(shown: Shown) -> v1::MessageStatus {
    match shown {
        Shown::Pending => v1::MessageStatus::Pending,
        Shown::Queued => v1::MessageStatus::Queued,
        Shown::InDoubt => v1::MessageStatus::InDoubt,
        Shown::Unconfirmed => v1::MessageStatus::Unconfirmed,
        Shown::Sent => v1::MessageStatus::Sent,
        Shown::Delivered => v1::MessageStatus::Delivered,
        Shown::Read => v1::MessageStatus::Read,
        Shown::Failed => v1::MessageStatus::Failed,
        Shown::Cancelled => v1::MessageStatus::Cancelled,
        Shown::Expired => v1::MessageStatus::Expired,
    }
}

/// The stages that tallies count.
const COUNTED: [(Stage, v1::Stage); 3] =
    [(Stage::Sent, v1::Stage::Sent), (Stage::Delivered, v1::Stage::Delivered), (Stage::Read, v1::Stage::Read)];

fn tally(tally: &Tally) -> v1::Tally {
    v1::Tally {
        total: tally.recipients(),
        by_status: Shown::ALL
            .into_iter()
            .map(|status| v1::StatusCount { status: shown(status).into(), count: tally.count(status) })
            .collect(),
        by_stage: COUNTED
            .into_iter()
            .map(|(stage, wire)| v1::StageCount { stage: wire.into(), count: tally.reached(stage) })
            .collect(),
        accepted: tally.accepted,
        conflicts: tally.conflicts,
        doubles: tally.doubles,
    }
}

pub(super) fn stats(stats: &Stats) -> v1::CampaignStats {
    v1::CampaignStats {
        as_of: Some(timestamp(stats.as_of)),
        tally: Some(tally(&stats.tally)),
        refused: stats.refused,
        in_flight: stats.tally.open,
        failures: stats.failures.iter().map(failure).collect(),
        remaining: stats.remaining,
        progress_percent: stats.progress_percent,
        delivery_rate_percent: stats.tally.delivery_rate(),
        read_rate_percent: stats.tally.read_rate(),
        current_rate: stats.rate_now,
        average_rate: stats.rate_average,
        estimated_end_time: stats.estimated_end.map(timestamp),
        binding_limit: binding(stats.binds).into(),
    }
}

fn failure(failure: &FailureCount) -> v1::FailureCount {
    v1::FailureCount {
        provider: provider(failure.kind).into(),
        code: failure.code.map_or_else(|| "other".to_owned(), |code| code.to_string()),
        title: failure.title.to_owned(),
        class: failure_class(failure.class).into(),
        count: failure.count,
    }
}

fn binding(binds: Binds) -> v1::BindingLimit {
    match binds {
        Binds::Schedule => v1::BindingLimit::Schedule,
        Binds::Paused => v1::BindingLimit::Paused,
        Binds::Held => v1::BindingLimit::Held,
        Binds::Nothing => v1::BindingLimit::Unspecified,
        Binds::Running(binding) => match binding {
            Binding::NotRunning => v1::BindingLimit::Unspecified,
            Binding::LineCeiling => v1::BindingLimit::LineCeiling,
            Binding::CampaignRate => v1::BindingLimit::Rate,
            Binding::Workers => v1::BindingLimit::Workers,
            Binding::LineInFlight => v1::BindingLimit::LineInFlight,
            Binding::Slowed => v1::BindingLimit::LineSlowed,
            Binding::LinesUnavailable => v1::BindingLimit::LineHeld,
            Binding::Ledger => v1::BindingLimit::Store,
            Binding::WaitingForRetry => v1::BindingLimit::RetryWait,
            Binding::Drained => v1::BindingLimit::Drained,
        },
    }
}

/// What changed, with its new absolute counts.
pub(in crate::grpc) fn delta(before: &CampaignView, now: &CampaignView) -> v1::CampaignDelta {
    let (old, new) = (&before.stats, &now.stats);
    let changed = |old: u64, new: u64| (old != new).then_some(new);
    let by_status = Shown::ALL.into_iter().filter_map(|status| {
        changed(old.tally.count(status), new.tally.count(status))
            .map(|count| v1::StatusCount { status: shown(status).into(), count })
    });
    let by_stage = COUNTED.into_iter().filter_map(|(stage, wire)| {
        changed(old.tally.reached(stage), new.tally.reached(stage))
            .map(|count| v1::StageCount { stage: wire.into(), count })
    });
    let mut failures: Vec<v1::FailureCount> =
        new.failures.iter().filter(|count| !old.failures.contains(count)).map(failure).collect();
    // A code that is counted no more (its messages were sent again) must be told, or the reader would keep it.
    let gone = old.failures.iter().filter(|was| !new.failures.iter().any(|is| is.code == was.code));
    failures.extend(gone.map(|was| failure(&FailureCount { count: 0, ..was.clone() })));
    v1::CampaignDelta {
        as_of: Some(timestamp(new.as_of)),
        state: state(now.record.state).into(),
        by_status: by_status.collect(),
        by_stage: by_stage.collect(),
        accepted: changed(old.tally.accepted, new.tally.accepted),
        conflicts: changed(old.tally.conflicts, new.tally.conflicts),
        doubles: changed(old.tally.doubles, new.tally.doubles),
        total: changed(old.tally.recipients(), new.tally.recipients()),
        refused: changed(old.refused, new.refused),
        failures,
        in_flight: new.tally.open,
        remaining: new.remaining,
        progress_percent: new.progress_percent,
        delivery_rate_percent: new.tally.delivery_rate(),
        read_rate_percent: new.tally.read_rate(),
        current_rate: new.rate_now,
        average_rate: new.rate_average,
        estimated_end_time: new.estimated_end.map(timestamp),
        binding_limit: binding(new.binds).into(),
        hold: now.record.hold.as_ref().map(hold),
        settled_time: now.record.settled_at.map(timestamp),
    }
}

pub(in crate::grpc) fn recount(recount: Recount) -> v1::Recount {
    v1::Recount {
        campaign_id: recount.campaign,
        as_of: Some(timestamp(recount.as_of)),
        messages: recount.counted.recipients(),
        before: Some(tally(&recount.kept)),
        after: Some(tally(&recount.counted)),
        differences: recount
            .differences
            .into_iter()
            .map(|difference| v1::TallyDifference {
                name: difference.name,
                before: difference.kept,
                after: difference.counted,
            })
            .collect(),
    }
}

pub(in crate::grpc) fn tenant_totals(view: TenantView) -> v1::GetTenantTotalsResponse {
    let campaigns = view
        .campaigns
        .into_iter()
        .map(|(campaign_state, count)| v1::CampaignStateCount { state: state(campaign_state).into(), count })
        .collect();
    v1::GetTenantTotalsResponse {
        campaigns,
        tally: Some(tally(&view.tally)),
        as_of: Some(timestamp(view.as_of)),
        in_flight: view.tally.open,
        remaining: view.tally.count(Shown::Pending),
        delivery_rate_percent: view.tally.delivery_rate(),
        read_rate_percent: view.tally.read_rate(),
        current_rate: view.rate_now,
        refused: view.refused,
    }
}

/// The stage that a message reached.
pub(super) fn reached(stage: Stage, tried: bool) -> v1::Stage {
    match stage {
        Stage::Queued if tried => v1::Stage::Queued,
        Stage::Queued => v1::Stage::Pending,
        Stage::Sent => v1::Stage::Sent,
        Stage::Delivered => v1::Stage::Delivered,
        Stage::Read => v1::Stage::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::domain::line::ProviderKind;

    #[test]
    fn every_status_and_every_limit_has_its_own_value_on_the_wire() {
        let mut statuses: Vec<i32> = Shown::ALL.into_iter().map(|status| shown(status).into()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses.len(), Shown::ALL.len());
        for status in Shown::ALL {
            let name = shown(status).as_str_name().trim_start_matches("MESSAGE_STATUS_").to_lowercase();
            assert_eq!(name, status.name());
        }
    }

    #[test]
    fn kinds_go_there_and_back() {
        for kind in ProviderKind::ALL {
            assert_eq!(super::super::kind("p", provider(kind).into()), Ok(Some(kind)));
        }
    }
}
