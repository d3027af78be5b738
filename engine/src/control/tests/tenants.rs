//! What belongs to another tenant is the same as nothing.

use super::super::testing::*;
use super::super::*;

/// The answers for a thing of another tenant and for a thing that nobody has, but for the id in them.
async fn same<T: std::fmt::Debug + PartialEq, F: Future<Output = Result<T>>>(call: impl Fn(&'static str) -> F) {
    let foreign = call("spring").await.unwrap_err();
    let unknown = call("winter").await.unwrap_err();
    assert!(matches!(foreign, Error::NotFound { .. }), "{foreign:?}");
    assert_eq!(foreign.to_string().replace("spring", "winter"), unknown.to_string());
}

#[tokio::test]
async fn a_foreign_campaign_is_no_campaign() {
    let bench = Bench::furnished().await;
    bench.running("spring", 2).await;
    let (control, tenant) = (&bench.control, other());
    let tenant = &tenant;
    let page = PageRequest::default();
    same(|id| control.campaign(tenant, id)).await;
    same(|id| control.start_campaign(tenant, id, None)).await;
    same(|id| control.pause_campaign(tenant, id, None)).await;
    same(|id| control.cancel_campaign(tenant, id, None)).await;
    same(|id| control.delete_campaign(tenant, id, None)).await;
    same(|id| control.update_campaign(tenant, id, None, CampaignUpdate::default())).await;
    same(|id| control.recount(tenant, id)).await;
    same(|id| control.list_imports(tenant, id, &page)).await;
    same(|id| control.list_messages(tenant, id, "", &page)).await;
    same(|id| async move { control.message(tenant, id, &MessageKeySpec::Seq(0)).await }).await;
    assert_eq!(control.list_campaigns(tenant, "", &page).await.unwrap().items, []);
    assert_eq!(bench.state("spring").await, crate::domain::campaign::CampaignState::Running);
}

#[tokio::test]
async fn foreign_references_are_unknown() {
    let bench = Bench::furnished().await;
    let refused = bench.control.create_campaign(&other(), "", campaign("mine")).await;
    assert_eq!(fields(refused), ["settings.template_id", "settings.pool_id"]);
    let (control, tenant) = (&bench.control, other());
    assert_eq!(control.line(&tenant, "line-1").await, Err(Error::not_found("line", "line-1")));
    assert_eq!(control.pool(&tenant, "line-1").await, Err(Error::not_found("pool", "line-1")));
    assert_eq!(control.template(&tenant, "hello").await, Err(Error::not_found("template", "hello")));
    let accounts = control.list_accounts(&tenant, &PageRequest::default()).unwrap();
    let ids: Vec<&str> = accounts.items.iter().map(|account| account.id.as_str()).collect();
    assert_eq!(ids, ["meta-other", "twilio"]);
    let orphans = control.list_orphans(&tenant, "meta-main", &PageRequest::default()).await;
    assert_eq!(orphans, Err(Error::not_found("account", "meta-main")));
}

#[tokio::test]
async fn tenants_do_not_see_each_others_request_ids_and_names() {
    let bench = Bench::furnished().await;
    bench.control.put_template(&other(), "", template("hello", "Salut {{1}}"), None).await.unwrap();
    let spec = LineSpec { account: "meta-other".to_owned(), ..line("line-1", "2001") };
    bench.control.create_line(&other(), "", spec).await.unwrap();
    let mine = bench.control.create_campaign(&acme(), "r-1", campaign("spring")).await.unwrap();
    let theirs = bench.control.create_campaign(&other(), "r-1", campaign("spring")).await.unwrap();
    assert_ne!(mine.record.key, theirs.record.key);
    assert!(theirs.record.template_definition.contains("Salut"));
}
