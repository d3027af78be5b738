//! Imports and seals whose outcome nobody heard of, and that land when others were written since.

use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::super::list::{self, List, Seal};
use super::super::segment::push_summary;
use super::super::summary::Summary;
use super::super::{cql::Unit, statements::Statements};
use super::server::fresh_keyspace;
use super::*;
use crate::domain::ids::CampaignKey;
use crate::store::conformance::*;
use crate::store::{ImportChunk, NewRecipient};

/// A part of a batch of this store lands, dated when it was made.
async fn lands(
    store: &ScyllaStore,
    at: i64,
    statement: impl Fn(&Statements) -> &PreparedStatement,
    values: impl SerializeRow,
) {
    let mut statement = statement(&store.cql.st).clone();
    statement.set_timestamp(Some(at));
    store.cql.session.execute_unpaged(&statement, values).await.unwrap();
}

/// So many rows of an import, from one on.
fn rows(key: CampaignKey, id: &str, from: u64, count: u64) -> ImportChunk {
    let row = |row: u64| NewRecipient { external_id: None, ..recipient(row, &format!("+99{}{row:08}", id.len())) };
    chunk_of(key, id, from, (from..from + count).map(row).collect())
}

/// The end of a list and an import that is further, as a batch wrote them that nobody heard of.
async fn list_lands(
    store: &ScyllaStore,
    at: i64,
    key: CampaignKey,
    end: i64,
    (number, id, next_row): (i64, &str, i64),
) {
    let key = key.0.cast_signed();
    lands(store, at, |st| &st.write_list, (end, 0_i64, end, list::NOT_SEALED, key)).await;
    let import = (id, next_row, next_row, 0_i64, 1_i64, 1_i64, key, number);
    lands(store, at, |st| &st.write_import, import).await;
    let offset = if number == 0 { 10_i64 } else { 0 };
    let chunk = (10_i32, vec![9_u8; 32], next_row, 0_i64, key, i32::try_from(number).unwrap(), offset);
    lands(store, at, |st| &st.write_chunk, chunk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_lands_late_is_not_further_than_its_recipients() {
    let keyspace = fresh_keyspace();
    let store = open(&keyspace);
    let key = store.create_campaign(campaign("late"), None).await.unwrap().record.key;
    store.append_recipients(rows(key, "a", 0, 10)).await.unwrap();
    let late = store.cql.stamps.next().unwrap();
    // Within its term somebody waits for it; what is left of it belongs to a term that is over.
    store.close().await.unwrap();
    drop(store);
    let store = open(&keyspace);
    assert_eq!(store.append_recipients(rows(key, "bb", 0, 5)).await.unwrap().stored, 5);
    // Ten rows more of the first, or the first ten of a third: of either nobody heard, and the places are the second's now.
    list_lands(&store, late, key, 20, (0, "a", 20)).await;
    list_lands(&store, late, key, 20, (2, "ccc", 10)).await;
    let stored = store.imports(key).await.unwrap();
    let stored: Vec<_> = stored.iter().map(|import| (import.id.as_str(), import.next_row, import.stored)).collect();
    assert_eq!(stored, [("a", 10, 10), ("bb", 5, 5)]);
    assert_eq!(store.campaign_by_key(key).await.unwrap().next_seq, 15);
    // Whoever goes on is told of what it stored itself, with whichever chunk.
    for part in [rows(key, "a", 10, 4), rows(key, "a", 14, 6), rows(key, "ccc", 0, 3)] {
        assert!(!store.append_recipients(part.clone()).await.unwrap().repeated);
        assert!(store.append_recipients(part).await.unwrap().repeated);
    }
    let sealed = store.seal(key, at(7)).await.unwrap();
    assert_eq!((sealed.recipients, sealed.refused, sealed.next_seq), (28, 0, 28));
    // Nor does the list grow behind the seal.
    list_lands(&store, late, key, 40, (0, "a", 40)).await;
    let after = store.campaign_by_key(key).await.unwrap();
    assert_eq!((after.sealed, after.recipients, after.next_seq), (sealed.sealed, 28, 28));
    assert_eq!(checked_counts(&*store, key).await.tally.recipients(), 28);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_that_lands_late_seals_nothing_that_was_appended_since() {
    let store = open(&fresh_keyspace());
    let key = store.create_campaign(campaign("late"), None).await.unwrap().record.key;
    store.append_recipients(rows(key, "a", 0, 10)).await.unwrap();
    let late = store.cql.stamps.next().unwrap();
    store.append_recipients(rows(key, "a", 10, 10)).await.unwrap();
    let number = key.0.cast_signed();
    lands(&store, late, |st| &st.write_list, (10_i64, 0_i64, 10_i64, 5_i64, number)).await;
    lands(&store, late, |st| &st.write_seal, ("of ten", 1_i64, number)).await;
    lands(&store, late, |st| &st.write_import_duplicates, (1_i64, number, 0_i64)).await;
    let draft = store.campaign_by_key(key).await.unwrap();
    assert_eq!((draft.sealed, draft.recipients, draft.next_seq), (None, 20, 20));
    assert_eq!(store.append_recipients(rows(key, "a", 20, 5)).await.unwrap().next_row, 25);
    let sealed = store.seal(key, at(7)).await.unwrap();
    assert_eq!((sealed.recipients, sealed.refused), (25, 0));
    assert_ne!(sealed.sealed.unwrap().digest, "of ten");
    assert_eq!(store.imports(key).await.unwrap()[0].stored, 25);
    assert_eq!(store.read_window(key, 0, 99).await.unwrap().messages.len(), 25);
}

/// The seal's last batch is known to nobody, and lands: who asks again finds the list sealed, and its recipients to be sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_that_nobody_heard_of_is_found_with_its_counts() {
    let store = open(&fresh_keyspace());
    let key = store.create_campaign(campaign("unheard"), None).await.unwrap().record.key;
    store.append_recipients(rows(key, "a", 0, 10)).await.unwrap();
    let hot = store.cache.hot(key).await.unwrap();
    assert!(!hot.head().sealed);
    let mut counts = Unit::new();
    push_summary(&mut counts, &store.cql, &hot, 0, &Summary::untouched(10));
    store.cql.write_unit(counts).await.unwrap();
    let list: List = list::read(&store.cql, key).await.unwrap();
    let seal = Seal { at: at(7), digest: "of ten".to_owned(), duplicates: [].into() };
    store.cql.write_unit(list::end(&store.cql, key, &list, Some(&seal))).await.unwrap();
    let sealed = store.seal(key, at(8)).await.unwrap().sealed.unwrap();
    assert_eq!((sealed.at, sealed.digest.as_str()), (at(7), "of ten"));
    assert_eq!(store.read_window(key, 0, 99).await.unwrap().messages.len(), 10);
    assert_eq!(store.tally(key).await.unwrap().tally.recipients(), 10);
}

/// As many files as somebody likes: no batch grows with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_imports_is_written_in_batches_that_servers_take() {
    let keyspace = fresh_keyspace();
    let store = open(&keyspace);
    let key = store.create_campaign(campaign("many"), None).await.unwrap().record.key;
    let name = |number: u64| format!("{number:03}{}", "x".repeat(55));
    for number in 0..400 {
        let row = NewRecipient { external_id: None, ..recipient(0, &format!("+999{number:08}")) };
        store.append_recipients(chunk_of(key, &name(number), 0, vec![row])).await.unwrap();
    }
    // In another term all of them are written as they stand.
    store.close().await.unwrap();
    drop(store);
    let store = open(&keyspace);
    let twice = NewRecipient { external_id: None, ..recipient(1, "+99900000007") };
    store.append_recipients(chunk_of(key, &name(399), 1, vec![twice])).await.unwrap();
    let sealed = store.seal(key, at(7)).await.unwrap();
    assert_eq!((sealed.recipients, sealed.refused), (400, 1));
    let imports = store.imports(key).await.unwrap();
    assert_eq!((imports.len(), imports[399].next_row, imports[399].stored, imports[399].refused), (400, 2, 1, 1));
}
