//! The ways to other nodes: one connection each, opened when it is first needed and kept; every call with its proof.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use parking_lot::Mutex;
use sluice_engine::nodes::protocol::work_together;
use sluice_engine::nodes::{Directory, Peer};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use super::deadline;
use super::proof::{Claim, NodeSecret, Nonce, Ticket, digest};
use crate::auth::Principal;
use crate::metrics as names;

/// Longest that a connection may take to come up: a node that is alive is near.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How often a connection is asked whether it still lives, and how long the answer may take: a frozen node is given up within both.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));
/// Log lines about one node with which something goes wrong with every call: one in this time, and about so many nodes at most.
const SAY_AGAIN: Duration = Duration::from_secs(10);
const SAID_MAX: usize = 64;

/// The headers of a call between nodes.
pub(super) mod headers {
    /// The asker's name.
    pub(crate) const FROM: &str = "sluice-node";
    /// The addressee's name.
    pub(crate) const TO: &str = "sluice-node-to";
    /// What the asker understands; in an answer: the addressee, which does not work together with the asker.
    pub(crate) const PROTOCOL: &str = "sluice-node-protocol";
    /// Which call it is, and with which message.
    pub(crate) const TICKET: &str = "sluice-node-ticket";
    /// The proof of both directions.
    pub(crate) const PROOF: &str = "sluice-node-proof";
    /// The caller's tenant.
    pub(crate) const TENANT: &str = "sluice-tenant";
    /// The caller's name, base64.
    pub(crate) const SUBJECT: &str = "sluice-subject-bin";
    /// The caller's scopes, separated by spaces.
    pub(crate) const SCOPES: &str = "sluice-scopes";
    /// In an answer: nothing was done, since the addressee does not own what it is about.
    pub(crate) const NOT_MINE: &str = "sluice-not-mine";
}

/// What a call to another node came to when it has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The node does not own what it was asked about, and did nothing.
    NotMine,
    /// There is no way to the node: nothing was done.
    Unreached(String),
    /// Whether anything was done is not known.
    Lost(String),
    /// The node and this one do not belong together; what to do about it was logged.
    Stranger,
    /// The node's version is too far from this one's; what to do about it was logged.
    Apart,
}

/// The ways to other nodes.
pub(super) struct Peers {
    /// This node's name.
    name: String,
    /// What this node understands.
    protocol: u32,
    directory: Arc<dyn Directory>,
    secret: NodeSecret,
    tls: Option<ClientTlsConfig>,
    channels: Mutex<HashMap<String, (Peer, Channel)>>,
    /// Calls that were made.
    calls: AtomicU64,
    /// When something was last said, by node.
    said: Mutex<HashMap<Option<String>, Instant>>,
}

/// The caller in the form in which it travels.
struct Caller {
    tenant: HeaderValue,
    subject: HeaderValue,
    scopes: HeaderValue,
}

impl Caller {
    fn of(principal: &Principal) -> Option<Self> {
        let scopes: Vec<&str> = principal.scopes.iter().map(|scope| scope.name()).collect();
        Some(Self {
            tenant: HeaderValue::from_str(principal.tenant.as_str()).ok()?,
            subject: HeaderValue::from_str(&STANDARD_NO_PAD.encode(principal.subject.as_bytes())).ok()?,
            scopes: HeaderValue::from_str(&scopes.join(" ")).ok()?,
        })
    }
}

impl Peers {
    pub(super) fn new(
        name: String,
        protocol: u32,
        directory: Arc<dyn Directory>,
        secret: NodeSecret,
        tls: Option<ClientTlsConfig>,
    ) -> Self {
        let (channels, said) = (Mutex::default(), Mutex::default());
        Self { name, protocol, directory, secret, tls, channels, calls: AtomicU64::new(0), said }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn protocol(&self) -> u32 {
        self.protocol
    }

    pub(super) fn secret(&self) -> &NodeSecret {
        &self.secret
    }

    /// Whether it is time to say something again that is said for every call from or to a node, whose name may be anything; `None`: of no
    /// node.
    pub(super) fn may_say<'n>(&self, node: impl Into<Option<&'n str>>) -> bool {
        let node = node.into().map(str::to_owned);
        let mut said = self.said.lock();
        said.retain(|_, at| at.elapsed() < SAY_AGAIN);
        let due = said.len() < SAID_MAX && !said.contains_key(&node);
        if due {
            said.insert(node, Instant::now());
        }
        due
    }

