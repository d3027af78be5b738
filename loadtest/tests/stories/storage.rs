//! The disk and the data: full and back, taken by another process, damaged.

use std::process::Stdio;
use std::time::Duration;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::process::binary;
use tokio::process::Command;

use crate::{launch, one_campaign, prompt, sim, until_accepted, world};

/// Files may grow no further: sending stops before the next send that is not in the ledger, and goes on by itself afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_full_and_comes_back() {
    let (mut world, customer) = world(500, prompt(), 61).await;
    let campaign = CampaignPlan::new("full", "wa", "hello");
    launch(&customer, &campaign, 1, 3_000).await;
    until_accepted(&world, 300).await;
    let pid = world.server().expect("up").pid();
    // No file of the server may grow from here on; the limit stands for a full disk, which a test cannot fill.
    limit_file_size(pid, "1024").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = sim(&world).accepted();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let still = sim(&world).accepted();
    assert_eq!(still, stopped, "nothing is sent that cannot be written down");
    assert!(still < 3_000, "it had not finished");
    let refused =
        customer.create(&CampaignPlan::new("another", "wa", "hello")).await.expect_err("nothing can be written");
    let status = refused.downcast_ref::<tonic::Status>().expect("the server's own answer");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    // Statuses of what was accepted come meanwhile: the provider is asked to come again, and hears of no success.
    assert!(sim(&world).stats().refusals.contains_key(&503), "{:?}", sim(&world).stats());
    limit_file_size(pid, "unlimited").await;
    let report = one_campaign(&mut world, &customer, &campaign, 3_000).await;
    assert_eq!(report.ledger.accepted, 3_000, "it went on by itself");
}

async fn limit_file_size(pid: i32, soft: &str) {
    let status = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--fsize={soft}:")])
        .status()
        .await
        .expect("prlimit (util-linux)");
    assert!(status.success());
}

/// A second server on the same data, and so on the same ports, is refused at once, and hears which of the two is what matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_is_refused() {
    let (world, _) = world(100, prompt(), 62).await;
    let config = world.folder().join("sluice.toml");
    let (code, text) = run_to_end(&config, &[]).await;
    assert!(code.is_some_and(|code| code != 0 && code != 101), "exit {code:?}: {text}");
    assert!(text.contains("another engine") && !text.contains("cannot listen"), "{text}");
    // On data of its own it is the address that is in use.
    let other = tempfile::tempdir().expect("a directory");
    let data = other.path().to_str().expect("text");
    let (code, text) = run_to_end(&config, &[("SLUICE__DATA_DIR", data)]).await;
    assert!(code.is_some_and(|code| code != 0 && code != 101), "exit {code:?}: {text}");
    assert!(text.contains("cannot listen on"), "{text}");
}

/// A damaged ledger is refused with clear words, never with a panic, and never repaired by guessing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_ledger_is_refused() {
    let (mut world, customer) = world(500, prompt(), 63).await;
    let campaign = CampaignPlan::new("damage", "wa", "hello");
    launch(&customer, &campaign, 1, 500).await;
    one_campaign(&mut world, &customer, &campaign, 500).await;
    world.terminate(Duration::from_secs(60)).await.expect("it ends");
    let path = world.folder().join("data").join("ledger.db");
    let good = std::fs::read(&path).expect("the ledger");
    // The header; the schema; the first pages; cut short.
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [
        ("header", |bytes| bytes[..16].fill(b'x')),
        ("first pages", |bytes| {
            let end = bytes.len().min(60_000);
            bytes[100..end].fill(0xa5);
        }),
        ("cut", |bytes| bytes.truncate(5_000)),
    ];
    for (what, damage) in damages {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).expect("written");
        let (code, text) = run_to_end(&world.folder().join("sluice.toml"), &[]).await;
        assert!(code.is_some_and(|code| code != 0 && code != 101), "{what}: exit {code:?}: {text}");
        assert!(!text.contains("panicked"), "{what}: {text}");
        assert!(text.contains("ledger") || text.contains("damaged") || text.contains("database"), "{what}: {text}");
    }
    std::fs::write(&path, &good).expect("written");
    world.start_server().await.expect("the good file is taken again");
}

/// Runs `sluice serve` on a configuration until it ends by itself (at most 20 s); exit code and all that it said.
async fn run_to_end(config: &std::path::Path, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary().await.expect("the server's binary"));
    command.arg("serve").arg("--config").arg(config).envs(env.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let output = child.expect("it starts").wait_with_output();
    let output =
        tokio::time::timeout(Duration::from_secs(20), output).await.expect("it ends by itself").expect("output");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}
