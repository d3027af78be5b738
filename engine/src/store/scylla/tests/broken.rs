//! Does the suite find what goes wrong with the batches themselves? Copies of this store whose batches are changed on their way to the
//! server, each in one way: every one that breaks a promise must be caught by the promise named beside it, and repetitions must break none.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::super::row::{self, kind};
use super::batch::{self, Batch, Part};
use super::line::{Fate, Line};
use super::server::{self, fresh_keyspace};
use super::*;
use crate::domain::message::Phase;
use crate::store::conformance::{Promise, all_promises};

/// What is wrong with the batches of messages and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Messages are written without the counts.
    DropsTheTally,
    /// The counts are written without the messages.
    DropsTheMessages,
    /// Of two batches of a segment the later is written first, each at its own time. The first was called done before.
    SwapsTwo,
    /// Of each three messages that begin an attempt one is not written.
    ForgetsIntents,
    /// Of an attempt only its intent is written.
    ForgetsFacts,
    /// A batch of a segment is dated before the one before it.
    DatesBelow,
    /// Nothing: each batch, whatever it is about, lands twice, and once more behind the next.
    Repeats,
}

/// Which promise catches which copy.
const CAUGHT: [(Wrong, &str); 6] = [
    (Wrong::DropsTheTally, "a_message_goes_its_way_and_the_tally_with_it"),
    (Wrong::DropsTheMessages, "a_message_goes_its_way_and_the_tally_with_it"),
    (Wrong::SwapsTwo, "a_message_goes_its_way_and_the_tally_with_it"),
    (Wrong::ForgetsIntents, "open_attempts_are_found_after_a_restart"),
    (Wrong::ForgetsFacts, "facts_of_every_attempt_are_kept"),
    (Wrong::DatesBelow, "a_message_goes_its_way_and_the_tally_with_it"),
];

/// What repetitions must not break: what comes to chance's mind, with restarts and ends in between; lists and their seals; removals.
const KEPT: [&str; 3] = [
    "random_entries_end_as_in_a_plain_model",
    "duplicates_are_refused_at_the_seal_with_both_rows_named",
    "a_deleted_campaign_leaves_nothing_and_its_key_is_not_used_again",
];

/// The numbers of the statements that move messages and counts.
#[derive(Debug, Clone)]
struct Statements {
    message: Vec<u8>,
    segment: Vec<u8>,
}

/// A segment's partition as it is bound: tenant, campaign, segment.
type Partition = Vec<Option<Vec<u8>>>;

/// Somebody on the line who spoils batches.
#[derive(Debug, Default)]
struct Spoiler {
    /// Batches that did not arrive as they were sent, or not once.
    spoilt: u64,
    intents: u64,
    held: HashMap<Partition, Batch>,
    dates: HashMap<Partition, i64>,
    last: Option<Batch>,
}

impl Spoiler {
    fn fate(&mut self, wrong: Wrong, statements: &Statements, batch: Batch) -> Fate {
        if wrong == Wrong::Repeats {
            self.spoilt += 1;
            let before = self.last.replace(batch.clone());
            return Fate::Sent([batch.clone(), batch].into_iter().chain(before).collect());
        }
        let is_message = |part: &Part| part.statement == statements.message;
        let segment = batch.parts.iter().find(|part| part.statement == statements.segment);
        let partition = segment.and_then(|part| part.values.get(2..)).map(<[_]>::to_vec);
        // Counts alone begin a segment.
        let Some(partition) = partition.filter(|_| batch.parts.iter().any(is_message)) else {
            return Fate::Sent(vec![batch]);
        };
        let sent = batch.clone();
        let arrives = self.spoil(wrong, &is_message, partition, batch);
        self.spoilt += u64::from(arrives != [sent]);
        Fate::Sent(arrives)
    }

