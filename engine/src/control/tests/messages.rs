//! Messages and decisions about them.

use super::super::testing::*;
use super::super::*;
use crate::domain::campaign::CampaignState as S;
use crate::domain::message::{Decision, Event};
use crate::domain::stage::Shown;

async fn resolve(bench: &Bench, selection: ResolveSelection, decision: Decision) -> Result<Resolved> {
    bench.control.resolve(&acme(), "spring", selection, decision).await
}

#[tokio::test]
async fn a_message_is_found_by_place_and_by_the_callers_id() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    bench.doubt(&view, 1).await;
    let by_seq = bench.control.message(&acme(), "spring", &MessageKeySpec::Seq(1)).await.unwrap();
    let external = MessageKeySpec::ExternalId("crm-1".to_owned());
    assert_eq!(bench.control.message(&acme(), "spring", &external).await.unwrap(), by_seq);
    assert_eq!(by_seq.record.shown, Shown::InDoubt);
    assert_eq!(by_seq.attempts.len(), 1);
    assert_eq!(by_seq.attempts[0].line.as_ref().unwrap().as_str(), "line-1");
    assert_eq!(by_seq.attempts[0].correlation_id.len(), 28);
    for missing in [MessageKeySpec::Seq(99), MessageKeySpec::ExternalId("nope".to_owned())] {
        assert!(matches!(
            bench.control.message(&acme(), "spring", &missing).await,
            Err(Error::NotFound { what: "message", .. })
        ));
    }
}

#[tokio::test]
async fn messages_are_listed_by_filter_and_exported_as_a_whole() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 1_500).await;
    bench.doubt(&view, 7).await;
    let all = PageRequest::default();
    let found = bench.control.list_messages(&acme(), "spring", "status=in_doubt", &all).await.unwrap();
    assert_eq!(found.items.iter().map(|m| m.record.key.seq).collect::<Vec<_>>(), [7]);
    let found = bench.control.list_in_doubt(&acme(), "spring", &all).await.unwrap();
    assert_eq!(found.items.len(), 1);
    let found = bench.control.list_messages(&acme(), "spring", "address=+999000000003", &all).await.unwrap();
    assert_eq!(found.items.iter().map(|m| m.record.key.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(fields(bench.control.list_messages(&acme(), "spring", "colour=red", &all).await), ["filter"]);

    let mut seqs = Vec::new();
    let mut token = String::new();
    loop {
        let batch = bench.control.export_messages(&acme(), "spring", "", &token, i32::MAX).await.unwrap();
        seqs.extend(batch.items.iter().map(|message| message.record.key.seq));
        if batch.next_token.is_empty() {
            break;
        }
        token = batch.next_token;
    }
    assert_eq!(seqs, (0..1_500).collect::<Vec<_>>());
    let elsewhere = bench.control.export_messages(&acme(), "spring", "status=read", &token, i32::MAX).await;
    assert_eq!(fields(elsewhere), ["resume_token"]);
}

#[tokio::test]
async fn doubts_are_decided_by_place_and_the_rest_is_named() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 4).await;
    bench.doubt(&view, 0).await;
    bench.doubt(&view, 1).await;
    let named = ResolveSelection::Seqs(vec![0, 2, 99]);
    let resolved = resolve(&bench, named, Decision::ConfirmSent).await.unwrap();
    assert_eq!(resolved.resolved, 1);
    assert_eq!(
        resolved.unresolved,
        [Unresolved { seq: 2, shown: Some(Shown::Pending) }, Unresolved { seq: 99, shown: None }]
    );
    let resolved = resolve(&bench, ResolveSelection::Seqs(vec![1]), Decision::ConfirmFailed).await.unwrap();
    assert_eq!((resolved.resolved, resolved.unresolved.len()), (1, 0));
    let tally = bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally;
    assert_eq!((tally.count(Shown::Failed), tally.count(Shown::InDoubt)), (1, 0));
    assert_eq!(bench.control.recount(&acme(), "spring").await.unwrap().differences, []);
}

#[tokio::test]
async fn doubts_are_decided_by_filter() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 20).await;
    for seq in 0..10 {
        bench.doubt(&view, seq).await;
    }
    let at = bench.control.now();
    for seq in 0..5 {
        bench.apply(&view, seq, Event::DoubtExpired { at, resend_up_to: None }).await;
    }
    let filter = |text: &str| ResolveSelection::Filter(text.to_owned());
    assert_eq!(fields(resolve(&bench, filter(" "), Decision::ConfirmSent).await), ["filter"]);
    assert_eq!(fields(resolve(&bench, filter("status=failed"), Decision::ConfirmSent).await), ["filter"]);
    let resolved = resolve(&bench, filter("status=unconfirmed"), Decision::ConfirmSent).await.unwrap();
    assert_eq!(resolved.resolved, 5);
    let resolved =
        resolve(&bench, filter("status=unconfirmed,in_doubt,failed"), Decision::ConfirmFailed).await.unwrap();
    assert_eq!((resolved.resolved, resolved.unresolved.len()), (5, 0));
    assert_eq!(fields(resolve(&bench, ResolveSelection::Seqs(vec![1, 1]), Decision::ConfirmSent).await), ["seqs"]);
}

