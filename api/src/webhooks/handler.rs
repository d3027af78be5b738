//! One request, from its head to its answer.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use sluice_engine::webhook::{Event, SignatureError, SinkError, meta, twilio};
use tokio::time::Instant;

use super::account::Account;
use super::body::{self, BodyError};
use super::{Front, Receiver};

/// What a request for a known account was answered, and why: the `result` label of the request counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Durable. Meta gets exactly 200, Twilio 204.
    Ok,
    /// Meta's verification request with the right token: 200 and the challenge.
    Verified,
    /// Meta's verification request with a wrong token: 403.
    Forbidden,
    /// A method that the path does not have: 405.
    BadMethod,
    /// Too many requests or bytes of this account under way: 503, before anything of the body was looked at.
    Refused,
    /// A body larger than allowed: 413.
    TooLarge,
    /// A body that did not end in time: 408.
    Slow,
    /// A client that vanished half-way or broke the protocol: 400, if anybody hears it.
    Broken,
    /// A signature that is missing, malformed or wrong: 401.
    BadSignature,
    /// The engine has no room now: 503.
    Busy,
    /// The ledger takes nothing now: 503.
    StoreDown,
}

impl Answer {
    /// Every answer, in the order of the enum.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Verified,
        Self::Forbidden,
        Self::BadMethod,
        Self::Refused,
        Self::TooLarge,
        Self::Slow,
        Self::Broken,
        Self::BadSignature,
        Self::Busy,
        Self::StoreDown,
    ];

    /// The word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Verified => "verified",
            Self::Forbidden => "forbidden",
            Self::BadMethod => "bad_method",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::BadSignature => "bad_signature",
            Self::Busy => "busy",
            Self::StoreDown => "store_down",
        }
    }

    const fn status(self, receiver: &Receiver) -> StatusCode {
        match (self, receiver) {
            // Meta counts nothing else as delivered, not even another 2xx.
            (Self::Ok | Self::Verified, Receiver::Meta(_)) => StatusCode::OK,
            // For Twilio no content is the quietest: an empty 200 without a content type makes it complain.
            (Self::Ok | Self::Verified, Receiver::Twilio(_)) => StatusCode::NO_CONTENT,
            (Self::Forbidden, _) => StatusCode::FORBIDDEN,
            (Self::BadMethod, _) => StatusCode::METHOD_NOT_ALLOWED,
            (Self::Refused | Self::Busy | Self::StoreDown, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Self::TooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Self::Slow, _) => StatusCode::REQUEST_TIMEOUT,
            (Self::Broken, _) => StatusCode::BAD_REQUEST,
            (Self::BadSignature, _) => StatusCode::UNAUTHORIZED,
        }
    }
}

const PATH_PREFIX: &str = "/webhooks/";

impl Front {
    pub(super) async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let account = request.uri().path().strip_prefix(PATH_PREFIX).and_then(|path| self.accounts.get(path));
        let Some(account) = account else {
            self.unknown_paths.increment(1);
            return plain(StatusCode::NOT_FOUND);
        };
        let started = Instant::now();
        let response = match (&account.receiver, request.method()) {
            (_, &Method::POST) => {
                let answer = self.post(account, request).await;
                account.metrics.answered(answer);
                answered(answer, account)
            }
            (Receiver::Meta(receiver), &Method::GET) => verification(account, receiver, &request),
            _ => {
                account.metrics.answered(Answer::BadMethod);
                answered(Answer::BadMethod, account)
            }
        };
        account.metrics.duration.record(started.elapsed().as_secs_f64());
        response
    }

    async fn post(&self, account: &Account, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > account.body_bytes_max {
            return Answer::TooLarge;
        }
        let mut place = account.admission.enter();
        let (bytes_max, deadline) = (account.body_bytes_max, self.limits.body_read_timeout);
        let body = match body::read(body, bytes_max, deadline, |so_far| place.cover(so_far)).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return Answer::TooLarge,
            Err(BodyError::Refused) => return Answer::Refused,
            Err(BodyError::Slow) => return Answer::Slow,
            Err(BodyError::Broken) => return Answer::Broken,
        };
        if !place.whole() {
            return Answer::Refused;
        }
        let _counted = InFlight::new(account);
        account.metrics.bytes.increment(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let events = match receive(&account.receiver, &head.headers, target, &body) {
            Ok(events) => events,
            Err(error) => {
                account.metrics.signature_failed(error);
                tracing::debug!(account = &*account.name, %error, "webhook refused");
                return Answer::BadSignature;
            }
        };
        drop(body);
        account.metrics.count(&events);
        if events.is_empty() {
            return Answer::Ok;
        }
        match self.sink.accept(&account.name, events).await {
            Ok(()) => Answer::Ok,
            Err(SinkError::Busy) => Answer::Busy,
            // To the provider it is the same: it comes again.
            Err(SinkError::StoreDown | SinkError::Elsewhere) => Answer::StoreDown,
        }
    }
}

fn receive(receiver: &Receiver, headers: &HeaderMap, target: &str, body: &[u8]) -> Result<Vec<Event>, SignatureError> {
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    match receiver {
        Receiver::Meta(receiver) => receiver.receive(header(meta::SignatureKey::HEADER), body),
        Receiver::Twilio(receiver) => receiver.receive(&twilio::Post {
            target,
            content_type: header(CONTENT_TYPE.as_str()),
            signature: header(twilio::SignatureKey::HEADER),
            body,
        }),
    }
}

/// Answers Meta's verification request.
fn verification(account: &Account, receiver: &meta::Receiver, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(challenge) = receiver.challenge(request.uri().query().unwrap_or_default()) else {
        account.metrics.answered(Answer::Forbidden);
        return answered(Answer::Forbidden, account);
    };
    account.metrics.answered(Answer::Verified);
    let mut response = Response::new(Full::new(Bytes::from(challenge)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn answered(answer: Answer, account: &Account) -> Response<Full<Bytes>> {
    let mut response = plain(answer.status(&account.receiver));
    match answer {
        Answer::Refused | Answer::Busy | Answer::StoreDown => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Answer::BadMethod => {
            let allowed = match account.receiver {
                Receiver::Meta(_) => "GET, POST",
                Receiver::Twilio(_) => "POST",
            };
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    response
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Holds the in-flight gauge up, also when the client vanishes and this request's future is dropped.
struct InFlight<'a>(&'a Account);

impl<'a> InFlight<'a> {
    fn new(account: &'a Account) -> Self {
        account.metrics.bodies.increment(1.0);
        Self(account)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.bodies.decrement(1.0);
    }
}
