//! The command line: everything that `sluice` does against a running server, over the same contract as any other client.
//!
//! Each command is a file with its options and what it does; [`output`] is where it writes, [`failure`] how it ends, [`connect`] how it
//! reaches the server. Texts for people may change; the JSON (see [`json`]) and the exit codes are stable.

pub mod admin;
pub mod campaign_view;
pub mod campaigns;
pub mod connect;
pub mod csv_chunks;
pub mod csv_columns;
pub mod csv_record;
pub mod csv_source;
pub mod export;
pub mod failure;
pub mod import;
pub mod import_report;
pub mod import_stream;
pub mod json;
pub mod lifecycle;
pub mod lines;
pub mod message_view;
pub mod messages;
pub mod nodes;
pub mod output;
pub mod pools;
pub mod progress;
pub mod recount;
pub mod retry;
pub mod select;
mod spool;
pub mod templates;
#[cfg(test)]
mod tests;
pub mod values;
pub mod watch;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tokio_util::sync::CancellationToken;

use connect::{ConnectArgs, Server};
use failure::{EXIT_CODES, Exit, Outcome};
use output::{Console, Format};

/// Sluice: campaigns of WhatsApp and SMS messages, at exactly the rate that each sending line is allowed
#[derive(Debug, Parser)]
#[command(name = "sluice", version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = format!("The token is taken from the environment variable SLUICE_TOKEN, or from --token-file.\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How answers are written
    #[arg(long, short = 'o', global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Look at the server's configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The tables of a ledger on ScyllaDB or Cassandra
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Move the ledger from SQLite to ScyllaDB or back, while no server runs
    Migrate(MigrateArgs),
    /// What a client does.
    #[command(flatten)]
    Client(ClientCommand),
}

/// How to run the server. Ctrl-C and SIGTERM stop it in order; it exits with 0, or with 3 when something was left in doubt.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Ctrl-C and SIGTERM stop the server in order. It exits with 0, or with 3 when messages were left in doubt."
)]
pub struct ServeArgs {
    /// The configuration file
    #[arg(long, env = "SLUICE_CONFIG", default_value = "sluice.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Print one JSON line with the bound addresses: for programs that let the system choose the ports
    #[arg(long)]
    pub print_addresses: bool,
}

/// Which configuration to check.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, env = "SLUICE_CONFIG", default_value = "sluice.toml", value_name = "FILE")]
    pub config: PathBuf,
}

/// What to do with a configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Read it, say everything that is wrong with it, and do nothing else
    Check(CheckArgs),
}

/// What to do about the tables.
#[derive(Debug, Clone, Subcommand)]
pub enum SchemaCommand {
    /// Print the CQL that makes keyspace and tables, and do nothing else
    Print(CheckArgs),
    /// Make what is missing; safe to run again, and on several machines at once
    Apply(CheckArgs),
    /// Say whether the tables are those that this program needs; exits with 1 if they are not
    Check(CheckArgs),
}

/// Which way the ledger moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MoveTo {
    /// From the file under data_dir into the keyspace of [store.scylla]
    Scylla,
    /// From the keyspace into a new file under data_dir
    Embedded,
}

/// Moves everything the ledger knows, then reads and counts both sides again; repeat the command to go on after a break.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
No server may run, and no campaign: pause those that do, and stop the server with SIGTERM.
Exits with 0 when both sides are the same and the target is the ledger, with 4 when something must be done
before (nothing was changed), with 1 when it failed or the two differ.")]
pub struct MigrateArgs {
    /// Where to
    #[arg(long, value_enum)]
    pub to: MoveTo,
    /// The configuration file, with data_dir and [store.scylla]
    #[arg(long, env = "SLUICE_CONFIG", default_value = "sluice.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Give up a move that is not finished: the old ledger is the ledger again, what the other holds of it is worth nothing
    #[arg(long)]
    pub abandon: bool,
}

