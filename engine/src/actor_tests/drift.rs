//! A tally that differs from its messages is seen for as long as it does: also when its campaign settles meanwhile, and no longer than
//! the campaign lives.

use std::sync::atomic::Ordering;

use super::house::{House, Run, acme};
use super::{eventually, together};
use crate::drift::Round;
use crate::store::embedded::LEDGER_FILE;

/// Somebody with a shell moves counts of the campaign from `queued` to `sent`.
fn tamper(house: &House, run: &Run, by: i64) {
    let shell = rusqlite::Connection::open(house.dir.path().join("ledger").join(LEDGER_FILE)).unwrap();
    let sql = "UPDATE segment SET queued = queued - ?2, sent = sent + ?2 WHERE campaign = ?1";
    assert_eq!(shell.execute(sql, (run.key.0, by)).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drift_outlives_the_settling_of_its_campaign_and_ends_with_its_deletion() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let (mended, deleted) = (house.started("mended", "line-1", 20).await, house.started("deleted", "line-1", 20).await);
    for run in [&mended, &deleted] {
        house.assert_done(run).await;
    }
    let context = house.engine.context();
    let mut round = Round::default();
    let mut wrong = async || {
        for _ in 0..2 {
            round.look(context).await;
        }
        round.sum()
    };
    assert_eq!(wrong().await, 0);
    for run in [&mended, &deleted] {
        tamper(&house, run, 1);
    }
    assert_eq!(wrong().await, 4, "one too few and one too many in each");
    house.step.store(30 * 24 * 3_600_000, Ordering::SeqCst);
    assert!(eventually(async || context.registry.all().is_empty()).await, "the settle windows are over");
    assert_eq!(wrong().await, 4, "it is wrong as before");
    tamper(&house, &mended, -1);
    assert_eq!(wrong().await, 2);
    house.control.delete_campaign(&acme(), &deleted.id, None).await.unwrap();
    assert_eq!(wrong().await, 0);
}
