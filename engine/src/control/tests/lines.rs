//! Lines and pools.

use super::super::testing::*;
use super::super::*;
use crate::domain::line::{ProviderKind, SenderIdentity};

#[tokio::test]
async fn a_new_line_has_a_pool_of_its_own_or_joins_one() {
    let bench = Bench::furnished().await;
    let joined = LineSpec { pool: "line-1".to_owned(), ..line("line-2", "1002") };
    bench.control.create_line(&acme(), "", joined).await.unwrap();
    let pool = bench.control.pool(&acme(), "line-1").await.unwrap();
    assert_eq!(pool.lines.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["line-1", "line-2"]);
    assert_eq!(pool.ceiling, 160);
    let own = bench.control.create_line(&acme(), "", line("", "1003")).await.unwrap();
    assert_eq!(own.record.pool.as_str(), own.record.id.as_str());
    assert_eq!(bench.control.list_lines(&acme(), "line-1", &PageRequest::default()).await.unwrap().items.len(), 2);
    assert_eq!(bench.control.list_pools(&acme(), &PageRequest::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_line_is_told_at_once() {
    let bench = Bench::furnished().await;
    let tenant = acme();
    let create = |spec| bench.control.create_line(&tenant, "", spec);
    let wrong = LineSpec {
        id: "Bad".to_owned(),
        account: "nope".to_owned(),
        kind: None,
        sender: None,
        ceiling: 0,
        in_flight_max: Some(0),
        ..line("", "")
    };
    assert_eq!(
        fields(create(wrong).await),
        ["line_id", "pool_id", "provider", "sender", "account_id", "ceiling_per_second", "in_flight_max"]
    );
    // Another tenant's account is like none; a Meta account sends no SMS.
    let foreign = LineSpec { account: "meta-other".to_owned(), ..line("x", "1002") };
    assert_eq!(fields(create(foreign).await), ["account_id"]);
    let sms = Some(SenderIdentity::From("+15550100123".to_owned()));
    let kind = Some(ProviderKind::TwilioSms);
    assert_eq!(fields(create(LineSpec { kind, sender: sms.clone(), ..line("x", "") }).await), ["provider"]);
    let mixed =
        LineSpec { account: "twilio".to_owned(), pool: "line-1".to_owned(), kind, sender: sms, ..line("x", "") };
    assert_eq!(fields(create(mixed).await), ["pool_id"]);
}

#[tokio::test]
async fn a_sender_has_one_line_in_the_installation() {
    let bench = Bench::furnished().await;
    let twin = bench.control.create_line(&acme(), "", line("twin", "1001")).await;
    assert!(matches!(twin, Err(Error::Exists { .. })), "{twin:?}");
    let first = bench.control.create_line(&acme(), "r", line("line-2", "1002")).await.unwrap();
    let again = bench.control.create_line(&acme(), "r", line("line-2", "1002")).await.unwrap();
    assert_eq!(first.record, again.record);
}

#[tokio::test]
async fn a_line_is_held_released_and_changed() {
    let bench = Bench::furnished().await;
    for reason in [" ", "off\x1b[2J", "off\0", "off\u{202e}"] {
        assert_eq!(fields(bench.control.hold_line(&acme(), "line-1", None, reason).await), ["reason"], "{reason:?}");
    }
    let held = bench.control.hold_line(&acme(), "line-1", None, "maintenance").await.unwrap();
    assert_eq!(held.record.hold.as_ref().unwrap().reason, "maintenance");
    let again = bench.control.hold_line(&acme(), "line-1", None, "maintenance").await.unwrap();
    assert_eq!(again.record, held.record);
    assert_eq!(bench.control.pool(&acme(), "line-1").await.unwrap().ceiling, 0);
    let stale = bench.control.release_line(&acme(), "line-1", Some(held.record.version - 1)).await;
    assert_eq!(stale, Err(Error::Stale));
    let released = bench.control.release_line(&acme(), "line-1", Some(held.record.version)).await.unwrap();
    assert_eq!(released.record.hold, None);
    let update = LineUpdate { ceiling: Some(20), ..LineUpdate::default() };
    let changed = bench.control.update_line(&acme(), "line-1", None, update).await.unwrap();
    assert_eq!((changed.record.ceiling, changed.record.in_flight_max), (20, 256));
    assert_eq!(bench.runtime.take_told(), ["line line-1"; 4], "also of what stood as it was asked for");
    let absurd = LineUpdate { ceiling: Some(10_001), ..LineUpdate::default() };
    assert_eq!(fields(bench.control.update_line(&acme(), "line-1", None, absurd).await), ["ceiling_per_second"]);
}

#[tokio::test]
async fn a_line_moves_only_when_drained() {
    let bench = Bench::furnished().await;
    bench.control.create_line(&acme(), "", line("line-2", "1002")).await.unwrap();
    let tenant = acme();
    let move_it = || bench.control.move_line(&tenant, "line-1", None, "line-2");
    assert_eq!(obstacle(move_it().await), "LINE_NOT_DRAINED");
    bench.control.hold_line(&acme(), "line-1", None, "moving").await.unwrap();
    bench.runtime.line_status.lock().in_flight = 1;
    assert_eq!(obstacle(move_it().await), "LINE_NOT_DRAINED");
    bench.runtime.line_status.lock().in_flight = 0;
    assert_eq!(move_it().await.unwrap().record.pool.as_str(), "line-2");
    assert_eq!(bench.control.move_line(&acme(), "line-1", None, "nope").await, Err(Error::not_found("pool", "nope")));
}
