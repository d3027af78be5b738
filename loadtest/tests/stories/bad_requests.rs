//! What strangers send to the webhook endpoint: too much, too slowly, with wrong signatures.

use std::time::Duration;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::{META, META_SECRET};
use sluice_loadtest::sim::plan::Dice;
use sluice_loadtest::sim::sign::MetaSigner;
use sluice_loadtest::wire::client::{Address, Connection, render};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{launch, one_campaign, prompt, world};

const SHORT: Duration = Duration::from_secs(10);

/// Posts one webhook on a connection of its own; the HTTP status, or nothing when the connection was closed.
async fn post(authority: &str, signature: &str, body: &[u8]) -> Option<u16> {
    let address = Address { authority: authority.to_owned(), target: format!("/webhooks/meta/{META}") };
    let headers = format!("content-type: application/json\r\nx-hub-signature-256: {signature}\r\n");
    let mut connection = Connection::open(authority, SHORT).await.ok()?;
    let request = render("POST", &address, &headers, body);
    let answer = tokio::time::timeout(SHORT, connection.exchange(&request)).await.expect("answered in time");
    answer.ok().map(|(status, _)| status)
}

/// A thousand mutations of good signatures and good bodies: none is taken, and no status changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_signatures_are_never_taken() {
    let (mut world, customer) = world(1_000, prompt(), 91).await;
    let campaign = CampaignPlan::new("forged", "wa", "hello");
    launch(&customer, &campaign, 1, 300).await;
    one_campaign(&mut world, &customer, &campaign, 300).await;
    let authority = world.server().expect("up").addresses.webhooks.clone();
    let target = crate::sim(&world).records().into_iter().next().expect("one");
    let body = format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{{"field":"messages","value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"1","phone_number_id":"{}"}},"statuses":[{{"id":"{}","status":"failed","timestamp":"1790000000","recipient_id":"1","biz_opaque_callback_data":"{}","errors":[{{"code":131026,"title":"x"}}]}}]}}}}]}}]}}"#,
        target.line, target.id, target.correlation
    );
    let signer = MetaSigner::new(META_SECRET);
    let good = signer.sign(body.as_bytes());
    let mut dice = Dice::new(91, &[]);
    let mut connection = Connection::open(&authority, SHORT).await.expect("connects");
    let address = Address { authority: authority.clone(), target: format!("/webhooks/meta/{META}") };
    for n in 0..1_000 {
        let (mut signature, mut bytes) = (good.clone().into_bytes(), body.clone().into_bytes());
        match n % 5 {
            0 => {
                let place = 7 + dice.between([0, 63]) as usize;
                signature[place] = if signature[place] == b'0' { b'1' } else { b'0' };
            }
            1 => bytes[dice.between([0, body.len() as u32 - 1]) as usize] ^= 1 << dice.between([0, 6]),
            2 => signature.truncate(dice.between([0, 70]) as usize),
            3 => bytes.push(b' '),
            _ => signature = MetaSigner::new(&format!("wrong-{n}")).sign(&bytes).into_bytes(),
        }
        let signature = String::from_utf8(signature).expect("ASCII");
        let headers = format!("content-type: application/json\r\nx-hub-signature-256: {signature}\r\n");
        if !connection.usable() {
            connection = Connection::open(&authority, SHORT).await.expect("connects");
        }
        let request = render("POST", &address, &headers, &bytes);
        let (status, _) = connection.exchange(&request).await.expect("answered");
        assert_eq!(status, 401, "mutation {n}: {signature}");
    }
    one_campaign(&mut world, &customer, &campaign, 300).await;
    assert_eq!(post(&authority, &good, body.as_bytes()).await, Some(200), "the unchanged one is good");
}

/// A body over the limit is refused while it is read, signed or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_four_megabytes_is_refused() {
    let (world, _) = world(100, prompt(), 92).await;
    let authority = world.server().expect("up").addresses.webhooks.clone();
    let body = vec![b' '; 4 << 20];
    let signature = MetaSigner::new(META_SECRET).sign(&body);
    let answered = post(&authority, &signature, &body).await;
    assert!(matches!(answered, None | Some(413)), "{answered:?}");
    let small = br#"{"object":"whatsapp_business_account","entry":[]}"#;
    assert_eq!(post(&authority, &MetaSigner::new(META_SECRET).sign(small), small).await, Some(200));
}

/// Connections that send their head one byte at a time, or nothing, are closed in the end and meanwhile disturb nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_disturb_nobody() {
    let extra = format!("{}[webhooks]\nheader_read_timeout_ms = 1000\n", crate::QUICK);
    let order = sluice_loadtest::harness::world::WorldPlan {
        lines: sluice_loadtest::harness::config::Lines { meta: vec![1_000], sms: vec![] },
        plan: prompt(),
        seed: 93,
        extra,
        ..Default::default()
    };
    let mut world = sluice_loadtest::harness::World::start(order).await.expect("starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("furnished");
    let authority = world.server().expect("up").addresses.webhooks.clone();
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let authority = authority.clone();
        slow.spawn(async move {
            let mut stream = TcpStream::connect(&authority).await.expect("connects");
            let mut buffer = [0; 512];
            for byte in b"POST /webhooks/meta/x HTTP/1.1\r\nhost: x\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
                if stream.write_all(&[*byte]).await.is_err() {
                    return true;
                }
                let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer)).await;
                if matches!(read, Ok(Ok(0) | Err(_))) {
                    return true;
                }
            }
            false
        });
    }
    let campaign = CampaignPlan::new("slow-heads", "wa", "hello");
    launch(&customer, &campaign, 1, 1_000).await;
    one_campaign(&mut world, &customer, &campaign, 1_000).await;
    while let Some(closed) = slow.join_next().await {
        assert!(closed.expect("no panic"), "a slow head was let through to its end");
    }
}
