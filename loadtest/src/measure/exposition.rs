//! The server's page of metrics, as far as a run looks at it.
//!
//! Names are not fixed here: a run takes every gauge that says how much waits somewhere, and the counters of syncs and commits, whatever
//! the server calls them, so that a renamed or added queue shows by itself.

use std::collections::BTreeMap;

/// What a store has written.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Written {
    /// Entries.
    pub entries: f64,
    /// Commits.
    pub commits: f64,
}

/// Series summed over their labels, by metric name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page(pub BTreeMap<String, f64>);

impl Page {
    /// Reads the text format; lines that are none are passed over. Buckets are left out, sums and counts stay.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series);
            let Ok(value) = value.trim().parse::<f64>() else { continue };
            if !name.is_empty() && !name.ends_with("_bucket") && value.is_finite() {
                *all.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(all)
    }

    /// The value of one metric, summed over its labels.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Everything that says how much waits or is under way: queues, mailboxes, entries waiting, in flight, parked.
    pub fn depths(&self) -> impl Iterator<Item = (&str, f64)> {
        const WORDS: [&str; 6] = ["in_flight", "waiting", "mailbox", "queue", "depth", "parked_events"];
        let depth = |name: &str| WORDS.iter().any(|word| name.contains(word));
        let counter = |name: &str| ["_total", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        self.0
            .iter()
            .filter(move |(name, _)| depth(name) && !counter(name))
            .map(|(name, value)| (name.as_str(), *value))
    }

    /// Entries that the store has written so far, and in how many commits (rows and batches, on a CQL server).
    #[must_use]
    pub fn written(&self) -> Option<Written> {
        let value = |end: &str| self.value(&format!("sluice_store_group_entries_{end}"));
        Some(Written { entries: value("sum")?, commits: value("count")? })
    }

    /// How often the store has synced so far: a counter of syncs, else of commits. `None` when the server counts neither.
    #[must_use]
    pub fn syncs(&self) -> Option<f64> {
        let counter = |word: &str| {
            let counts = self.0.iter().filter(|(name, _)| name.ends_with("_total") || name.ends_with("_count"));
            counts
                .filter(|(name, _)| name.contains(word) && !name.contains("error"))
                .map(|(_, value)| *value)
                .reduce(f64::max)
        };
        counter("sync").or_else(|| counter("commit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b\n# TYPE sluice_ledger_waiting_entries gauge\nsluice_ledger_waiting_entries 3\n\
        sluice_line_in_flight{line=\"a b\"} 2\nsluice_line_in_flight{line=\"c\"} 5\n\
        sluice_grpc_requests_in_flight_total 9\nsluice_commit_seconds_bucket{le=\"1\"} 4\nsluice_commit_seconds_count 4\n\
        sluice_odd NaN\nnonsense\n";

    #[test]
    fn depths_are_found_by_their_words() {
        let page = Page::of(TEXT);
        let depths: Vec<_> = page.depths().collect();
        assert_eq!(depths, vec![("sluice_ledger_waiting_entries", 3.0), ("sluice_line_in_flight", 7.0)]);
        assert_eq!(page.value("sluice_odd"), None);
    }

    #[test]
    fn syncs_come_before_commits() {
        assert_eq!(Page::of(TEXT).syncs(), Some(4.0));
        let more = format!("{TEXT}sluice_store_syncs_total 11\n");
        assert_eq!(Page::of(&more).syncs(), Some(11.0));
        assert_eq!(Page::of("").syncs(), None);
        let text = "sluice_store_group_entries_sum 70\nsluice_store_group_entries_count 2\n";
        assert_eq!(Page::of(text).written(), Some(Written { entries: 70.0, commits: 2.0 }));
        assert_eq!(Page::of("sluice_store_group_entries_sum 70\n").written(), None);
    }
}
