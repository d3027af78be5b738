//! Traces: what happened to a sampled message, as finished spans that somebody else exports.
//!
//! A message's way leads through queues, tasks and another company's servers; no scope of this program encloses it. So a span is
//! made when a step is over, from times that are known anyway, and its place in the trace follows from the message
//! ([`domain::trace`](crate::domain::trace)). Without a sink nothing of this exists: the hot path asks one `Option`.
//!
//! Spans hold numbers, names of our own and the provider's codes; no address, no text, no token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::ids::MessageKey;
use crate::domain::time::UnixMillis;
use crate::domain::trace::{Sampling, SpanId, SpanRef, TraceId};

/// Where finished spans go. Must return at once, whatever becomes of them: it is called on the way of messages.
pub trait SpanSink: Send + Sync {
    /// Takes a finished span, or drops it.
    fn finished(&self, span: Span);
}

/// What an engine is told about traces.
#[derive(Clone)]
pub struct TraceConfig {
    /// Where spans go.
    pub sink: Arc<dyn SpanSink>,
    /// Share of messages that are traced, 0 to 1.
    pub message_ratio: f64,
}

impl fmt::Debug for TraceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceConfig").field("message_ratio", &self.message_ratio).finish_non_exhaustive()
    }
}

/// One step that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it was, from a closed set.
    pub name: &'static str,
    /// How it stands to what came before.
    pub kind: Kind,
    /// Its own place.
    pub place: SpanRef,
    /// The span that it is part of; `None`: the first of its trace.
    pub parent: Option<SpanId>,
    /// A span of another trace that led to this one.
    pub link: Option<SpanRef>,
    /// When it began, by the wall clock.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What is known of it.
    pub facts: Vec<(&'static str, Fact)>,
    /// It did not end well, and how, from a closed set.
    pub trouble: Option<&'static str>,
}

/// OpenTelemetry's kinds, as far as they come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside.
    Internal,
    /// A request that we make.
    Client,
    /// A call that we answer.
    Server,
    /// Something that somebody sent earlier.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A number.
    Number(i64),
    /// A word of a closed set, or a checked id.
    Word(std::borrow::Cow<'static, str>),
}

impl From<u32> for Fact {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Fact {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<&'static str> for Fact {
    fn from(word: &'static str) -> Self {
        Self::Word(word.into())
    }
}

impl From<String> for Fact {
    fn from(word: String) -> Self {
        Self::Word(word.into())
    }
}

/// The traces of one engine's messages.
pub(crate) struct Traces {
    sink: Arc<dyn SpanSink>,
    sampling: Sampling,
}

impl Traces {
    pub(crate) fn new(config: TraceConfig, salt: u64) -> Self {
        Self { sink: config.sink, sampling: Sampling::new(salt, config.message_ratio) }
    }

    /// The trace of a message; `None`: it is not traced.
    pub(crate) fn of(&self, message: MessageKey) -> Option<TraceId> {
        self.sampling.trace(message)
    }

    pub(crate) fn finished(&self, span: Span) {
        self.sink.finished(span);
    }
}

/// A span id that nobody has to know.
pub(crate) fn any_span() -> SpanId {
    SpanId(rand::random::<u64>().max(1))
}

/// What every span of a message says of it.
pub(crate) fn facts_of(message: MessageKey, attempt: u16) -> Vec<(&'static str, Fact)> {
    vec![
        ("sluice.campaign", message.campaign.0.into()),
        ("sluice.seq", message.seq.into()),
        ("sluice.attempt", attempt.into()),
    ]
}

/// The ledger's time as the system's.
pub(crate) fn system_time(at: UnixMillis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

tokio::task_local! {
    static CALLER: SpanRef;
}

/// Runs `work` as part of the call that `caller` stands for: campaigns that it puts to work link to it.
pub async fn within<T>(caller: SpanRef, work: impl Future<Output = T>) -> T {
    CALLER.scope(caller, work).await
}

/// The call that this task works for; `None` when it is not traced.
#[must_use]
pub fn caller() -> Option<SpanRef> {
    CALLER.try_with(|caller| *caller).ok()
}

/// Carries the caller into a task of its own.
pub(crate) async fn carried<T>(caller: Option<SpanRef>, work: impl Future<Output = T>) -> T {
    match caller {
        Some(caller) => within(caller, work).await,
        None => work.await,
    }
}
