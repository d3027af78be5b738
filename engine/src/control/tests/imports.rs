//! Imports.

use super::super::testing::*;
use super::super::*;
use crate::domain::stage::Shown;

#[tokio::test]
async fn rows_are_stored_and_bad_ones_are_listed() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    let bad = Row { address: RowAddress::Phone("call me".to_owned()), ..row(1) };
    let extra = Row { body: vec!["a".to_owned(), "b".to_owned()], ..row(2) };
    let ack = bench.import_rows("spring", "list", 0, vec![row(0), bad, extra, row(3)]).await.unwrap();
    assert_eq!((ack.acked_rows, ack.stored, ack.repeated), (4, 2, false));
    let refused: Vec<(u64, &str)> = ack.refused.iter().map(|row| (row.row, &*row.field)).collect();
    assert_eq!(refused, [(1, "phone"), (2, "body_param_2")]);
    assert!(ack.refused.iter().all(|row| !row.reason.contains("call me")), "{:?}", ack.refused);
    let listed = bench.control.refused_rows(&acme(), "spring", "", &PageRequest::default()).await.unwrap();
    assert_eq!(listed.items, ack.refused);
    let import = bench.control.import(&acme(), "spring", "list").await.unwrap();
    assert_eq!((import.next_row, import.stored, import.refused), (4, 2, 2));
    let view = bench.control.campaign(&acme(), "spring").await.unwrap();
    assert_eq!((view.stats.tally.count(Shown::Pending), view.stats.refused), (2, 2));
}

#[tokio::test]
async fn a_chunk_may_be_repeated_but_not_changed() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    bench.import("spring", "list", 0, 10).await.unwrap();
    bench.import("spring", "list", 10, 20).await.unwrap();
    let again = bench.import("spring", "list", 0, 10).await.unwrap();
    assert_eq!((again.acked_rows, again.repeated), (20, true));
    let changed = (0..10).map(|n| row(n + 1_000)).collect();
    assert_eq!(obstacle(bench.import_rows("spring", "list", 0, changed).await), "IMPORT");
    assert_eq!(obstacle(bench.import("spring", "list", 5, 15).await), "IMPORT");
    assert_eq!(bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally.recipients(), 20);
}

#[tokio::test]
async fn a_gap_a_wrong_digest_and_a_wrong_size_are_refused_as_a_whole() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    assert_eq!(fields(bench.import("spring", "list", 1, 2).await), ["chunk.row_offset"]);
    assert_eq!(fields(bench.import("spring", "list", 0, 0).await), ["chunk.rows"]);
    assert_eq!(fields(bench.import("spring", "list", 0, 10_001).await), ["chunk.rows"]);
    let session = bench.control.open_import(&acme(), "spring", "list").await.unwrap().session;
    let chunk = RowChunk { offset: 0, rows: vec![row(0)], digest: vec![0; 32] };
    assert_eq!(fields(session.check(chunk)), ["chunk.sha256"]);
    assert_eq!(fields(bench.import("spring", "Not an id", 0, 1).await), ["header.import_id"]);
    assert_eq!(bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally.recipients(), 0);
}

#[tokio::test]
async fn a_frozen_audience_takes_nobody() {
    let bench = Bench::furnished().await;
    bench.filled("sealed", 1).await;
    let sealed = bench.control.seal_campaign(&acme(), "sealed", None).await.unwrap();
    let again = bench.control.seal_campaign(&acme(), "sealed", None).await.unwrap();
    assert_eq!(sealed.record.sealed, again.record.sealed);
    assert_eq!(obstacle(bench.import("sealed", "more", 0, 1).await), "AUDIENCE_FROZEN");
    bench.running("running", 1).await;
    assert_eq!(obstacle(bench.import("running", "more", 0, 1).await), "AUDIENCE_FROZEN");
    // Sealed between opening and chunk: the store refuses.
    bench.filled("race", 1).await;
    let opened = bench.control.open_import(&acme(), "race", "more").await.unwrap();
    bench.control.seal_campaign(&acme(), "race", None).await.unwrap();
    let mut rows = vec![row(5)];
    let digest = super::super::row::digest(&mut rows).to_vec();
    let chunk = opened.session.check(RowChunk { offset: 0, rows, digest }).unwrap();
    assert_eq!(obstacle(bench.control.store_chunk(&opened.session, opened.acked_rows, chunk).await), "IMPORT");
}

