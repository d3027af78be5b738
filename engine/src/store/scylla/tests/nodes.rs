//! Several nodes on one keyspace: terms, pools, late writes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::super::row::{Facts, Register};
use super::super::{NodeConfig, OpenError, campaigns};
use super::server::fresh_keyspace;
use super::*;
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, LineKey, PoolId, TenantId};
use crate::domain::message::{Event, Reported};
use crate::domain::stage::{End, Shown};
use crate::domain::time::{Mono, UnixMillis};
use crate::nodes::{HandOver, NodeSeen, Ownership, PoolRef, Taken, Told, Why};
use crate::store::conformance::*;
use crate::store::{EntryResult, ParkedEvent, StoreError};

/// A node's store with clocks of its own.
pub(super) struct Node {
    pub(super) store: Arc<ScyllaStore>,
    pub(super) ownership: Arc<dyn Ownership>,
    /// Added to the clock of its lease, nanoseconds.
    pub(super) slept: Arc<AtomicU64>,
    /// By how much its wall clock is ahead, milliseconds.
    pub(super) ahead: Arc<AtomicI64>,
}

fn clock(slept: &Arc<AtomicU64>, ahead: &Arc<AtomicI64>) -> Clock {
    let (system, slept, ahead) = (Clock::system(), Arc::clone(slept), Arc::clone(ahead));
    let wall = system.clone();
    let clock = Clock::with_wall(move || UnixMillis(wall.wall().0 + ahead.load(Ordering::SeqCst)));
    clock.with_lease(move || Mono(system.mono().0 + slept.load(Ordering::SeqCst)))
}

pub(super) fn node(config: &ScyllaConfig, name: &str, wall_ahead: i64) -> Node {
    let mut config = config.clone();
    let (name, address) = (name.to_owned(), format!("{name}:7403"));
    config.node = Some(NodeConfig { name, address, version: "1".to_owned(), protocol: 1 });
    let (slept, ahead) = (Arc::default(), Arc::new(AtomicI64::new(wall_ahead)));
    let clock = clock(&slept, &ahead);
    let store = server::block(async { ScyllaStore::open(config, clock).await.expect("it opens") });
    Node { ownership: store.ownership().expect("it shares"), store, slept, ahead }
}

pub(super) fn pool() -> PoolRef {
    PoolRef { tenant: TenantId::new("acme").unwrap(), pool: PoolId::new("main").unwrap() }
}

impl Node {
    pub(super) async fn take(&self) -> Option<Vec<Taken>> {
        let seen = self.ownership.look().await.unwrap();
        self.ownership.take(&seen, &[pool()]).await.unwrap()
    }

    pub(super) async fn row(&self, name: &str) -> NodeSeen {
        self.ownership.look().await.unwrap().nodes[name].clone()
    }

    /// It renews no more, and its lease is over by its own clock, as if the machine had slept.
    pub(super) fn sleep(&self) {
        self.store.cut_off(true);
        self.slept.fetch_add(3_600_000_000_000, Ordering::SeqCst);
    }
}

impl Node {
    /// A row of a batch of this node lands, dated when it was made, whatever has become of its lease since.
    async fn lands_late(&self, key: CampaignKey, at: i64, seq: i32, register: Register, facts: Facts) {
        let cql = &self.store.cql;
        let mut statement = cql.st.write_message.clone();
        statement.set_timestamp(Some(at));
        let values = (register, facts, "acme", key.0.cast_signed(), 0_i32, seq);
        cql.session.execute_unpaged(&statement, values).await.unwrap();
    }
}

/// The pool was taken, and nothing came along with it.
pub(super) fn expect_taken(taken: &[Taken]) {
    assert!(matches!(taken, [Taken { pool: one, handed: None, .. }] if *one == pool()), "{taken:?}");
}