    /// The connection to a node. Forgets those to nodes that are gone.
    fn channel(&self, peer: &Peer) -> Result<Channel, String> {
        let mut channels = self.channels.lock();
        if let Some((known, channel)) = channels.get(&peer.name)
            && known == peer
        {
            return Ok(channel.clone());
        }
        let alive = self.directory.alive();
        channels.retain(|name, _| alive.iter().any(|node| node.name == *name));
        let channel = self.endpoint(peer)?.connect_lazy();
        channels.insert(peer.name.clone(), (peer.clone(), channel.clone()));
        Ok(channel)
    }

    fn endpoint(&self, peer: &Peer) -> Result<Endpoint, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", peer.address))
            .map_err(|_| format!("{:?} is no address: check [nodes] advertise there", peer.address))?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .initial_stream_window_size(super::STREAM_WINDOW)
            .initial_connection_window_size(super::CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(|error| error.to_string()),
            None => Ok(endpoint),
        }
    }

    /// Sends one call to a node, for a caller or (`None`) for this node itself; `message`: the first of its `body`; `left`: the time that
    /// it may take.
    pub(super) async fn ask(
        &self,
        peer: &Peer,
        path: &'static str,
        caller: Option<&Principal>,
        message: &[u8],
        body: Body,
        left: Option<Duration>,
    ) -> Result<Response<Body>, Unanswered> {
        if !work_together(self.protocol, peer.protocol) {
            return Err(self.apart(peer, peer.protocol));
        }
        let lost = |error: &dyn std::fmt::Display| Unanswered::Lost(format!("{}: {error}", peer.name));
        let unreached = |error: String| Unanswered::Unreached(format!("{}: {error}", peer.name));
        let mut channel = self.channel(peer).map_err(unreached)?;
        let caller = match caller.map(Caller::of) {
            Some(None) => return Err(unreached("the caller's name cannot be sent".to_owned())),
            Some(caller) => caller,
            None => None,
        };
        let digest = digest(message);
        if let Err(error) = channel.ready().await {
            return Err(unreached(self.unreached(peer, &with_causes(&error))));
        }
        // Numbered directly before it joins the queue of its connection, so that calls hardly overtake each other.
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { from_epoch: self.directory.epoch(), to_epoch: peer.epoch, number, digest };
        let (mut request, nonce) = self.sealed(peer, path, caller, &ticket, body);
        if let Some(left) = left {
            request.headers_mut().insert(deadline::HEADER, deadline::header(left));
        }
        let mut response = match channel.call(request).await {
            Ok(response) => response,
            // Connections are made when they are needed, so that this is where a wrong address shows.
            Err(error) if is_unconnected(&error) => return Err(unreached(self.unreached(peer, &with_causes(&error)))),
            Err(error) => return Err(lost(&with_causes(&error))),
        };
        let proven = response.headers_mut().remove(headers::PROOF);
        if proven.is_none() && is_out_of_time(response.headers()) {
            return Err(lost(&"out of time"));
        }
        if !proven.is_some_and(|proof| self.secret.is_answer(proof.as_bytes(), &nonce)) {
            if let Some(theirs) = protocol(response.headers())
                && !work_together(self.protocol, theirs)
            {
                return Err(self.apart(peer, theirs));
            }
            self.stranger(peer, response.headers());
            return Err(Unanswered::Stranger);
        }
        if response.headers_mut().remove(headers::NOT_MINE).is_some() {
            return Err(Unanswered::NotMine);
        }
        Ok(response)
    }

    /// A call with its proof, and the nonce to check the answer by.
    fn sealed(
        &self,
        peer: &Peer,
        path: &'static str,
        caller: Option<Caller>,
        ticket: &Ticket,
        body: Body,
    ) -> (Request<Body>, Nonce) {
        let text = |part: fn(&Caller) -> &HeaderValue| caller.as_ref().map_or(&b""[..], |c| part(c).as_bytes());
        let (protocol, ticket) = (self.protocol.to_string(), ticket.to_string());
        let claim = Claim {
            from: &self.name,
            to: &peer.name,
            path,
            caller: [text(|c| &c.tenant), text(|c| &c.subject), text(|c| &c.scopes)],
            protocol: &protocol,
            ticket: &ticket,
        };
        let (proof, nonce) = self.secret.ask(&claim);
        let mut request = Request::new(body);
        *request.method_mut() = tonic::codegen::http::Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let ours = [
            ("content-type", HeaderValue::from_static("application/grpc")),
            ("te", HeaderValue::from_static("trailers")),
            (headers::FROM, value(&self.name)),
            (headers::TO, value(&peer.name)),
            (headers::PROTOCOL, value(&protocol)),
            (headers::TICKET, value(&ticket)),
            (headers::PROOF, value(&proof)),
        ];
        request.headers_mut().extend(ours.map(named));
        if let Some(Caller { tenant, subject, scopes }) = caller {
            let who = [(headers::TENANT, tenant), (headers::SUBJECT, subject), (headers::SCOPES, scopes)];
            request.headers_mut().extend(who.map(named));
        }
        (request, nonce)
    }

    /// Says once in a while that a node's version is too far from this one's.
    fn apart(&self, peer: &Peer, theirs: u32) -> Unanswered {
        if self.may_say(peer.name.as_str()) {
            tracing::error!(
                peer = peer.name,
                address = peer.address,
                theirs,
                own = self.protocol,
                "a node's protocol is more than one from this one's: neither takes the other's calls, events for it are set aside; bring the older of the two to the next version"
            );
        }
        Unanswered::Apart
    }

    /// Says once in a while that a node cannot be reached; gives the reason back.
    fn unreached(&self, peer: &Peer, reason: &str) -> String {
        if self.may_say(peer.name.as_str()) {
            tracing::warn!(
                peer = peer.name,
                address = peer.address,
                reason,
                "a node that is there by the ledger cannot be reached: check [nodes] advertise and listen there, and the network between the two; its calls wait, its events are set aside"
            );
        }
        format!("{} cannot be reached at {}: {reason}", peer.name, peer.address)
    }

    /// Says once in a while that a node does not prove the secret.
    fn stranger(&self, peer: &Peer, answer: &HeaderMap) {
        metrics::counter!(names::NODE_STRANGERS, "side" => "asked").increment(1);
        if self.may_say(peer.name.as_str()) {
            let said = Status::from_header_map(answer).map(|status| status.message().to_owned()).unwrap_or_default();
            tracing::error!(
                peer = peer.name,
                address = peer.address,
                said,
                "a node does not prove this installation's node secret: [nodes] secret must be the same on all nodes, and advertise must lead to the node itself"
            );
        }
    }
}

