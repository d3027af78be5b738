//! `loadtest nodes`: several nodes, disturbed by chance.

use std::time::Duration;

use clap::Args;
use sluice_loadtest::nodes::figures::{Measure, measure};
use sluice_loadtest::nodes::{Order, run};

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// How many disturbances; everything is checked after every twenty.
    #[arg(long, default_value_t = 20)]
    disturbances: usize,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// What happens when, follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ceilings of the pools' lines, one pool each.
    #[arg(long, value_delimiter = ',', default_values_t = [40, 40, 40, 40])]
    pools: Vec<u32>,
    /// Recipients of each campaign.
    #[arg(long, default_value_t = 600)]
    recipients: u32,
    /// Longest time for which a node is frozen, seconds.
    #[arg(long, default_value_t = 30)]
    frozen_max: u64,
    /// The lease, milliseconds.
    #[arg(long, default_value_t = 2_000)]
    lease: u64,
    /// Only these disturbances of the plan, by their numbers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
}

/// Runs it; whether nothing went wrong.
pub(crate) async fn run_nodes(args: NodesArgs) -> anyhow::Result<bool> {
    let order = Order {
        disturbances: args.disturbances,
        nodes: usize::from(args.nodes),
        seed: args.seed,
        pools: args.pools,
        recipients: args.recipients,
        frozen_max: Duration::from_secs(args.frozen_max),
        lease: Duration::from_millis(args.lease),
        only: args.only,
    };
    println!("seed {}, {} nodes", order.seed, order.nodes);
    let outcome = run(&order, |words| println!("{words}")).await?;
    print!("{}", outcome.text());
    Ok(outcome.wrong.is_empty())
}

#[derive(Debug, Args)]
pub(crate) struct FiguresArgs {
    /// Ceilings of the pools' lines, one pool each. With more than one, balance moves some beside what is measured.
    #[arg(long, value_delimiter = ',', default_values_t = [80])]
    pools: Vec<u32>,
    /// Changes of owner: kill -9 and SIGTERM of whichever node has the pools.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// The lease, milliseconds.
    #[arg(long, default_value_t = 6_000)]
    lease: u64,
    /// No statuses come, and webhooks are not measured.
    #[arg(long)]
    silent: bool,
    /// The simulator's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Measures; whether no ceiling was exceeded.
pub(crate) async fn run_figures(args: FiguresArgs) -> anyhow::Result<bool> {
    let order = Measure {
        pools: args.pools,
        changes: args.changes,
        lease: Duration::from_millis(args.lease),
        statuses: !args.silent,
        seed: args.seed,
    };
    let figures = measure(&order, |words| println!("{words}")).await?;
    print!("{}", figures.text());
    Ok(figures.highest.iter().all(|(highest, ceiling)| *highest <= u64::from(*ceiling)))
}
