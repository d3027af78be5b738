//! The witness's command line: scenarios with their reports, the check against a running server, the simulator.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use sluice_loadtest::grpc::connect;
use sluice_loadtest::report::data::RunReport;
use sluice_loadtest::report::{Verdict, compare, figures as known, page, table};
use sluice_loadtest::runs::repeat::{self, Order};
use sluice_loadtest::runs::{figures, floor};
use sluice_loadtest::scenario;
use sluice_loadtest::sim::{SimConfig, SimHandle};
use sluice_loadtest::witness::fetch::{Wanted, check};

mod nodes;
mod progress;
use nodes::{FiguresArgs, NodesArgs, run_figures, run_nodes};
use progress::Terminal;

/// The independent witness of Sluice: load, disturbances, measurements, and the check of every message.
///
/// Exit codes: 0 passed, everything agrees; 1 a condition or a goal not reached, a difference, a regression; 2 it could not be done; 3 void:
/// the machine stood still where it mattered, repeat the run.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios that come along, or the figures that can be measured.
    List {
        /// The figures, for pass conditions.
        #[arg(long)]
        figures: bool,
    },
    /// Runs a scenario and writes its report.
    Run(RunArgs),
    /// Reads scenario files and says everything that is wrong with them.
    CheckScenarios {
        /// Files; without them those that come along.
        files: Vec<PathBuf>,
    },
    /// Compares two reports of one scenario; exits with 1 when something is worse beyond noise.
    Compare {
        /// The earlier report (JSON).
        before: PathBuf,
        /// The later report (JSON).
        after: PathBuf,
        /// Smallest change that counts, as a share.
        #[arg(long, default_value_t = 0.1)]
        threshold: f64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes the table of figures: one scenario after the other.
    Figures {
        /// Only the rows of these scenarios.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Runs of each; the median counts.
        #[arg(long, default_value_t = 3)]
        runs: u32,
        /// Multiplies sizes and times, for a quick look.
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compares a server's export with the ledger of the simulator that it sent to.
    Check(CheckArgs),
    /// Several nodes on one ledger, killed, frozen, drained and cut off by chance under load; then everything is checked. Starts the
    /// CQL server by `.ci/cql`, from a clone of the repository.
    Nodes(NodesArgs),
    /// Two nodes that take over from each other: silence after kill -9 and around a drain, use of the ceilings, webhooks at the wrong node.
    NodesFigures(FiguresArgs),
    /// Runs the provider simulator (see `provider-sim --help` for a binary with more options).
    Sim {
        /// Configuration file (TOML or JSON).
        #[arg(long)]
        config: PathBuf,
    },
    /// The bare client and receiver, for `run`.
    #[command(hide = true)]
    FloorWorker,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A scenario of `loadtest list`, or a file (its name ends in .toml).
    scenario: String,
    /// Another seed than the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// Multiplies sizes and times.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Sets a key of the file, e.g. campaigns.0.count=10; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Runs; the report holds medians and ranges.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Where the report is written: NAME.html and NAME.json.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/loadtest")]
    out: PathBuf,
    /// Prints the report as JSON instead of text.
    #[arg(long)]
    json: bool,
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
    /// Most messages in doubt or unconfirmed that the simulator never saw: what was in flight when you killed the server, 0 when you did
    /// not. Without it they are told, but are no difference.
    #[arg(long, value_name = "NUMBER")]
    traceless_max: Option<u64>,
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
    let code = match runtime.block_on(run(cli.command)) {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Ok(Verdict::Void) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    };
    // A read of standard input cannot be cancelled; it must not keep the process.
    runtime.shutdown_background();
    code
}

fn passed(holds: bool) -> Verdict {
    if holds { Verdict::Passed } else { Verdict::Failed }
}

async fn run(command: Command) -> anyhow::Result<Verdict> {
    match command {
        Command::List { figures } => {
            list(figures);
            Ok(Verdict::Passed)
        }
        Command::Run(args) => run_scenario(&args).await,
        Command::CheckScenarios { files } => check_scenarios(&files),
        Command::Compare { before, after, threshold, json } => {
            let found = compare::compare(&compare::read(&before)?, &compare::read(&after)?, threshold);
            if json {
                println!("{}", serde_json::to_string_pretty(&found)?);
            } else {
                print!("{}", found.text());
            }
            Ok(passed(!found.regressed))
        }
        Command::Figures { only, runs, scale, json } => {
            let say = |taken: &figures::Taken| eprintln!("{}: {} (goal {})", taken.what, taken.measured, taken.goal);
            let taken = figures::run(&only, runs, scale, Arc::new(Terminal::default()), say).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&taken)?);
            } else {
                print!("{}", figures::table(&taken));
            }
            Ok(passed(taken.iter().all(|one| one.ok)))
        }
        Command::Check(args) => run_check(args).await.map(passed),
        Command::Nodes(args) => run_nodes(args).await.map(passed),
        Command::NodesFigures(args) => run_figures(args).await.map(passed),
        Command::Sim { config } => {
            let sim = SimHandle::start(SimConfig::read(&config)?)?;
            println!(r#"{{"api":"{}","control":"{}"}}"#, sim.api(), sim.control());
            tokio::signal::ctrl_c().await?;
            Ok(Verdict::Passed)
        }
        Command::FloorWorker => floor::worker().await.map(|()| Verdict::Passed),
    }
}

fn list(figures: bool) {
    if figures {
        for kind in known::ALL {
            println!("{:<22} {:<18} {}", kind.name, kind.unit, kind.what);
        }
        return;
    }
    for (name, text) in scenario::SHIPPED {
        let about = scenario::check::read(name, text, &[], 1.0).map(|one| one.top.about).unwrap_or_default();
        println!("{name:<16} {about}");
    }
}

fn check_scenarios(files: &[PathBuf]) -> anyhow::Result<Verdict> {
    let mut names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    if names.is_empty() {
        names.extend(scenario::SHIPPED.iter().map(|(name, _)| (*name).to_owned()));
    }
    let mut good = true;
    for name in names {
        match scenario::open(&name, &[], 1.0) {
            Ok(_) => println!("{name}: right"),
            Err(error) => {
                good = false;
                eprintln!("{error:#}");
            }
        }
    }
    Ok(passed(good))
}

async fn run_scenario(args: &RunArgs) -> anyhow::Result<Verdict> {
    let order = Order {
        scenario: args.scenario.clone(),
        overrides: args.overrides.clone(),
        scale: args.scale,
        seed: args.seed,
        runs: args.runs,
    };
    // Before the run: an hour's work is not lost for a directory that cannot be made.
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let report = repeat::run(&order, Arc::new(Terminal::default())).await?;
    let (html, json) = write(&report, &args.out)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table::text(&report));
        println!("{}\n{}", html.display(), json.display());
    }
    Ok(report.verdict)
}

fn write(report: &RunReport, folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (html, json) =
        (folder.join(format!("{}.html", report.scenario)), folder.join(format!("{}.json", report.scenario)));
    std::fs::write(&html, page::page(report)).with_context(|| format!("cannot write {}", html.display()))?;
    std::fs::write(&json, serde_json::to_vec(report)?).with_context(|| format!("cannot write {}", json.display()))?;
    Ok((html, json))
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
        traceless_max: args.traceless_max,
        ..Wanted::default()
    };
    let report = check(channel, &wanted).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.ok)
}
