//! Records of campaigns, lines, pools and templates.

use super::*;
use crate::domain::campaign::CampaignState;
use crate::domain::ids::{CampaignId, LineId, PoolId, TemplateId};
use crate::domain::line::{ProviderKind, SenderIdentity};
use crate::domain::stage::End;
use crate::store::{CampaignFilter, LineFilter, MessageFilter, Page, StoreError};

fn page(size: usize, after: Option<Vec<u8>>) -> Page {
    Page { size, after }
}

pub(crate) async fn a_campaign_is_created_once_for_one_request(factory: &dyn Factory) {
    let store = factory.open();
    let first = store.create_campaign(campaign("spring"), Some("r-1")).await.unwrap();
    assert!(first.fresh);
    assert_eq!(first.record.version, 1);
    let again = store.create_campaign(campaign("spring"), Some("r-1")).await.unwrap();
    assert_eq!((again.fresh, &again.record), (false, &first.record));
    let exists = store.create_campaign(campaign("spring"), Some("r-2")).await.unwrap_err();
    assert_eq!(exists, StoreError::Exists { what: "campaign", id: "spring".to_owned() });
    assert!(matches!(store.create_line(line("l1", "100"), Some("r-1")).await, Err(StoreError::Conflict(_))));
    let mut other = campaign("spring");
    other.tenant = tenant("Other");
    let other = store.create_campaign(other, Some("r-1")).await.unwrap();
    assert!(other.fresh, "request ids are a tenant's own");
    assert_ne!(other.record.key, first.record.key);
    assert_eq!(store.campaign_by_key(first.record.key).await.unwrap(), first.record);
}

pub(crate) async fn campaigns_change_only_from_the_version_seen(factory: &dyn Factory) {
    let store = factory.open();
    let mut seen = store.create_campaign(campaign("versions"), None).await.unwrap().record;
    seen.name = "renamed".to_owned();
    let next = store.update_campaign(seen.clone()).await.unwrap();
    assert_eq!((next.version, next.name.as_str()), (2, "renamed"));
    let late = store.update_campaign(seen.clone()).await.unwrap_err();
    assert_eq!(late, StoreError::Version { expected: 1, found: 2 });
    let mut moved = next.clone();
    moved.id = CampaignId::new("elsewhere").unwrap();
    assert_eq!(store.update_campaign(moved).await.unwrap_err(), StoreError::NotFound("campaign"));
    assert_eq!(store.campaign(&next.tenant, &next.id).await.unwrap(), next);
    assert!(matches!(store.delete_campaign(next.key, 1).await, Err(StoreError::Version { .. })));
}

pub(crate) async fn the_stores_own_fields_are_kept(factory: &dyn Factory) {
    let store = factory.open();
    let seen = store.create_campaign(campaign("own"), None).await.unwrap().record;
    store.append_recipients(chunk(seen.key, 0, 10)).await.unwrap();
    let mut stale = seen.clone();
    stale.end = Some(End::Expired);
    stale.recipients = 99;
    stale.next_seq = 99;
    let kept = store.update_campaign(stale).await.unwrap();
    assert_eq!((kept.recipients, kept.next_seq, kept.end, kept.sealed), (10, 10, None, None));
    let sealed = store.seal(seen.key, at(9)).await.unwrap();
    assert_eq!(sealed.version, kept.version, "counting and sealing leave the version that callers hold");
}

