//! Lines, pools, accounts.

use sluice_engine::control::{Account, LineSpec, LineView, PoolView, Result};
use sluice_engine::domain::line::{LineHold, LineHoldKind, SenderIdentity};
use sluice_proto::v1;
use v1::sender_identity::Identity;

use super::{etag, kind, provider, timestamp};

pub(in crate::grpc) fn line(view: LineView) -> v1::Line {
    let LineView { record, status, as_of } = view;
    let state = match (&record.hold, status.probing, status.slowed) {
        (Some(_), _, _) => v1::LineState::Held,
        (None, true, _) => v1::LineState::Probing,
        (None, false, true) => v1::LineState::Slowed,
        (None, false, false) => v1::LineState::Ready,
    };
    v1::Line {
        line_id: record.id.as_str().to_owned(),
        pool_id: record.pool.as_str().to_owned(),
        account_id: record.account.as_str().to_owned(),
        provider: provider(record.kind).into(),
        sender: Some(v1::SenderIdentity { identity: Some(identity(record.sender)) }),
        description: record.description,
        ceiling_per_second: record.ceiling,
        in_flight_max: record.in_flight_max,
        health: Some(v1::LineHealth {
            state: state.into(),
            hold: record.hold.map(hold),
            allowed_per_second: status.allowed,
            used_per_second: f64::from(status.used),
            in_flight: status.in_flight,
        }),
        as_of: Some(timestamp(as_of)),
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        etag: etag(record.version),
    }
}

fn hold(hold: LineHold) -> v1::Hold {
    let reason = match hold.kind {
        LineHoldKind::Operator => v1::HoldReason::Operator,
        LineHoldKind::Line => v1::HoldReason::Line,
        LineHoldKind::Account => v1::HoldReason::Account,
        LineHoldKind::Panics => v1::HoldReason::Quarantine,
    };
    v1::Hold {
        reason: reason.into(),
        detail: hold.reason,
        held_by: String::new(),
        hold_time: Some(timestamp(hold.at)),
        until_time: hold.until.map(timestamp),
    }
}

fn identity(sender: SenderIdentity) -> Identity {
    match sender {
        SenderIdentity::PhoneNumberId(id) => Identity::MetaPhoneNumberId(id),
        SenderIdentity::From(number) if number.starts_with('+') => Identity::TwilioFromNumber(number),
        SenderIdentity::From(code) => Identity::TwilioShortCode(code),
        SenderIdentity::MessagingService(sid) => Identity::TwilioMessagingServiceSid(sid),
    }
}

pub(in crate::grpc) fn line_spec(request: v1::CreateLineRequest) -> Result<LineSpec> {
    let sender = request.sender.and_then(|sender| sender.identity).map(|identity| match identity {
        Identity::MetaPhoneNumberId(id) => SenderIdentity::PhoneNumberId(id),
        Identity::TwilioFromNumber(text) | Identity::TwilioShortCode(text) => SenderIdentity::From(text),
        Identity::TwilioMessagingServiceSid(sid) => SenderIdentity::MessagingService(sid),
    });
    Ok(LineSpec {
        id: request.line_id,
        pool: request.pool_id,
        account: request.account_id,
        kind: kind("provider", request.provider)?,
        sender,
        description: request.description,
        ceiling: request.ceiling_per_second,
        in_flight_max: request.in_flight_max,
    })
}

pub(in crate::grpc) fn pool(view: PoolView) -> v1::Pool {
    v1::Pool {
        pool_id: view.record.id.as_str().to_owned(),
        provider: provider(view.record.kind).into(),
        description: view.record.description,
        line_ids: view.lines.iter().map(|line| line.as_str().to_owned()).collect(),
        ceiling_per_second: view.ceiling,
        as_of: Some(timestamp(view.as_of)),
        create_time: Some(timestamp(view.record.created_at)),
        etag: etag(view.record.version),
    }
}

pub(in crate::grpc) fn account(account: Account) -> v1::Account {
    v1::Account {
        account_id: account.id.as_str().to_owned(),
        providers: account.kinds.into_iter().map(|kind| provider(kind).into()).collect(),
    }
}
