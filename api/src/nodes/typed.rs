//! Calls that this node makes itself, one for each part of what a caller asked for: batches, walks.

use prost::Message;
use sluice_engine::nodes::Peer;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::{Code, Status};

use super::forward::{Call, Carried, whole_answer};
use super::peers::Unanswered;
use super::routes::{self, Route};
use super::{Nodes, frame};
use crate::auth::Principal;
use http_body_util::BodyExt as _;

/// Longest that another node may take for what this one asks for itself.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

impl Nodes {
    /// Has a call of the contract answered by the owner of what `request` names: `here` answers where that is this node.
    ///
    /// # Errors
    /// Whatever the owner answers; `UNAVAILABLE` when there is none before the deadline.
    pub(crate) async fn at_owner<Q, A, F>(
        &self,
        path: &'static str,
        caller: &Principal,
        deadline: Instant,
        request: &Q,
        here: impl FnMut() -> F + Send,
    ) -> Result<A, Status>
    where
        Q: Message,
        A: Message + Default,
        F: Future<Output = Result<A, Status>> + Send,
    {
        let message = request.encode_to_vec();
        let mut asked = Asked { message: &message, here };
        let (path, Route::Owner(named, again)) = routes::route(path) else { return (asked.here)().await };
        // What names nothing is answered here: the façade says so.
        let Ok(Some(subject)) = named(message.clone().into()) else { return (asked.here)().await };
        let call = Call { path, subject: &subject, again, caller, deadline, all: true };
        answer(self.owner_answers(&call, &mut asked).await).await
    }

    /// Asks another node something for this node itself.
    pub(super) async fn ask_node<Q: Message, A: Message + Default>(
        &self,
        peer: &Peer,
        path: &'static str,
        request: &Q,
    ) -> Result<A, String> {
        let message = request.encode_to_vec();
        let body = frame::whole(frame::framed(&message));
        let asked = self.peers.ask(peer, path, None, &message, body, Some(ANSWER_WITHIN));
        match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(response)) => answer(response).await.map_err(|status| status.message().to_owned()),
            Ok(Err(Unanswered::Unreached(error) | Unanswered::Lost(error))) => Err(error),
            Ok(Err(Unanswered::NotMine)) => Err("it is not its own".to_owned()),
            Ok(Err(Unanswered::Stranger)) => Err("it does not prove the node secret".to_owned()),
            Ok(Err(Unanswered::Apart)) => Err("its version is too far from this node's".to_owned()),
            Err(_) => Err(format!("{} does not answer", peer.name)),
        }
    }
}

/// A message with the way to answer it here.
struct Asked<'a, H> {
    message: &'a [u8],
    here: H,
}

impl<H, F, A> Carried for Asked<'_, H>
where
    H: FnMut() -> F + Send,
    F: Future<Output = Result<A, Status>> + Send,
    A: Message,
{
    async fn here(&mut self) -> Response<Body> {
        match (self.here)().await {
            Ok(answer) => Response::new(frame::whole(frame::framed(&answer.encode_to_vec()))),
            Err(status) => status.into_http(),
        }
    }

    fn body(&mut self) -> Body {
        frame::whole(frame::framed(self.message))
    }

    fn message(&self) -> &[u8] {
        self.message
    }

    async fn taken(&mut self, answer: Response<Body>) -> Result<Response<Body>, Unanswered> {
        whole_answer(answer).await
    }
}

/// The message of an answer, or its status.
async fn answer<A: Message + Default>(answer: Response<Body>) -> Result<A, Status> {
    let failed = |status: Option<Status>| status.filter(|status| status.code() != Code::Ok).map_or(Ok(()), Err);
    let (head, body) = answer.into_parts();
    failed(Status::from_header_map(&head.headers))?;
    let whole = body.collect().await?;
    failed(whole.trailers().and_then(Status::from_header_map))?;
    let bytes = whole.to_bytes();
    let message = frame::message(&bytes).ok_or_else(|| Status::internal("another node's answer is cut off"))?;
    A::decode(message).map_err(|_| Status::internal("another node's answer cannot be read"))
}
