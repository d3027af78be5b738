//! The provider as it is outside: behind TLS, and with a limit on how often one number writes to one user.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer, shown};
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::process::FileLimit;
use sluice_loadtest::harness::world::{World, WorldPlan};
use sluice_loadtest::sim::SimConfig;
use sluice_loadtest::sim::pairs::{PAIR_BLOCKED, PairLimit};
use sluice_loadtest::sim::tls::TlsFiles;
use sluice_loadtest::wire::client::once;
use sluice_proto::v1::MessageStatus;

use crate::{PATIENCE, QUICK, launch, prompt, settled, sim, verify};

/// A certificate for this machine, and the authority that signed it, which no system knows.
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/testdata");

async fn world(seed: u64, tune: fn(&mut SimConfig), extra: String) -> (World, Customer) {
    println!("seed {seed}");
    let order = WorldPlan {
        lines: Lines { meta: vec![500], sms: vec![500] },
        plan: prompt(),
        seed,
        extra,
        limits: FileLimit::AnError,
        tune,
        ..WorldPlan::default()
    };
    let world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    (world, customer)
}

fn behind_tls(config: &mut SimConfig) {
    let file = |name| Path::new(CERTIFICATES).join(name);
    config.tls = Some(TlsFiles { cert_file: file("tls-cert.pem"), key_file: file("tls-key.pem") });
}

/// Both providers behind TLS with an authority that only the configuration names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_a_private_authority() {
    let extra = QUICK.replace("[provider]\n", &format!("[provider]\nca_file = \"{CERTIFICATES}/tls-ca.pem\"\n"));
    let (mut world, customer) = world(81, behind_tls, extra).await;
    let campaign = CampaignPlan::new("tls", "wa", "hello");
    launch(&customer, &campaign, 1, 1_000).await;
    let text = CampaignPlan::new("tls-sms", "sms", "text");
    launch(&customer, &text, 2, 300).await;
    for id in ["tls", "tls-sms"] {
        settled(&customer, id).await;
    }
    let report = verify(&mut world, &customer, &[(&campaign, 1, 1_000), (&text, 2, 300)]).await;
    assert_eq!(report.ledger.accepted, 1_300);
    let stamping = sim(&world).stamping();
    assert!(stamping.by_kernel >= 1_300 && stamping.by_read == 0, "decrypted late, stamped in time: {stamping:?}");
}

/// One that nobody vouches for gets nothing: no message leaves, and none is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_nobody_vouches_for_gets_nothing() {
    let (world, customer) = world(82, behind_tls, QUICK.to_owned()).await;
    let campaign = CampaignPlan::new("strange", "wa", "hello");
    launch(&customer, &campaign, 1, 50).await;
    let url = format!("http://{}/metrics", world.server().expect("up").addresses.ops);
    let stopped = async {
        loop {
            let (_, page) = once("GET", &url, b"", PATIENCE).await.expect("the metrics page");
            let page = String::from_utf8_lossy(&page).into_owned();
            if page.lines().any(|line| line.starts_with("sluice_line_breaker_open{") && line.ends_with(" 1")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("the line stops");
    assert_eq!(sim(&world).accepted(), 0);
    let stats = customer.get("strange").await.expect("the campaign").stats.expect("stats");
    let tally = stats.tally.expect("a tally");
    assert_eq!(shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Unconfirmed), 0);
}

/// A second campaign to the same people comes too soon for each of them: they wait, nobody fails, and the provider is not pressed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_campaigns_to_the_same_people() {
    const PEOPLE: u32 = 60;
    const GAP_MS: u64 = 3_000;
    let tune = |config: &mut SimConfig| config.meta[0].pair = PairLimit { gap_ms: GAP_MS, burst: 1 };
    let (world, customer) = world(83, tune, QUICK.to_owned()).await;
    for id in ["first", "second"] {
        customer.create(&CampaignPlan::new(id, "wa", "hello")).await.expect("created");
        customer.import(id, 1, PEOPLE).await.expect("imported");
    }
    for id in ["first", "second"] {
        customer.start(id).await.expect("started");
    }
    for id in ["first", "second"] {
        settled(&customer, id).await;
    }
    let summary = sim(&world).summary();
    assert_eq!(summary.accepted, u64::from(2 * PEOPLE));
    let blocked: u64 = summary.refused.values().filter_map(|codes| codes.get(&PAIR_BLOCKED)).sum();
    // Each waits 1 s, 4 s, 16 s: the second try comes before the gap is over, the third does not. On a machine that stands still
    // for seconds fewer come too soon.
    assert!((1..=4 * u64::from(PEOPLE)).contains(&blocked), "{blocked} times too soon");
    let mut times: HashMap<String, Vec<u64>> = HashMap::new();
    for record in sim(&world).records() {
        times.entry(record.to).or_default().push(record.at_ns);
    }
    assert_eq!(times.len(), PEOPLE as usize);
    for (recipient, at) in times {
        assert_eq!(at.len(), 2, "{recipient}");
        assert!(at[0].abs_diff(at[1]) >= GAP_MS * 1_000_000, "{recipient}: {at:?}");
    }
}
