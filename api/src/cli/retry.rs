//! How long a stream is opened again while a server is away.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pauses that grow, until nothing has gone forward for the given time.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// Gives up after `limit` without progress.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, pause: FIRST_PAUSE }
    }

    /// Something went forward.
    pub fn renew(&mut self) {
        self.since = None;
        self.pause = FIRST_PAUSE;
    }

    /// Waits before the next try; `false`, at once, when patience is over.
    pub async fn wait(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now + self.pause > since + self.limit {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_is_renewed() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut tries = 0;
        while patience.wait().await {
            tries += 1;
        }
        // 0.25 + 0.5 + 1 + 2 + 4 = 7.75 s, and the next pause would end later than 10 s.
        assert_eq!((tries, start.elapsed()), (5, Duration::from_millis(7_750)));
        patience.renew();
        assert!(patience.wait().await);
        assert!(!Patience::new(Duration::ZERO).wait().await);
    }
}
