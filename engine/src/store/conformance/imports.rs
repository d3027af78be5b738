//! Imports and the seal.

use super::*;
use crate::domain::campaign::Campaign;
use crate::domain::stage::End;
use crate::store::{ChunkStored, ImportChunk, ImportRecord, ImportRules, NewRecipient, Page, RefusedRow, StoreError};

fn refused(row: u64) -> RefusedRow {
    RefusedRow { import: import("list"), row, field: "phone".into(), reason: "not a number".into(), duplicate_of: None }
}

pub(crate) async fn chunks_are_appended_in_order_and_safe_to_repeat(factory: &dyn Factory) {
    let store = factory.open();
    let key = store.create_campaign(campaign("import"), None).await.unwrap().record.key;
    let mut first = chunk(key, 0, 9);
    first.recipients.remove(4);
    first.refused = vec![refused(4)];
    let stored = store.append_recipients(first.clone()).await.unwrap();
    assert_eq!(stored, ChunkStored { next_row: 9, repeated: false, stored: 8, refused: 1 });
    let second = chunk(key, 9, 11);
    assert_eq!(store.append_recipients(second.clone()).await.unwrap().next_row, 20);

    let repeated = store.append_recipients(first.clone()).await.unwrap();
    assert_eq!(repeated, ChunkStored { repeated: true, ..stored }, "as the first time");
    let mut changed = first;
    changed.digest[31] ^= 1;
    let told = store.append_recipients(changed).await.unwrap_err().to_string();
    assert!(told.contains("other content"), "{told}");
    let told = store.append_recipients(chunk(key, 21, 5)).await.unwrap_err().to_string();
    assert!(told.contains("row 20"), "the gap names the row that is expected: {told}");
    let told = store.append_recipients(chunk(key, 10, 5)).await.unwrap_err().to_string();
    assert!(told.contains("go on at row 20"), "{told}");

    let other = chunk_of(key, "second", 0, vec![recipient(0, "+15550100")]);
    assert_eq!(store.append_recipients(other).await.unwrap().stored, 1);
    let record = ImportRecord {
        id: import("list"),
        next_row: 20,
        stored: 19,
        refused: 1,
        created_at: at(2_000),
        updated_at: at(2_000),
    };
    assert_eq!(store.import(key, &import("list")).await.unwrap(), record);
    let imports = store.imports(key).await.unwrap();
    assert_eq!(imports.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["list", "second"]);
    assert_eq!(store.import(key, &import("none")).await.unwrap_err(), StoreError::NotFound("import"));
    let campaign = store.campaign_by_key(key).await.unwrap();
    assert_eq!((campaign.recipients, campaign.refused, campaign.next_seq), (20, 1, 20));
    assert_eq!(checked_counts(&*store, key).await.tally.recipients(), 20);
}

pub(crate) async fn an_import_goes_into_a_draft_only(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "sealed", 5).await.key;
    let told = store.append_recipients(chunk(key, 5, 5)).await.unwrap_err();
    assert!(matches!(&told, StoreError::Conflict(text) if text.contains("clone")), "{told}");
    let draft = store.create_campaign(campaign("ended"), None).await.unwrap().record;
    let mut ended = draft.clone();
    ended.state = crate::domain::campaign::CampaignState::Cancelled;
    store.end_campaign(ended, End::Cancelled).await.unwrap();
    assert!(matches!(store.append_recipients(chunk(draft.key, 0, 5)).await, Err(StoreError::Conflict(_))));
    assert!(matches!(store.seal(draft.key, at(1)).await, Err(StoreError::Conflict(_))));
    let nowhere = chunk(crate::domain::ids::CampaignKey(99), 0, 5);
    assert_eq!(store.append_recipients(nowhere).await.unwrap_err(), StoreError::NotFound("campaign"));
}

pub(crate) async fn rows_checked_against_old_rules_are_refused(factory: &dyn Factory) {
    let store = factory.open();
    let seen = store.create_campaign(campaign("rules"), None).await.unwrap().record;
    let of = |key, record: &Campaign| ImportChunk { rules: ImportRules::of(record), ..chunk(key, 0, 5) };
    let old = of(seen.key, &seen);
    let changes: [fn(&mut Campaign); 4] = [
        |campaign| campaign.template_version = 2,
        |campaign| campaign.template = crate::domain::ids::TemplateId::new("other").unwrap(),
        |campaign| campaign.pool = crate::domain::ids::PoolId::new("side").unwrap(),
        |campaign| campaign.settings.region = Some("US".to_owned()),
    ];
    let mut now = seen.clone();
    for change in changes {
        change(&mut now);
        now = store.update_campaign(now).await.unwrap();
        let told = store.append_recipients(old.clone()).await.unwrap_err();
        assert!(matches!(&told, StoreError::Conflict(text) if text.contains("open the import again")), "{told}");
    }
    store.append_recipients(of(now.key, &now)).await.unwrap();
    // Nobody changes the rules behind rows that came meanwhile; what is no rule may change.
    let mut late = now.clone();
    late.template_version = 3;
    assert!(matches!(store.update_campaign(late).await, Err(StoreError::Version { .. })));
    let mut renamed = now.clone();
    renamed.name = "renamed".to_owned();
    let renamed = store.update_campaign(renamed).await.unwrap();
    assert_eq!((renamed.next_seq, renamed.template_version), (5, 2));
    assert!(store.append_recipients(of(now.key, &now)).await.unwrap().repeated);
}

