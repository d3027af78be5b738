//! Group commit of the embedded ledger on a temporary file: what one durable commit costs, alone and in company.
//!
//! `cargo bench -p sluice-engine --bench commit`. It measures the disk under the temporary directory as much as the code: compare runs
//! on one machine only. `examples/ledger_bench.rs` takes the long figures.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_engine::domain::campaign::{Campaign, CampaignState, Settings};
use sluice_engine::domain::ids::{
    CampaignId, CampaignKey, ImportId, LineKey, MessageKey, PoolId, TemplateId, TenantId,
};
use sluice_engine::domain::message::Event;
use sluice_engine::domain::time::{Clock, UnixMillis};
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::{Entry, ImportChunk, ImportRules, NewRecipient, Store};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Recipients of each size of commit: each takes an intent and its withdrawal again and again.
const REGION: u32 = 30_000;
/// All of them.
const RECIPIENTS: u32 = 3 * REGION;

fn campaign() -> Outcome<Campaign> {
    Ok(Campaign {
        key: CampaignKey(0),
        tenant: TenantId::new("bench")?,
        id: CampaignId::new("bench")?,
        version: 0,
        name: String::new(),
        description: String::new(),
        labels: std::collections::BTreeMap::new(),
        created_by: String::new(),
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        state: CampaignState::Draft,
        hold: None,
        pool: PoolId::new("main")?,
        template: TemplateId::new("hello")?,
        template_version: 1,
        template_definition: "{}".into(),
        settings: Settings::default(),
        recipients: 0,
        refused: 0,
        next_seq: 0,
        sealed: None,
        started_at: None,
        ended_at: None,
        settled_at: None,
        end: None,
    })
}

fn chunk(campaign: CampaignKey, offset: u32, rows: u32) -> Outcome<ImportChunk> {
    let recipients = (offset..offset + rows).map(|row| NewRecipient {
        row: u64::from(row),
        address: format!("+999{row:09}").into(),
        external_id: None,
        params: format!("[\"Name {row}\",\"Code {row}\"]").into(),
    });
    let recipients = recipients.collect();
    let (import, offset, at) = (ImportId::new("list")?, u64::from(offset), UnixMillis(1));
    let rules = ImportRules::of(&self::campaign()?);
    Ok(ImportChunk { campaign, import, rules, offset, rows, digest: [0; 32], recipients, refused: Vec::new(), at })
}

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
