//! A line between two programs, with somebody who can disturb it: cut it, break it, lose answers, hold requests back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What a line does with what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Carries it.
    #[default]
    Open,
    /// Carries nothing, and says nothing. What was sent meanwhile arrives when the line is open again, as from a network that was away.
    Cut,
    /// Connections end at once.
    Broken,
    /// Of so many per cent of a CQL server's results nobody hears.
    Mute(u8),
    /// CQL batches are held back, and arrive when it is open again, whoever sent them may be dead by then.
    Held,
}

/// The way of each caller; those that are not named take the first.
#[derive(Debug, Clone, Default)]
struct Ways {
    all: Way,
    of: BTreeMap<usize, Way>,
}

impl Ways {
    fn of(&self, caller: Option<usize>) -> Way {
        caller.and_then(|caller| self.of.get(&caller)).copied().unwrap_or(self.all)
    }
}

/// Who calls, by the port that the call comes from.
pub type Callers = Arc<dyn Fn(SocketAddr, SocketAddr) -> Option<usize> + Send + Sync>;

/// What goes over a line.
#[derive(Clone)]
pub enum Traffic {
    /// Frames of the CQL protocol.
    Cql,
    /// Anything; it knows who calls.
    Between(Callers),
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Cql) { "Cql" } else { "Between" })
    }
}

/// A frame that is held back, and where it goes.
type Held = (mpsc::Sender<Bytes>, Bytes);

/// Pieces of one direction that wait to be written; then nothing more is read.
const WAITING: usize = 64;

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    traffic: Traffic,
    ways: watch::Sender<Ways>,
    held: Mutex<Vec<Held>>,
    chance: AtomicU64,
}

impl Shared {
    /// True for so many per cent; any mixing will do (splitmix64).
    fn happens(&self, percent: u8) -> bool {
        let mut mixed = self.chance.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 33) % 100 < u64::from(percent)
    }
}

/// A running line; it ends with this value.
#[derive(Debug)]
pub struct Link {
    /// Where it begins.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts one that leads there. It listens at the target's own IP address, with another port: a CQL driver takes the addresses from
    /// the servers and the port from the contact point.
    ///
    /// # Errors
    /// When it cannot listen, for example because the target is not of this machine.
    pub async fn start(target: SocketAddr, traffic: Traffic, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind((target.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let ways = watch::Sender::default();
        let shared = Arc::new(Shared { target, traffic, ways, held: Mutex::default(), chance: AtomicU64::new(seed) });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), address));
        Ok(Self { address, shared, task })
    }

    /// From now on it does this, with everybody's. Within a runtime.
    pub fn set(&self, way: Way) {
        self.shared.ways.send_modify(|ways| ways.all = way);
        if way != Way::Held {
            let held = std::mem::take(&mut *self.shared.held.lock());
            tokio::spawn(async move {
                for (to, frame) in held {
                    // The server may have closed the connection.
                    let _ = to.send(frame).await;
                }
            });
        }
    }

    /// From now on it does this with what one caller sends.
    pub fn set_of(&self, caller: usize, way: Way) {
        self.shared.ways.send_modify(|ways| {
            ways.of.insert(caller, way);
        });
    }

    /// Frames that are held back now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.held.lock().len()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, own: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((client, from)) = listener.accept().await {
        let caller = match &shared.traffic {
            Traffic::Between(callers) => callers(from, own),
            Traffic::Cql => None,
        };
        let mut broken = shared.ways.subscribe();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let carried = carry(client, shared, caller);
            let is_broken = broken.wait_for(|ways| ways.of(caller) == Way::Broken);
            // Either way both sockets are closed.
            tokio::select! { () = carried => {}, _ = is_broken => {} }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>, caller: Option<usize>) {
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    // Small frames, each with somebody who waits for it.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, going_up) = mpsc::channel(WAITING);
    let (down, going_down) = mpsc::channel(WAITING);
    let requests = pump(from_client, up, Arc::clone(&shared), caller, true);
    let answers = pump(from_server, down, shared, caller, false);
    // A connection whose client is gone stays as long as something of it is held back.
    tokio::join!(requests, answers, write(going_up, to_server), write(going_down, to_client));
}