pub(crate) async fn campaigns_are_listed_newest_first_by_filter_and_page(factory: &dyn Factory) {
    let store = factory.open();
    for i in 0..7_i64 {
        let mut one = campaign(&format!("c{i}"));
        one.created_at = at(100 * i);
        one.labels.insert("parity".to_owned(), if i % 2 == 0 { "even" } else { "odd" }.to_owned());
        one.labels.insert("it's".to_owned(), format!("\"{i}\""));
        if i == 6 {
            one.tenant = tenant("Other");
        }
        one.state = if i < 3 { CampaignState::Draft } else { CampaignState::Completed };
        one.settled_at = (i == 4).then(|| at(9));
        one.pool = PoolId::new(if i == 5 { "side" } else { "main" }).unwrap();
        store.create_campaign(one, None).await.unwrap();
    }
    let acme = CampaignFilter { tenant: Some(tenant("acme")), ..CampaignFilter::default() };
    let ids = async |filter: CampaignFilter| {
        let listed = store.list_campaigns(&filter, page(100, None)).await.unwrap();
        assert_eq!(listed.next, None);
        listed.items.iter().map(|(c, _)| c.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(CampaignFilter::default()).await.len(), 7);
    assert_eq!(ids(acme.clone()).await, ["c5", "c4", "c3", "c2", "c1", "c0"]);
    let with = |labels: &[(&str, &str)]| CampaignFilter {
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..acme.clone()
    };
    assert_eq!(ids(with(&[("parity", "odd")])).await, ["c5", "c3", "c1"]);
    assert_eq!(ids(with(&[("parity", "odd"), ("it's", "\"3\"")])).await, ["c3"]);
    assert_eq!(ids(CampaignFilter { pool: Some(PoolId::new("side").unwrap()), ..acme.clone() }).await, ["c5"]);
    let states = vec![CampaignState::Draft, CampaignState::Running];
    assert_eq!(ids(CampaignFilter { states, ..acme.clone() }).await, ["c2", "c1", "c0"]);
    let span = CampaignFilter { created_from: Some(at(100)), created_before: Some(at(300)), ..acme.clone() };
    assert_eq!(ids(span).await, ["c2", "c1"]);
    assert_eq!(ids(CampaignFilter { unsettled: true, ..acme.clone() }).await, ["c5", "c3"]);

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let listed = store.list_campaigns(&acme, page(4, after)).await.unwrap();
        assert!(listed.items.len() <= 4);
        seen.extend(listed.items.into_iter().map(|(c, _)| c.id.to_string()));
        after = listed.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["c5", "c4", "c3", "c2", "c1", "c0"]);
    assert!(matches!(store.list_campaigns(&acme, page(4, Some(vec![1]))).await, Err(StoreError::Conflict(_))));
    let running = running(&*store, "counted", 12).await;
    all_apply(&*store, running.key, vec![(0, intent(1))]).await;
    let first = store.list_campaigns(&acme, page(1, None)).await.unwrap().items.remove(0);
    assert_eq!(first.1, store.tally(running.key).await.unwrap().tally, "a listing carries the counts");
}

pub(crate) async fn a_deleted_campaign_leaves_nothing_and_its_key_is_not_used_again(factory: &dyn Factory) {
    let store = factory.open();
    let kept = running(&*store, "kept", 20).await;
    let created = store.create_campaign(campaign("gone"), Some("r-1")).await.unwrap().record;
    store.append_recipients(chunk(created.key, 0, 20)).await.unwrap();
    let sealed = store.seal(created.key, at(1)).await.unwrap();
    for key in [kept.key, sealed.key] {
        all_apply(&*store, key, vec![(0, intent(1)), (0, report(1, crate::domain::message::Reported::Failed))]).await;
    }
    store.delete_campaign(sealed.key, sealed.version).await.unwrap();
    let missing = StoreError::NotFound("campaign");
    assert_eq!(store.campaign_by_key(sealed.key).await.unwrap_err(), missing);
    assert_eq!(store.campaign(&sealed.tenant, &sealed.id).await.unwrap_err(), missing);
    assert_eq!(store.tally(sealed.key).await.unwrap_err(), missing);
    assert_eq!(store.read_window(sealed.key, 0, 9).await.unwrap_err(), missing);
    assert_eq!(store.message(message(sealed.key, 0)).await.unwrap_err(), missing);
    assert_eq!(store.messages(sealed.key, &MessageFilter::default(), page(9, None)).await.unwrap_err(), missing);
    assert_eq!(store.imports(sealed.key).await.unwrap_err(), missing);
    assert_eq!(store.delete_campaign(sealed.key, sealed.version).await.unwrap_err(), missing);
    let unknown = store.commit(vec![entry(sealed.key, 1, intent(1))]).await.unwrap();
    assert_eq!((unknown.results, unknown.tallies), (vec![crate::store::EntryResult::Unknown], Vec::new()));
    assert!(matches!(store.create_campaign(campaign("gone"), Some("r-1")).await, Err(StoreError::Conflict(_))));

    let next = store.create_campaign(campaign("gone"), None).await.unwrap().record;
    assert!(next.key > sealed.key, "its number stands in correlation ids that may still come");
    assert_eq!(store.refused_rows(next.key, page(9, None)).await.unwrap().items, []);
    assert_eq!(checked_counts(&*store, kept.key).await.tally.recipients(), 20);
}