pub(crate) async fn refused_rows_are_listed_in_pages(factory: &dyn Factory) {
    let store = factory.open();
    let key = store.create_campaign(campaign("refused"), None).await.unwrap().record.key;
    let mut bad = chunk_of(key, "list", 0, Vec::new());
    (bad.rows, bad.refused) = (5, (0..5).map(refused).collect());
    store.append_recipients(bad).await.unwrap();
    let first = store.refused_rows(key, Page { size: 3, after: None }).await.unwrap();
    let rest = store.refused_rows(key, Page { size: 3, after: first.next.clone() }).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), (0..5).map(refused).collect::<Vec<_>>());
    assert_eq!(rest.next, None);
}

pub(crate) async fn duplicates_are_refused_at_the_seal_with_both_rows_named(factory: &dyn Factory) {
    let store = factory.open();
    let key = store.create_campaign(campaign("twice"), None).await.unwrap().record.key;
    let with = |row: u64, address: &str, id: Option<&str>| NewRecipient {
        external_id: id.map(Box::from),
        ..recipient(row, address)
    };
    let first =
        vec![with(0, "+9991", Some("a")), with(1, "+9992", None), with(2, "+9991", Some("x")), with(3, "+9993", None)];
    let second = vec![
        with(0, "+9994", Some("x")),
        with(1, "+9992", Some("b")),
        with(2, "+9995", Some("a")),
        with(3, "+9991", None),
    ];
    store.append_recipients(chunk_of(key, "one", 0, first)).await.unwrap();
    store.append_recipients(chunk_of(key, "two", 0, second)).await.unwrap();
    let sealed = store.seal(key, at(7)).await.unwrap();
    assert_eq!((sealed.recipients, sealed.refused, sealed.next_seq), (4, 4, 8));
    assert_eq!(sealed.sealed.as_ref().map(|s| (s.recipients, s.at)), Some((4, at(7))));

    let rows = store.refused_rows(key, Page { size: 9, after: None }).await.unwrap().items;
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            let (first_import, first_row) = row.duplicate_of.as_ref().unwrap();
            (row.import.as_str(), row.row, row.field.as_ref(), first_import.as_str(), *first_row)
        })
        .collect();
    // "x" of the refused row 2 of "one" is free again, so that row 0 of "two" stays.
    let expected = [
        ("one", 2, "address", "one", 0),
        ("two", 1, "address", "one", 1),
        ("two", 3, "address", "one", 0),
        ("two", 2, "external_id", "one", 0),
    ];
    assert_eq!(seen, expected);
    assert!(rows[1].reason.contains("row 1 of import one"), "{}", rows[1].reason);
    let counts: Vec<_> = store.imports(key).await.unwrap().iter().map(|i| (i.stored, i.refused, i.next_row)).collect();
    assert_eq!(counts, [(3, 1, 4), (1, 3, 4)]);

    assert_eq!(checked_counts(&*store, key).await.tally.recipients(), 4);
    let window = store.read_window(key, 0, 9).await.unwrap();
    assert_eq!(
        window.messages.iter().map(|m| m.key.seq).collect::<Vec<_>>(),
        [0, 1, 3, 4],
        "places of the refused stay empty"
    );
    let second = store.message(message(key, 4)).await.unwrap();
    assert_eq!((second.origin, second.address.as_ref()), ((import("two"), 0), "+9994"), "the row, not the place");
    let gap = store.commit(vec![entry(key, 2, intent(1)), entry(key, 3, intent(1))]).await.unwrap();
    assert_eq!(gap.results, [crate::store::EntryResult::Unknown, crate::store::EntryResult::Applied]);
    assert_eq!(store.message(message(key, 2)).await.unwrap_err(), StoreError::NotFound("message"));
}

pub(crate) async fn sealing_again_gives_the_same_and_the_digest_is_of_the_list(factory: &dyn Factory) {
    let store = factory.open();
    let digest_of = async |id: &str, change: Option<usize>, repeats: bool| {
        let key = store.create_campaign(campaign(id), None).await.unwrap().record.key;
        let mut list = chunk(key, 0, 50);
        if let Some(row) = change {
            list.recipients[row].params = "[\"other\"]".into();
        }
        store.append_recipients(list).await.unwrap();
        if repeats {
            store.append_recipients(chunk_of(key, "second", 0, vec![recipient(0, "+999000000007")])).await.unwrap();
        }
        let first = store.seal(key, at(1)).await.unwrap();
        assert_eq!(store.seal(key, at(2)).await.unwrap(), first);
        let sealed = first.sealed.unwrap();
        assert_eq!((sealed.digest.len(), sealed.recipients), (64, 50));
        sealed.digest
    };
    let plain = digest_of("one", None, false).await;
    assert_eq!(plain, digest_of("two", None, false).await, "the same list, the same digest");
    assert_eq!(plain, digest_of("three", None, true).await, "what is refused is not part of the list");
    assert_ne!(plain, digest_of("four", Some(20), false).await);
}

pub(crate) async fn an_empty_list_cannot_be_sealed(factory: &dyn Factory) {
    let store = factory.open();
    let key = store.create_campaign(campaign("empty"), None).await.unwrap().record.key;
    assert!(matches!(store.seal(key, at(1)).await, Err(StoreError::Conflict(_))));
    let stored = store.append_recipients(chunk(key, 0, 3)).await;
    assert!(stored.is_ok(), "a failed seal leaves the draft open: {stored:?}");
    store.seal(key, at(1)).await.unwrap();
    let none = store.seal(crate::domain::ids::CampaignKey(99), at(1)).await;
    assert_eq!(none.unwrap_err(), StoreError::NotFound("campaign"));
}
