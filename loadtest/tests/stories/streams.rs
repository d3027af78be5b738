//! Slow and vanishing clients: watchers that do not read, importers that stop half-way and repeat.

use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer};
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::world::{World, WorldPlan};
use sluice_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{QUICK, launch, one_campaign, prompt, settled, verify, world};

/// A watcher that reads nothing for a while delays nobody and then gets what is true now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_delays_nobody() {
    let (mut world, customer) = world(2_000, prompt(), 81).await;
    let campaign = CampaignPlan::new("watch", "wa", "hello");
    customer.create(&campaign).await.expect("created");
    customer.import("watch", 1, 3_000).await.expect("imported");
    let watch = v1::WatchCampaignRequest {
        campaign_id: "watch".to_owned(),
        max_updates_per_second: 20.0,
        until: v1::WatchUntil::Dispatched.into(),
    };
    let mut slow = customer.campaigns().watch_campaign(watch).await.expect("watching").into_inner();
    customer.start("watch").await.expect("started");
    one_campaign(&mut world, &customer, &campaign, 3_000).await;
    // Only now does it read; the stream must end by itself, after not many answers.
    let mut answers = 0;
    let mut state = v1::CampaignState::Unspecified;
    let read = async {
        while let Some(answer) = slow.message().await.expect("no error") {
            answers += 1;
            state = match answer.update {
                Some(v1::watch_campaign_response::Update::Snapshot(campaign)) => campaign.state(),
                Some(v1::watch_campaign_response::Update::Delta(delta)) => delta.state(),
                None => state,
            };
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the stream ends");
    assert_eq!(state, v1::CampaignState::Completed);
    assert!(answers < 2_000, "{answers} answers");
}

fn chunk(from: u32, to: u32) -> v1::ImportRecipientsRequest {
    let rows: Vec<_> = (from..to).map(|n| people::row(1, n)).collect();
    let chunk = v1::ImportChunk { row_offset: u64::from(from), sha256: people::digest(&rows).into(), rows };
    v1::ImportRecipientsRequest { part: Some(v1::import_recipients_request::Part::Chunk(chunk)) }
}

/// An import that is open: where chunks go, where acknowledgements come from, and how many rows are there already.
async fn open(
    customer: &Customer,
) -> (mpsc::Sender<v1::ImportRecipientsRequest>, tonic::Streaming<v1::ImportRecipientsResponse>, u64) {
    let (sender, receiver) = mpsc::channel(16);
    sender.send(header()).await.expect("open");
    let answers = customer.imports().import_recipients(ReceiverStream::new(receiver)).await;
    let mut answers = answers.expect("opened").into_inner();
    let ready = answers.message().await.expect("answered").and_then(|a| a.part);
    let Some(v1::import_recipients_response::Part::Ready(ready)) = ready else { panic!("{ready:?}") };
    (sender, answers, ready.acked_rows)
}

fn header() -> v1::ImportRecipientsRequest {
    let header = v1::ImportHeader { campaign_id: "import".to_owned(), import_id: "people.csv".to_owned() };
    v1::ImportRecipientsRequest { part: Some(v1::import_recipients_request::Part::Header(header)) }
}

/// An importer vanishes after every second chunk without waiting for acknowledgements, and begins again from what is durable, with
/// repeats; at the end everybody is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_importer_that_vanishes_and_repeats() {
    const TOTAL: u32 = 3_000;
    const CHUNK: u32 = 200;
    let (mut world, customer) = world(2_000, prompt(), 82).await;
    let campaign = CampaignPlan::new("import", "wa", "hello");
    customer.create(&campaign).await.expect("created");
    let mut durable = 0;
    for round in 0..200 {
        let (sender, mut answers, acked) = open(&customer).await;
        assert!(acked >= u64::from(durable), "what was acknowledged stays");
        durable = acked as u32;
        if durable >= TOTAL {
            break;
        }
        // One chunk again that is there already, then new ones.
        if durable >= CHUNK {
            sender.send(chunk(durable - CHUNK, durable)).await.expect("sent");
            let again = answers.message().await.expect("answered").and_then(|a| a.part);
            let Some(v1::import_recipients_response::Part::Ack(ack)) = again else { panic!("{again:?}") };
            assert!(ack.repeated, "known already");
            assert_eq!(ack.acked_rows, u64::from(durable));
        }
        sender.send(chunk(durable, TOTAL.min(durable + CHUNK))).await.expect("sent");
        if round % 2 == 0 {
            let ack = answers.message().await.expect("answered").and_then(|a| a.part);
            let Some(v1::import_recipients_response::Part::Ack(ack)) = ack else { panic!("{ack:?}") };
            durable = ack.acked_rows as u32;
        }
        drop(answers);
    }
    assert!(durable >= TOTAL, "{durable}");
    customer.start("import").await.expect("started");
    one_campaign(&mut world, &customer, &campaign, TOTAL).await;
}