pub(crate) async fn a_line_brings_its_pool_and_its_sender_is_unique(factory: &dyn Factory) {
    let store = factory.open();
    let first = store.create_line(line("l1", "100"), Some("r-1")).await.unwrap();
    assert!(first.fresh && !store.create_line(line("l1", "100"), Some("r-1")).await.unwrap().fresh);
    let pool = store.pool(&first.record.tenant, &first.record.pool).await.unwrap();
    assert_eq!((pool.kind, pool.version), (ProviderKind::Meta, 1));
    assert!(matches!(store.create_line(line("l1", "200"), None).await, Err(StoreError::Exists { what: "line", .. })));
    let mut thief = line("l9", "100");
    thief.tenant = tenant("Other");
    let error = store.create_line(thief, None).await.unwrap_err();
    assert!(!error.to_string().contains("l1"), "another tenant's line is not named: {error}");
    let mut sms = line("l2", "+15550100");
    (sms.kind, sms.sender) = (ProviderKind::TwilioSms, SenderIdentity::From("+15550100".to_owned()));
    assert!(matches!(store.create_line(sms.clone(), None).await, Err(StoreError::Conflict(_))), "a pool has one kind");
    sms.pool = PoolId::new("sms").unwrap();
    let sms = store.create_line(sms, None).await.unwrap().record;

    let mut changed = first.record.clone();
    (changed.ceiling, changed.pool) = (40, PoolId::new("second").unwrap());
    let changed = store.update_line(changed).await.unwrap();
    assert_eq!((changed.ceiling, changed.version, changed.key), (40, 2, first.record.key));
    assert!(store.pool(&changed.tenant, &changed.pool).await.is_ok());
    assert!(matches!(
        store.update_line(first.record.clone()).await,
        Err(StoreError::Version { expected: 1, found: 2 })
    ));
    let second = store.create_line(line("l3", "300"), None).await.unwrap().record;
    let mut stolen = second.clone();
    stolen.sender = changed.sender.clone();
    assert!(matches!(store.update_line(stolen).await, Err(StoreError::Exists { .. })));

    let all = store.lines(&LineFilter::default()).await.unwrap();
    assert_eq!(all, [changed.clone(), sms.clone(), second]);
    let of_pool = LineFilter { pool: Some(sms.pool.clone()), tenant: Some(sms.tenant.clone()), account: None };
    assert_eq!(store.lines(&of_pool).await.unwrap(), [sms]);
    let of_other =
        LineFilter { account: Some(crate::domain::ids::AccountId::new("none").unwrap()), ..LineFilter::default() };
    assert_eq!(store.lines(&of_other).await.unwrap(), []);
    assert_eq!(store.line(&changed.tenant, &changed.id).await.unwrap(), changed);
}

pub(crate) async fn pools_keep_their_kind(factory: &dyn Factory) {
    let store = factory.open();
    let line = store.create_line(line("l1", "100"), None).await.unwrap().record;
    let mut pool = store.pool(&line.tenant, &line.pool).await.unwrap();
    pool.description = "for the spring".to_owned();
    let next = store.update_pool(pool.clone()).await.unwrap();
    assert_eq!((next.version, next.description.as_str()), (2, "for the spring"));
    assert!(matches!(store.update_pool(pool).await, Err(StoreError::Version { .. })));
    assert_eq!(store.pools(&line.tenant).await.unwrap(), std::slice::from_ref(&next));
    let mut other = next;
    other.kind = ProviderKind::TwilioSms;
    assert!(matches!(store.update_pool(other).await, Err(StoreError::Conflict(_))));
}

