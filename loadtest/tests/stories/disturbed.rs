//! Two and three nodes under random disturbances. (`loadtest nodes --disturbances 200` is the long form.)

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
async fn two_nodes_lose_and_double_nothing() {
    disturbed(2, 10, 91).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_lose_and_double_nothing() {
    disturbed(3, 10, 92).await;
}