#[tokio::test]
async fn duplicates_are_refused_at_the_seal_with_both_rows_named() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    bench.import("spring", "first", 0, 3).await.unwrap();
    let twin = Row { external_id: "other".to_owned(), ..row(1) };
    bench.import_rows("spring", "second", 0, vec![row(7), twin]).await.unwrap();
    let sealed = bench.control.seal_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!((sealed.record.sealed.unwrap().recipients, sealed.record.refused), (4, 1));
    let refused = bench.control.refused_rows(&acme(), "spring", "second", &PageRequest::default()).await.unwrap();
    assert_eq!(refused.items.len(), 1);
    let (import, first) = refused.items[0].duplicate_of.clone().unwrap();
    assert_eq!((refused.items[0].row, import.as_str(), first), (1, "first", 1));
    let of_first = bench.control.refused_rows(&acme(), "spring", "first", &PageRequest::default()).await.unwrap();
    assert_eq!(of_first.items, []);
}

#[tokio::test]
async fn a_region_reads_national_numbers() {
    let bench = Bench::furnished().await;
    let mut spec = campaign("spring");
    spec.settings.region = "us".to_owned();
    let view = bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    assert_eq!(view.record.settings.region.as_deref(), Some("US"));
    let national = Row { address: RowAddress::Phone("(201) 555-0123".to_owned()), ..row(0) };
    let ack = bench.import_rows("spring", "list", 0, vec![national.clone(), row(1)]).await.unwrap();
    assert_eq!(ack.stored, 2);
    bench.draft("plain").await;
    let ack = bench.import_rows("plain", "list", 0, vec![national]).await.unwrap();
    assert_eq!((ack.stored, ack.refused.len()), (0, 1));
}

#[tokio::test]
async fn an_import_that_was_opened_under_other_rules_is_opened_again() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    let opened = bench.control.open_import(&acme(), "spring", "list").await.unwrap();
    bench.control.put_template(&acme(), "", template("two", "Hello {{1}}, {{2}}"), None).await.unwrap();
    let other = CampaignUpdate { template: Some("two".to_owned()), ..CampaignUpdate::default() };
    bench.control.update_campaign(&acme(), "spring", None, other).await.unwrap();
    let mut rows = vec![row(0)];
    let digest = super::super::row::digest(&mut rows).to_vec();
    let chunk = opened.session.check(RowChunk { offset: 0, rows, digest }).unwrap();
    let refused = bench.control.store_chunk(&opened.session, opened.acked_rows, chunk).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("open the import again")), "{refused:?}");
    assert_eq!(obstacle(refused), "IMPORT");
    assert_eq!(bench.control.campaign(&acme(), "spring").await.unwrap().record.recipients, 0);
    // Opened again, the row is judged by the new template.
    assert_eq!(bench.import("spring", "list", 0, 1).await.unwrap().refused.len(), 1);
}

#[tokio::test]
async fn a_filled_campaign_stays_on_its_channel() {
    let bench = Bench::furnished().await;
    let sms = LineSpec {
        account: "twilio".to_owned(),
        kind: Some(crate::domain::line::ProviderKind::TwilioWhatsapp),
        sender: Some(crate::domain::line::SenderIdentity::From("+15550100123".to_owned())),
        ..line("other-channel", "")
    };
    bench.control.create_line(&acme(), "", sms).await.unwrap();
    bench.control.create_line(&acme(), "", line("line-2", "1002")).await.unwrap();
    let mut hello = template("both", "Hello {{1}}");
    hello.content_sid = Some(format!("HX{}", "0".repeat(32)));
    hello.content_keys = vec!["1".to_owned()];
    bench.control.put_template(&acme(), "", hello, None).await.unwrap();
    let mut spec = campaign("spring");
    spec.settings.template = "both".to_owned();
    bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    let to = |pool: &str| CampaignUpdate { pool: Some(pool.to_owned()), ..CampaignUpdate::default() };
    bench.control.update_campaign(&acme(), "spring", None, to("other-channel")).await.unwrap();
    bench.control.update_campaign(&acme(), "spring", None, to("line-1")).await.unwrap();
    bench.import("spring", "list", 0, 1).await.unwrap();
    assert_eq!(obstacle(bench.control.update_campaign(&acme(), "spring", None, to("other-channel")).await), "TOO_LATE");
    let moved = bench.control.update_campaign(&acme(), "spring", None, to("line-2")).await.unwrap();
    assert_eq!(moved.record.pool.as_str(), "line-2");
}
