//! Plain records to begin with.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::campaign::{Campaign, CampaignState, Settings};
use crate::domain::ids::{
    AccountId, CampaignId, CampaignKey, ImportId, LineId, LineKey, MessageKey, PoolId, TemplateId, TenantId,
};
use crate::domain::line::{Line, ProviderKind, SenderIdentity};
use crate::domain::message::{Event, Failure, Reported};
use crate::domain::time::UnixMillis;
use crate::store::{Entry, EntryResult, ImportChunk, ImportRules, NewRecipient, Store, TemplateRecord};

/// The line that entries name.
pub(crate) const LINE: LineKey = LineKey(1);

pub(crate) fn at(ms: i64) -> UnixMillis {
    UnixMillis(ms)
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

pub(crate) fn campaign(id: &str) -> Campaign {
    Campaign {
        key: CampaignKey(0),
        tenant: tenant("acme"),
        id: CampaignId::new(id).unwrap(),
        version: 0,
        name: format!("Campaign {id}"),
        description: String::new(),
        labels: BTreeMap::new(),
        created_by: "somebody".to_owned(),
        created_at: at(1_000),
        updated_at: at(1_000),
        state: CampaignState::Draft,
        hold: None,
        pool: PoolId::new("main").unwrap(),
        template: TemplateId::new("hello").unwrap(),
        template_version: 1,
        template_definition: Arc::from("{}"),
        settings: Settings::default(),
        recipients: 0,
        refused: 0,
        next_seq: 0,
        sealed: None,
        started_at: None,
        ended_at: None,
        settled_at: None,
        end: None,
    }
}

pub(crate) fn line(id: &str, sender: &str) -> Line {
    Line {
        key: LineKey(0),
        tenant: tenant("acme"),
        id: LineId::new(id).unwrap(),
        version: 0,
        description: String::new(),
        pool: PoolId::new("main").unwrap(),
        kind: ProviderKind::Meta,
        account: AccountId::new("meta-1").unwrap(),
        sender: SenderIdentity::PhoneNumberId(sender.to_owned()),
        ceiling: 80,
        in_flight_max: 64,
        hold: None,
        released_at: None,
        created_at: at(1_000),
        updated_at: at(1_000),
    }
}

pub(crate) fn template(id: &str) -> TemplateRecord {
    TemplateRecord {
        tenant: tenant("acme"),
        id: TemplateId::new(id).unwrap(),
        version: 0,
        definition: Arc::from("{\"name\":\"hello\"}"),
        created_at: at(1_000),
        updated_at: at(1_000),
    }
}

pub(crate) fn import(id: &str) -> ImportId {
    ImportId::new(id).unwrap()
}

pub(crate) fn recipient(row: u64, address: &str) -> NewRecipient {
    NewRecipient {
        row,
        address: address.into(),
        external_id: Some(format!("ext-{row}").into()),
        params: format!("[\"name {row}\"]").into(),
    }
}

/// A chunk of good rows with addresses of their own, from `offset` on.
pub(crate) fn chunk(campaign: CampaignKey, offset: u64, rows: u32) -> ImportChunk {
    let recipients = (offset..offset + u64::from(rows)).map(|row| recipient(row, &format!("+999{row:09}"))).collect();
    chunk_of(campaign, "list", offset, recipients)
}

/// A chunk of these recipients.
pub(crate) fn chunk_of(campaign: CampaignKey, id: &str, offset: u64, recipients: Vec<NewRecipient>) -> ImportChunk {
    let mut digest = [7_u8; 32];
    digest[..8].copy_from_slice(&offset.to_be_bytes());
    ImportChunk {
        campaign,
        import: import(id),
        rules: ImportRules::of(&self::campaign("any")),
        offset,
        rows: u32::try_from(recipients.len()).unwrap(),
        digest,
        recipients,
        refused: Vec::new(),
        at: at(2_000),
    }
}

/// A campaign that is sealed with this many recipients, and running.
pub(crate) async fn running(store: &dyn Store, id: &str, recipients: u32) -> Campaign {
    let key = store.create_campaign(campaign(id), None).await.unwrap().record.key;
    for offset in (0..recipients).step_by(1_000) {
        store.append_recipients(chunk(key, u64::from(offset), 1_000.min(recipients - offset))).await.unwrap();
    }
    let mut sealed = store.seal(key, at(3_000)).await.unwrap();
    sealed.state = CampaignState::Running;
    store.update_campaign(sealed).await.unwrap()
}

pub(crate) fn message(campaign: CampaignKey, seq: u32) -> MessageKey {
    MessageKey { campaign, seq }
}

pub(crate) fn entry(campaign: CampaignKey, seq: u32, event: Event) -> Entry {
    Entry { key: message(campaign, seq), event }
}

pub(crate) fn intent(attempt: u16) -> Event {
    Event::Intent { attempt, line: LINE, at: at(4_000) }
}

pub(crate) fn accepted(attempt: u16, provider_id: &str) -> Event {
    Event::Accepted { attempt, at: at(4_100), provider_id: provider_id.into() }
}

/// The lines of the account that reports.
pub(crate) fn lines() -> std::sync::Arc<[LineKey]> {
    (0..8).map(LineKey).collect()
}

pub(crate) fn report(attempt: u16, what: Reported) -> Event {
    let failure = (what == Reported::Failed).then(|| failure(131_026));
    Event::Report { attempt, lines: lines(), at: at(5_000), what, provider_at: Some(5), provider_id: None, failure }
}

pub(crate) fn doubt(attempt: u16, due_at: i64) -> Event {
    Event::Doubt { attempt, at: at(4_200), due_at: at(due_at) }
}

pub(crate) fn failure(code: u32) -> Box<Failure> {
    Box::new(Failure::new(code, "recipient", "not delivered", "the \"provider's\" words", "länger"))
}

/// Commits events of one campaign, each of which must change something.
pub(crate) async fn all_apply(store: &dyn Store, campaign: CampaignKey, events: Vec<(u32, Event)>) {
    let entries: Vec<_> = events.into_iter().map(|(seq, event)| entry(campaign, seq, event)).collect();
    let count = entries.len();
    let committed = store.commit(entries).await.unwrap();
    assert_eq!(committed.results, vec![EntryResult::Applied; count]);
}

/// The counts kept, after checking that a recount gives the same. Without the revision, which other writes move too.
pub(crate) async fn checked_counts(store: &dyn Store, campaign: CampaignKey) -> crate::store::Counts {
    let strip = |counts: crate::store::Counts| crate::store::Counts { revision: 0, ..counts };
    let (kept, counted) = store.recount(campaign).await.unwrap();
    assert_eq!(strip(kept.clone()), strip(counted), "tally = recount");
    let kept = strip(kept);
    assert_eq!(kept, strip(store.tally(campaign).await.unwrap()));
    kept
}
