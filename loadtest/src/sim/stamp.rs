//! When a request arrived.
//!
//! The kernel notes the time at which each segment came in (`SO_TIMESTAMPNS`), whatever this process was doing
//! just then, so a ceiling is judged by arrivals and not by how soon a busy simulator got round to reading them.
//! The difference between both (the *lag*) is kept and shown; where the kernel gives no time, the read itself is
//! the stamp, and the pulse below says how late the process woke up.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Stand-stills kept one by one.
const STALLS_MAX: usize = 10_000;

/// Stamps are nanoseconds since the Unix epoch, but move with the monotonic clock after the start, so that a step of
/// the wall clock neither hides nor invents a burst.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    epoch_ns: u64,
    lag: Lag,
}

/// How far reading lags behind arriving.
#[derive(Debug, Default)]
struct Lag {
    /// Stamps that came from the kernel.
    kernel: AtomicU64,
    /// Stamps taken at the read.
    read: AtomicU64,
    /// Longest time between arrival and read.
    longest_ns: AtomicU64,
    /// Reads that came later than a millisecond.
    late: AtomicU64,
    /// Longest oversleep of the pulse: the machine or this process stood still.
    stall_ns: AtomicU64,
    /// Oversleeps of more than 5 ms: when each ended and how long it was, in ns.
    stalls: Mutex<Vec<(u64, u64)>>,
}

/// The stamping's own report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stamping {
    /// Stamps taken by the kernel at arrival: exact however late they are read.
    pub by_kernel: u64,
    /// Stamps taken when reading: late by an unknown time, at most about `stall_ms_longest`.
    pub by_read: u64,
    /// Longest time from arrival to read, in milliseconds.
    pub read_lag_ms_longest: f64,
    /// Reads later than 1 ms after arrival.
    pub reads_late: u64,
    /// Longest time for which this process (or the whole machine) stood still, in milliseconds.
    pub stall_ms_longest: f64,
    /// Stand-stills of more than 5 ms (the engine's guard for jitter): when each ended, ns since the epoch, and how long it was, ns.
    /// The first 10,000 are kept.
    pub stalls: Vec<(u64, u64)>,
}

/// How long the machine stood still by those of its `stalls` (when each ended, how long it was, ns; in the order of their ends) that touch a
/// window or the 50 ms on either side, each in its whole length: what it held back comes after its end.
#[must_use]
pub fn stalled_ns(stalls: &[(u64, u64)], from_ns: u64, to_ns: u64) -> u64 {
    const SIDE: u64 = 50_000_000;
    let first = stalls.partition_point(|&(end, _)| end + SIDE < from_ns);
    let touch = |&&(end, long): &&(u64, u64)| end.saturating_sub(long + SIDE) <= to_ns;
    // They do not overlap: the next one began after this one's end.
    stalls[first..].iter().take_while(touch).map(|(_, long)| long).sum()
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), epoch_ns: wall_ns(), lag: Lag::default() }
    }

    /// Now.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.epoch_ns + self.start.elapsed().as_nanos() as u64
    }

    /// The stamp of bytes that were just read and that the kernel saw `kernel` (wall clock).
    #[must_use]
    pub fn stamp(&self, kernel: Option<Duration>) -> u64 {
        let now = self.now_ns();
        let Some(kernel) = kernel else {
            self.lag.read.fetch_add(1, Ordering::Relaxed);
            return now;
        };
        let lag = wall_ns().saturating_sub(kernel.as_nanos() as u64);
        self.lag.kernel.fetch_add(1, Ordering::Relaxed);
        if lag > 1_000_000 {
            self.lag.late.fetch_add(1, Ordering::Relaxed);
            self.lag.longest_ns.fetch_max(lag, Ordering::Relaxed);
        }
        now - lag.min(60_000_000_000)
    }

    /// Watches for stand-stills until `stop` is set: asks to be woken every 2 ms and notes how late it is.
    pub fn pulse(self: &Arc<Self>, stop: Arc<AtomicBool>) {
        const PERIOD: Duration = Duration::from_millis(2);
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(PERIOD);
            let now = Instant::now();
            let over = (now - last).saturating_sub(PERIOD).as_nanos() as u64;
            last = now;
            self.lag.stall_ns.fetch_max(over, Ordering::Relaxed);
            if over > 5_000_000 {
                let mut stalls = self.lag.stalls.lock();
                if stalls.len() < STALLS_MAX {
                    stalls.push((self.now_ns(), over));
                }
            }
        }
    }

    /// The report so far.
    #[must_use]
    pub fn stamping(&self) -> Stamping {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let ms = |value: &AtomicU64| get(value) as f64 / 1e6;
        Stamping {
            by_kernel: get(&self.lag.kernel),
            by_read: get(&self.lag.read),
            read_lag_ms_longest: ms(&self.lag.longest_ns),
            reads_late: get(&self.lag.late),
            stall_ms_longest: ms(&self.lag.stall_ns),
            stalls: self.lag.stalls.lock().clone(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Asks the kernel for receive times on all connections that this listener will accept (they inherit it, so that
/// even what arrives before `accept` has one): to be called before anybody knows the port. Without them reads still work.
pub fn stamp_arrivals(listener: &std::net::TcpListener) {
    let _ = setsockopt(listener, sockopt::ReceiveTimestampns, &true);
}

impl Default for StampedReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads from one connection together with the kernel's receive times.
#[derive(Debug)]
pub struct StampedReader {
    control: Vec<u8>,
}

impl StampedReader {
    /// A reader with room for a time.
    #[must_use]
    pub fn new() -> Self {
        Self { control: nix::cmsg_space!(TimeSpec) }
    }

    /// Waits for bytes and reads them; 0 means that the other side has closed.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn read(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
        stream.async_io(Interest::READABLE, || self.receive(stream, buffer)).await
    }

    /// Reads what is there.
    fn receive(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut self.control), MsgFlags::empty())
            .map_err(io::Error::from)?;
        let at = message.cmsgs().ok().and_then(|mut all| {
            all.find_map(|one| match one {
                ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
                _ => None,
            })
        });
        Ok((message.bytes, at))
    }
}

/// A connection that keeps the receive time of what is read, for a layer above that decrypts it.
#[derive(Debug)]
pub struct StampedStream {
    stream: TcpStream,
    reader: StampedReader,
    at: Option<Duration>,
}

impl StampedStream {
    /// Over a connection of a listener that was prepared by [`stamp_arrivals`].
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, reader: StampedReader::new(), at: None }
    }

    /// When the newest bytes came that were read since the last call: a request's, as soon as it can be decrypted.
    pub fn take_at(&mut self) -> Option<Duration> {
        self.at.take()
    }

    /// The connection itself.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for StampedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.stream.poll_read_ready(cx))?;
            let (stream, reader) = (&this.stream, &mut this.reader);
            let free = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || reader.receive(stream, free)) {
                Ok((read, at)) => {
                    buffer.advance(read);
                    this.at = at.or(this.at);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for StampedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