/// An importer that says nothing for too long is told so and holds nobody up; what it had acknowledged stays, and it goes on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_importer_holds_nobody_up() {
    println!("seed 86");
    let order = WorldPlan {
        lines: Lines { meta: vec![500], sms: Vec::new() },
        plan: prompt(),
        seed: 86,
        extra: format!("{QUICK}[grpc]\nimport_idle_s = 2\n"),
        ..WorldPlan::default()
    };
    let mut world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    let (slow, quick) = (CampaignPlan::new("import", "wa", "hello"), CampaignPlan::new("quick", "wa", "hello"));
    customer.create(&slow).await.expect("created");
    let (sender, mut answers, _) = open(&customer).await;
    sender.send(chunk(0, 200)).await.expect("sent");
    answers.message().await.expect("acknowledged").expect("not the end");
    // Meanwhile others import, and their campaign runs.
    launch(&customer, &quick, 2, 1_000).await;
    let ended = answers.message().await.expect_err("it is told");
    assert_eq!(ended.code(), tonic::Code::DeadlineExceeded, "{ended}");
    drop(sender);

    let (sender, mut answers, acked) = open(&customer).await;
    assert_eq!(acked, 200);
    sender.send(chunk(200, 500)).await.expect("sent");
    drop(sender);
    while answers.message().await.expect("no error").is_some() {}
    customer.start("import").await.expect("started");
    for id in ["import", "quick"] {
        settled(&customer, id).await;
    }
    verify(&mut world, &customer, &[(&slow, 1, 500), (&quick, 2, 1_000)]).await;
}

/// A gap, a wrong digest and other content at a known place are refused; what was stored stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_importer_that_errs() {
    let (_world, customer) = world(100, prompt(), 83).await;
    customer.create(&CampaignPlan::new("import", "wa", "hello")).await.expect("created");
    let mut wrong_digest = chunk(100, 200);
    if let Some(v1::import_recipients_request::Part::Chunk(chunk)) = &mut wrong_digest.part {
        chunk.sha256 = vec![0; 32].into();
    }
    let mut other_content = chunk(0, 100);
    if let Some(v1::import_recipients_request::Part::Chunk(chunk)) = &mut other_content.part {
        chunk.rows[7].body_params[0] = "Eve".to_owned();
        chunk.sha256 = people::digest(&chunk.rows).into();
    }
    let cases = [
        (chunk(150, 200), tonic::Code::InvalidArgument),
        (wrong_digest, tonic::Code::InvalidArgument),
        (other_content, tonic::Code::FailedPrecondition),
    ];
    for (bad, code) in cases {
        let (sender, receiver) = mpsc::channel(16);
        for part in [header(), chunk(0, 100), bad] {
            sender.send(part).await.expect("sent");
        }
        let answers = customer.imports().import_recipients(ReceiverStream::new(receiver)).await;
        let mut answers = answers.expect("opened").into_inner();
        let ended = loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without an error"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), code, "{ended:?}");
    }
    let request = v1::GetImportRequest { campaign_id: "import".to_owned(), import_id: "people.csv".to_owned() };
    let import = customer.imports().get_import(request).await.expect("the import").into_inner().import.expect("it");
    assert_eq!((import.acked_rows, import.stored_rows), (100, 100));
}

