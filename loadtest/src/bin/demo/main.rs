//! `cargo demo`: a whole campaign on loopback, with a kill half-way, and an independent witness at the end.
//!
//! Builds the server if needed, starts it beside the provider simulator, imports a CSV file of 24,000 recipients, sends two thirds by
//! WhatsApp (Meta) and one third by SMS (Twilio), kills the server with -9 half-way and starts it again, and ends with a report that
//! puts tally, recount, messages and the simulator's ledger side by side. Exits 1 when they differ, 2 when it could not run.

mod display;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use display::{Display, Watched};
use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::world::WorldPlan;
use sluice_loadtest::harness::{Customer, World, people, process};
use sluice_loadtest::sim::plan::Plan;
use sluice_loadtest::witness::fetch::Wanted;
use sluice_loadtest::witness::records::Shown;
use sluice_loadtest::witness::report::Report;
use tokio::time::Instant;

/// Recipients of the WhatsApp campaign at the default size; the SMS campaign has half as many.
const WHATSAPP: u32 = 16_000;
/// Longest time for sending, and for what comes after.
const PATIENCE: Duration = Duration::from_secs(120);

/// Shows a campaign from CSV to settled counts, with an independent witness.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// Does not kill the server half-way.
    #[arg(long)]
    no_kill: bool,
    /// Keeps the server running at the end until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// The seed of what happens to each recipient.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Recipients over both campaigns.
    #[arg(long, default_value_t = WHATSAPP + WHATSAPP / 2, value_parser = clap::value_parser!(u32).range(300..=1_000_000))]
    recipients: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(demo(&args))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("\nThe demo could not go on: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn demo(args: &Args) -> anyhow::Result<bool> {
    println!("Building the server (quick when nothing has changed) ...");
    process::binary().await?;
    let began = Instant::now();
    let sms = args.recipients / 3;
    let whatsapp = args.recipients - sms;
    let mut world = World::start(WorldPlan {
        lines: Lines { meta: vec![500, 500], sms: vec![500] },
        plan: plan(),
        seed: args.seed,
        extra: "[breaker]\nbackoff_ms_min = 200\n".to_owned(),
        ..WorldPlan::default()
    })
    .await?;
    let customer = world.customer().await?;
    println!(
        "Sluice       gRPC {}, metrics http://{}/metrics",
        world.server()?.addresses.grpc,
        world.server()?.addresses.ops
    );
    println!("Simulator    Meta and Twilio at {}, ledger {}/ledger", world.sim.api(), world.sim.control());
    world.furnish(&customer).await?;
    println!("Lines        2 WhatsApp numbers at 500/s each, 1 SMS number at 500 parts/s");

    let campaigns =
        [CampaignPlan::new("spring-whatsapp", "wa", "hello"), CampaignPlan::new("spring-sms", "sms", "text")]
            .map(|plan| CampaignPlan { echo_wait: Duration::from_secs(5), ..plan });
    for (plan, (block, count)) in campaigns.iter().zip([(1, whatsapp), (2, sms)]) {
        import(&world, &customer, plan, block, count).await?;
    }
    for plan in &campaigns {
        customer.start(&plan.id).await?;
    }
    println!();
    let watched: Vec<Watched> = campaigns.iter().map(|plan| Watched::new(&plan.id)).collect();
    let display = Display::new(&watched);
    for one in &watched {
        one.follow(customer.clone());
    }
    let mut killed = args.no_kill;
    let end = Instant::now() + PATIENCE;
    while !watched.iter().all(Watched::ended) {
        display.draw(&watched, world.sim.here());
        let sent: u64 = watched.iter().map(Watched::gone).sum();
        if !killed && sent * 2 >= u64::from(args.recipients) {
            killed = true;
            kill_and_restart(&mut world, &display, &watched).await?;
        }
        anyhow::ensure!(Instant::now() < end, "the campaigns did not end within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    display.say("all sent; waiting for the last statuses");
    let customer = world.customer().await?;
    let report = compare(&world, &customer, &campaigns, [whatsapp, sms]).await?;
    display.draw(&watched, world.sim.here());
    display.finish();
    print!("{}", report.text());
    explain(&report);
    println!("Took {:.0} s.", began.elapsed().as_secs_f64());
    look_further(&mut world, args.stay).await?;
    // A second in which the machine stood still says nothing about the server; the note says so.
    Ok(report.ok || report.only_stalled())
}

/// What happens to recipients: a little of everything that production brings.
fn plan() -> Plan {
    Plan {
        failed: 0.03,
        delivered: 0.96,
        read: 0.55,
        sent_ms: [30, 200],
        delivered_ms: [100, 1_200],
        read_ms: [300, 4_000],
        shuffled: 0.05,
        duplicated: 0.05,
        before_answer: 0.01,
        batch: [1, 50],
        unknown: 0.01,
        forged: 0.005,
        meta_codes: vec![131_026, 131_049],
        ..Plan::default()
    }
}

async fn import(world: &World, customer: &Customer, plan: &CampaignPlan, block: u32, count: u32) -> anyhow::Result<()> {
    let path = world.folder().join(format!("{}.csv", plan.id));
    people::write_csv(&path, block, count)?;
    customer.create(plan).await?;
    let bar = display::import_bar(&plan.id, u64::from(count));
    let rows = people::read_csv(&path)?;
    let began = Instant::now();
    let chunks: Vec<_> = rows.chunks(2_000).enumerate().map(|(n, rows)| (n as u64 * 2_000, rows.to_vec())).collect();
    customer.import_chunks(&plan.id, "demo.csv", chunks.into_iter(), |acked| bar.set_position(acked)).await?;
    bar.finish_and_clear();
    println!("Imported     {count} rows of {}.csv in {:.0} ms", plan.id, began.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

async fn kill_and_restart(world: &mut World, display: &Display, watched: &[Watched]) -> anyhow::Result<()> {
    display.say("half-way: the server is killed with -9");
    world.kill().await?;
    display.draw(watched, world.sim.here());
    let began = Instant::now();
    world.start_server().await?;
    let ready = began.elapsed();
    let customer = world.customer().await?;
    watched.iter().for_each(|one| one.follow(customer.clone()));
    display.say(&format!("killed with -9 half-way, ready again after {:.0} ms", ready.as_secs_f64() * 1e3));
    Ok(())
}

async fn compare(
    world: &World,
    customer: &Customer,
    campaigns: &[CampaignPlan],
    counts: [u32; 2],
) -> anyhow::Result<Report> {
    let mut wanted = Wanted {
        window: Duration::from_secs(10),
        campaigns: campaigns.iter().map(|plan| plan.id.clone()).collect(),
        ..Wanted::default()
    };
    for ((block, plan), count) in (1..).zip(campaigns).zip(counts) {
        wanted.recipients.insert(plan.id.clone(), people::phones(block, count));
    }
    world.check(customer, wanted).await
}

fn explain(report: &Report) {
    let unconfirmed: u64 = report.campaigns.iter().map(|c| c.tally.of(Shown::Unconfirmed)).sum();
    if unconfirmed > 0 {
        println!(
            "{unconfirmed} unconfirmed: on their way when the server was killed, and no provider ever spoke of them. At most once means\n\
             that they are not sent again without being asked: `sluice resolve CAMPAIGN --as …` decides."
        );
    }
}

async fn look_further(world: &mut World, stay: bool) -> anyhow::Result<()> {
    let addresses = world.server()?.addresses.clone();
    std::fs::write(world.folder().join("token"), world.token())?;
    let sluice = here(world.binary());
    let folder = world.keep().display().to_string();
    let client = format!("--server http://{} --token-file {folder}/token", addresses.grpc);
    if !stay {
        world.terminate(Duration::from_secs(30)).await?;
    }
    println!("\nTo look further");
    println!("  the ledger       sqlite3 {folder}/data/ledger.db 'select * from message_status limit 10'");
    if stay {
        println!("  the server       runs until Ctrl-C");
    } else {
        println!("  the server again {sluice} serve --config {folder}/sluice.toml");
    }
    println!("  its metrics      curl http://{}/metrics", addresses.ops);
    println!("  its campaigns    {sluice} campaigns list {client}");
    println!("  one message      {sluice} message spring-whatsapp 0 {client}");
    println!("  real providers   the README's \"Run it with your own providers\": the same steps, without base_url");
    println!("  clean up         rm -r {folder}");
    if stay {
        tokio::signal::ctrl_c().await?;
        world.terminate(Duration::from_secs(30)).await?;
    }
    Ok(())
}

/// A path as one types it from here.
fn here(path: &Path) -> String {
    let short = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).display().to_string()
}