/// Commands against a running server.
#[derive(Debug, Clone, Subcommand)]
pub enum ClientCommand {
    /// Sending lines: create, list, show, update, hold, release, move
    #[command(subcommand)]
    Lines(lines::LinesCommand),
    /// Pools of lines: list, show, update
    #[command(subcommand)]
    Pools(pools::PoolsCommand),
    /// List the provider accounts that the operator configured
    Accounts,
    /// Templates: put, list, show, render
    #[command(subcommand)]
    Templates(templates::TemplatesCommand),
    /// Campaigns: create, list, show, update, delete
    #[command(subcommand)]
    Campaigns(campaigns::CampaignsCommand),
    /// Make a draft with the settings of another campaign, without its recipients
    Clone(campaigns::CloneArgs),
    /// Import recipients from a CSV file; repeat the command to go on after a break
    Import(import::ImportArgs),
    /// List the imports of a campaign
    Imports {
        /// The campaign
        campaign: String,
    },
    /// List the refused rows of a campaign's imports
    Refused {
        /// The campaign
        campaign: String,
        /// Only of this import
        #[arg(long, default_value = "", hide_default_value = true)]
        import_id: String,
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Freeze the list of recipients: settles the last duplicates, fixes count and digest
    Seal {
        /// The campaign
        campaign: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Start campaigns, or schedule those whose start time lies ahead
    Start(lifecycle::MoveArgs),
    /// Pause campaigns: nothing leaves any more but what is in flight
    Pause(lifecycle::MoveArgs),
    /// Resume campaigns after a pause or a hold
    Resume(lifecycle::MoveArgs),
    /// End campaigns; what was not sent is cancelled
    Cancel(lifecycle::MoveArgs),
    /// Watch campaigns live
    Watch(watch::WatchArgs),
    /// The sums over all campaigns
    Totals,
    /// List messages of a campaign
    Messages(messages::MessagesArgs),
    /// Show one message with its whole history
    Message(messages::MessageArgs),
    /// List messages whose outcome is unknown
    InDoubt {
        /// The campaign
        campaign: String,
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Decide on messages whose outcome is unknown
    Resolve(messages::ResolveArgs),
    /// List provider events for which no message was found
    Orphans {
        /// Only of this account
        #[arg(long, default_value = "", hide_default_value = true)]
        account: String,
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Count the messages anew and compare with the tally; exits with 1 if they differ
    Recount {
        /// The campaign
        #[arg(required_unless_present = "all")]
        campaign: Option<String>,
        /// All campaigns
        #[arg(long, conflicts_with = "campaign")]
        all: bool,
    },
    /// Write all messages of a campaign as CSV or NDJSON
    Export(export::ExportArgs),
    /// Write a consistent copy of the whole ledger on the server, while it runs
    Backup {
        /// Name of the new file in the server's backup directory
        file_name: String,
    },
    /// Show what is running, and as whom you are known to it
    Info,
    /// Show the nodes that share the ledger, and which works on which pool, and why
    Nodes,
    /// Print the completions for a shell, e.g. `source <(sluice completions bash)`
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Runs a command against a server and prints what goes wrong. `token` is what the environment holds; `interrupt` is cancelled by Ctrl-C.
pub async fn run(
    cli: &Cli,
    command: &ClientCommand,
    token: Option<String>,
    console: &mut Console,
    interrupt: &CancellationToken,
) -> Exit {
    match Box::pin(dispatch(cli, command, token, console, interrupt)).await {
        Ok(exit) => exit,
        Err(failure) => {
            let failure = failure.towards(&cli.connect.server);
            if failure.exit != Exit::Ok {
                failure.print(&mut console.err, cli.output != Format::Table);
            }
            failure.exit
        }
    }
}

async fn dispatch(
    cli: &Cli,
    command: &ClientCommand,
    token: Option<String>,
    console: &mut Console,
    interrupt: &CancellationToken,
) -> Outcome {
    if let ClientCommand::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "sluice", &mut script);
        console.out.write_all(&script)?;
        return Ok(Exit::Ok);
    }
    let server = Server::prepare(&cli.connect, token)?;
    if server.exposes_token() {
        console
            .note(&format!("warning: the token goes to {} unencrypted; https:// would protect it", server.address()));
    }
    // These two say themselves what an interruption means.
    match command {
        ClientCommand::Import(args) => return Box::pin(import::run(args, &server, console, interrupt)).await,
        ClientCommand::Watch(args) => return Box::pin(watch::run(args, &server, console, interrupt)).await,
        _ => {}
    }
    let interrupted = tokio::select! {
        outcome = Box::pin(call(command, &server, console)) => return outcome,
        () = interrupt.cancelled() => Exit::Interrupted,
    };
    if changes_something(command) {
        console.note("interrupted: whether the server has carried it out is not known; look before you repeat it");
    }
    Ok(interrupted)
}

async fn call(command: &ClientCommand, server: &Server, console: &mut Console) -> Outcome {
    use ClientCommand as C;
    use lifecycle::Move;
    match command {
        C::Lines(command) => lines::run(command, server, console).await,
        C::Pools(command) => pools::run(command, server, console).await,
        C::Accounts => pools::accounts(server, console).await,
        C::Templates(command) => templates::run(command, server, console).await,
        C::Campaigns(command) => campaigns::run(command, server, console).await,
        C::Clone(args) => campaigns::clone(args, server, console).await,
        C::Imports { campaign } => admin::imports(campaign, server, console).await,
        C::Refused { campaign, import_id, limit } => {
            import_report::list(campaign, import_id, *limit, server, console).await
        }
        C::Seal { campaign, etag } => campaigns::seal(campaign, etag, server, console).await,
        C::Start(args) => lifecycle::run(Move::Start, args, server, console).await,
        C::Pause(args) => lifecycle::run(Move::Pause, args, server, console).await,
        C::Resume(args) => lifecycle::run(Move::Resume, args, server, console).await,
        C::Cancel(args) => lifecycle::run(Move::Cancel, args, server, console).await,
        C::Totals => campaigns::totals(server, console).await,
        C::Messages(args) => messages::list(args, server, console).await,
        C::Message(args) => messages::show(args, server, console).await,
        C::InDoubt { campaign, limit } => messages::in_doubt(campaign, *limit, server, console).await,
        C::Resolve(args) => messages::resolve(args, server, console).await,
        C::Orphans { account, limit } => messages::orphans(account, *limit, server, console).await,
        C::Recount { campaign: Some(campaign), .. } => recount::campaign(campaign, server, console).await,
        C::Recount { campaign: None, .. } => recount::tenant(server, console).await,
        C::Export(args) => export::run(args, server, console).await,
        C::Backup { file_name } => admin::backup(file_name, server, console).await,
        C::Info => admin::info(server, console).await,
        C::Nodes => nodes::run(server, console).await,
        C::Import(_) | C::Watch(_) | C::Completions { .. } => Ok(Exit::Ok),
    }
}

/// Whether a command that was cut short may have done something.
fn changes_something(command: &ClientCommand) -> bool {
    use ClientCommand as C;
    match command {
        C::Lines(lines::LinesCommand::List { .. } | lines::LinesCommand::Show { .. })
        | C::Pools(pools::PoolsCommand::List { .. } | pools::PoolsCommand::Show { .. })
        | C::Templates(
            templates::TemplatesCommand::List { .. }
            | templates::TemplatesCommand::Show { .. }
            | templates::TemplatesCommand::Render(_),
        )
        | C::Campaigns(campaigns::CampaignsCommand::List(_) | campaigns::CampaignsCommand::Show { .. }) => false,
        C::Lines(_) | C::Pools(_) | C::Templates(_) | C::Campaigns(_) => true,
        C::Clone(_) | C::Seal { .. } | C::Start(_) | C::Pause(_) | C::Resume(_) | C::Cancel(_) => true,
        C::Resolve(_) | C::Backup { .. } => true,
        C::Accounts
        | C::Import(_)
        | C::Imports { .. }
        | C::Refused { .. }
        | C::Watch(_)
        | C::Totals
        | C::Messages(_)
        | C::Message(_)
        | C::InDoubt { .. }
        | C::Orphans { .. }
        | C::Recount { .. }
        | C::Export(_)
        | C::Info
        | C::Nodes
        | C::Completions { .. } => false,
    }
}