/// A campaign with its recipients at a node that has its pool.
pub(super) async fn campaign_at(node: &Node, recipients: u32) -> Campaign {
    node.store.create_line(line("line-1", "100"), None).await.unwrap();
    expect_taken(&node.take().await.unwrap());
    running(&*node.store, "shared", recipients).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_of_one_process_and_a_keyspace_alone_is_not_shared() {
    let mut config = fresh_keyspace();
    config.lease = Duration::from_secs(2);
    let a = node(&config, "a", 0);
    let mut twin = config.clone();
    twin.node =
        Some(NodeConfig { name: "a".to_owned(), address: "x:1".to_owned(), version: "1".to_owned(), protocol: 1 });
    let refused = ScyllaStore::open(twin.clone(), Clock::system()).await.err().unwrap();
    assert!(refused.to_string().contains("[nodes] name"), "{refused}");
    let alone = ScyllaStore::open(config.clone(), Clock::system()).await.err().unwrap();
    assert!(alone.to_string().contains("nodes that share it"), "{alone}");
    let epoch = a.ownership.term().0;
    a.store.close().await.unwrap();
    // It left: nobody waits for a lease.
    let again = node(&config, "a", 0);
    assert!(again.ownership.term().0 > epoch);
    again.store.close().await.unwrap();
    let alone = ScyllaStore::open(config.clone(), Clock::system()).await.unwrap();
    let refused = ScyllaStore::open(twin, Clock::system()).await.err().unwrap();
    assert!(refused.to_string().contains("held by another engine"), "{refused}");
    alone.close().await.unwrap();
}

/// Of versions that would not understand each other the later one does not start; a node that died or left keeps nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_two_protocols_away_is_not_started() {
    let mut config = fresh_keyspace();
    config.lease = Duration::from_secs(2);
    let open = |name: &str, protocol| {
        let (name, address, version) = (name.to_owned(), format!("{name}:7403"), "1".to_owned());
        let node = Some(NodeConfig { name, address, version, protocol });
        ScyllaStore::open(ScyllaConfig { node, ..config.clone() }, Clock::system())
    };
    let a = node(&config, "a", 0);
    let refused = open("b", 3).await.err().unwrap();
    assert!(matches!(&refused, OpenError::NodesApart { name, theirs: 1, own: 3, .. } if name == "a"), "{refused}");
    assert!(!a.ownership.look().await.unwrap().nodes.contains_key("b"), "it has not joined");
    let next = open("c", 2).await.unwrap();
    assert_eq!((a.row("a").await.protocol, a.row("c").await.protocol), (1, 2));
    // As if it was killed: its row stands there, and still.
    a.sleep();
    open("b", 3).await.unwrap().close().await.unwrap();
    next.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_decide_at_once_one_succeeds() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let (seen_a, seen_b) = (a.ownership.look().await.unwrap(), b.ownership.look().await.unwrap());
    let (pools_a, pools_b) = ([pool()], [pool()]);
    let (one, other) = tokio::join!(a.ownership.take(&seen_a, &pools_a), b.ownership.take(&seen_b, &pools_b));
    let winners = [one.unwrap(), other.unwrap()];
    assert_eq!(winners.iter().flatten().count(), 1, "{winners:?}");
    let seen = a.ownership.look().await.unwrap();
    let (owner, _) = seen.owner_of(&pool()).unwrap();
    assert_eq!(owner == "a", winners[0].is_some());
    assert_eq!(seen.pools[&pool()].why, Why::First);
}

/// What is not its own a node neither writes nor keeps in memory; what it reads is as fresh as the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_writes() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let campaign = campaign_at(&a, 20).await;
    let key = campaign.key;
    for round in 0..2 {
        let sent = a.store.commit(vec![entry(key, round, intent(1))]).await.unwrap();
        assert_eq!(sent.results, [EntryResult::Applied]);
        let refused = b.store.commit(vec![entry(key, 9, intent(1))]).await.unwrap();
        assert_eq!(refused.results, [EntryResult::Elsewhere]);
        let open = b.store.tally(key).await.unwrap().tally.open;
        assert_eq!(open, u64::from(round) + 1, "read anew");
    }
    let ended = b.store.end_campaign(campaign, End::Cancelled).await;
    assert!(matches!(ended, Err(StoreError::Elsewhere(_))), "{ended:?}");
    assert_eq!(a.store.tally(key).await.unwrap().tally.open, 2);
}

