//! The way to the server: each request is repeated, identical, until its outcome is known or patience ends.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::sync::Semaphore;

use super::error::{Failed, closed, judge, no_rows, unreadable, unreadable_rows};
use super::owned::Owned;
use super::stamps::Stamps;
use super::statements::Statements;
use super::{OpenError, connect};
use crate::domain::time::{Clock, Mono};
use crate::store::{StoreError, StoreResult};

/// First and longest pause before a request is repeated. The driver answers at once while a server is away: without a pause of our
/// own the loop would spin.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Rows asked for at a time.
const PAGE_ROWS: i32 = 5_000;

/// One row of values, whatever the statement.
pub(super) type Values = Box<dyn SerializeRow + Send + Sync>;

/// Statements of one partition that are done together, or not at all. Kept with its timestamp, so that it can be repeated as it is.
pub(super) struct Unit {
    batch: Batch,
    values: Vec<Values>,
    /// The epoch of the term that its timestamp is of: in another it is not sent any more.
    epoch: u64,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unit({} statements at {:?})", self.values.len(), self.batch.get_timestamp())
    }
}

impl Unit {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { batch: Batch::new(BatchType::Unlogged), values: Vec::new(), epoch: 0 }
    }

    /// Adds a statement with its values. All of a unit must have the same partition; the first one routes it.
    pub(super) fn push(&mut self, statement: &PreparedStatement, values: impl SerializeRow + Send + Sync + 'static) {
        self.batch.append_statement(statement.clone());
        self.values.push(Box::new(values));
    }

    /// How many statements.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// The session with its statements.
pub(super) struct Cql {
    pub(super) session: Session,
    pub(super) st: Statements,
    pub(super) stamps: Stamps,
    pub(super) owned: Owned,
    pub(super) clock: Clock,
    pub(super) level: Consistency,
    pub(super) serial: SerialConsistency,
    pub(super) patience: Duration,
    /// Writes under way at once.
    pub(super) permits: Semaphore,
    pub(super) is_closed: AtomicBool,
}

impl Cql {
    /// Fails once the store is closed.
    pub(super) fn expect_open(&self) -> StoreResult<()> {
        if self.is_closed.load(Relaxed) { Err(closed()) } else { Ok(()) }
    }

    /// An owner whose lease is over sends nothing, not even again: whoever came after it may have read already. Nor does one that came
    /// back send what is of a term before.
    fn expect_lease(&self, epoch: u64) -> Result<(), Failed> {
        if !self.stamps.are_allowed() {
            return Err(Failed::Unknown("the lease could not be renewed in time".to_owned()));
        }
        if self.stamps.epoch() != epoch {
            let told = "the term in which it was to be written has ended".to_owned();
            return Err(Failed::Never(StoreError::Unavailable(told)));
        }
        Ok(())
    }

    /// The wall clock in microseconds, to reserve timestamps by. What was reserved too far ahead stays so for everybody who comes later:
    /// a clock that jumped is compared with the server's first, as at the start.
    ///
    /// # Errors
    /// It is more than a day off, or the server does not say.
    pub(super) async fn now_to_reserve(&self) -> Result<i64, OpenError> {
        let now = self.stamps.now();
        if self.stamps.is_jump(now) {
            connect::expect_clock(&self.session, || now / 1_000).await?;
            self.stamps.compared(now);
        }
        Ok(now)
    }

    /// The same for a term that goes on. By a clock that is wrong it only does not end: what is dated by it lies beyond what is reserved, and
    /// nothing is written until it is right.
    pub(super) async fn now_to_go_on(&self) -> i64 {
        match self.now_to_reserve().await {
            Ok(now) => now,
            Err(error) => {
                tracing::error!(%error, "this machine's clock jumped ahead: nothing is written until it is right");
                self.stamps.unstepped()
            }
        }
    }

    /// Sends once.
    pub(super) async fn send(&self, unit: &Unit) -> Result<(), Failed> {
        let _permit = self.permits.acquire().await.map_err(|_| Failed::Never(closed()))?;
        self.expect_lease(unit.epoch)?;
        self.session.batch(&unit.batch, &unit.values).await.map(drop).map_err(|error| judge(&error))
    }

