//! How a run goes, on standard error: one line that is written over in a terminal, a line every ten seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};

use parking_lot::Mutex;
use sluice_loadtest::measure::sampler::Glance;
use sluice_loadtest::report::figures::shown;
use sluice_loadtest::runs::drive::Progress;

/// Seconds between two lines where lines cannot be written over.
const SELDOM_S: f64 = 10.0;

/// Standard error.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    /// When the last line was written, and whether it is to be written over.
    last: Mutex<(f64, bool)>,
}

impl Progress for Terminal {
    fn say(&self, words: &str) {
        let mut last = self.last.lock();
        let clear = if last.1 { "\r\x1b[2K" } else { "" };
        *last = (0.0, false);
        let _ = writeln!(std::io::stderr(), "{clear}{words}");
    }

    fn glance(&self, glance: &Glance) {
        let mut last = self.last.lock();
        let terminal = std::io::stderr().is_terminal();
        if !terminal && glance.at_s - last.0 < SELDOM_S {
            return;
        }
        *last = (glance.at_s, terminal);
        let line = format!(
            "{:>6.0} s  {:>12} accepted  {:>8} msg/s  {:>8} statuses/s  {:>8} open  server {:>4.0} %, {:>5.0} MiB",
            glance.at_s,
            shown(glance.accepted as f64),
            shown(glance.messages_per_s.round()),
            shown(glance.statuses_per_s.round()),
            shown(glance.outstanding as f64),
            glance.server_percent,
            glance.rss_mib
        );
        let mut out = std::io::stderr();
        let _ = if terminal { write!(out, "\r\x1b[2K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
}