/// The owner's machine sleeps. Another takes its pool; what the sleeper writes when it wakes loses, though its clock is ten minutes
/// ahead, and what it could still send stands as an intent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_loses_whatever_the_clocks_say() {
    let mut config = fresh_keyspace();
    config.patience = Duration::from_millis(500);
    let (a, b) = (node(&config, "a", 600_000), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    a.store.commit((0..5).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    let late = a.store.cql.stamps.next().unwrap();
    a.sleep();
    assert!(!a.ownership.term().1.holds(), "nothing passes its gates");
    let refused = a.store.commit(vec![entry(key, 6, intent(1))]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Whoever compares with an old row ends nothing.
    let old = NodeSeen { renewal: 0, ..b.row("a").await };
    assert!(!b.ownership.depose("a", &old).await.unwrap());
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    assert!(b.row("a").await.left);
    expect_taken(&b.take().await.unwrap());
    assert!(b.store.cql.stamps.next().unwrap() > late, "above all that was reserved");
    let open = b.store.open_attempts(key, 0, 100).await.unwrap();
    assert_eq!(open.len(), 5, "found as in flight, never as pending");
    b.store.commit((0..5).map(|seq| entry(key, seq, doubt(1, 9_000))).collect()).await.unwrap();
    // The sleeper's own batch lands now, by its own timestamp.
    a.lands_late(key, late, 0, (1, 3, 2, 0, 0, None, None), Facts::new()).await;
    assert_eq!(checked_counts(&*b.store, key).await.tally.count(Shown::InDoubt), 5);
    a.store.cut_off(false);
    // It wakes, finds that its term is over, and begins anew with nothing.
    let lost = async {
        while !a.ownership.is_lost() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), lost).await.expect("its next renewal is refused");
    let (epoch, before) = a.ownership.term();
    a.ownership.rejoin().await.unwrap();
    let (again, lease) = a.ownership.term();
    assert!(again > epoch && lease.holds() && !before.holds(), "another term is another lease");
    let refused = a.store.commit(vec![entry(key, 7, intent(1))]).await.unwrap();
    assert_eq!(refused.results, [EntryResult::Elsewhere]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_given_with_its_ages_and_what_is_in_flight() {
    let config = fresh_keyspace();
    // The giver's clock is far ahead: the taker begins above its last timestamp all the same.
    let (a, b) = (node(&config, "a", 600_000), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    a.store.commit((0..3).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    let seen = a.ownership.look().await.unwrap();
    assert!(a.ownership.announce(&seen, &[pool()], "b").await.unwrap());
    assert_eq!(b.ownership.look().await.unwrap().pools[&pool()].to.as_deref(), Some("b"));
    let mut along = HandOver::default();
    along.add(
        LineKey(1),
        &[(Duration::from_millis(3), 1), (Duration::from_millis(8), 2), (Duration::from_millis(999), 1)],
    );
    a.ownership.look().await.unwrap();
    a.ownership.give(vec![(pool(), along)], "b").await.unwrap();
    let late = a.store.cql.stamps.last();
    let taken = b.take().await.unwrap();
    let (from, along) = taken[0].handed.clone().unwrap();
    assert_eq!(from, "a");
    let ms = Duration::from_millis;
    assert_eq!(along.sends(LineKey(1)), Some(vec![(ms(10), 3), (ms(1_000), 1)]), "never rounded down");
    assert_eq!(along.passed.iter().map(|passed| passed.seq).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(b.store.cql.stamps.next().unwrap() > late);
    assert_eq!(b.ownership.look().await.unwrap().pools[&pool()].why, Why::HandedOver);
    // The giver still hears one answer, and tells it; everything else is the taker's.
    let accepted = Event::Accepted { attempt: 1, at: at(5), provider_id: "wamid.1".into() };
    let told = a.store.commit(vec![
        entry(key, 1, accepted.clone()),
        entry(key, 2, report(1, Reported::Sent)),
        entry(key, 4, intent(1)),
    ]);
    assert_eq!(told.await.unwrap().results, [EntryResult::Applied, EntryResult::Elsewhere, EntryResult::Elsewhere]);
    let heard = b.ownership.told(&pool()).await.unwrap();
    assert_eq!(heard, [Told { key: message(key, 1), event: accepted.clone() }]);
    b.store.commit(vec![entry(key, 1, accepted)]).await.unwrap();
    let counts = checked_counts(&*b.store, key).await.tally;
    assert_eq!((counts.accepted, counts.open), (1, 2));
    // And back: nothing of the first time is in the way.
    for (seq, heard_of) in [(4, true), (5, false)] {
        b.ownership.give(vec![(pool(), HandOver::default())], "a").await.unwrap();
        if heard_of {
            assert_eq!(a.take().await.unwrap().len(), 1);
        } else {
            // The decision that makes it this node's again is one whose outcome it finds in the ledger only.
            a.ownership.recall(&pool()).await;
        }
        assert_eq!(a.store.commit(vec![entry(key, seq, intent(1))]).await.unwrap().results, [EntryResult::Applied]);
        if heard_of {
            a.ownership.give(vec![(pool(), HandOver::default())], "b").await.unwrap();
            assert_eq!(b.take().await.unwrap().len(), 1);
        }
    }
    assert_eq!(checked_counts(&*a.store, key).await.tally.open, 4);
}

/// What it looked at before says nothing of what the owner has sent since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looked_before_a_pool_was_its_own_looks_again() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    a.store.commit(vec![entry(key, 0, intent(1))]).await.unwrap();
    assert_eq!(b.store.open_attempts(key, 0, 100).await.unwrap().len(), 1);
    assert_eq!(b.store.read_window(key, 0, 1).await.unwrap().messages[0].key, message(key, 1));
    a.store.commit((1..5).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    assert_eq!(b.store.open_attempts(key, 0, 100).await.unwrap().len(), 5, "another's moves without a word");
    assert!(b.store.cache.place((key, 0)).segment.lock().await.is_none(), "it would have to be read again anyway");
    a.ownership.give(vec![(pool(), HandOver::default())], "b").await.unwrap();
    assert_eq!(b.take().await.unwrap().len(), 1);
    assert_eq!(b.store.open_attempts(key, 0, 100).await.unwrap().len(), 5);
    assert_eq!(b.store.read_window(key, 0, 1).await.unwrap().messages[0].key, message(key, 5));
    let again = b.store.commit((0..5).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    assert!(again.results.iter().all(|result| *result != EntryResult::Applied), "{:?}", again.results);
    checked_counts(&*b.store, key).await;
}

/// The clock of the node that parked an event is ten minutes ahead, or behind: it waits as long as it should at the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_with_another_time_parked_is_not_given_up_for_that() {
    for ahead in [600_000, -600_000] {
        let config = fresh_keyspace();
        let (a, b) = (node(&config, "a", ahead), node(&config, "b", 0));
        let now = |node: &Node| node.store.cql.clock.wall();
        assert_eq!(b.store.parked_counts(now(&b)).await.unwrap().parked, 0);
        let at = now(&a);
        let (look_at, deadline) = (at.after(Duration::from_secs(2)), at.after(Duration::from_secs(60)));
        a.store
            .park(vec![ParkedEvent { at, look_at, deadline, ..events::parked("w1", Reported::Sent, 0) }])
            .await
            .unwrap();
        let event = loop {
            // As seen two seconds later.
            let until = now(&b).after(Duration::from_secs(2));
            if let Some(event) = b.store.parked(until, 9).await.unwrap().pop() {
                break event;
            }
        };
        let left = event.deadline.since(now(&b));
        assert!((Duration::from_secs(30)..=Duration::from_secs(60)).contains(&left), "{ahead}: {left:?}");
    }
}

/// A batch of the former owner lands after the take-over: an answer that it had, an intent that it never sent, and one for a message
/// that the new owner has sent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lands_late_is_counted_as_what_it_is() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    a.store.commit((0..5).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    let (late, tag) = (a.store.cql.stamps.next().unwrap(), a.store.cql.stamps.tag());
    a.sleep();
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    b.take().await.unwrap();
    b.store.commit((0..5).map(|seq| entry(key, seq, doubt(1, 9_000))).collect()).await.unwrap();
    b.store.commit(vec![entry(key, 10, intent(1))]).await.unwrap();
    assert_eq!(b.store.mend(key).await.unwrap(), 0, "nothing has landed");
    let when = |ms: i64| (Some(ms), None, None);
    let intent_of_a = || Facts::from([(100, (Some(5), Some(1), Some(tag.to_string())))]);
    let accepted = Facts::from([(102, when(7)), (104, (None, None, Some("wamid.1".to_owned())))]);
    a.lands_late(key, late, 1, (1, 3, 2, 0, 2, None, None), accepted).await;
    a.lands_late(key, late, 8, (1, 2, 2, 0, 0, None, None), intent_of_a()).await;
    a.lands_late(key, late, 10, (1, 2, 2, 0, 0, None, None), intent_of_a()).await;
    let (kept, counted) = b.store.recount(key).await.unwrap();
    assert_ne!(kept.tally, counted.tally, "the sampler finds it");
    assert_eq!(b.store.mend(key).await.unwrap(), 2, "the third lost against what the new owner wrote");
    let counts = checked_counts(&*b.store, key).await.tally;
    assert_eq!((counts.accepted, counts.open, counts.count(Shown::InDoubt)), (1, 1, 4), "{counts:?}");
    assert_eq!(b.store.mend(key).await.unwrap(), 0, "once");
    let found = b.store.message(message(key, 1)).await.unwrap();
    assert_eq!((found.shown, found.state.newest.unwrap().provider_id.as_deref()), (Shown::Queued, Some("wamid.1")));
    // The intent was taken back: the message leaves with the next.
    let again = b.store.commit(vec![entry(key, 8, intent(1)), entry(key, 8, intent(2))]).await.unwrap();
    assert_eq!(again.results, [EntryResult::Refused, EntryResult::Applied]);
    assert_eq!(checked_counts(&*b.store, key).await.tally.open, 2);
}

/// The same, where the new owner had not read the segment's rows yet: it cannot tell whether the intent was acknowledged, and sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_that_may_have_been_sent_is_never_taken_back() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    let (late, tag) = (a.store.cql.stamps.next().unwrap(), a.store.cql.stamps.tag());
    a.sleep();
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    b.take().await.unwrap();
    assert_eq!(b.store.open_attempts(key, 0, 100).await.unwrap(), [], "by the counts");
    let intent_of_a = || Facts::from([(100, (Some(5), Some(1), Some(tag.to_string())))]);
    a.lands_late(key, late, 3, (1, 2, 2, 0, 0, None, None), intent_of_a()).await;
    let sent = b.store.commit(vec![entry(key, 0, intent(1)), entry(key, 3, intent(2))]).await.unwrap();
    assert_eq!(sent.results, [EntryResult::Applied, EntryResult::Refused]);
    assert_eq!(
        b.store.open_attempts(key, 0, 100).await.unwrap().len(),
        2,
        "whoever completes the campaign calls it in doubt"
    );
    b.store.commit(vec![entry(key, 0, doubt(1, 9_000)), entry(key, 3, doubt(1, 9_000))]).await.unwrap();
    // By now the rows are known: what shows up was not there.
    a.lands_late(key, late, 4, (1, 2, 2, 0, 0, None, None), intent_of_a()).await;
    assert_eq!(b.store.mend(key).await.unwrap(), 1);
    let counts = checked_counts(&*b.store, key).await.tally;
    assert_eq!((counts.open, counts.count(Shown::InDoubt), counts.count(Shown::Pending)), (0, 2, 18), "{counts:?}");
}

/// An intent of the former owner lands behind what the new one has written about the message meanwhile: only the fact of it appears, above
/// the newest attempt that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_that_lost_its_register_is_none() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    let again = Event::DoubtExpired { at: at(9_000), resend_up_to: Some(3) };
    for seq in 0..2 {
        all_apply(&*a.store, key, vec![(seq, intent(1)), (seq, doubt(1, 9_000)), (seq, again.clone())]).await;
    }
    let (late, tag) = (a.store.cql.stamps.next().unwrap(), a.store.cql.stamps.tag());
    a.sleep();
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    b.take().await.unwrap();
    // The echo of the first attempt: nothing needs to be sent any more.
    all_apply(&*b.store, key, vec![(0, report(1, Reported::Sent)), (1, report(1, Reported::Failed))]).await;
    for seq in 0..2 {
        let second = Facts::from([(200, (Some(5), Some(1), Some(tag.to_string())))]);
        a.lands_late(key, late, seq, (2, 2, 2, 1, 0, None, None), second).await;
    }
    let counts = checked_counts(&*b.store, key).await.tally;
    assert_eq!((counts.open, counts.count(Shown::Sent), counts.count(Shown::Failed)), (0, 1, 1), "{counts:?}");
    assert_eq!(b.store.mend(key).await.unwrap(), 0, "it is nothing");
    // Whoever reads the rows anew can work on them.
    b.store.cache.forget_all();
    all_apply(&*b.store, key, vec![(0, report(1, Reported::Read)), (5, intent(1))]).await;
    assert_eq!(b.store.message(message(key, 0)).await.unwrap().state.newest.map(|newest| newest.number), Some(1));
    checked_counts(&*b.store, key).await;
}

/// What a former owner decided in the moment in which it lost the pool stands: whoever reads it counts by it, and makes no intent behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_of_the_former_owner_is_followed_by_whoever_reads_it() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let campaign = campaign_at(&a, 20).await;
    let key = campaign.key;
    a.sleep();
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    b.take().await.unwrap();
    all_apply(&*b.store, key, vec![(0, intent(1))]).await;
    campaigns::update(&a.store.cql, &campaign, Some(End::Cancelled)).await.unwrap();
    assert_eq!(b.store.campaign_by_key(key).await.unwrap().end, Some(End::Cancelled));
    let refused = b.store.commit(vec![entry(key, 1, intent(1))]).await.unwrap();
    assert_eq!(refused.results, [EntryResult::Refused]);
    let tally = checked_counts(&*b.store, key).await.tally;
    assert_eq!((tally.open, tally.count(Shown::Cancelled)), (1, 19), "{tally:?}");
}

/// The server stands still while a pool is taken: nobody knows the outcome, and the ledger says it afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_nobody_heard_of_is_found_in_the_ledger() {
    let mut config = fresh_keyspace();
    (config.patience, config.request_timeout) = (Duration::from_millis(400), Duration::from_millis(200));
    config.lease = Duration::from_secs(30);
    let a = node(&config, "a", 0);
    a.store.create_line(line("line-1", "100"), None).await.unwrap();
    let seen = a.ownership.look().await.unwrap();
    let Some(frozen) = server::freeze() else {
        eprintln!("this server is not ours to freeze (SLUICE_CQL_NODES): not tried");
        return;
    };
    let told = a.ownership.take(&seen, &[pool()]).await.unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "{told}");
    drop(frozen);
    let taken = async {
        loop {
            let Ok(seen) = a.ownership.look().await else { continue };
            match seen.owner_of(&pool()) {
                Some((owner, _)) => {
                    assert_eq!(owner, "a");
                    return a.ownership.recall(&pool()).await;
                }
                None => drop(a.ownership.take(&seen, &[pool()]).await),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken).await.expect("it answers again");
    let key = running(&*a.store, "asked", 5).await.key;
    assert_eq!(a.store.commit(vec![entry(key, 0, intent(1))]).await.unwrap().results, [EntryResult::Applied]);
}
