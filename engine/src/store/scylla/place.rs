//! Where the calls about one segment wait, and the task that works them off: one batch of its partition at a time, in order; whatever
//! comes meanwhile goes into the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::cache::{Cache, PlaceKey};
use super::cql::{Cql, Unit};
use super::hot::Hot;
use super::segment::{Change, Segment};
use crate::domain::message::Event;
use crate::domain::time::Mono;
use crate::store::{Entry, EntryResult, StoreError, StoreResult};

/// The results of a call, with the positions that it gave.
pub(super) type Results = Vec<(usize, EntryResult)>;

/// Some entries of one commit, all of one segment, in order, with their positions in it.
pub(super) struct Call {
    entries: VecDeque<(usize, Entry)>,
    results: Results,
    /// Intents among what was applied, by `seq`.
    intents: Vec<(u32, u16)>,
    reply: oneshot::Sender<Answer>,
    asked_at: Mono,
}

/// What became of a call.
pub(super) struct Answer {
    pub(super) results: Results,
    /// Intents among what was applied, by `seq`.
    pub(super) intents: Vec<(u32, u16)>,
    /// Of a call that failed the results may not be durable.
    pub(super) done: StoreResult<()>,
}

impl Call {
    /// A call and where its answer comes.
    pub(super) fn new(entries: VecDeque<(usize, Entry)>, asked_at: Mono) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let results = Vec::with_capacity(entries.len());
        (Self { results, entries, intents: Vec::new(), reply, asked_at }, answer)
    }

    /// Part of it is in a batch already, the rest is not.
    fn is_cut(&self) -> bool {
        !self.results.is_empty()
    }

    fn answer(self, done: StoreResult<()>) {
        // A caller that went away has its effect nevertheless.
        let _ = self.reply.send(Answer { results: self.results, intents: self.intents, done });
    }

    /// Tells of a failure. First of all nobody has its intents: an offer that comes between must not get one that this caller may get again.
    fn fail(self, place: &Place, error: StoreError) {
        place.unclaimed.lock().extend(self.intents.iter().copied());
        self.answer(Err(error));
    }

    /// Nothing of what is left is done, and why.
    fn refuse(mut self, with: EntryResult) {
        self.results.extend(self.entries.drain(..).map(|(at, _)| (at, with)));
        self.answer(Ok(()));
    }
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    running: bool,
    /// A batch is not known to be done although patience has ended: nothing more is taken in until it is.
    stalled: Option<String>,
    /// Forgotten: its campaign is another node's, or is read anew from elsewhere.
    closed: bool,
}

/// The place of one segment.
pub(super) struct Place {
    key: PlaceKey,
    queue: Mutex<Queue>,
    /// Held while a batch is made and written, and by whoever reads the partition as of one moment.
    pub(super) segment: tokio::sync::Mutex<Option<Segment>>,
    pub(super) touched: AtomicU64,
    /// Intents that are durable, or may be, although their caller was told of a failure, by `seq`: whoever offers one of them again
    /// gets it, once. Where it turns out that nothing was written the offer makes the intent anew, and that is the once.
    pub(super) unclaimed: Mutex<HashMap<u32, u16>>,
}

impl Place {
    pub(super) fn new(key: PlaceKey) -> Self {
        Self {
            key,
            queue: Mutex::default(),
            segment: tokio::sync::Mutex::default(),
            touched: AtomicU64::new(0),
            unclaimed: Mutex::default(),
        }
    }

    /// Takes a call in; its order among others is that of these calls of this function.
    pub(super) fn enqueue(self: &Arc<Self>, cache: &Arc<Cache>, call: Call) {
        let start = {
            let mut queue = self.queue.lock();
            if queue.closed {
                drop(queue);
                return call.refuse(EntryResult::Elsewhere);
            }
            if let Some(why) = &queue.stalled {
                let why = why.clone();
                drop(queue);
                call.fail(self, StoreError::Unavailable(why));
                return;
            }
            queue.calls.push_back(call);
            !std::mem::replace(&mut queue.running, true)
        };
        if start {
            let (place, cache) = (Arc::clone(self), Arc::clone(cache));
            tokio::spawn(async move { place.run(&cache).await });
        }
    }

