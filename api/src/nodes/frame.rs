//! The first message of a call, read ahead so that it can be seen whom the call is about; nothing of the body is lost by it.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;

/// The compressed flag and the length before each message.
const PREFIX: usize = 5;

/// What was read of a body, and the rest of it.
pub(super) struct Peeked {
    /// Everything that was read.
    pub(super) read: Bytes,
    /// What is still to come.
    pub(super) rest: Body,
}

/// Reads until the first message is whole; with `to_end` until the body ends, too. Stops early at a message of more than `bytes_max`,
/// which is left to whoever refuses it.
///
/// # Errors
/// The caller went away, or was silent for longer than `idle`.
pub(super) async fn peek(mut body: Body, to_end: bool, bytes_max: usize, idle: Duration) -> Result<Peeked, Status> {
    let mut read = BytesMut::new();
    while !body.is_end_stream() && (to_end || message(&read).is_none()) && read.len() <= bytes_max + PREFIX {
        let Ok(frame) = tokio::time::timeout(idle, body.frame()).await else {
            return Err(Status::deadline_exceeded("no message came for too long: call again"));
        };
        match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().map_or((), |data| read.extend_from_slice(&data)),
            Some(Err(status)) => return Err(status),
        }
    }
    Ok(Peeked { read: read.freeze(), rest: body })
}

/// The first message of `bytes`; `None`: it is not whole, or compressed, which this server does not speak.
pub(super) fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
    let [0, length @ ..] = <[u8; PREFIX]>::try_from(prefix).ok()? else { return None };
    rest.get(..usize::try_from(u32::from_be_bytes(length)).ok()?)
}

/// A message as it is sent.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// A body that is known as a whole.
pub(super) fn whole(bytes: Bytes) -> Body {
    Body::new(Full::new(bytes))
}

impl Peeked {
    /// The body as it came.
    pub(super) fn into_body(self) -> Body {
        let read = stream::iter([Ok(Frame::data(self.read))]);
        Body::new(StreamBody::new(read.chain(BodyStream::new(self.rest))))
    }

    /// The same, each message being looked at before it arrives whole: it ends with what `expect` refuses one with.
    pub(super) fn into_checked(self, expect: impl Fn(&[u8]) -> Result<(), Status> + Send + 'static) -> Body {
        // Its size is bounded by whoever reads it, who gets all but its last part first.
        let mut begun = BytesMut::new();
        let frames = BodyStream::new(self.into_body()).map(move |frame| {
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                begun.extend_from_slice(data);
            }
            while let Some(message) = message(&begun) {
                let length = PREFIX + message.len();
                expect(message)?;
                begun.advance(length);
            }
            Ok::<_, Status>(frame)
        });
        Body::new(StreamBody::new(frames))
    }
}

/// A body that begins with `first` and goes on with what is handed over later; it ends after `first` when nothing ever is.
pub(super) fn to_be_continued(first: Bytes) -> (Body, oneshot::Sender<Body>) {
    let (sender, rest) = oneshot::channel::<Body>();
    let rest = stream::once(async move { rest.await.ok() }).filter_map(std::future::ready).flat_map(BodyStream::new);
    let body = stream::iter([Ok(Frame::data(first))]).chain(rest.boxed());
    (Body::new(StreamBody::new(body)), sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    fn parts(parts: &[&[u8]]) -> Body {
        let frames: Vec<_> =
            parts.iter().map(|part| Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(part)))).collect();
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    async fn all(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn the_first_message_is_seen_and_nothing_is_lost_however_it_is_cut() {
        let stream = [framed(b"first"), framed(b"second")].concat();
        for cut in 1..stream.len() {
            for to_end in [false, true] {
                let (head, tail) = stream.split_at(cut);
                let peeked = peek(parts(&[head, b"", tail]), to_end, 100, IDLE).await.unwrap();
                assert_eq!(message(&peeked.read), Some(&b"first"[..]), "cut at {cut}");
                assert_eq!(all(peeked.into_body()).await, stream, "cut at {cut}");
            }
        }
    }

    #[tokio::test]
    async fn every_message_is_looked_at_before_it_is_whole() {
        let stream = [framed(b"first"), framed(b"second"), framed(b"third")].concat();
        for cut in 1..stream.len() {
            let (head, tail) = stream.split_at(cut);
            let peeked = async || peek(parts(&[head, tail]), false, 100, IDLE).await.unwrap();
            assert_eq!(all(peeked().await.into_checked(|_| Ok(()))).await, stream, "cut at {cut}");
            let refuse = |message: &[u8]| if message == b"third" { Err(Status::aborted("no")) } else { Ok(()) };
            let mut body = BodyStream::new(peeked().await.into_checked(refuse));
            let mut passed = BytesMut::new();
            let refused = loop {
                match body.next().await.unwrap() {
                    Ok(frame) => passed.extend_from_slice(frame.data_ref().unwrap()),
                    Err(status) => break status,
                }
            };
            assert!(refused.code() == tonic::Code::Aborted && passed.len() < stream.len(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_read_to_its_end() {
        let large = framed(&[7; 1_000]);
        let halves = large.split_at(500);
        let peeked = peek(parts(&[halves.0, halves.1]), true, 100, IDLE).await.unwrap();
        assert_eq!((peeked.read.len(), message(&peeked.read)), (500, None));
        assert_eq!(all(peeked.into_body()).await, large);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_caller_is_not_waited_for() {
        let silent = Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>()));
        let status = peek(silent, false, 100, IDLE).await.err().unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_body_goes_on_when_it_may() {
        let (body, more) = to_be_continued(framed(b"a"));
        more.send(whole(framed(b"b"))).unwrap();
        assert_eq!(all(body).await, [framed(b"a"), framed(b"b")].concat());
        let (body, more) = to_be_continued(framed(b"a"));
        drop(more);
        assert_eq!(all(body).await, framed(b"a"));
    }

    #[test]
    fn compressed_and_cut_messages_are_none() {
        assert_eq!(message(&[]), None);
        assert_eq!(message(&[1, 0, 0, 0, 0]), None);
        assert_eq!(message(&[0, 0, 0, 0, 2, 9]), None);
        assert_eq!(message(&[0, 0, 0, 0, 0]), Some(&[][..]));
    }
}