    /// Gives a unit its timestamp. It keeps it, however often it is sent.
    pub(super) fn stamp(&self, unit: &mut Unit) -> StoreResult<()> {
        // Before the timestamp: one of a later term would be refused, not dated wrongly.
        unit.epoch = self.stamps.epoch();
        unit.batch.set_timestamp(Some(self.stamps.next()?));
        unit.batch.set_is_idempotent(true);
        unit.batch.set_consistency(self.level);
        Ok(())
    }

    /// Does a unit, repeating it until its outcome is known; at most as long as patience lasts.
    pub(super) async fn write_unit(&self, mut unit: Unit) -> StoreResult<()> {
        if unit.len() == 0 {
            return Ok(());
        }
        self.stamp(&mut unit)?;
        self.until_known(|| self.send(&unit)).await
    }

    /// As [`Self::stamp`], only in this term: what it writes was worked out in it.
    pub(super) fn stamp_in(&self, epoch: u64, unit: &mut Unit) -> StoreResult<()> {
        self.stamp(unit)?;
        if unit.epoch == epoch {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the node's term ended meanwhile".to_owned()))
        }
    }

    /// As [`Self::write_unit`], only in this term.
    pub(super) async fn write_unit_in(&self, epoch: u64, mut unit: Unit) -> StoreResult<()> {
        self.stamp_in(epoch, &mut unit)?;
        self.until_known(|| self.send(&unit)).await
    }

