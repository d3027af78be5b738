//! The provider as it is outside: behind TLS, and with a limit on how often one number writes to one user.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer, shown};
use sluice_loadtest::harness::config::{CONTENT_SID, Lines, TWILIO};
use sluice_loadtest::harness::process::FileLimit;
use sluice_loadtest::harness::world::{World, WorldPlan};
use sluice_loadtest::sim::SimConfig;
use sluice_loadtest::sim::config::{TwilioContent, TwilioLine};
use sluice_loadtest::sim::pairs::{PAIR_BLOCKED, PairLimit};
use sluice_loadtest::sim::tls::TlsFiles;
use sluice_loadtest::wire::client::once;
use sluice_proto::v1::sender_identity::Identity;
use sluice_proto::v1::{self, MessageStatus};

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

const WHATSAPP_NUMBER: &str = "+15550300001";
const SERVICE: &str = "MG00000000000000000000000000000003";
const SHORT_CODE: &str = "55501";

fn more_senders(config: &mut SimConfig) {
    let line = |id: &str| TwilioLine { id: id.to_owned(), ceiling: 500 };
    let account = &mut config.twilio[0];
    account.lines.extend([line(&format!("whatsapp:{WHATSAPP_NUMBER}")), line(SERVICE), line(SHORT_CODE)]);
    account.contents.push(TwilioContent { sid: CONTENT_SID.to_owned(), variables: 2 });
}

/// WhatsApp by approved content, SMS by a messaging service and by a short code, each from import to settled counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sender_that_twilio_knows() {
    let (mut world, customer) = world(85, more_senders, QUICK.to_owned()).await;
    let senders = [
        ("content", v1::Provider::TwilioWhatsapp, Identity::TwilioFromNumber(WHATSAPP_NUMBER.to_owned())),
        ("service", v1::Provider::TwilioSms, Identity::TwilioMessagingServiceSid(SERVICE.to_owned())),
        ("short-code", v1::Provider::TwilioSms, Identity::TwilioShortCode(SHORT_CODE.to_owned())),
    ];
    for (id, provider, identity) in senders {
        customer.line(id, id, TWILIO, provider, identity, 500).await.expect("a line");
    }
    let content = v1::Template {
        template_id: "content".to_owned(),
        kind: v1::TemplateKind::Whatsapp.into(),
        name: "order_ready".to_owned(),
        language: "en".to_owned(),
        body: "Hello {{1}}, {{2}}".to_owned(),
        content_sid: CONTENT_SID.to_owned(),
        ..v1::Template::default()
    };
    customer.template(content).await.expect("a template");
    let plans = [("content", "content"), ("service", "text"), ("short-code", "text")];
    let plans = plans.map(|(id, template)| CampaignPlan::new(id, id, template));
    for (block, plan) in (1..).zip(&plans) {
        launch(&customer, plan, block, 300).await;
    }
    for plan in &plans {
        settled(&customer, &plan.id).await;
    }
    let [content, service, short_code] = &plans;
    let all = [(content, 1, 300), (service, 2, 300), (short_code, 3, 300)];
    let report = verify(&mut world, &customer, &all).await;
    assert_eq!(report.ledger.accepted, 900);
    for plan in &plans {
        let tally = customer.tally(&plan.id).await.expect("counts");
        assert!(shown(&tally, MessageStatus::Delivered) + shown(&tally, MessageStatus::Read) > 0, "{}", plan.id);
    }
}
