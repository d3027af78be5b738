//! The figures that a run can measure: one list for pass conditions, reports and comparisons.

/// Which way a figure is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
    /// It only describes.
    Neither,
}

/// A figure's description.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way it is good.
    pub better: Better,
    /// What it is.
    pub what: &'static str,
}

const fn more(name: &'static str, unit: &'static str, what: &'static str) -> Kind {
    Kind { name, unit, better: Better::More, what }
}

const fn less(name: &'static str, unit: &'static str, what: &'static str) -> Kind {
    Kind { name, unit, better: Better::Less, what }
}

const fn plain(name: &'static str, unit: &'static str, what: &'static str) -> Kind {
    Kind { name, unit, better: Better::Neither, what }
}

/// All figures, in the order of reports.
pub const ALL: &[Kind] = &[
    // What went through.
    plain("messages.accepted", "messages", "accepted by the provider, the probe's included"),
    plain("statuses.acked", "statuses", "acknowledged by the server, copies included"),
    less("statuses.given_up", "statuses", "refused at every try until the provider gave up: never heard of again"),
    more("rate.messages", "msg/s", "accepted, from the first arrival to the last"),
    more("rate.statuses", "statuses/s", "acknowledged, from the first arrival to the last acknowledgement"),
    more("rate.cycle", "msg/s", "messages with all their statuses, from the first arrival to the last acknowledgement"),
    more("import.rows", "rows/s", "imported and durable, over all imports before the begin"),
    less("import.memory", "MiB", "peak resident memory of the server until everything was imported"),
    // Latencies.
    less("start.p50", "ms", "start call to the first byte at the provider, median over campaigns"),
    less("start.p99", "ms", "the same, 99th percentile"),
    less("start.longest", "ms", "the same, longest"),
    less("start.early", "messages", "arrived before their campaign's start was called, or its scheduled time"),
    less("due.p50", "ms", "intent (the recipient's turn) to the provider's acceptance, median"),
    less("due.p99", "ms", "the same, 99th percentile"),
    less("due.p999", "ms", "the same, 99.9th percentile"),
    less("pacing.p50", "ms", "distance of an arrival from even spacing within its second, median"),
    less("pacing.p99", "ms", "the same, 99th percentile"),
    less("pacing.longest", "ms", "the same, longest"),
    less("webhook.p50", "ms", "first byte of a webhook POST to its answer, median"),
    less("webhook.p99", "ms", "the same, 99th percentile"),
    less("webhook.p999", "ms", "the same, 99.9th percentile"),
    less("webhook.longest", "ms", "the same, longest"),
    less("webhook_due.p50", "ms", "scheduled moment of a webhook POST to its 200, retries included, median"),
    less("webhook_due.p99", "ms", "the same, 99th percentile"),
    less("webhook_due.p999", "ms", "the same, 99.9th percentile"),
    less("visible.p50", "ms", "a probe's status POST to its count in the watch stream, median"),
    less("visible.p99", "ms", "the same, 99th percentile"),
    less("visible.longest", "ms", "the same, longest"),
    // Lines.
    more("line.use_min", "of the ceiling", "least used by a line over any window of demand"),
    less("line.highest", "of the ceiling", "most that arrived on a line within any second"),
    less("line.refused", "requests", "refused by the provider as above a line's ceiling"),
    less("line.strayed", "messages", "came by a line of another pool than their campaign's"),
    more("share.least", "of the most", "equal campaigns side by side: fewest messages ÷ most, when the first ended"),
    more("share.always", "of the most", "the same at the worst moment from when each had sent 100"),
    less(
        "campaign.above",
        "messages",
        "most that a campaign sent beyond its own rate and burst within any 10 s or more",
    ),
    more("campaign.rate_min", "of the rate", "least used by a campaign of its own rate over any 10 s of demand"),
    // What it costs.
    less("cpu.message", "µs", "CPU of the server per message"),
    less("cpu.user", "µs", "in user mode, per message"),
    less("cpu.system", "µs", "in the kernel, per message"),
    less("cpu.percent", "% of a core", "CPU of the server over the whole load"),
    less("cpu.ledger", "µs", "CPU of the CQL server per message"),
    plain("cpu.simulator", "µs", "CPU of the simulator per message"),
    plain("cpu.harness", "% of a core", "CPU of this program over the whole load"),
    less("memory.peak", "MiB", "peak resident memory of the server"),
    less("memory.flood", "MiB", "growth of the server's resident memory during floods"),
    less("disk.message", "bytes", "written to disk per message"),
    less("syncs.message", "syncs", "syncs (or commits) of the store per message"),
    less("ledger.message", "bytes", "size of the data directory per recipient"),
    less("rows.message", "rows", "written to the CQL server per message, a segment's counts among them"),
    more("rows.batch", "rows", "in a batch to the CQL server, mean"),
    less("switches.message", "switches", "context switches of the server per message"),
    plain("machine.idle", "%", "idle time of the machine"),
    plain("machine.stolen", "%", "time that the machine was lent to others"),
    // The floor.
    more(
        "efficiency",
        "floor ÷ engine",
        "CPU of the bare client and receiver ÷ CPU of the server for the same messages, median over pairs",
    ),
    plain("floor.message", "µs", "CPU of the floor per message"),
    less("engine.message", "µs", "CPU of the server per message beside the floor"),
    plain("floor.rate", "msg/s", "whole life cycle of the floor"),
    more("engine.rate", "msg/s", "whole life cycle of the server beside the floor"),
    // Disturbances.
    plain("kill.count", "kills", "kills and restarts"),
    less("kill.doubt", "messages", "most found in doubt after a kill"),
    less("kill.beyond", "kills", "kills after which more was in doubt than could be in flight"),
    less("kill.ready", "ms", "start to ready after a kill, longest"),
    less("kill.sending", "ms", "start after a kill to the next accepted message, longest"),
    less("pause.answer", "ms", "pause call to its answer, longest"),
    less("pause.left", "messages", "arrived between a pause's answer and its end, more than it said were in flight"),
    plain("flood.rate", "POSTs/s", "flooding POSTs that left, at most as many as ordered; of several the least"),
    less("flood.taken_p99", "ms", "scheduled moment of a flooding POST to its 200, 99th percentile"),
    less("flood.refused_p99", "ms", "first byte of a flooding POST to its refusal, 99th percentile"),
    plain("flood.refused", "of the due", "share of flooding POSTs that were refused"),
    less("flood.unanswered", "POSTs", "flooding POSTs without any answer"),
    // Correctness beside the check.
    less("messages.unconfirmed", "messages", "at most once, no echo came"),
    less("messages.doubled", "messages", "accepted twice under at least once, each after a doubt"),
    less("recount.longest", "s", "longest recount of a campaign"),
    plain("took", "s", "from the first start to the end of everything"),
];

/// The description of a figure.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}

/// All names.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|kind| kind.name).collect()
}

/// A number as people read it: three digits and more where it is short, thousands apart where it is long.
#[must_use]
pub fn shown(value: f64) -> String {
    if !value.is_finite() {
        return "·".to_owned();
    }
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 && whole.len() > 4 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once() {
        let mut all = names();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ALL.len());
    }

    #[test]
    fn numbers_are_readable() {
        let cases = [
            (0.0, "0"),
            (0.9912, "0.9912"),
            (2.71499, "2.71"),
            (12.0, "12"),
            (1_234.5, "1234"),
            (1_234_567.0, "1,234,567"),
            (-15_000.0, "-15,000"),
            (f64::NAN, "·"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
    }
}
