//! One call on its way to the owner of what it is about: asked where it is, asked again when it moved, until the deadline.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use metrics::{Counter, Histogram};
use sluice_engine::nodes::{Peer, Whereabouts};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Nodes;
use super::peers::Unanswered;
use super::routes::{Again, Subject};
use crate::auth::Principal;
use crate::grpc::status;
use crate::metrics as names;

/// Pauses before the directory is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// How often it is looked whether the owner that has not answered yet still is the owner.
const LOOK: Duration = Duration::from_millis(250);
/// What is left of a caller's deadline when it is told that there is no answer: time for that to reach it.
const MARGIN: Duration = Duration::from_millis(200);
/// Largest answer to a call with one answer; a page of a thousand messages is far below.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A call that may be sent as often as it takes, unless it decides ([`Again::Decides`]).
pub(super) struct Call<'a> {
    /// As the table of routes has it.
    pub(super) path: &'static str,
    pub(super) subject: &'a Subject,
    pub(super) again: Again,
    pub(super) caller: &'a Principal,
    /// When its caller no longer waits.
    pub(super) deadline: Instant,
    /// Whether the deadline is the caller's for all of it, not ours for the beginning of a stream.
    pub(super) all: bool,
}

/// What is carried to the owner, wherever that is: a whole request, or the beginning of a stream.
pub(super) trait Carried: Send {
    /// The answer of this node's own services.
    fn here(&mut self) -> impl Future<Output = Response<Body>> + Send;
    /// The body for one more try at another node.
    fn body(&mut self) -> Body;
    /// The first message of it.
    fn message(&self) -> &[u8];
    /// Another node has answered: what is still to come follows. The answer as the caller gets it.
    fn taken(&mut self, answer: Response<Body>) -> impl Future<Output = Result<Response<Body>, Unanswered>> + Send;
    /// Whether it can be carried once more.
    fn is_left(&self) -> bool {
        true
    }
}

/// Whether an answer is the caller's, or the owner of now is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is.
    Stands,
    /// If the subject has not gone from whoever gave it. What changed a record is in force where its owner knows of it, and the next owner may
    /// have read the record before.
    IfOwned,
    /// The owner is another, and nothing was done.
    Void,
}

impl Standing {
    fn of(again: Again, answer: &Response<Body>) -> Self {
        let may_go_on = match again {
            Again::Reads | Again::Offsets => is_unavailable(answer),
            Again::Settles | Again::Versioned | Again::RequestId => is_unavailable(answer) || is_good(answer),
            Again::Decides => false,
        };
        match (is_elsewhere(answer), may_go_on) {
            (true, _) => Self::Void,
            (false, true) => Self::IfOwned,
            (false, false) => Self::Stands,
        }
    }
}

/// How often what happened to calls that were sent on.
pub(super) struct Outcomes {
    answered: Counter,
    not_mine: Counter,
    lost: Counter,
    stranger: Counter,
    apart: Counter,
    given_up: Counter,
    duration: Histogram,
}

impl Outcomes {
    pub(super) fn new() -> Self {
        let outcome = |outcome: &'static str| metrics::counter!(names::FORWARDED_CALLS, "outcome" => outcome);
        Self {
            answered: outcome("answered"),
            not_mine: outcome("not_mine"),
            lost: outcome("lost"),
            stranger: outcome("stranger"),
            apart: outcome("apart"),
            given_up: outcome("given_up"),
            duration: metrics::histogram!(names::FORWARDED_CALL_DURATION),
        }
    }
}

/// Takes an answer of one message whole, so that a connection that breaks in its middle is nobody's loss.
pub(super) async fn whole_answer(answer: Response<Body>) -> Result<Response<Body>, Unanswered> {
    let (head, body) = answer.into_parts();
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(whole) => Ok(Response::from_parts(head, Body::new(whole))),
        Err(error) => Err(Unanswered::Lost(error.to_string())),
    }
}

