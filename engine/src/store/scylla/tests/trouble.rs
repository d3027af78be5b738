//! What cannot be opened, and why it says so.

use std::time::Duration;

use super::super::{OpenError, apply_schema, check_schema, connect, keyspace_cql};
use super::server::{fresh_keyspace, unmade_keyspace};
use super::*;

async fn refusal(config: &ScyllaConfig) -> OpenError {
    match ScyllaStore::open(config.clone(), Clock::system()).await {
        Ok(_) => panic!("it opened"),
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains('\n'), "one line: {told}");
            error
        }
    }
}

async fn query(config: &ScyllaConfig, cql: &str) {
    let session = connect::connect(config).await.unwrap();
    session.query_unpaged(super::super::schema::patient(cql.to_owned()), ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_has_its_own_answer() {
    let config = unmade_keyspace();
    let keyspace = config.keyspace.clone();
    assert_eq!(refusal(&config).await, OpenError::Keyspace { keyspace: keyspace.clone() });
    query(&config, &keyspace_cql(&keyspace, 1)).await;
    assert_eq!(refusal(&config).await, OpenError::Schema { keyspace: keyspace.clone() });
    assert_eq!(check_schema(&config).await, Err(OpenError::Schema { keyspace: keyspace.clone() }));

    // Two machines at once, and once more.
    let (one, other) = tokio::join!(apply_schema(&config, None), apply_schema(&config, None));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert_eq!(apply_schema(&config, Some(1)).await, Ok(Some(1)), "nothing to do");
    assert_eq!(check_schema(&config).await, Ok(1));

    let mut elsewhere = config.clone();
    elsewhere.local_datacenter = Some("nowhere".to_owned());
    assert!(
        matches!(refusal(&elsewhere).await, OpenError::Datacenter { wanted, found } if wanted == "nowhere" && !found.is_empty())
    );
    let mut nobody = config.clone();
    nobody.contact_points = vec!["127.0.0.1:1".to_owned()];
    assert!(matches!(refusal(&nobody).await, OpenError::Away { .. }));

    query(&config, &format!("DROP TABLE {keyspace}.parked")).await;
    let told = refusal(&config).await.to_string();
    assert!(told.contains("parked") && told.contains("run `sluice schema apply`"), "{told}");
    assert_eq!(apply_schema(&config, None).await, Ok(Some(1)));

    query(
        &config,
        &format!("UPDATE {keyspace}.record SET version = 99 WHERE home = 'installation' AND slot = 'schema'"),
    )
    .await;
    assert_eq!(refusal(&config).await, OpenError::Newer { found: 99, known: 1 });
    assert_eq!(apply_schema(&config, None).await, Err(OpenError::Newer { found: 99, known: 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_it_does_not_open() {
    let mut config = unmade_keyspace();
    config.patience = Duration::from_millis(300);
    query(&config, &keyspace_cql(&config.keyspace, 3)).await;
    // The tables can be made by one node alone; their version is decided by a quorum.
    let refused = apply_schema(&config, None).await.unwrap_err();
    assert!(matches!(refused, OpenError::Quorum { required: 2, alive: 1, .. }), "{refused:?}");
    let refused = refusal(&config).await;
    assert!(matches!(refused, OpenError::Quorum { .. }), "{refused:?}");
    assert!(refused.to_string().contains("bring nodes"), "{refused}");
    let mut one = config.clone();
    one.consistency = super::super::ConsistencyLevel::One;
    let told = refusal(&one).await.to_string();
    assert!(told.contains("more than one copy"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_days_off_is_refused() {
    const TWO_DAYS: i64 = 2 * 86_400_000;
    let config = fresh_keyspace();
    let off = |by: i64| Clock::with_wall(move || crate::domain::time::UnixMillis(Clock::system().wall().0 + by));
    for by in [TWO_DAYS, -TWO_DAYS] {
        let refused = ScyllaStore::open(config.clone(), off(by)).await.map(drop).unwrap_err().to_string();
        let way = if by > 0 { "ahead of" } else { "behind" };
        assert!(refused.contains(&format!("seconds {way} the CQL server's: set it right")), "{refused}");
    }
    // Minutes are told, and change nothing.
    ScyllaStore::open(config.clone(), off(-600_000)).await.unwrap().close().await.unwrap();
    server::drop_keyspace(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_engine_at_a_time() {
    let mut config = fresh_keyspace();
    config.lease = Duration::from_secs(1);
    let first = open(&config);
    // Whoever watches for longer sees it renew, however slow this machine is.
    let watching = ScyllaConfig { lease: Duration::from_secs(8), ..config.clone() };
    assert!(matches!(refusal(&watching).await, OpenError::InUse { .. }), "it lives and renews");
    // Gone without a word: its lease ends.
    drop(first);
    let second = open(&config);
    second.close().await.unwrap();
    drop(second);
    // Whoever waited for this lease would not be there today.
    config.lease = Duration::from_secs(86_400);
    let third = tokio::time::timeout(Duration::from_secs(60), ScyllaStore::open(config, Clock::system())).await;
    let third = third.expect("it was let go: nobody waits for a lease").expect("it opens");
    assert!(third.health().writable);
}
