//! Somebody on the network between two nodes, who hears what they say, sends it again, or changes it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};

use super::house::House;
use super::webhooks::{applied, two};

/// What went over a way.
type Heard = Arc<Mutex<Vec<u8>>>;

/// A way to `to` on which everything that is asked is heard, after `change`.
async fn overheard(to: SocketAddr, mut change: impl FnMut(&mut [u8]) + Send + 'static) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        let (mut asks, mut gets) = listener.accept().await.unwrap().0.into_split();
        let (mut answers, mut brings) = TcpStream::connect(to).await.unwrap().into_split();
        tokio::spawn(async move { copy(&mut answers, &mut gets).await });
        let mut part = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = asks.read(&mut part).await {
            change(&mut part[..length]);
            notes.lock().extend_from_slice(&part[..length]);
            brings.write_all(&part[..length]).await.unwrap();
        }
    });
    (address, heard)
}

fn find(text: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// Sends what was heard on a connection of its own, until the first call in it is answered.
async fn send_again(to: SocketAddr, heard: &[u8]) {
    /// The type of the frame that an answer begins with (RFC 9113, 6.2).
    const HEADERS: u8 = 1;
    let mut connection = TcpStream::connect(to).await.unwrap();
    connection.write_all(heard).await.unwrap();
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.expect("an answer comes");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        connection.read_exact(&mut vec![0; length as usize]).await.expect("all of it");
        if head[3] == HEADERS {
            return;
        }
    }
}

#[tokio::test]
async fn what_was_overheard_and_is_sent_again_is_not_done_again() {
    let (house, a, b) = two(House::new()).await;
    let (way, heard) = overheard(a.inside, |_| ()).await;
    house.enrol("a", way);
    b.accept(vec![house.status("a-", "wamid.1").await]).await.unwrap();
    assert_eq!(a.took(), applied(&["wamid.1"]));
    let heard = heard.lock().clone();
    assert!(find(b"wamid.1", &heard).is_some(), "it is heard");
    send_again(a.inside, &heard).await;
    assert_eq!(a.took(), []);
    // Nor by another process under the same name, which knows nothing of what the one before it was asked.
    let after = house.node("a", 's', Arc::clone(&a.owners)).await;
    send_again(after.inside, &heard).await;
    assert_eq!(after.took(), []);
    // The nodes themselves go on.
    b.accept(vec![house.status("a-", "wamid.2").await]).await.unwrap();
    assert_eq!(after.took(), applied(&["wamid.2"]));
}

/// The first time another message is put behind the proof; then the way is as it should be.
#[tokio::test]
async fn a_message_that_was_changed_on_its_way_is_not_taken() {
    let (house, a, b) = two(House::new()).await;
    let mut is_changed = false;
    let (way, heard) = overheard(a.inside, move |bytes| {
        if let Some(at) = find(b"wamid.1", bytes).filter(|_| !is_changed) {
            bytes[at..at + 7].copy_from_slice(b"wamid.9");
            is_changed = true;
        }
    })
    .await;
    house.enrol("a", way);
    b.accept(vec![house.status("a-", "wamid.1").await]).await.unwrap();
    assert!(find(b"wamid.9", &heard.lock()).is_some(), "it was changed");
    assert_eq!(a.took(), applied(&["wamid.1"]));
}
