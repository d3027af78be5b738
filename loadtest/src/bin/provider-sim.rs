//! The provider simulator as a process of its own.
//!
//! Prints one JSON line with the bound addresses and runs until SIGINT or SIGTERM, or until its standard input is
//! closed with `--until-stdin-closes` (so that a killed parent takes it along). At the end it can write its books as NDJSON.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use sluice_loadtest::sim::config::{MetaAccount, MetaLine, MetaTemplate, TwilioAccount, TwilioContent, TwilioLine};
use sluice_loadtest::sim::pairs::PairLimit;
use sluice_loadtest::sim::{SimConfig, SimHandle};
use tokio::io::AsyncReadExt as _;

/// Simulates Meta's Cloud API and Twilio's Messages API on loopback, with a ledger of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Configuration file (TOML, or JSON when it ends in .json).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where the provider APIs listen; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where the control API listens.
    #[arg(long)]
    control: Option<SocketAddr>,
    /// Seed of every random choice.
    #[arg(long)]
    seed: Option<u64>,
    /// Base URL of the server's webhook endpoint: Meta's webhooks go to BASE/webhooks/meta/ACCOUNT, Twilio's callbacks connect to its host.
    #[arg(long, value_name = "URL")]
    webhook_base: Option<String>,
    /// A plan file (TOML or JSON) instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A Meta line, PHONE_NUMBER_ID[:CEILING]; repeatable. Makes an account `meta-sim`.
    #[arg(long, value_name = "ID[:CEILING]")]
    meta_line: Vec<String>,
    /// A template of that account, NAME[:LANGUAGE[:BODY_PARAMETERS]]; repeatable.
    #[arg(long, value_name = "NAME:LANGUAGE:PARAMETERS")]
    meta_template: Vec<String>,
    /// The access token of that account.
    #[arg(long, env = "SIM_META_TOKEN", default_value = "meta-sim-token", hide_env_values = true)]
    meta_token: String,
    /// The app secret of that account.
    #[arg(long, env = "SIM_META_APP_SECRET", default_value = "meta-sim-app-secret", hide_env_values = true)]
    meta_app_secret: String,
    /// A Twilio sender, NUMBER_OR_MG[@CEILING]; repeatable. Makes an account `twilio-sim`.
    #[arg(long, value_name = "SENDER[@CEILING]")]
    twilio_line: Vec<String>,
    /// A content template of that account, SID[:VARIABLES]; repeatable.
    #[arg(long, value_name = "SID:VARIABLES")]
    twilio_content: Vec<String>,
    /// The SID of that account.
    #[arg(long, default_value = "AC00000000000000000000000000000001")]
    twilio_sid: String,
    /// The auth token of that account.
    #[arg(
        long,
        env = "SIM_TWILIO_AUTH_TOKEN",
        default_value = "0123456789abcdef0123456789abcdef",
        hide_env_values = true
    )]
    twilio_auth_token: String,
    /// Writes every accepted message here at the end, one JSON object per line.
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Ends when standard input is closed.
    #[arg(long)]
    until_stdin_closes: bool,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let config = configuration(&args)?;
    let sim = SimHandle::start(config)?;
    println!(r#"{{"api":"{}","control":"{}"}}"#, sim.api(), sim.control());
    std::io::stdout().flush()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(until_stopped(args.until_stdin_closes))?;
    if let Some(path) = &args.dump {
        let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = std::io::BufWriter::new(file);
        for record in sim.records() {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    eprintln!("{}", serde_json::to_string(&sim.summary())?);
    // A read of standard input cannot be cancelled; it must not keep the process.
    runtime.shutdown_background();
    Ok(())
}

async fn until_stopped(stdin: bool) -> anyhow::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let closed = async {
        if !stdin {
            return std::future::pending().await;
        }
        let mut input = tokio::io::stdin();
        let mut buffer = [0; 64];
        while matches!(input.read(&mut buffer).await, Ok(read) if read > 0) {}
    };
    tokio::select! {
        done = tokio::signal::ctrl_c() => done?,
        _ = terminated.recv() => {}
        () = closed => {}
    }
    Ok(())
}

fn configuration(args: &Args) -> anyhow::Result<SimConfig> {
    let mut config = match &args.config {
        Some(path) => SimConfig::read(path)?,
        None => SimConfig::default(),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(control) = args.control {
        config.control = control;
    }
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    if let Some(path) = &args.plan {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        config.plan = if path.extension().is_some_and(|e| e == "json") {
            serde_json::from_str(&text)?
        } else {
            toml::from_str(&text)?
        };
    }
    if !args.meta_line.is_empty() {
        config.meta.push(MetaAccount {
            account: "meta-sim".to_owned(),
            token: args.meta_token.clone(),
            app_secret: args.meta_app_secret.clone(),
            waba_id: "100000000000001".to_owned(),
            webhook: None,
            rate_http: 400,
            pair: PairLimit::default(),
            lines: args.meta_line.iter().map(|text| meta_line(text)).collect::<Result<_, _>>()?,
            templates: args.meta_template.iter().map(|text| meta_template(text)).collect::<Result<_, _>>()?,
        });
    }
    if !args.twilio_line.is_empty() {
        config.twilio.push(TwilioAccount {
            account: "twilio-sim".to_owned(),
            sid: args.twilio_sid.clone(),
            auth_token: args.twilio_auth_token.clone(),
            api_key: None,
            api_secret: None,
            connect: None,
            lines: args.twilio_line.iter().map(|text| twilio_line(text)).collect::<Result<_, _>>()?,
            contents: args.twilio_content.iter().map(|text| content(text)).collect::<Result<_, _>>()?,
        });
    }
    if let Some(base) = &args.webhook_base {
        let base = base.trim_end_matches('/');
        let host = base.strip_prefix("http://").context("--webhook-base must be an http:// URL")?;
        let authority = host.split('/').next().unwrap_or(host);
        for account in &mut config.meta {
            account.webhook = Some(format!("{base}/webhooks/meta/{}", account.account));
        }
        for account in &mut config.twilio {
            account.connect = Some(authority.to_owned());
        }
    }
    anyhow::ensure!(
        !config.meta.is_empty() || !config.twilio.is_empty(),
        "no account: give --config, --meta-line or --twilio-line"
    );
    Ok(config)
}

fn meta_line(text: &str) -> anyhow::Result<MetaLine> {
    let (id, ceiling) = text.split_once(':').unwrap_or((text, "80"));
    Ok(MetaLine {
        id: id.to_owned(),
        number: "+15550100001".to_owned(),
        ceiling: ceiling.parse().with_context(|| format!("ceiling of {text}"))?,
    })
}

fn meta_template(text: &str) -> anyhow::Result<MetaTemplate> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or(text).to_owned();
    let language = parts.next().unwrap_or("en_US").to_owned();
    let body = parts.next().unwrap_or("0").parse().with_context(|| format!("parameters of {text}"))?;
    Ok(MetaTemplate {
        name,
        language,
        header: sluice_loadtest::sim::config::Header::None,
        body,
        body_names: Vec::new(),
        buttons: Vec::new(),
    })
}

fn twilio_line(text: &str) -> anyhow::Result<TwilioLine> {
    let (id, ceiling) = text.split_once('@').unwrap_or((text, "80"));
    Ok(TwilioLine { id: id.to_owned(), ceiling: ceiling.parse().with_context(|| format!("ceiling of {text}"))? })
}

fn content(text: &str) -> anyhow::Result<TwilioContent> {
    let (sid, variables) = text.split_once(':').unwrap_or((text, "0"));
    Ok(TwilioContent {
        sid: sid.to_owned(),
        variables: variables.parse().with_context(|| format!("variables of {text}"))?,
    })
}