    /// What arrives of a batch of messages and counts.
    fn spoil(
        &mut self,
        wrong: Wrong,
        is_message: &dyn Fn(&Part) -> bool,
        partition: Partition,
        mut batch: Batch,
    ) -> Vec<Batch> {
        match wrong {
            Wrong::DropsTheTally => batch.parts.retain(is_message),
            Wrong::DropsTheMessages => batch.parts.retain(|part| !is_message(part)),
            Wrong::SwapsTwo => match self.held.remove(&partition) {
                Some(before) => return vec![batch, before],
                None => {
                    self.held.insert(partition, batch);
                    return Vec::new();
                }
            },
            Wrong::ForgetsIntents => batch.parts.retain(|part| {
                self.intents += u64::from(is_message(part) && begins_an_attempt(part));
                !is_message(part) || !begins_an_attempt(part) || !self.intents.is_multiple_of(3)
            }),
            Wrong::ForgetsFacts => batch.parts.iter_mut().filter(|part| is_message(part)).for_each(keep_the_intents),
            Wrong::DatesBelow => {
                let at = batch.at().expect("it is dated");
                let dated = self.dates.get(&partition).map_or(at, |before| before - 1);
                self.dates.insert(partition, dated);
                batch.date(dated);
            }
            Wrong::Repeats => {}
        }
        vec![batch]
    }
}

/// The register of a message says that its newest attempt has no outcome yet.
fn begins_an_attempt(message: &Part) -> bool {
    let register = message.values[0].as_deref().and_then(batch::elements).expect("a register");
    register[1].as_deref() == Some(&[Phase::InFlight as u8][..])
}

/// Leaves of a message's facts the intents.
fn keep_the_intents(message: &mut Part) {
    let mut facts = message.values[1].as_deref().and_then(batch::entries).expect("facts");
    facts.retain(|(key, _)| {
        let key = key.as_slice().try_into().map(i32::from_be_bytes).expect("an int");
        row::fact_of(key).expect("a fact").1 == kind::INTENT
    });
    message.values[1] = Some(batch::map(&facts));
}

/// Stores in a keyspace of its own, at the end of a line.
struct AtALine {
    config: ScyllaConfig,
    line: Line,
    wrong: Wrong,
    /// Stays from one store to the next: what repeats may be of the term before.
    spoiler: Arc<Mutex<Spoiler>>,
}

impl AtALine {
    /// `None`: the server is not on this machine.
    async fn new(wrong: Wrong) -> Option<Self> {
        let mut config = fresh_keyspace();
        let line = Line::to(&config).await?;
        config.contact_points = vec![line.address.clone()];
        Some(Self { config, line, wrong, spoiler: Arc::default() })
    }
}

impl Factory for AtALine {
    fn open(&self) -> Arc<dyn Store> {
        let store: Arc<ScyllaStore> = open(&self.config);
        let number = |statement: &scylla::statement::prepared::PreparedStatement| statement.get_id().to_vec();
        let st = &store.cql.st;
        let statements = Statements { message: number(&st.write_message), segment: number(&st.write_segment) };
        let (wrong, spoiler) = (self.wrong, Arc::clone(&self.spoiler));
        self.line.meddle(move |batch| spoiler.lock().fate(wrong, &statements, batch));
        store
    }
}

impl Drop for AtALine {
    fn drop(&mut self) {
        server::drop_keyspace(&self.config);
    }
}

fn promise(named: &str) -> Promise {
    let found = all_promises().into_iter().find(|(name, _)| *name == named);
    found.unwrap_or_else(|| panic!("no promise is called {named}")).1
}

/// Whether a copy keeps a promise: else what was told. `None`: it could not be tried.
async fn kept_by(wrong: Wrong, named: &str) -> Option<Result<(), String>> {
    let factory = AtALine::new(wrong).await?;
    let kept = AssertUnwindSafe(promise(named)(&factory)).catch_unwind().await;
    let spoilt = factory.spoiler.lock().spoilt;
    assert!(spoilt > 0, "{wrong:?} spoilt nothing in {named}");
    Some(kept.map_err(|panic| match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(told), _) => told.clone(),
        (_, told) => told.copied().unwrap_or_default().to_owned(),
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_batch_is_caught() {
    for (wrong, by) in CAUGHT {
        let Some(kept) = kept_by(wrong, by).await else { return };
        let Err(told) = kept else { panic!("{by} does not catch {wrong:?}") };
        assert!(!told.contains("Unavailable"), "{wrong:?} was not tried, the server was away: {told}");
        println!("{wrong:?} is caught by {by}: {}", told.lines().next().unwrap_or_default());
    }
}

/// Nor does the line: it is what is wrong with a batch that is caught above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lands_twice_and_late_breaks_no_promise() {
    for named in KEPT {
        let Some(kept) = kept_by(Wrong::Repeats, named).await else { return };
        assert_eq!(kept, Ok(()), "{named}");
    }
}
