//! Two and three nodes under random disturbances. (`loadtest nodes --disturbances 200` is the long form.)
//!
//! Not part of every check: what they do depends on the machine's timing, and they do not end well every time yet. What is known of that stands in
//! `loadtest/README.md`. `.ci/cql run -- cargo test -p sluice-loadtest --test stories disturbed -- --ignored` runs them.

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
    let outcome = run(&order, |words| println!("{words}")).await.expect("it runs to its end");
    println!("{}", outcome.text());
    assert_eq!(outcome.wrong, Vec::<String>::new(), "`loadtest nodes --seed {seed} --nodes {nodes}` does the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "does not end well every time yet: see loadtest/README.md"]
async fn two_nodes_lose_and_double_nothing() {
    disturbed(2, 10, 91).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "does not end well every time yet: see loadtest/README.md"]
async fn three_nodes_lose_and_double_nothing() {
    disturbed(3, 10, 92).await;
}
