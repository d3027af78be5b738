//! The witness's command line: the check against a running server, the simulator, the kill story and the table of figures.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use sluice_loadtest::grpc::connect;
use sluice_loadtest::runs::figures::{self, Size, Which};
use sluice_loadtest::runs::floor;
use sluice_loadtest::runs::kill::{self, KillPlan};
use sluice_loadtest::sim::{SimConfig, SimHandle};
use sluice_loadtest::witness::fetch::{Wanted, check};

/// The independent witness of Sluice.
///
/// Exit codes: 0 everything agrees, 1 a difference or a goal not reached, 2 it could not be done.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares a server's export with the ledger of the simulator that it sent to.
    Check(CheckArgs),
    /// kill -9 at random moments under load, restart, repeat; then compares everything.
    KillRun {
        /// How many kills.
        #[arg(long, default_value_t = 20)]
        kills: u32,
        /// The seed of kill times and journeys.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Messages per second of each line.
        #[arg(long, default_value_t = 1_000)]
        ceiling: u32,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes the table of figures.
    Figures {
        /// Which; without it all.
        #[arg(long, value_delimiter = ',')]
        only: Vec<Which>,
        /// Runs of each figure; the median counts.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Divides the numbers of messages, for a quick look.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        divide: u32,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measures what the same messages cost without an engine: a bare client and a bare receiver against the simulator.
    Floor {
        /// Messages.
        #[arg(long, default_value_t = 100_000)]
        messages: u32,
        /// Connections that send.
        #[arg(long, default_value_t = 64)]
        connections: u32,
    },
    /// Runs the provider simulator (see `provider-sim --help` for a binary with more options).
    Sim {
        /// Configuration file (TOML or JSON).
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The server's gRPC address.
    #[arg(long, env = "SLUICE_SERVER", default_value = "127.0.0.1:7400")]
    server: String,
    /// File with the bearer token (scope read); otherwise the environment's SLUICE_TOKEN.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The simulator's control API.
    #[arg(long, default_value = "http://127.0.0.1:7501")]
    control: String,
    /// Campaigns to compare; without them all of the tenant.
    #[arg(long = "campaign", value_name = "ID")]
    campaigns: Vec<String>,
    /// First lets the simulator post everything and waits so many seconds until all is acknowledged; 0 compares at once.
    #[arg(long, default_value_t = 60)]
    quiesce: u64,
    /// The simulator also served others: what no message accounts for is no difference.
    #[arg(long)]
    shared: bool,
    /// Another ceiling than the simulator's, LINE=NUMBER; repeatable.
    #[arg(long, value_name = "LINE=NUMBER")]
    ceiling: Vec<String>,
    /// Share of the ceiling that every window of demand must use, e.g. 0.99.
    #[arg(long)]
    use_min: Option<f64>,
    /// That window, seconds.
    #[arg(long, default_value_t = 10)]
    window: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Check(args) => run_check(args).await,
        Command::KillRun { kills, seed, ceiling, json } => {
            let plan = KillPlan { kills, seed, ceiling };
            let report = kill::run(&plan, |line| eprintln!("{line}")).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{}", report.text());
            }
            Ok(report.ok())
        }
        Command::Figures { only, runs, divide, json } => {
            let all = [
                Which::Cycle,
                Which::Import,
                Which::Ceiling,
                Which::Steady,
                Which::Memory,
                Which::Restart,
                Which::Pause,
            ];
            let which = if only.is_empty() { all.to_vec() } else { only };
            let size = Size { runs, divide };
            let say = |figure: &figures::Figure| eprintln!("{}: {} ({})", figure.what, figure.measured, figure.cpu);
            let taken = figures::run(&which, size, say).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&taken)?);
            } else {
                print!("{}", figures::table(&taken));
            }
            Ok(taken.iter().all(|figure| figure.ok))
        }
        Command::Floor { messages, connections } => {
            for batch in [1, 10, 100] {
                let floor = floor::run(messages, batch, connections).await?;
                println!(
                    "{batch:>4} statuses per POST: {:>7.0} msg/s, floor {:.1} µs/msg, simulator {:.1} µs/msg",
                    floor.rate, floor.floor_us, floor.sim_us
                );
            }
            Ok(true)
        }
        Command::Sim { config } => {
            let sim = SimHandle::start(SimConfig::read(&config)?)?;
            println!(r#"{{"api":"{}","control":"{}"}}"#, sim.api(), sim.control());
            tokio::signal::ctrl_c().await?;
            Ok(true)
        }
    }
}

async fn run_check(args: CheckArgs) -> anyhow::Result<bool> {
    let token = match &args.token_file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => std::env::var("SLUICE_TOKEN").context("no token: give --token-file or set SLUICE_TOKEN")?,
    };
    let mut ceilings = HashMap::new();
    for text in &args.ceiling {
        let (line, number) =
            text.rsplit_once('=').with_context(|| format!("--ceiling {text}: LINE=NUMBER is wanted"))?;
        ceilings.insert(line.to_owned(), number.parse().with_context(|| format!("--ceiling {text}"))?);
    }
    let channel = connect(&args.server, token.trim(), Duration::from_secs(10)).await?;
    let wanted = Wanted {
        control: args.control.trim_end_matches('/').to_owned(),
        strangers: !args.shared && args.campaigns.is_empty(),
        campaigns: args.campaigns,
        quiesce: (args.quiesce > 0).then(|| Duration::from_secs(args.quiesce)),
        ceilings,
        use_min: args.use_min,
        window: Duration::from_secs(args.window),
        recipients: HashMap::new(),
    };
    let report = check(channel, &wanted).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.ok)
}
