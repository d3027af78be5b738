//! kill -9 at random moments with restart. At most once: nobody lost, nobody accepted twice, in doubt per kill ≤ in flight. At
//! least once: nobody lost, doubles only among those in doubt. (`loadtest kill-run --kills 200` is the long form.)

use sluice_loadtest::runs::kill::{KillPlan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills() {
    let plan = KillPlan { kills: 20, seed: 20, ceiling: 800 };
    let report = run(&plan, |line| println!("{line}")).await.expect("it runs to its end");
    assert!(report.ok(), "{}", report.text());
    println!("{}", report.text());
}