pub(crate) async fn templates_have_versions(factory: &dyn Factory) {
    let store = factory.open();
    let hello = template("hello");
    assert!(matches!(store.put_template(hello.clone(), Some(3), None).await, Err(StoreError::NotFound("template"))));
    let first = store.put_template(hello.clone(), None, Some("r-1")).await.unwrap();
    assert_eq!(first.version, 1);
    assert_eq!(store.put_template(hello.clone(), None, Some("r-1")).await.unwrap(), first, "repeated, not put again");
    let mut next = hello.clone();
    (next.definition, next.updated_at, next.created_at) = ("{\"next\":1}".into(), at(2_000), at(2_000));
    let second = store.put_template(next.clone(), Some(1), None).await.unwrap();
    assert_eq!((second.version, second.created_at, second.updated_at), (2, at(1_000), at(2_000)));
    let late = store.put_template(next, Some(1), None).await.unwrap_err();
    assert_eq!(late, StoreError::Version { expected: 1, found: 2 });
    for id in ["b", "a", "c"] {
        store.put_template(template(id), Some(0), None).await.unwrap();
    }
    let listed = store.list_templates(&hello.tenant, page(3, None)).await.unwrap();
    assert_eq!(listed.items.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let rest = store.list_templates(&hello.tenant, page(3, listed.next)).await.unwrap();
    assert_eq!((rest.items, rest.next), (vec![second.clone()], None));
    assert_eq!(store.template(&hello.tenant, &hello.id).await.unwrap(), second);
}

pub(crate) async fn another_tenants_ids_are_unknown(factory: &dyn Factory) {
    let store = factory.open();
    store.create_campaign(campaign("c"), None).await.unwrap();
    store.create_line(line("l", "100"), None).await.unwrap();
    store.put_template(template("t"), None, None).await.unwrap();
    let other = tenant("Other");
    let campaign = store.campaign(&other, &CampaignId::new("c").unwrap()).await;
    assert_eq!(campaign.unwrap_err(), StoreError::NotFound("campaign"));
    assert_eq!(store.line(&other, &LineId::new("l").unwrap()).await.unwrap_err(), StoreError::NotFound("line"));
    assert_eq!(store.pool(&other, &PoolId::new("main").unwrap()).await.unwrap_err(), StoreError::NotFound("pool"));
    let template = store.template(&other, &TemplateId::new("t").unwrap()).await;
    assert_eq!(template.unwrap_err(), StoreError::NotFound("template"));
    assert_eq!(store.pools(&other).await.unwrap(), []);
    assert_eq!(store.list_templates(&other, page(9, None)).await.unwrap().items, []);
    let filter = CampaignFilter { tenant: Some(other), ..CampaignFilter::default() };
    assert_eq!(store.list_campaigns(&filter, page(9, None)).await.unwrap().items, []);
}

pub(crate) async fn everything_outlives_a_restart(factory: &dyn Factory) {
    let store = factory.open();
    let secret = store.installation_secret().await.unwrap();
    assert_ne!(secret, [0; 32]);
    let campaign = running(&*store, "kept", 30).await;
    let line = store.create_line(line("l", "100"), Some("r-1")).await.unwrap().record;
    let template = store.put_template(template("t"), None, None).await.unwrap();
    all_apply(&*store, campaign.key, vec![(0, intent(1)), (1, intent(1)), (1, accepted(1, "wamid.1"))]).await;
    let counts = checked_counts(&*store, campaign.key).await;
    let one = store.message(message(campaign.key, 1)).await.unwrap();
    assert!(store.health().writable);
    store.close().await.unwrap();
    assert!(matches!(store.commit(vec![entry(campaign.key, 2, intent(1))]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.campaign_by_key(campaign.key).await, Err(StoreError::Unavailable(_))));
    assert!(!store.health().writable);
    drop(store);

    let store = factory.open();
    assert_eq!(store.installation_secret().await.unwrap(), secret);
    assert_eq!(store.campaign_by_key(campaign.key).await.unwrap(), campaign);
    assert_eq!(store.create_line(line.clone(), Some("r-1")).await.unwrap().record, line);
    assert_eq!(store.template(&template.tenant, &template.id).await.unwrap(), template);
    assert_eq!(checked_counts(&*store, campaign.key).await, counts);
    assert_eq!(store.message(message(campaign.key, 1)).await.unwrap(), one);
}