    /// Takes nothing more in. What holds it still must not go on from what it holds.
    pub(super) fn close(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.calls)
        };
        for call in waiting {
            // Part of it is in the batch under way: nobody knows what becomes of that.
            if call.is_cut() {
                call.fail(
                    self,
                    StoreError::Unavailable("its pool went from this node meanwhile: try again".to_owned()),
                );
            } else {
                call.refuse(EntryResult::Elsewhere);
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Nobody works here and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.queue.lock().running
    }

    /// No segment is held here. One that is being worked on is.
    pub(super) fn is_empty(&self) -> bool {
        self.segment.try_lock().is_ok_and(|held| held.is_none())
    }

    /// Lets the segment go, and keeps what is known of its callers.
    pub(super) fn empty(&self) {
        if let Ok(mut held) = self.segment.try_lock() {
            *held = None;
        }
    }

    /// When the oldest call that waits was made.
    pub(super) fn waiting_since(&self) -> Option<Mono> {
        self.queue.lock().calls.front().map(|call| call.asked_at)
    }

    async fn run(&self, cache: &Arc<Cache>) {
        // A panic must not leave a place at which calls wait for ever.
        let _end = Ending { place: self };
        loop {
            {
                let mut queue = self.queue.lock();
                if queue.calls.is_empty() {
                    queue.running = false;
                    return;
                }
            }
            self.work(cache).await;
        }
    }

    async fn work(&self, cache: &Arc<Cache>) {
        let mut held = self.segment.lock().await;
        let hot = match cache.hot(self.key.0).await {
            Ok(hot) => hot,
            Err(StoreError::NotFound(_)) => {
                *held = None;
                return self.drain().into_iter().for_each(|call| call.refuse(EntryResult::Unknown));
            }
            Err(error) => return self.refuse_waiting(&error),
        };
        let _shared = hot.gate.read().await;
        if self.is_closed() || hot.expect_ours(&cache.cql).is_err() {
            *held = None;
            return self.drain().into_iter().for_each(|call| call.refuse(EntryResult::Elsewhere));
        }
        let head = hot.head();
        if !head.sealed || hot.segment(self.key.1).is_none() {
            return self.drain().into_iter().for_each(|call| call.refuse(EntryResult::Unknown));
        }
        let segment = match cache.current(&hot, self.key.1, &mut held).await {
            Ok(segment) => segment,
            Err(error) => return self.refuse_waiting(&error),
        };
        segment.end_with(head.end_version);
        let mut change = segment.begin();
        for (seq, event) in segment.withdraw_void(cache.cql.clock.wall(), cache.limits.rows / 2) {
            if let Err(error) = segment.apply(&mut change, &HashMap::new(), seq, event, head.end) {
                *held = None;
                return self.refuse_waiting(&error);
            }
        }
        let calls = match self.apply(cache, segment, &mut change, &hot) {
            Ok(calls) => calls,
            Err((error, calls)) => {
                *held = None;
                calls.into_iter().for_each(|call| call.fail(self, error.clone()));
                return;
            }
        };
        match self.commit(cache, &hot, segment, change, calls).await {
            Ok(()) => {}
            // Nothing was written, or nobody may write any more: only the rows know what is true.
            Err(()) => *held = None,
        }
    }

    /// Applies what waits, until one batch is full; returns the calls that are done with it. A call that is cut goes on in the next.
    fn apply(
        &self,
        cache: &Cache,
        segment: &Segment,
        change: &mut Change,
        hot: &Hot,
    ) -> Result<Vec<Call>, (StoreError, Vec<Call>)> {
        let end = hot.head().end;
        let unclaimed = self.unclaimed.lock();
        let mut done = Vec::new();
        loop {
            let Some(mut call) = self.queue.lock().calls.pop_front() else { return Ok(done) };
            while !Segment::is_full(change, cache.limits) {
                let Some((at, Entry { key, event })) = call.entries.pop_front() else { break };
                let intent = if let Event::Intent { attempt, .. } = &event { Some((key.seq, *attempt)) } else { None };
                match segment.apply(change, &unclaimed, key.seq, event, end) {
                    Ok(result) => {
                        call.intents.extend(intent.filter(|_| result == EntryResult::Applied));
                        call.results.push((at, result));
                    }
                    Err(error) => {
                        done.push(call);
                        return Err((error, done));
                    }
                }
            }
            if call.entries.is_empty() {
                done.push(call);
            } else {
                self.queue.lock().calls.push_front(call);
                return Ok(done);
            }
        }
    }

    async fn commit(
        &self,
        cache: &Arc<Cache>,
        hot: &Hot,
        segment: &mut Segment,
        mut change: Change,
        mut calls: Vec<Call>,
    ) -> Result<(), ()> {
        let written = match self.unit(cache, hot, segment, &mut change).await {
            Ok(None) => Ok(false),
            Ok(Some(unit)) => self.write(cache, &unit, &mut calls).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(stalled) => {
                if stalled {
                    // Whoever offered these was told of a failure meanwhile.
                    change.claimed.clear();
                }
                segment.publish(change, &mut self.unclaimed.lock());
                hot.publish(self.key.1, &segment.summary, &cache.revision);
                calls.into_iter().for_each(|call| call.answer(Ok(())));
                Ok(())
            }
            Err(error) => {
                calls.into_iter().for_each(|call| call.fail(self, error.clone()));
                // The parts of a call that is cut are of one answer.
                self.refuse_waiting(&error);
                Err(())
            }
        }
    }

    async fn unit(
        &self,
        cache: &Cache,
        hot: &Hot,
        segment: &Segment,
        change: &mut Change,
    ) -> StoreResult<Option<Unit>> {
        let Some(mut unit) = segment.unit(change, &cache.cql, hot)? else { return Ok(None) };
        cache.note_lines(hot, &change.lines).await?;
        // What is held was read in one term: nothing that follows from it is written in another.
        cache.cql.stamp_in(hot.term, &mut unit)?;
        Ok(Some(unit))
    }

    /// Sends the batch, identical, until it is known to be done. Callers wait as long as patience lasts; the batch is not given up. True: they
    /// were told of a failure.
    async fn write(&self, cache: &Arc<Cache>, unit: &Unit, calls: &mut Vec<Call>) -> StoreResult<bool> {
        let cql: &Cql = &cache.cql;
        let begun = cql.clock.mono();
        let mut stalled = None;
        let unknown = |why: &str| {
            if stalled.is_none() && cql.clock.mono().since(begun) >= cql.patience {
                tracing::warn!(
                    campaign = self.key.0.0,
                    segment = self.key.1,
                    why,
                    "a batch is repeated until its outcome is known"
                );
                stalled = Some(Stalled::new(cache));
                self.stall(calls, why);
            }
        };
        let outcome = cql.write_out(unit, unknown).await;
        if stalled.is_some() {
            self.queue.lock().stalled = None;
        }
        if outcome.is_ok() {
            cache.written(unit.len(), cql.clock.mono().since(begun));
        }
        outcome.map(|()| stalled.is_some())
    }

    /// Answers everybody that waits, and takes nothing more in.
    fn stall(&self, calls: &mut Vec<Call>, why: &str) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.stalled = Some(why.to_owned());
            std::mem::take(&mut queue.calls)
        };
        let error = StoreError::Unavailable(why.to_owned());
        calls.drain(..).chain(waiting).for_each(|call| call.fail(self, error.clone()));
    }

    fn refuse_waiting(&self, error: &StoreError) {
        self.drain().into_iter().for_each(|call| call.fail(self, error.clone()));
    }

    fn drain(&self) -> VecDeque<Call> {
        std::mem::take(&mut self.queue.lock().calls)
    }
}

/// Counts a place whose batch is not known to be done.
struct Stalled<'c>(&'c Cache);

impl<'c> Stalled<'c> {
    fn new(cache: &'c Cache) -> Self {
        cache.stalled.fetch_add(1, Relaxed);
        Self(cache)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.stalled.fetch_sub(1, Relaxed);
    }
}

struct Ending<'p> {
    place: &'p Place,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.place.queue.lock();
            queue.running = false;
            queue.stalled = None;
            // Dropping the calls tells their callers.
            queue.calls.clear();
            drop(queue);
            if let Ok(mut segment) = self.place.segment.try_lock() {
                *segment = None;
            }
        }
    }
}
