//! A line between a store and the server on which somebody meddles with the batches. Each batch with a timestamp is shown to the meddler, and
//! what that makes of it reaches the server in its place, in order, over a connection of the line's own. Everything else goes as it came.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::super::ScyllaConfig;
use super::batch::Batch;

/// Bytes of a frame's head in version 4 of the protocol: version, flags, stream (2), opcode, length (4).
const HEAD: usize = 9;
const STARTUP: u8 = 0x01;
const READY: u8 = 0x02;
const RESULT: u8 = 0x08;
const BATCH: u8 = 0x0D;

/// What is made of a batch.
#[derive(Debug)]
pub(super) enum Fate {
    /// These reach the server in its place. The store hears the first error, else that it is done.
    Sent(Vec<Batch>),
    /// It does not reach the server, and the store hears nothing.
    HeldBack,
}

/// Whoever meddles.
pub(super) type Meddler = Box<dyn FnMut(Batch) -> Fate + Send>;

struct Shared {
    target: SocketAddr,
    meddler: Mutex<Meddler>,
}

/// A running line; it ends with this value.
pub(super) struct Line {
    /// Where it begins, as a contact point.
    pub(super) address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Line {
    /// One to the server that a configuration names; `None`, and a word about it: that is not on this machine. It listens at the server's own
    /// IP address: a driver takes the addresses from the servers, and the port from the contact point.
    pub(super) async fn to(config: &ScyllaConfig) -> Option<Self> {
        let target =
            tokio::net::lookup_host(&config.contact_points[0]).await.expect("its address").next().expect("one");
        let listener = match TcpListener::bind((target.ip(), 0)).await {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                eprintln!("the server is not on this machine (SLUICE_CQL_NODES): no line leads there, not tried");
                return None;
            }
            Err(error) => panic!("it listens: {error}"),
        };
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared { target, meddler: Mutex::new(Box::new(|batch| Fate::Sent(vec![batch]))) });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Some(Self { address, shared, task })
    }

    /// From now on this one meddles.
    pub(super) fn meddle(&self, meddler: impl FnMut(Batch) -> Fate + Send + 'static) {
        *self.shared.meddler.lock() = Box::new(meddler);
    }

    /// From now on all batches are held back; the answer fills with them, each once, however often it is sent.
    pub(super) fn hold(&self) -> Arc<Mutex<Vec<Batch>>> {
        let held: Arc<Mutex<Vec<Batch>>> = Arc::default();
        let into = Arc::clone(&held);
        self.meddle(move |batch| {
            let mut held = into.lock();
            if !held.contains(&batch) {
                held.push(batch);
            }
            Fate::HeldBack
        });
        held
    }

    /// Brings batches to the server, whatever has become of who sent them.
    pub(super) async fn bring(&self, batches: Vec<Batch>) {
        let mut own = connect(self.shared.target).await.expect("the server is there");
        for batch in batches {
            let answer = ask(&mut own, [0, 0], &batch).await.expect("it answers");
            assert_eq!(answer[4], RESULT, "{}", String::from_utf8_lossy(&answer));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move { carry(client, &shared).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(shared.target).await?;
    // Small frames, each with somebody who waits for it.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let to_client = tokio::sync::Mutex::new(to_client);
    // Whichever ends first ends both.
    tokio::select! {
        ended = carry_requests(from_client, to_server, &to_client, shared) => ended,
        ended = carry_answers(from_server, &to_client) => ended,
    }
}

async fn carry_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answers: &tokio::sync::Mutex<OwnedWriteHalf>,
    shared: &Shared,
) -> io::Result<()> {
    let mut own = connect(shared.target).await?;
    loop {
        let request = frame(&mut from).await?;
        let batch = if request[4] == BATCH { Batch::read(&request[HEAD..]) } else { None };
        // Without a timestamp it is a decision of the server's.
        let Some(batch) = batch.filter(|batch| batch.at().is_some()) else {
            to.write_all(&request).await?;
            continue;
        };
        let fate = (*shared.meddler.lock())(batch);
        let Fate::Sent(batches) = fate else { continue };
        let stream = [request[2], request[3]];
        let mut answer = done(stream);
        for batch in batches {
            answer = ask(&mut own, stream, &batch).await?;
            if answer[4] != RESULT {
                break;
            }
        }
        answers.lock().await.write_all(&answer).await?;
    }
}

async fn carry_answers(mut from: OwnedReadHalf, to: &tokio::sync::Mutex<OwnedWriteHalf>) -> io::Result<()> {
    loop {
        let answer = frame(&mut from).await?;
        to.lock().await.write_all(&answer).await?;
    }
}

/// Reads one frame.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await?;
    let length = frame[HEAD - 4..].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    frame.resize(HEAD + length, 0);
    from.read_exact(&mut frame[HEAD..]).await?;
    Ok(frame)
}

/// A connection that may be asked.
async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let mut own = TcpStream::connect(target).await?;
    own.set_nodelay(true)?;
    let startup = b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0";
    own.write_all(&framed(STARTUP, [0, 0], startup)).await?;
    let answer = frame(&mut own).await?;
    if answer[4] == READY { Ok(own) } else { Err(io::Error::other("the server asks for more than a greeting")) }
}

/// Has a batch written; the answer, of this stream.
async fn ask(own: &mut TcpStream, stream: [u8; 2], batch: &Batch) -> io::Result<Vec<u8>> {
    own.write_all(&framed(BATCH, stream, &batch.bytes())).await?;
    frame(own).await
}

fn framed(opcode: u8, stream: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("far below 2^32").to_be_bytes();
    [&[4, 0][..], &stream, &[opcode], &length, body].concat()
}

/// What a server answers when a batch is written.
fn done(stream: [u8; 2]) -> Vec<u8> {
    let mut answer = framed(RESULT, stream, &[0, 0, 0, 1]);
    answer[0] |= 0x80;
    answer
}
