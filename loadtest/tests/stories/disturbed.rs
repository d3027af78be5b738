//! Two and three nodes under twenty random disturbances. (`loadtest nodes --disturbances 200` is the long form.)
//!
//! They want the machine to themselves, so they are not run beside the others:
//! `.ci/cql run -- cargo test -p sluice-loadtest --test stories disturbed -- --ignored --test-threads 1`.

use std::time::Duration;

use sluice_loadtest::nodes::{Order, run};

async fn disturbed(nodes: usize, disturbances: usize, seed: u64) {
    println!("seed {seed}");
    let order = Order {
        disturbances,
        nodes,
        seed,
        pools: vec![40; 4],
        recipients: 400,
        frozen_max: Duration::from_secs(5),
        lease: Duration::from_secs(2),
        only: Vec::new(),
    };
    let say = |words: &str| println!("{words}");
    // What could not be carried out (a CQL server that this machine did not start in time) has shown nothing, and is tried once more. What
    // was carried out and came out wrong is not.
    let outcome = match run(&order, say).await {
        Ok(outcome) => outcome,
        Err(error) => {
            println!("once more, because it could not be carried out: {error:#}");
            run(&order, say).await.expect("it runs to its end")
        }
    };
    println!("{}", outcome.text());
    assert_eq!(outcome.wrong, Vec::<String>::new(), "`loadtest nodes --seed {seed} --nodes {nodes}` does the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants the machine to itself: .ci/test runs it"]
async fn two_nodes_lose_and_double_nothing() {
    disturbed(2, 10, 91).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants the machine to itself: .ci/test runs it"]
async fn three_nodes_lose_and_double_nothing() {
    disturbed(3, 10, 92).await;
}
