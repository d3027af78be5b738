//! Time as the engine sees it: wall-clock stamps for the ledger, monotonic nanoseconds for pacing.
//!
//! Nothing that decides reads a clock of its own. The wall clock may step (it is only written down), the monotonic one may not:
//! every limit and deadline within a run counts on [`Mono`].

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This moment and `span` later, saturating.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// How much later this is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC; a moment that no calendar has, as its number.
impl std::fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// Nanoseconds on a clock that never steps, counted from an arbitrary moment of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// How much later this is than `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The clocks of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    origin: tokio::time::Instant,
    /// Counts leases; `None`: the monotonic clock does.
    lease: Option<Arc<dyn Fn() -> Mono + Send + Sync>>,
}

/// The system's clock that also counts the time in which the machine was suspended.
fn since_boot() -> Mono {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ID: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ID: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    // It cannot fail for a clock that the system has; if it did, the end of time ends every lease: nothing is sent.
    nix::time::clock_gettime(ID).map_or(Mono(u64::MAX), |time| Mono(0) + Duration::from(time))
}

impl Clock {
    /// The system's clocks. The monotonic one is tokio's, so that paused time moves it in tests.
    pub fn system() -> Self {
        let system = Self::with_wall(|| {
            let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            UnixMillis(since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
        });
        system.with_lease(since_boot)
    }

    /// The monotonic clock of the system with a wall clock of the caller's: tests step it.
    pub fn with_wall(wall: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(wall), origin: tokio::time::Instant::now(), lease: None }
    }

    /// With another clock for leases: tests stop it, or let it jump as a suspended machine's does.
    #[must_use]
    pub fn with_lease(self, lease: impl Fn() -> Mono + Send + Sync + 'static) -> Self {
        Self { lease: Some(Arc::new(lease)), ..self }
    }

    /// The clock that leases are counted by. It also counts time in which the machine was suspended, and is not to be compared with
    /// [`Self::mono`].
    pub fn lease(&self) -> Mono {
        self.lease.as_ref().map_or_else(|| self.mono(), |lease| lease())
    }

    /// The wall clock.
    pub fn wall(&self) -> UnixMillis {
        (self.wall)()
    }

    /// The monotonic clock; never below ten seconds, so that "a window ago" can always be written down.
    pub fn mono(&self) -> Mono {
        Mono(10_000_000_000) + self.origin.elapsed()
    }

    /// Sleeps until the monotonic clock shows `until`.
    pub async fn sleep_until(&self, until: Mono) {
        tokio::time::sleep(until.since(self.mono())).await;
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("wall", &self.wall()).field("mono", &self.mono()).finish()
    }
}
