//! The spans of reports: each a child of the request that it is about, however much later it comes.

use std::time::Duration;

use super::sink::Sink;
use crate::domain::ids::MessageKey;
use crate::domain::message::{Event, Reported};
use crate::domain::time::UnixMillis;
use crate::domain::trace::{SpanRef, Step, TraceId};
use crate::store::{Entry, EntryResult};
use crate::trace::{self, Span};

/// A report of a traced message, before it is committed.
pub(super) struct Traced {
    /// Its place in the commit.
    place: usize,
    trace: TraceId,
    message: MessageKey,
    attempt: u16,
    said: &'static str,
}

impl Sink {
    /// Which of these entries belong to traced messages. Nothing, without an allocation, when traces are off.
    pub(super) fn traced(&self, entries: &[Entry]) -> Vec<Traced> {
        let Some(traces) = &self.context.senders.traces else { return Vec::new() };
        let traced = |(place, entry): (usize, &Entry)| {
            let trace = traces.of(entry.key)?;
            Some(Traced {
                place,
                trace,
                message: entry.key,
                attempt: entry.event.attempt()?,
                said: match &entry.event {
                    Event::Report { what: Reported::Sent, .. } => "sent",
                    Event::Report { what: Reported::Delivered, .. } => "delivered",
                    Event::Report { what: Reported::Read, .. } => "read",
                    Event::Report { what: Reported::Failed, .. } => "failed",
                    _ => "accepted",
                },
            })
        };
        entries.iter().enumerate().filter_map(traced).collect()
    }

    /// Makes their spans: from the POST until what it said is durable.
    pub(super) fn trace(&self, traced: Vec<Traced>, results: &[EntryResult], at: UnixMillis, took: Duration) {
        let Some(traces) = &self.context.senders.traces else { return };
        for Traced { place, trace, message, attempt, said } in traced {
            let mut facts = trace::facts_of(message, attempt);
            facts.push(("sluice.reported", said.into()));
            facts.push(("sluice.result", word(results[place]).into()));
            traces.finished(Span {
                name: "webhook",
                kind: trace::Kind::Consumer,
                place: SpanRef { trace, span: trace::any_span() },
                parent: Some(trace.span(attempt, Step::Request).span),
                link: None,
                began: trace::system_time(at),
                took,
                facts,
                trouble: (said == "failed").then_some("failed"),
            });
        }
    }
}

fn word(result: EntryResult) -> &'static str {
    match result {
        EntryResult::Applied => "applied",
        EntryResult::NoChange => "duplicate",
        EntryResult::Refused => "refused",
        EntryResult::Unknown => "unknown",
        EntryResult::Elsewhere => "elsewhere",
    }
}