/// Two campaigns at once on one line share it fairly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_campaigns_share_a_line_fairly() {
    let (mut world, customer) = world(400, prompt(), 84).await;
    let campaigns: Vec<CampaignPlan> = (0..4).map(|n| CampaignPlan::new(&format!("fair-{n}"), "wa", "hello")).collect();
    for (n, campaign) in campaigns.iter().enumerate() {
        customer.create(campaign).await.expect("created");
        customer.import(&campaign.id, n as u32, 700).await.expect("imported");
    }
    for campaign in &campaigns {
        customer.start(&campaign.id).await.expect("started");
    }
    crate::until_accepted(&world, 1_500).await;
    let mut sent = [0u64; 4];
    for record in crate::sim(&world).records() {
        let block: usize = record.to[4..7].parse().expect("a block");
        sent[block] += 1;
    }
    let (least, most) = (sent.iter().min().copied().unwrap_or(0), sent.iter().max().copied().unwrap_or(1));
    assert!(least as f64 / most as f64 >= 0.9, "{sent:?}");
    for campaign in &campaigns {
        crate::settled(&customer, &campaign.id).await;
    }
    let wanted: Vec<_> = campaigns.iter().enumerate().map(|(n, c)| (c, n as u32, 700)).collect();
    crate::verify(&mut world, &customer, &wanted).await;
}

/// A start is refused for an empty audience, and for lists with the same number twice both rows are named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_found_at_the_latest_when_the_list_is_sealed() {
    let (mut world, customer) = world(1_000, prompt(), 85).await;
    let empty = CampaignPlan::new("empty", "wa", "hello");
    customer.create(&empty).await.expect("created");
    assert!(customer.start("empty").await.is_err(), "an empty audience");
    let campaign = CampaignPlan::new("twice", "wa", "hello");
    customer.create(&campaign).await.expect("created");
    let rows: Vec<_> = (0..500).chain(100..105).map(|n| people::row(1, n)).collect();
    let chunk = v1::ImportChunk { row_offset: 0, sha256: people::digest(&rows).into(), rows };
    let part = v1::import_recipients_request::Part::Chunk(chunk);
    let mut head = header();
    if let Some(v1::import_recipients_request::Part::Header(header)) = &mut head.part {
        header.campaign_id = "twice".to_owned();
    }
    let parts = vec![head, v1::ImportRecipientsRequest { part: Some(part) }];
    let mut answers =
        customer.imports().import_recipients(tokio_stream::iter(parts)).await.expect("opened").into_inner();
    while answers.message().await.expect("acknowledged").is_some() {}
    customer.start("twice").await.expect("started");
    let request =
        v1::ListRefusedRowsRequest { campaign_id: "twice".to_owned(), ..v1::ListRefusedRowsRequest::default() };
    let refused = customer.imports().list_refused_rows(request).await.expect("listed").into_inner().rows;
    let mut pairs: Vec<(u64, Option<u64>)> =
        refused.iter().map(|row| (row.row, row.duplicate_of.as_ref().map(|of| of.row))).collect();
    pairs.sort_unstable();
    assert_eq!(pairs, (0..5).map(|n| (500 + n, Some(100 + n))).collect::<Vec<_>>());
    launch_done(&mut world, &customer, &campaign).await;
}

async fn launch_done(
    world: &mut sluice_loadtest::harness::World,
    customer: &sluice_loadtest::harness::Customer,
    campaign: &CampaignPlan,
) {
    one_campaign(world, customer, campaign, 500).await;
    // Another campaign over the same line still works.
    let next = CampaignPlan::new("next", "sms", "text");
    launch(customer, &next, 2, 100).await;
    crate::settled(customer, "next").await;
}
