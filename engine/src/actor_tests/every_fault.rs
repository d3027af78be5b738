//! A panic in any message of any actor loses nothing, doubles nothing, and is over within a second.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use super::house::{House, acme};
use super::provider::Reply;
use super::{alone, eventually};
use crate::domain::campaign::{Rate, RateUnit};
use crate::faults;
use crate::webhook::Reported;

const POINTS: [&str; 27] = [
    "status.commit",
    "status.taken",
    "status.committed",
    "line.want",
    "line.dispatch",
    "line.tick",
    "line.stopped",
    "sender.pump",
    "sender.tick",
    "campaign.changed",
    "campaign.granted",
    "campaign.line_binds",
    "campaign.window_read",
    "campaign.due_read",
    "campaign.wake",
    "campaign.tick",
    "campaign.checked",
    "campaign.handed",
    "supervisor.campaign_changed",
    "supervisor.campaign_gone",
    "supervisor.line_changed",
    "supervisor.sender_panicked",
    "supervisor.dispatched",
    "supervisor.error_run",
    "supervisor.act",
    "supervisor.publish",
    "supervisor.second",
];

/// Rate of the accounts' limits: every line of the account slows down, which is the supervisor's business.
const ACCOUNT_LIMIT: Reply = Reply::Refuse { status: 400, code: 80_007 };

/// The recipient's failure, and here a run of errors by itself.
const BAD_PARAMETERS: Reply = Reply::Refuse { status: 400, code: 132_000 };

const BUCKET: Rate = Rate { count: 1_500, per: RateUnit::Second, burst: None };

/// The names in `faults::point("…")` of all files below.
fn points_in(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            points_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let calls = text.split("faults::point(\"").skip(1);
            found.extend(calls.filter_map(|call| Some(call.split_once("\");")?.0.to_owned())));
            let calls = text.split("faults::point(\"").skip(1);
            found.extend(calls.filter_map(|call| Some(call.split_once("\"),")?.0.to_owned())));
        }
    }
}

#[test]
fn the_list_names_every_point_of_the_source() {
    let mut found = BTreeSet::new();
    points_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.retain(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_'));
    assert_eq!(found, POINTS.iter().map(|name| (*name).to_owned()).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_anywhere_loses_nothing() {
    let _alone = alone().await;
    // All of them strike the same line: it must not be held for that.
    let house = House::with(|config| {
        config.panics_max = 1_000;
        config.error_run_max = 1;
    })
    .await;
    house.line("line-1", "", 2_000).await;
    for (n, point) in POINTS.into_iter().enumerate() {
        let began = tokio::time::Instant::now();
        let trouble = match point {
            "supervisor.act" => Some(ACCOUNT_LIMIT),
            "supervisor.error_run" => Some(BAD_PARAMETERS),
            _ => None,
        };
        let failed = u64::from(trouble == Some(BAD_PARAMETERS));
        let once = Mutex::new(trouble);
        let well = Reply::AcceptAfter(Duration::from_millis(5));
        house.provider.answers(move |_| once.lock().take().unwrap_or(well));
        let before = house.provider.count();
        // Enough that the pause finds some waiting, however late it comes on a busy machine: only what was withdrawn is handed out anew.
        let recipients = if point == "campaign.handed" { 2_000 } else { 300 };
        let run = house
            .draft(&format!("campaign-{n}"), "line-1", recipients, |settings| {
                // A bucket ticks; without one, a campaign as short as this has no time to.
                settings.rate = (point == "campaign.tick").then_some(BUCKET);
            })
            .await;
        faults::arm(point, 1);
        if point == "supervisor.sender_panicked" {
            faults::arm("sender.pump", 1);
        }
        house.start(&run).await;
        // What waits is withdrawn twice over, and comes again by the ledger.
        house.provider.until(before + 40).await;
        house.pause(&run).await;
        house.resume(&run).await;
        house.provider.until(before + 100).await;
        house.control.hold_line(&acme(), "line-1", None, "a look").await.unwrap();
        house.control.release_line(&acme(), "line-1", None).await.unwrap();
        house.assert_done_but(&run, failed).await;
        house.report(&house.taken(&run), Reported::Read).await;
        let settled = eventually(async || house.record(&run).await.settled_at.is_some()).await;
        assert!(settled, "{point}: not settled, {:?}", house.tally(&run).await);
        assert!(eventually(async || faults::owed(point) == 0).await, "{point} was never passed");
        house.assert_done_but(&run, failed).await;
        println!("{point}: {:?}", began.elapsed());
    }
    assert!(house.close().await.flushed);
}
