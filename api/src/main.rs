//! The binary `sluice`: the server, and the command line that drives it.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser as _;
use sluice_api::assembly::{self, ServeOptions};
use sluice_api::cli::failure::Exit;
use sluice_api::cli::output::Console;
use sluice_api::cli::{self, CheckArgs, Cli, ClientCommand, Command, ConfigCommand, MigrateArgs, MoveTo};
use sluice_api::cli::{SchemaCommand, ServeArgs};
use sluice_api::config::StoreKind;
use sluice_api::migrate::Outcome;
use sluice_api::{config, telemetry};
use tokio_util::sync::CancellationToken;

/// A connection, a message, an answer: allocated on one thread, freed on another, all the time. How many arenas it has and how soon
/// it gives pages back stands in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long threads that still read a file may take to notice that the command has ended.
const LAST_THREADS: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    // Two providers are linked, since the CQL driver asks for rustls with its defaults; whoever does not name one gets this. It is only
    // refused when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match &cli.command {
        Command::Serve(args) => serve(args),
        Command::Config(ConfigCommand::Check(args)) => check(args),
        Command::Schema(command) => schema(command),
        Command::Migrate(args) => migrate(args),
        Command::Client(command) => client(&cli, command),
    }
}

/// Runs the server. A configuration that cannot be used is reported like `config check` does, and nothing is started.
fn serve(args: &ServeArgs) -> ExitCode {
    let report = config::check(&args.config);
    let Some(config) = report.config else {
        eprint!("{report}");
        return Exit::Refused.into();
    };
    if let Err(error) = telemetry::init(&config.log) {
        return fail("the log could not be opened", &error);
    }
    let threads = config.runtime.worker_threads.get();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("the runtime could not be started", &error),
    };
    let options = ServeOptions { print_addresses: args.print_addresses };
    match runtime.block_on(assembly::run(config, options)) {
        Ok(exit) => exit,
        Err(error) => fail("the server could not go on", &format_args!("{error:#}")),
    }
}

/// Says everything that is wrong with a configuration, and does nothing else.
fn check(args: &CheckArgs) -> ExitCode {
    let report = config::check(&args.config);
    if report.problems.is_empty() {
        println!("{report}");
        return Exit::Ok.into();
    }
    eprint!("{report}");
    Exit::Refused.into()
}

/// Prints, makes or checks the tables of a ledger on CQL.
fn schema(command: &SchemaCommand) -> ExitCode {
    let (SchemaCommand::Print(args) | SchemaCommand::Apply(args) | SchemaCommand::Check(args)) = command;
    let report = config::check(&args.config);
    let Some(config) = report.config else {
        eprint!("{report}");
        return Exit::Refused.into();
    };
    let scylla = config.store.scylla;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("the runtime could not be started", &error),
    };
    let done = match command {
        SchemaCommand::Print(_) => {
            print!("{}", sluice_api::schema::printed(&scylla));
            Ok(())
        }
        SchemaCommand::Apply(_) => runtime.block_on(sluice_api::schema::apply(&scylla)).map(|told| println!("{told}")),
        SchemaCommand::Check(_) => runtime.block_on(sluice_api::schema::check(&scylla)).map(|told| println!("{told}")),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(error) => fail("the tables", &error),
    }
}

/// Moves the ledger into the other store.
fn migrate(args: &MigrateArgs) -> ExitCode {
    let report = config::check(&args.config);
    let Some(config) = report.config else {
        eprint!("{report}");
        return Exit::Refused.into();
    };
    let into = if args.to == MoveTo::Scylla { StoreKind::Scylla } else { StoreKind::Embedded };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("the runtime could not be started", &error),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let done = runtime.block_on(async {
        let on_ctrl_c = Arc::clone(&stop);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                on_ctrl_c.store(true, Ordering::Relaxed);
            }
        });
        sluice_api::migrate::run(&config, into, args.abandon, &stop).await
    });
    match done {
        Ok(Outcome::Moved(moved)) => {
            println!("{}", sluice_api::migrate::told(&moved, into));
            Exit::Ok.into()
        }
        Ok(Outcome::GivenUp) => {
            println!("given up: the old ledger is the ledger, as before; empty the other one before another try");
            Exit::Ok.into()
        }
        Ok(Outcome::Refused(told)) => {
            eprintln!("error: nothing was moved: {told}");
            Exit::Refused.into()
        }
        Ok(Outcome::Stopped(told)) => {
            eprintln!("{told}");
            Exit::Interrupted.into()
        }
        Err(error) => fail("the ledger was not moved", &format_args!("{error:#}")),
    }
}

fn client(cli: &Cli, command: &ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("the runtime could not be started", &error),
    };
    let mut console = Console::of_process(cli.output);
    let interrupt = CancellationToken::new();
    let exit = runtime.block_on(async {
        let on_ctrl_c = interrupt.clone();
        tokio::spawn(async move {
            // Where no signal can be awaited, Ctrl-C ends the process as it does by default.
            if tokio::signal::ctrl_c().await.is_ok() {
                on_ctrl_c.cancel();
            }
        });
        cli::run(cli, command, std::env::var("SLUICE_TOKEN").ok(), &mut console, &interrupt).await
    });
    runtime.shutdown_timeout(LAST_THREADS);
    exit.into()
}

fn fail(what: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {what}: {error}");
    Exit::Failed.into()
}