impl Nodes {
    /// Has a call answered by the owner of its subject, wherever that is and however often it moves before the deadline.
    pub(super) async fn owner_answers(&self, call: &Call<'_>, carried: &mut impl Carried) -> Response<Body> {
        let until = call.deadline - MARGIN.min(call.deadline.saturating_duration_since(Instant::now()) / 10);
        let mut pause = PAUSES.0;
        loop {
            let seen = match self.whereabouts(&call.caller.tenant, call.subject).await {
                Ok(seen) => seen,
                Err(error) => return status::of(&error.into()).into_http(),
            };
            let answer = match &seen {
                Whereabouts::Here => Some(carried.here().await),
                Whereabouts::There(peer) => {
                    let place = match self.place(call) {
                        Ok(place) => place,
                        Err(refused) => return *refused,
                    };
                    match self.answer_of(peer, call, carried, until, &seen).await {
                        Ok(answer) => Some(held(answer, place)),
                        Err(Unanswered::Stranger) => {
                            return no_owner("another node cannot be asked: the operator finds why in the log");
                        }
                        // Once more it might decide about what came of the first decision.
                        Err(Unanswered::Lost(_)) if call.again == Again::Decides => return undecided(),
                        Err(Unanswered::Apart) => {
                            return no_owner(
                                "the owner's version is too far from this node's: try again, at another node or when all are upgraded",
                            );
                        }
                        Err(Unanswered::NotMine | Unanswered::Unreached(_) | Unanswered::Lost(_)) => None,
                    }
                }
                Whereabouts::Nobody => None,
            };
            if let Some(answer) = answer {
                let standing = Standing::of(call.again, &answer);
                let is_void = carried.is_left()
                    && match standing {
                        Standing::Stands => false,
                        Standing::IfOwned => self.has_moved(call, &seen).await,
                        Standing::Void => true,
                    };
                if !is_void {
                    return answer;
                }
            }
            if Instant::now() + pause >= until {
                self.calls.given_up.increment(1);
                tracing::warn!(call = call.path, subject = ?call.subject, owner = ?seen, "no owner answered in time");
                return no_owner("no node answers for it now: try again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A place for a stream that goes on to another node; calls with one answer have theirs at the listener.
    fn place(&self, call: &Call<'_>) -> Result<Option<OwnedSemaphorePermit>, Box<Response<Body>>> {
        if call.all {
            return Ok(None);
        }
        Arc::clone(&self.streams).try_acquire_owned().map(Some).map_err(|_| {
            metrics::counter!(names::GRPC_REFUSED, "reason" => "node_streams").increment(1);
            Box::new(
                status::too_much("too many streams go through this node: try again later, or at another node")
                    .into_http(),
            )
        })
    }

    /// The answer of another node. Not waited for any longer than it is the owner: a node that is frozen does not answer, and somebody
    /// else takes over.
    async fn answer_of(
        &self,
        peer: &Peer,
        call: &Call<'_>,
        carried: &mut impl Carried,
        until: Instant,
        seen: &Whereabouts,
    ) -> Result<Response<Body>, Unanswered> {
        let began = Instant::now();
        let left = until.saturating_duration_since(began);
        let body = carried.body();
        let asked = async {
            let (caller, left) = (Some(call.caller), call.all.then_some(left));
            let answer = self.peers.ask(peer, call.path, caller, carried.message(), body, left).await?;
            carried.taken(answer).await
        };
        let answer = tokio::select! {
            biased;
            answer = asked => answer,
            () = self.moved(call, seen) => Err(Unanswered::Lost(format!("{} is not the owner any more", peer.name))),
            () = tokio::time::sleep_until(until) => Err(Unanswered::Lost(format!("{} does not answer", peer.name))),
        };
        match &answer {
            Ok(_) => {
                self.calls.answered.increment(1);
                self.calls.duration.record(began.elapsed());
            }
            Err(Unanswered::NotMine) => self.calls.not_mine.increment(1),
            Err(Unanswered::Stranger) => self.calls.stranger.increment(1),
            Err(Unanswered::Apart) => self.calls.apart.increment(1),
            Err(Unanswered::Unreached(error) | Unanswered::Lost(error)) => {
                self.calls.lost.increment(1);
                tracing::info!(
                    peer = peer.name,
                    call = call.path,
                    error,
                    "a call to another node was lost; looking again for the owner"
                );
            }
        }
        answer
    }

    /// Ends when the owner is known to be another.
    async fn moved(&self, call: &Call<'_>, seen: &Whereabouts) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.has_moved(call, seen).await {
                return;
            }
        }
    }

    async fn has_moved(&self, call: &Call<'_>, seen: &Whereabouts) -> bool {
        self.whereabouts(&call.caller.tenant, call.subject).await.is_ok_and(|now| now != *seen)
    }
}

/// The answer, holding the place until its stream ends.
fn held(answer: Response<Body>, place: Option<OwnedSemaphorePermit>) -> Response<Body> {
    let Some(place) = place else { return answer };
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &place;
            frame
        }))
    })
}

pub(super) fn is_unavailable(answer: &Response<Body>) -> bool {
    // A call that fails before its first message has its status in the head.
    Status::from_header_map(answer.headers()).is_some_and(|status| status.code() == Code::Unavailable)
}

/// Whether a call that has one answer was answered with it: what fails before that has its status in the head.
pub(super) fn is_good(answer: &Response<Body>) -> bool {
    Status::from_header_map(answer.headers()).is_none_or(|status| status.code() == Code::Ok)
}

/// Whether it was answered that the owner is another by now, which the directory may not know yet. Nothing was changed then.
fn is_elsewhere(answer: &Response<Body>) -> bool {
    let status = Status::from_header_map(answer.headers()).filter(|status| status.code() == Code::Unavailable);
    status.and_then(|status| status.get_details_error_info()).is_some_and(|info| info.reason == status::ELSEWHERE)
}

/// The answer to a decision of which nobody knows whether it was taken.
fn undecided() -> Response<Body> {
    Status::aborted("the answer was lost, the decision may be taken: look what is in doubt now, then decide on that")
        .into_http()
}

fn no_owner(text: &'static str) -> Response<Body> {
    status::of(&sluice_engine::control::Error::Unavailable(text)).into_http()
}