async fn write(mut pieces: mpsc::Receiver<Bytes>, mut to: OwnedWriteHalf) {
    while let Some(piece) = pieces.recv().await {
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Carries one direction, piece by piece: frames of CQL, else whatever came.
async fn pump(
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    caller: Option<usize>,
    is_request: bool,
) {
    let mut ways = shared.ways.subscribe();
    let mut buffer = BytesMut::with_capacity(1 << 14);
    loop {
        while let Some(piece) = piece(&mut buffer, &shared.traffic) {
            let Ok(way) = ways.wait_for(|ways| ways.of(caller) != Way::Cut).await.map(|ways| ways.of(caller)) else {
                return;
            };
            let opcode = piece.get(4).copied();
            match way {
                Way::Held if is_request && opcode == Some(BATCH) => shared.held.lock().push((to.clone(), piece)),
                Way::Mute(percent) if !is_request && opcode == Some(RESULT) && shared.happens(percent) => {}
                _ => {
                    if to.send(piece).await.is_err() {
                        return;
                    }
                }
            }
        }
        if !matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

/// Bytes of a frame's head in version 4 of the protocol: version, flags, stream (2), opcode, length (4).
const HEAD: usize = 9;
const RESULT: u8 = 0x08;
const BATCH: u8 = 0x0D;

fn piece(buffer: &mut BytesMut, traffic: &Traffic) -> Option<Bytes> {
    if buffer.is_empty() {
        return None;
    }
    if !matches!(traffic, Traffic::Cql) {
        return Some(buffer.split().freeze());
    }
    let length = buffer.get(HEAD - 4..HEAD)?.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    (buffer.len() >= HEAD + length).then(|| buffer.split_to(HEAD + length).freeze())
}

/// Which of these processes holds the socket at `from` of a connection to `to`, both on this machine.
#[must_use]
pub fn caller(from: SocketAddr, to: SocketAddr, processes: &[Option<i32>]) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (from, to) = (format!(":{:04X}", from.port()), format!(":{:04X}", to.port()));
    let inode = table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next()?.ends_with(&from) && words.next()?.ends_with(&to);
        // After both addresses: state, queues, timer, retransmits, user, timeout, inode.
        is_it.then(|| words.nth(6)).flatten()
    })?;
    let wanted = format!("socket:[{inode}]");
    let holds = |process: &i32| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files.map(|file| file.path()).any(|file| std::fs::read_link(file).is_ok_and(|to| to.as_os_str() == &*wanted))
    };
    processes.iter().position(|process| process.as_ref().is_some_and(holds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(opcode: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[4, 0, 0, 1, opcode][..], &length, body].concat()
    }

    /// A server that says what it hears, and a line to it.
    async fn line() -> (Link, mpsc::Receiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let target = listener.local_addr().expect("an address");
        let (said, heard) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let said = said.clone();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 1 << 10];
                    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                        said.send(bytes[..count].to_vec()).await.expect("somebody listens");
                        socket.write_all(&frame(RESULT, b"done")).await.expect("it is there");
                    }
                });
            }
        });
        (Link::start(target, Traffic::Cql, 1).await.expect("starts"), heard)
    }

    #[tokio::test]
    async fn a_batch_is_held_back_beyond_its_sender_and_the_rest_goes_on() {
        let (link, mut heard) = line().await;
        link.set(Way::Held);
        let mut client = TcpStream::connect(link.address).await.expect("connects");
        let (batch, query) = (frame(BATCH, b"late"), frame(7, b"now"));
        client.write_all(&[batch.clone(), query.clone()].concat()).await.expect("sent");
        assert_eq!(heard.recv().await.expect("heard"), query);
        assert_eq!(link.held(), 1);
        drop(client);
        link.set(Way::Open);
        assert_eq!(heard.recv().await.expect("heard"), batch, "its sender is gone");
    }

    #[tokio::test]
    async fn what_is_sent_over_a_cut_line_comes_when_it_is_open_and_a_mute_one_loses_answers() {
        let (link, mut heard) = line().await;
        let mut client = TcpStream::connect(link.address).await.expect("connects");
        link.set(Way::Cut);
        client.write_all(&frame(7, b"one")).await.expect("sent");
        let nothing = tokio::time::timeout(Duration::from_millis(50), heard.recv()).await;
        assert!(nothing.is_err(), "it is cut");
        link.set(Way::Mute(100));
        assert_eq!(heard.recv().await.expect("heard"), frame(7, b"one"));
        let mut answer = [0; 13];
        let lost = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut answer)).await;
        assert!(lost.is_err(), "nobody hears it");
        link.set(Way::Open);
        client.write_all(&frame(7, b"two")).await.expect("sent");
        client.read_exact(&mut answer).await.expect("answered");
        link.set(Way::Broken);
        assert!(!matches!(client.read(&mut answer).await, Ok(1..)), "it ended");
    }

    #[tokio::test]
    async fn who_calls_is_found_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let to = listener.local_addr().expect("an address");
        let client = TcpStream::connect(to).await.expect("connects");
        let from = client.local_addr().expect("an address");
        let own = i32::try_from(std::process::id()).expect("small");
        assert_eq!(caller(from, to, &[None, Some(1), Some(own)]), Some(2));
        assert_eq!(caller(to, from, &[None]), None);
    }
}
