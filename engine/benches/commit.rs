//! Group commit of the embedded ledger on a temporary file: what one durable commit costs, alone and in company.
//!
//! `cargo bench -p sluice-engine --bench commit`. It measures the disk under the temporary directory as much as the code: compare runs
//! on one machine only. `examples/ledger_bench.rs` takes the long figures.

mod support;

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::domain::ids::{CampaignKey, LineKey, MessageKey};
use sluice_engine::domain::message::Event;
use sluice_engine::domain::time::{Clock, UnixMillis};
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::{Entry, Store};
use support::{Outcome, campaign, chunk};

/// Recipients of each size of commit: each takes an intent and its withdrawal again and again.
const REGION: u32 = 30_000;
/// All of them.
const RECIPIENTS: u32 = 3 * REGION;

async fn filled(folder: &std::path::Path) -> Outcome<(Arc<EmbeddedStore>, CampaignKey)> {
    let store = EmbeddedStore::open(EmbeddedConfig::new(folder), Clock::system())?;
    let key = store.create_campaign(campaign()?, None).await?.record.key;
    for offset in (0..RECIPIENTS).step_by(5_000) {
        store.append_recipients(chunk(key, offset, 5_000)?).await?;
    }
    store.seal(key, UnixMillis(1)).await?;
    Ok((store, key))
}

fn commit(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a directory");
    let (store, key) = runtime.block_on(filled(folder.path())).expect("a ledger");
    let mut group = c.benchmark_group("commit");
    for (place, entries) in [1_u32, 64, 1_024].into_iter().enumerate() {
        // Each size has recipients of its own, so that attempt numbers rise evenly.
        let region = place as u32 * REGION;
        let (mut from, mut attempt) = (0, 1_u16);
        group.throughput(Throughput::Elements(2 * u64::from(entries)));
        group.bench_function(format!("{entries} intents, then their withdrawals"), |b| {
            b.iter(|| {
                let at = UnixMillis(1_700_000_000_000);
                let message = |n| MessageKey { campaign: key, seq: region + from + n };
                let intent = |n| Entry { key: message(n), event: Event::Intent { attempt, line: LineKey(1), at } };
                let withdrawn = |n| Entry { key: message(n), event: Event::Withdrawn { attempt, at } };
                let done = runtime.block_on(async {
                    store.commit((0..entries).map(intent).collect()).await.is_ok()
                        && store.commit((0..entries).map(withdrawn).collect()).await.is_ok()
                });
                assert!(done, "commits succeed");
                from += entries;
                if from + entries > REGION {
                    (from, attempt) = (0, attempt.wrapping_add(1).max(1));
                }
            });
        });
    }
    group.finish();
    runtime.block_on(store.close()).expect("it closes");
}

criterion_group!(ledger, commit);
criterion_main!(ledger);