fn named((name, value): (&'static str, HeaderValue)) -> (tonic::codegen::http::HeaderName, HeaderValue) {
    (tonic::codegen::http::HeaderName::from_static(name), value)
}

/// Node names and proofs are ASCII; what is not would be refused by the addressee.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// What a node says that it understands.
pub(super) fn protocol(headers: &HeaderMap) -> Option<u32> {
    headers.get(headers::PROTOCOL)?.to_str().ok()?.parse().ok()
}

/// Whether no connection could be made.
fn is_unconnected(error: &dyn std::error::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let mut cause = error.source();
    while let Some(inner) = cause {
        let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let no_way = [AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut];
        // A name that is not known has no kind of its own.
        if kind.is_some_and(|kind| no_way.contains(&kind)) || inner.to_string() == "dns error" {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// An error with what caused it: the transport's own text is only "transport error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Whether a server says that the caller's time is up. The one that keeps time there stands before the one that proves the secret, so
/// this comes without a proof, and says nothing of who answered.
fn is_out_of_time(answer: &HeaderMap) -> bool {
    let code = Status::from_header_map(answer).map(|status| status.code());
    matches!(code, Some(Code::Cancelled | Code::DeadlineExceeded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_came_too_late_is_no_strangers() {
        let headers = |status: Status| status.into_http::<Body>().into_parts().0.headers;
        assert!(is_out_of_time(&headers(Status::deadline_exceeded("Timeout expired"))));
        assert!(is_out_of_time(&headers(Status::cancelled("Timeout expired"))));
        assert!(!is_out_of_time(&headers(Status::unauthenticated("the node secret is another here"))));
        assert!(!is_out_of_time(&HeaderMap::new()));
    }
}
