//! The ledger moves from SQLite to a CQL server in the middle of a campaign, and back.

use std::path::Path;
use std::process::Stdio;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::cql::CqlServer;
use sluice_loadtest::harness::process::binary;
use sluice_loadtest::harness::world::{World, WorldPlan};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::{PATIENCE, QUICK, launch, one_campaign, prompt, until_accepted};

const RECIPIENTS: u32 = 2_000;

/// Runs `sluice migrate` to its end: exit code, and what it said on both outputs.
async fn migrate(config: &Path, arguments: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary().await.expect("the server's binary"));
    command.arg("migrate").arg("--config").arg(config).args(arguments).envs(env.iter().copied());
    let output = command.output().await.expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Paused half-way, moved (killed once on the way), gone on with from the cluster, moved back: the witness finds every message once, and
/// statuses that come after the move find their messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_goes_on_in_the_other_store_and_back() {
    println!("seed 81");
    let cql = CqlServer::start().await.expect("a CQL server");
    let keyspace = format!("moved_{}", std::process::id());
    let on_cluster = cql.sections(&keyspace, 1_500);
    cql.apply_schema(&binary().await.expect("the server's binary"), &on_cluster).await.expect("tables");
    let on_file = on_cluster.replace("kind = \"scylla\"", "kind = \"embedded\"");
    let order = WorldPlan {
        lines: Lines { meta: vec![400], sms: Vec::new() },
        plan: prompt(),
        seed: 81,
        extra: format!("{QUICK}{on_file}"),
        ..WorldPlan::default()
    };
    let mut world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    let campaign = CampaignPlan::new("moving", "wa", "hello");
    launch(&customer, &campaign, 1, RECIPIENTS).await;
    until_accepted(&world, 500).await;
    let config = world.folder().join("sluice.toml");
    let (code, told) = migrate(&config, &["--to", "scylla"], &[]).await;
    assert!(code == Some(1) && told.contains("another engine"), "the server has it: {code:?} {told}");
    customer.pause("moving").await.expect("paused");
    assert_eq!(world.terminate(PATIENCE).await.expect("it stops"), Some(0));

    let mut first = Command::new(binary().await.expect("the server's binary"))
        .args(["migrate", "--to", "scylla", "--config"])
        .arg(&config)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(first.stderr.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("text") {
        if line.contains("lines, pools, templates: there") {
            break;
        }
    }
    first.kill().await.expect("killed");
    let refused = world.start_server().await.expect_err("neither is the ledger now").to_string();
    println!("{refused}");
    let (code, told) = migrate(&config, &["--to", "scylla"], &[]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("moved and compared: 1 campaigns, 2000 messages, 1 lines"), "{told}");
    let (code, told) = migrate(&config, &["--to", "scylla"], &[]).await;
    assert!(code == Some(4) && told.contains("which is the ledger now"), "{code:?} {told}");

    world.set_extra(format!("{QUICK}{on_cluster}"));
    world.start_server().await.expect("it starts from the cluster");
    let customer = world.customer().await.expect("connects");
    customer.resume("moving").await.expect("resumed");
    one_campaign(&mut world, &customer, &campaign, RECIPIENTS).await;
    assert_eq!(world.terminate(PATIENCE).await.expect("it stops"), Some(0));

    let data = world.folder().join("data");
    std::fs::rename(&data, world.folder().join("data.before")).expect("put aside");
    let (code, told) = migrate(&config, &["--to", "embedded"], &[]).await;
    assert_eq!(code, Some(0), "{told}");
    world.set_extra(format!("{QUICK}{on_file}"));
    world.start_server().await.expect("it starts from the file");
    let customer = world.customer().await.expect("connects");
    let report = one_campaign(&mut world, &customer, &campaign, RECIPIENTS).await;
    println!("{}", report.text());
}
