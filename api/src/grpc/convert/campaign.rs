//! Campaigns.

use sluice_engine::control::{
    CampaignSpec, CampaignUpdate, CampaignView, Defaults, Error, Outcome, Result, Selection, SettingsSpec,
};
use sluice_engine::domain::campaign::{
    Campaign, CampaignState, DeliveryPolicy, Hold, HoldKind, Rate, RateUnit, Settings,
};
use sluice_engine::domain::time::UnixMillis;
use sluice_proto::v1;

use super::stats::stats;
use super::{at, duration, etag, span, timestamp};
use crate::grpc::status;

pub(in crate::grpc) fn campaign(view: CampaignView) -> v1::Campaign {
    let CampaignView { record, kind: _, stats: figures } = view;
    let settings = settings(&record);
    let time = |at: Option<UnixMillis>| at.map(timestamp);
    v1::Campaign {
        campaign_id: record.id.as_str().to_owned(),
        name: record.name,
        description: record.description,
        labels: record.labels.into_iter().collect(),
        created_by: record.created_by,
        settings: Some(settings),
        state: state(record.state).into(),
        hold: record.hold.as_ref().filter(|_| record.state == CampaignState::Held).map(hold),
        failure_detail: match record.state {
            CampaignState::Failed => record.hold.map(|hold| hold.reason).unwrap_or_default(),
            _ => String::new(),
        },
        audience: record.sealed.map(|sealed| v1::Audience {
            count: sealed.recipients,
            sha256: sealed.digest,
            seal_time: Some(timestamp(sealed.at)),
        }),
        stats: Some(stats(&figures)),
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        started_time: time(record.started_at),
        ended_time: time(record.ended_at),
        settled_time: time(record.settled_at),
        etag: etag(record.version),
    }
}

fn settings(record: &Campaign) -> v1::CampaignSettings {
    let Settings { rate, workers, policy, retries_max, region, start_at, stop_at, settle_window_ms } = &record.settings;
    v1::CampaignSettings {
        template_id: record.template.as_str().to_owned(),
        pool_id: record.pool.as_str().to_owned(),
        rate: rate.map(|rate| v1::SendRate {
            count: rate.count,
            per: match rate.per {
                RateUnit::Second => v1::RatePeriod::Second,
                RateUnit::Minute => v1::RatePeriod::Minute,
            }
            .into(),
            burst: rate.burst,
        }),
        workers: Some(*workers),
        delivery_policy: Some(v1::DeliveryPolicy {
            policy: Some(match policy {
                DeliveryPolicy::AtMostOnce { .. } => {
                    let echo_wait = Some(span(policy.wait()));
                    v1::delivery_policy::Policy::AtMostOnce(v1::AtMostOnce { echo_wait })
                }
                DeliveryPolicy::AtLeastOnce { .. } => {
                    let grace = Some(span(policy.wait()));
                    v1::delivery_policy::Policy::AtLeastOnce(v1::AtLeastOnce { grace })
                }
            }),
        }),
        retry_policy: Some(v1::RetryPolicy { retries_max: Some(u32::from(*retries_max)) }),
        region: region.clone().unwrap_or_default(),
        start_at: start_at.map(timestamp),
        stop_at: stop_at.map(timestamp),
        settle_window: Some(span(std::time::Duration::from_millis(*settle_window_ms))),
    }
}

pub(in crate::grpc) fn state(state: CampaignState) -> v1::CampaignState {
    match state {
        CampaignState::Draft => v1::CampaignState::Draft,
        CampaignState::Scheduled => v1::CampaignState::Scheduled,
        CampaignState::Running => v1::CampaignState::Running,
        CampaignState::Paused => v1::CampaignState::Paused,
        CampaignState::Held => v1::CampaignState::Held,
        CampaignState::Completed => v1::CampaignState::Completed,
        CampaignState::Cancelled => v1::CampaignState::Cancelled,
        CampaignState::Failed => v1::CampaignState::Failed,
    }
}

pub(super) fn hold(hold: &Hold) -> v1::Hold {
    let reason = match hold.kind {
        HoldKind::Template => v1::HoldReason::Template,
        HoldKind::RequestErrors => v1::HoldReason::RequestErrors,
        HoldKind::Panics => v1::HoldReason::Quarantine,
        HoldKind::Setup => v1::HoldReason::Setup,
        HoldKind::Restored => v1::HoldReason::Restored,
    };
    v1::Hold {
        reason: reason.into(),
        detail: hold.reason.clone(),
        held_by: String::new(),
        hold_time: Some(timestamp(hold.at)),
        until_time: None,
    }
}

pub(in crate::grpc) fn campaign_spec(
    request: v1::CreateCampaignRequest,
    created_by: &str,
    defaults: &Defaults,
) -> Result<CampaignSpec> {
    let settings = request.settings.ok_or_else(|| Error::invalid("settings", "is required"))?;
    Ok(CampaignSpec {
        id: request.campaign_id,
        name: request.name,
        description: request.description,
        labels: request.labels.into_iter().collect(),
        created_by: created_by.to_owned(),
        settings: SettingsSpec {
            template: settings.template_id,
            pool: settings.pool_id,
            rate: settings.rate.map(|r| rate("settings.", r)).transpose()?,
            workers: settings.workers,
            policy: settings.delivery_policy.map(|p| policy("settings.", p, defaults)).transpose()?,
            retries_max: settings.retry_policy.and_then(|retry| retry.retries_max),
            region: settings.region,
            start_at: settings.start_at.map(|time| at("settings.start_at", time)).transpose()?,
            stop_at: settings.stop_at.map(|time| at("settings.stop_at", time)).transpose()?,
            settle_window: settings.settle_window.map(|w| duration("settings.settle_window", w)).transpose()?,
        },
    })
}

