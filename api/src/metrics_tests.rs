//! The names by the conventions of Prometheus, and the reference page that is made from them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use sluice_engine::metrics::{Kind, Metric};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/metrics.md");
/// Set: the page is written anew instead of compared.
const WRITE: &str = "SLUICE_WRITE_METRICS_PAGE";

fn all() -> impl Iterator<Item = &'static Metric> {
    super::METRICS.iter().chain(sluice_engine::metrics::METRICS)
}

fn page() -> String {
    let mut page = "# Metrics\n\nMade from the code: change `engine/src/metrics.rs` or `api/src/metrics.rs`, then\n`SLUICE_WRITE_METRICS_PAGE=1 cargo test -p sluice-api --lib metrics::`\n\nLabels come from closed sets or from the configuration. `line` and `campaign` are numbers, bounded by the lines there are and by\n`metrics.campaigns_max`; which line or campaign a number is:\n\n```\ncurl 127.0.0.1:7402/campaigns/17\ncurl 127.0.0.1:7402/lines/3\n```\n".to_owned();
    let mut sorted: Vec<_> = all().collect();
    sorted.sort_by_key(|metric| metric.name);
    for metric in sorted {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "no labels".to_owned() } else { format!("by {}", labels.join(", ")) };
        let Metric { name, unit, help, .. } = metric;
        let _ = write!(page, "\n## `{name}`\n\n{kind}, {unit}, {labels}\n\n{help}\n");
    }
    page
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(PAGE, page()).expect("the page can be written");
    }
    let found = std::fs::read_to_string(Path::new(PAGE)).unwrap_or_default();
    let command = "run: SLUICE_WRITE_METRICS_PAGE=1 cargo test -p sluice-api --lib metrics::";
    assert!(found == page(), "dashboards/metrics.md is not what the code says; {command}");
}

#[test]
fn names_follow_the_conventions() {
    let mut seen = HashSet::new();
    for metric in all() {
        let Metric { name, unit, help, .. } = *metric;
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("sluice_") || name.starts_with("process_"), "{name}: whose is it?");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}: counters and only they end in _total"
        );
        let base = name.trim_end_matches("_total");
        assert_eq!(base.ends_with("_seconds"), unit.starts_with("seconds"), "{name} counts {unit}");
        assert_eq!(base.ends_with("_bytes"), unit == "bytes", "{name} counts {unit}");
        assert!(help.len() > 10 && help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
    }
}
