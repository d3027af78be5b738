//! kill -9 at random moments, again and again on the same ledger: everything acknowledged is there, and tally = recount.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::domain::ids::{CampaignId, CampaignKey};
use crate::domain::message::Reported;
use crate::domain::stage::Stage;
use crate::store::conformance::*;
use crate::store::{CampaignFilter, MessageFilter, Page};

const DIR: &str = "SLUICE_TEST_KILL_DIR";
const ROUNDS: u32 = 10;
const RECIPIENTS: u32 = 3_000;
const CHUNK: u32 = 250;

#[test]
fn what_was_acknowledged_survives_kills() {
    let seed: u64 =
        std::env::var("SLUICE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("SLUICE_TEST_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(dir.path(), round, random.random_range(1..90));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verify(dir.path(), round, &acknowledged));
    }
}

/// Starts the child, reads this many acknowledgements, kills it, and returns all it had given.
fn run_and_kill(dir: &Path, round: u32, kill_after: usize) -> Vec<String> {
    let test = "store::embedded::tests::kill::child";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env("SLUICE_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = Vec::new();
    for line in lines {
        if let Some(ack) = line.strip_prefix("ack ") {
            acknowledged.push(ack.to_owned());
            if acknowledged.len() == kill_after {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= kill_after, "the child ended by itself after {acknowledged:?}");
    acknowledged
}

/// Not a test of its own: the process that is killed.
#[tokio::test]
#[ignore = "run by what_was_acknowledged_survives_kills"]
async fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var("SLUICE_TEST_ROUND")) else { return };
    let ack = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {text}").unwrap();
        out.flush().unwrap();
    };
    let store = open(Path::new(&dir));
    for number in 0.. {
        let id = format!("r{round}-{number}");
        let key = store.create_campaign(campaign(&id), None).await.unwrap().record.key;
        for offset in (0..RECIPIENTS).step_by(CHUNK as usize) {
            let mut list = chunk(key, u64::from(offset), CHUNK);
            list.recipients[0].address = "+999000000000".into();
            let stored = store.append_recipients(list).await.unwrap();
            ack(format!("rows {id} {}", stored.next_row));
        }
        let sealed = store.seal(key, at(1)).await.unwrap();
        ack(format!("sealed {id} {}", sealed.recipients));
        work(&store, key, &id, &ack).await;
    }
}

/// Intents, then reports, in calls that run side by side, so that groups form.
async fn work(store: &EmbeddedStore, key: CampaignKey, id: &str, ack: &impl Fn(String)) {
    for first in (0..RECIPIENTS).step_by(CHUNK as usize) {
        for (stage, event) in [(1, intent(1)), (2, accepted(1, "w")), (4, report(1, Reported::Delivered))] {
            let call = async |from: u32| {
                let entries = (from..from + CHUNK / 2).map(|seq| entry(key, seq, event.clone())).collect();
                store.commit(entries).await.unwrap();
                ack(format!("stage {id} {stage} {from}"));
            };
            tokio::join!(call(first), call(first + CHUNK / 2));
        }
    }
}

async fn verify(dir: &Path, round: u32, acknowledged: &[String]) {
    let store = open(dir);
    let filter = CampaignFilter::default();
    let all = store.list_campaigns(&filter, Page { size: 10_000, after: None }).await.unwrap().items;
    for (campaign, _) in &all {
        checked_counts(&*store, campaign.key).await;
    }
    for ack in acknowledged {
        let words: Vec<&str> = ack.split(' ').collect();
        let number = |i: usize| words[i].parse::<u32>().unwrap();
        let campaign = store.campaign(&tenant("acme"), &CampaignId::new(words[1]).unwrap()).await.unwrap();
        match words[0] {
            "rows" => {
                let import = store.import(campaign.key, &import("list")).await.unwrap();
                assert!(import.next_row >= u64::from(number(2)), "round {round}: {ack}");
                assert_eq!(import.stored + import.refused, import.next_row);
            }
            "sealed" => assert_eq!(campaign.sealed.unwrap().recipients, u64::from(number(2)), "round {round}: {ack}"),
            _ => {
                let (stage, from) = (number(2), number(3));
                let page = Page {
                    size: (CHUNK / 2) as usize,
                    after: from.checked_sub(1).map(|s| i64::from(s).to_be_bytes().into()),
                };
                let messages = store.messages(campaign.key, &MessageFilter::default(), page).await.unwrap().items;
                for message in messages.iter().filter(|m| m.key.seq < from + CHUNK / 2) {
                    let state = &message.state;
                    let there = state.newest.is_some()
                        && (stage < 2 || state.accepted)
                        && (stage < 4 || state.reached == Stage::Delivered);
                    assert!(there, "round {round}: {ack}: {message:?}");
                }
            }
        }
    }
    store.close().await.unwrap();
}