    /// Does a unit that has its timestamp, repeating it until its outcome is known, however long that takes, or the term is over. `unknown`
    /// hears why it is not known yet, before each repetition.
    pub(super) async fn write_out(&self, unit: &Unit, mut unknown: impl FnMut(&str)) -> StoreResult<()> {
        let mut pause = None;
        loop {
            let why = match self.send(unit).await {
                Ok(()) => return Ok(()),
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Unknown(why)) => why,
            };
            if self.expect_open().is_err() || self.stamps.are_forbidden() {
                return Err(StoreError::Unavailable(why));
            }
            unknown(&why);
            let rest = Self::next_pause(pause);
            pause = Some(rest);
            tokio::time::sleep(rest).await;
        }
    }

    /// Does one statement.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> StoreResult<()> {
        self.write_at(statement, values, self.stamps.next()?).await
    }

    /// As [`Self::write`], dated no lower than this, which somebody else's clock may have made.
    pub(super) async fn write_above(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        above: i64,
    ) -> StoreResult<()> {
        self.write_at(statement, values, self.stamps.next()?.max(above)).await
    }

    async fn write_at(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        at: i64,
    ) -> StoreResult<()> {
        let mut statement = statement.clone();
        statement.set_timestamp(Some(at));
        let epoch = self.stamps.epoch();
        self.until_known(|| async {
            let _permit = self.permits.acquire().await.map_err(|_| Failed::Never(closed()))?;
            self.expect_lease(epoch)?;
            self.session.execute_unpaged(&statement, &values).await.map(drop).map_err(|error| judge(&error))
        })
        .await
    }

    /// As [`Self::write`], dated later by some microseconds: what it removes may carry times of the servers.
    pub(super) async fn write_later(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        later: i64,
    ) -> StoreResult<()> {
        self.write_at(statement, values, self.stamps.next()?.saturating_add(later)).await
    }

    /// Asks the server to decide. The outcome of a decision that timed out is found by `settled`, a serial read: it says whether the
    /// decision was ours, or `None` when nothing was decided, so that it is asked again.
    pub(super) async fn decide<F>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        settled: impl Fn() -> F,
    ) -> StoreResult<bool>
    where
        F: Future<Output = StoreResult<Option<bool>>>,
    {
        let ask = || async { self.session.execute_unpaged(statement, &values).await.map_err(|error| judge(&error)) };
        self.decide_by(ask, settled).await
    }

    /// As [`Self::decide`], for several conditional statements of one partition.
    pub(super) async fn decide_unit<F>(&self, mut unit: Unit, settled: impl Fn() -> F) -> StoreResult<bool>
    where
        F: Future<Output = StoreResult<Option<bool>>>,
    {
        unit.batch.set_consistency(self.level);
        unit.batch.set_serial_consistency(Some(self.serial));
        unit.batch.set_is_idempotent(false);
        let unit = &unit;
        let ask = || async move { self.session.batch(&unit.batch, &unit.values).await.map_err(|error| judge(&error)) };
        self.decide_by(ask, settled).await
    }

    async fn decide_by<A, F>(&self, ask: impl Fn() -> A, settled: impl Fn() -> F) -> StoreResult<bool>
    where
        A: Future<Output = Result<QueryResult, Failed>>,
        F: Future<Output = StoreResult<Option<bool>>>,
    {
        let (begun, mut pause) = (self.clock.mono(), PAUSE.0);
        loop {
            self.expect_open()?;
            let why = match ask().await {
                Ok(answer) => return applied(answer),
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Unknown(why)) => why,
            };
            if let Some(ours) = settled().await? {
                return Ok(ours);
            }
            pause = self.rest(begun, pause, why).await?;
        }
    }

    /// The rows of a statement whose partition is small.
    pub(super) async fn rows<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> StoreResult<Vec<T>>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut rows = Vec::new();
        self.each_page(statement, values, |page: Vec<T>| rows.extend(page)).await?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub(super) async fn row<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> StoreResult<Option<T>>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        self.expect_open()?;
        let result = self
            .until_known(|| async {
                self.session.execute_unpaged(statement, &values).await.map_err(|error| judge(&error))
            })
            .await?;
        result.into_rows_result().map_err(|error| no_rows(&error))?.maybe_first_row().map_err(unreadable)
    }

    /// The first row as the server's decisions left it: a read that finishes whatever is being decided.
    pub(super) async fn decided_row<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> StoreResult<Option<T>>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut serial = statement.clone();
        serial.set_consistency(match self.serial {
            SerialConsistency::Serial => Consistency::Serial,
            SerialConsistency::LocalSerial => Consistency::LocalSerial,
        });
        self.row(&serial, values).await
    }

    /// Runs `each` over the pages of an answer.
    pub(super) async fn each_page<T>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
        mut each: impl FnMut(Vec<T>),
    ) -> StoreResult<()>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        self.expect_open()?;
        let mut statement = statement.clone();
        statement.set_page_size(PAGE_ROWS);
        let mut at = PagingState::start();
        loop {
            let (result, next) = self
                .until_known(|| async {
                    self.session
                        .execute_single_page(&statement, &values, at.clone())
                        .await
                        .map_err(|error| judge(&error))
                })
                .await?;
            let page: QueryRowsResult = result.into_rows_result().map_err(|error| no_rows(&error))?;
            let rows = page.rows::<T>().map_err(|error| unreadable_rows(&error))?;
            each(rows.collect::<Result<_, _>>().map_err(unreadable)?);
            match next {
                PagingStateResponse::NoMorePages => return Ok(()),
                PagingStateResponse::HasMorePages { state } => at = state,
            }
        }
    }

    async fn until_known<T, F>(&self, ask: impl Fn() -> F) -> StoreResult<T>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let (begun, mut pause) = (self.clock.mono(), PAUSE.0);
        loop {
            self.expect_open()?;
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Unknown(why)) => pause = self.rest(begun, pause, why).await?,
            }
        }
    }

    /// Rests before a repetition; the error when patience has ended. Returns the next pause.
    async fn rest(&self, begun: Mono, pause: Duration, why: String) -> StoreResult<Duration> {
        if self.clock.mono().since(begun) >= self.patience {
            return Err(StoreError::Unavailable(why));
        }
        tokio::time::sleep(pause).await;
        Ok((pause * 2).min(PAUSE.1))
    }

    /// The pause after this one.
    pub(super) fn next_pause(pause: Option<Duration>) -> Duration {
        pause.map_or(PAUSE.0, |pause| (pause * 2).min(PAUSE.1))
    }
}

/// The first column of the answer to a decision; of several conditional statements in one batch, all rows say the same.
fn applied(answer: QueryResult) -> StoreResult<bool> {
    use scylla::value::{CqlValue, Row};
    let rows = answer.into_rows_result().map_err(|error| no_rows(&error))?;
    let first: Row = rows.first_row().map_err(unreadable)?;
    match first.columns.first() {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        other => Err(StoreError::Bug(format!("a decision answered as {other:?}"))),
    }
}