#[tokio::test]
async fn sending_again_reopens_what_is_over() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 2).await;
    bench.doubt(&view, 0).await;
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    bench.runtime.take_told();
    let resolved = resolve(&bench, ResolveSelection::Seqs(vec![0]), Decision::SendAgain).await.unwrap();
    assert_eq!(resolved.resolved, 1);
    assert_eq!(bench.state("spring").await, S::Running);
    assert_eq!(bench.runtime.take_told(), [format!("changed {} running", view.record.key)]);
    let tally = bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally;
    assert_eq!((tally.count(Shown::Pending), tally.count(Shown::Cancelled)), (1, 1));
    assert_eq!(bench.control.recount(&acme(), "spring").await.unwrap().differences, []);
    // Nothing to send again: nothing is reopened.
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    let resolved = resolve(&bench, ResolveSelection::Seqs(vec![1]), Decision::SendAgain).await.unwrap();
    assert_eq!((resolved.resolved, bench.state("spring").await), (0, S::Cancelled));
}

#[tokio::test]
async fn cancelling_takes_back_what_was_to_be_sent_again() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    bench.doubt(&view, 0).await;
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    resolve(&bench, ResolveSelection::Seqs(vec![0]), Decision::SendAgain).await.unwrap();
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    let tally = bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally;
    assert_eq!((tally.count(Shown::Pending), tally.count(Shown::Cancelled)), (0, 3));
    assert_eq!(bench.control.recount(&acme(), "spring").await.unwrap().differences, []);
}

/// The engine ended, or the ledger went away, between a decision and the record that puts the campaign back to work.
#[tokio::test]
async fn a_decision_that_did_not_reopen_is_reopened_by_its_repetition_or_taken_back_by_a_cancellation() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    let at = bench.control.now();
    for seq in 0..2 {
        bench.doubt(&view, seq).await;
    }
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    bench.apply(&view, 0, Event::Resolved { decision: Decision::SendAgain, at }).await;
    let resolved = resolve(&bench, ResolveSelection::Seqs(vec![0]), Decision::SendAgain).await.unwrap();
    assert_eq!((resolved.resolved, bench.state("spring").await), (0, S::Running));

    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    bench.apply(&view, 1, Event::Resolved { decision: Decision::SendAgain, at }).await;
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    let tally = bench.control.campaign(&acme(), "spring").await.unwrap().stats.tally;
    assert_eq!((bench.state("spring").await, tally.count(Shown::Pending)), (S::Cancelled, 0));
    let resolved = resolve(&bench, ResolveSelection::Seqs(vec![1]), Decision::SendAgain).await.unwrap();
    assert_eq!(
        (resolved.resolved, bench.state("spring").await),
        (0, S::Cancelled),
        "nothing waits: nothing is reopened"
    );
}

#[tokio::test]
async fn nothing_is_sent_again_after_stop_at_until_it_is_moved() {
    let bench = Bench::furnished().await;
    let mut spec = campaign("spring");
    spec.settings.stop_at = Some(bench.control.now().after(std::time::Duration::from_secs(60)));
    bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    bench.import("spring", "list", 0, 2).await.unwrap();
    let view = bench.control.start_campaign(&acme(), "spring", None).await.unwrap();
    bench.doubt(&view, 0).await;
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    bench.advance(std::time::Duration::from_secs(60));
    let named = || ResolveSelection::Seqs(vec![0]);
    assert_eq!(obstacle(resolve(&bench, named(), Decision::SendAgain).await), "STOP_AT_PASSED");
    assert_eq!(bench.state("spring").await, S::Cancelled);
    let away = CampaignUpdate { stop_at: Some(None), ..CampaignUpdate::default() };
    bench.control.update_campaign(&acme(), "spring", None, away).await.unwrap();
    assert_eq!(resolve(&bench, named(), Decision::SendAgain).await.unwrap().resolved, 1);
    assert_eq!(bench.state("spring").await, S::Running);
}

#[tokio::test]
async fn totals_are_the_sum_over_campaigns() {
    let bench = Bench::furnished().await;
    bench.running("a", 3).await;
    bench.filled("b", 2).await;
    let totals = bench.control.tenant_totals(&acme()).await.unwrap();
    assert_eq!(totals.tally.recipients(), 5);
    let count = |state| totals.campaigns.iter().find(|(of, _)| *of == state).unwrap().1;
    assert_eq!((count(S::Running), count(S::Draft), count(S::Failed)), (1, 1, 0));
    assert_eq!(bench.control.tenant_totals(&other()).await.unwrap().tally.recipients(), 0);
}
