//! A stream that a reader has to go on taking: its place is another's when it does not.

use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::places::Place;

/// `steps` as a stream that is given up, with its place, when its reader takes nothing for `idle`. One step is worked out ahead: the
/// next one when the one before has been taken. Who comes back to a stream that was given up still gets what had been worked out, and then
/// `DEADLINE_EXCEEDED`.
pub(super) fn by_reader<T: Send + 'static>(
    mut steps: BoxStream<'static, Result<T, Status>>,
    idle: Duration,
    place: Place,
) -> BoxStream<'static, Result<T, Status>> {
    let (out, taken) = mpsc::channel(1);
    let (give_up, given_up) = oneshot::channel();
    // On its own: the transport asks for nothing while the reader takes nothing, so nobody else would see the time pass.
    tokio::spawn(async move {
        let _place = place;
        loop {
            let room = match tokio::time::timeout(idle, out.reserve()).await {
                Ok(Ok(room)) => room,
                Ok(Err(_)) => return,
                Err(_) => {
                    let text = "nobody took what was sent for too long: go on behind the last answer that arrived";
                    // Should the reader have gone this moment, nobody needs to be told.
                    let _ = give_up.send(Status::deadline_exceeded(text));
                    return;
                }
            };
            let step = tokio::select! {
                step = steps.next() => step,
                () = out.closed() => return,
            };
            match step {
                Some(step) => room.send(step),
                None => return,
            }
        }
    });
    let end = stream::once(given_up).filter_map(|end| ready(end.ok().map(Err)));
    ReceiverStream::new(taken).chain(end).boxed()
}

#[cfg(test)]
mod tests {
    use super::super::places::Places;
    use super::*;
    use sluice_engine::domain::ids::TenantId;
    use tonic::Code;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_loses_its_place_and_hears_why() {
        let places = Places::new("exports", 1, 1);
        let tenant = TenantId::new("acme").unwrap();
        let place = || places.take(&tenant).map_err(|_| ()).unwrap();
        let idle = Duration::from_secs(60);
        let mut stream = by_reader(stream::iter(0..10).map(Ok).boxed(), idle, place());
        for expected in 0..3 {
            // Slow, but not too slow.
            tokio::time::advance(idle / 2).await;
            assert_eq!(stream.next().await.unwrap().unwrap(), expected);
        }
        tokio::time::sleep(idle * 2).await;
        drop(place());
        assert_eq!(stream.next().await.unwrap().unwrap(), 3, "it had been worked out");
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_end_is_an_end_and_frees_the_place() {
        let places = Places::new("exports", 1, 1);
        let tenant = TenantId::new("acme").unwrap();
        let place = || places.take(&tenant).map_err(|_| ()).unwrap();
        let whole = by_reader(stream::iter(0..3).map(Ok).boxed(), Duration::from_secs(60), place());
        assert_eq!(whole.map(Result::unwrap).collect::<Vec<_>>().await, [0, 1, 2]);
        // And so does a reader who goes while a step is worked out.
        let gone = by_reader(stream::pending::<Result<(), Status>>().boxed(), Duration::from_secs(60), place());
        drop(gone);
        while places.take(&tenant).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
