//! kill -9 at random moments with restart, by a scenario: at most once nobody is lost and nobody accepted twice, at least once doubles come only
//! after a doubt, in doubt per kill ≤ in flight. (`loadtest run kill200` is the long form.)

use std::sync::Arc;

use sluice_loadtest::measure::sampler::Glance;
use sluice_loadtest::report::Verdict;
use sluice_loadtest::report::verdict::verdict;
use sluice_loadtest::runs::drive::{self, Progress};
use sluice_loadtest::scenario;

struct Printed;

impl Progress for Printed {
    fn say(&self, words: &str) {
        println!("{words}");
    }

    fn glance(&self, _: &Glance) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills() {
    // What is judged here are promises: how late a debug build on a shared machine is says nothing.
    let set = ["seed=20", "witness.lag_ms_max=60000", "witness.busy_max=1.1", "pass.kill.ready=<= 60000"];
    let set: Vec<String> = set.iter().map(|one| (*one).to_owned()).collect();
    let scenario = scenario::open("kill200", &set, 0.1).expect("the scenario is right");
    let outcome = drive::run(scenario, Arc::new(Printed)).await.expect("it runs to its end");
    assert_eq!(outcome.figures.get("kill.count"), Some(&20.0));
    assert_eq!(verdict(&outcome.conditions), Verdict::Passed, "{:#?}\n{}", outcome.conditions, outcome.check);
}