pub(in crate::grpc) fn campaign_update(
    request: v1::UpdateCampaignRequest,
    defaults: &Defaults,
) -> Result<CampaignUpdate> {
    let retries_default = u32::from(defaults.settings.retries_max);
    Ok(CampaignUpdate {
        name: request.name,
        description: request.description,
        labels: request.labels.map(|labels| labels.entries.into_iter().collect()),
        rate: cleared("rate", request.rate.map(|r| rate("", r)).transpose()?, request.clear_rate)?,
        workers: request.workers,
        policy: request.delivery_policy.map(|p| policy("", p, defaults)).transpose()?,
        retries_max: request.retry_policy.map(|retry| retry.retries_max.unwrap_or(retries_default)),
        region: request.region,
        start_at: cleared(
            "start_at",
            request.start_at.map(|time| at("start_at", time)).transpose()?,
            request.clear_start_at,
        )?,
        stop_at: cleared(
            "stop_at",
            request.stop_at.map(|time| at("stop_at", time)).transpose()?,
            request.clear_stop_at,
        )?,
        settle_window: request.settle_window.map(|window| duration("settle_window", window)).transpose()?,
        template: request.template_id,
        pool: request.pool_id,
    })
}

/// A value to set, or to take away, or neither; both at once is a mistake.
fn cleared<T>(field: &str, value: Option<T>, clear: bool) -> Result<Option<Option<T>>> {
    match (value, clear) {
        (Some(_), true) => Err(Error::invalid(format!("clear_{field}"), format!("cannot go with `{field}`"))),
        (Some(value), false) => Ok(Some(Some(value))),
        (None, true) => Ok(Some(None)),
        (None, false) => Ok(None),
    }
}

fn rate(prefix: &str, rate: v1::SendRate) -> Result<Rate> {
    let per = match v1::RatePeriod::try_from(rate.per) {
        Ok(v1::RatePeriod::Second) => RateUnit::Second,
        Ok(v1::RatePeriod::Minute) => RateUnit::Minute,
        Ok(v1::RatePeriod::Unspecified) | Err(_) => {
            return Err(Error::invalid(format!("{prefix}rate.per"), "must be second or minute"));
        }
    };
    Ok(Rate { count: rate.count, per, burst: rate.burst })
}

fn policy(prefix: &str, policy: v1::DeliveryPolicy, defaults: &Defaults) -> Result<DeliveryPolicy> {
    use v1::delivery_policy::Policy;
    let millis = |field: &str, span: prost_types::Duration| {
        let span = duration(&format!("{prefix}delivery_policy.{field}"), span)?;
        Ok::<u64, Error>(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    Ok(match policy.policy {
        None => defaults.settings.policy,
        Some(Policy::AtMostOnce(v1::AtMostOnce { echo_wait: None })) => match defaults.settings.policy {
            policy @ DeliveryPolicy::AtMostOnce { .. } => policy,
            DeliveryPolicy::AtLeastOnce { .. } => DeliveryPolicy::default(),
        },
        Some(Policy::AtMostOnce(v1::AtMostOnce { echo_wait: Some(wait) })) => {
            DeliveryPolicy::AtMostOnce { echo_wait_ms: millis("at_most_once.echo_wait", wait)? }
        }
        Some(Policy::AtLeastOnce(v1::AtLeastOnce { grace: None })) => {
            DeliveryPolicy::AtLeastOnce { grace_ms: defaults.resend_grace_ms }
        }
        Some(Policy::AtLeastOnce(v1::AtLeastOnce { grace: Some(grace) })) => {
            DeliveryPolicy::AtLeastOnce { grace_ms: millis("at_least_once.grace", grace)? }
        }
    })
}

pub(in crate::grpc) fn selection(selection: Option<v1::CampaignSelection>) -> Result<Selection> {
    match selection.and_then(|selection| selection.by) {
        Some(v1::campaign_selection::By::Ids(ids)) => Ok(Selection::Ids(ids.campaign_ids)),
        Some(v1::campaign_selection::By::Filter(filter)) => Ok(Selection::Filter(filter)),
        None => Err(Error::invalid("selection", "is required: ids or a filter")),
    }
}

pub(in crate::grpc) fn outcome(outcome: Outcome) -> v1::CampaignOutcome {
    let (state_after, in_flight, code, message) = match &outcome.result {
        Ok((after, in_flight)) => (state(*after), *in_flight, 0, String::new()),
        Err(error) => {
            let state_now = match error {
                Error::Move(error) => state(error.state),
                _ => v1::CampaignState::Unspecified,
            };
            (state_now, 0, i32::from(status::code(error)), status::told(error))
        }
    };
    v1::CampaignOutcome { campaign_id: outcome.id, state: state_after.into(), code, message, in_flight }
}
