//! Reads a request's body: bounded in size and in time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is, or says it is, larger than allowed.
    TooLarge,
    /// It was not admitted: too much of its account is under way.
    Refused,
    /// It did not end in time.
    Slow,
    /// The client vanished or broke the protocol.
    Broken,
}

/// Reads `body`, at most `bytes_max` bytes within `deadline`.
///
/// A declared length that is too large is refused before anything is read; an undeclared one as soon as it has become too large.
/// `admit` is asked with the length so far before each part is kept.
pub(super) async fn read<B>(
    body: B,
    bytes_max: usize,
    deadline: Duration,
    admit: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    tokio::time::timeout(deadline, read_all(body, bytes_max, admit)).await.unwrap_or(Err(BodyError::Slow))
}

async fn read_all<B>(mut body: B, bytes_max: usize, mut admit: impl FnMut(usize) -> bool) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > bytes_max {
        return Err(BodyError::TooLarge);
    }
    let mut whole = Bytes::new();
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        let so_far = whole.len() + parts.len() + data.len();
        if so_far > bytes_max {
            return Err(BodyError::TooLarge);
        }
        if !admit(so_far) {
            return Err(BodyError::Refused);
        }
        // Nearly every body comes in one part, with its head: that one is not copied.
        if whole.is_empty() && parts.is_empty() {
            whole = data;
            continue;
        }
        if parts.is_empty() {
            // Not for as much as was declared: only what has come is charged.
            parts.reserve(whole.len() + data.len());
            parts.extend_from_slice(&std::mem::take(&mut whole));
        }
        parts.extend_from_slice(&data);
    }
    Ok(if parts.is_empty() { whole } else { parts.freeze() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1);

    fn chunks(list: &'static [&'static str]) -> impl Body<Data = Bytes> + Unpin {
        let frames = list.iter().map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from_static(text.as_bytes()))));
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn parts_come_out_whole() {
        for (list, want) in [(&[][..], ""), (&["abc"], "abc"), (&["a", "", "bc", "d"], "abcd")] {
            assert_eq!(read(chunks(list), 4, DEADLINE, |_| true).await.expect("it fits"), want);
        }
    }

    #[tokio::test]
    async fn too_large_is_refused_declared_or_not() {
        assert_eq!(
            read(Full::new(Bytes::from_static(b"abcde")), 4, DEADLINE, |_| true).await,
            Err(BodyError::TooLarge)
        );
        assert_eq!(read(chunks(&["abc", "de"]), 4, DEADLINE, |_| true).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn every_part_is_admitted_by_the_length_so_far() {
        let mut asked = Vec::new();
        let admit = |so_far| {
            asked.push(so_far);
            so_far < 4
        };
        assert_eq!(read(chunks(&["a", "bc", "d", "e"]), 100, DEADLINE, admit).await, Err(BodyError::Refused));
        assert_eq!(asked, [1, 3, 4]);
    }

    #[tokio::test]
    async fn a_body_without_end_is_slow() {
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read(endless, 4, Duration::from_millis(1), |_| true).await, Err(BodyError::Slow));
    }
}
