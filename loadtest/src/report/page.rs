//! The report as one page of HTML that needs nothing but itself.

use std::fmt::Write as _;

use super::data::{RunReport, Verdict};
use super::figures::{self, shown};
use super::plot::{Line, escaped, over_time, percentiles};
use crate::measure::series::median;

/// Plots: group of series, title, unit.
const PLOTS: [(&str, &str, &str); 11] = [
    ("rate", "Messages and statuses per second", "1/s"),
    ("answer", "Webhook answers", "ms"),
    ("cpu", "CPU", "% of a core"),
    ("machine", "The machine: idle and stolen time", "%"),
    ("memory", "Resident memory", "MiB"),
    ("depth", "In flight, queues and mailboxes", ""),
    ("behind", "How long messages wait in mailboxes", "ms"),
    ("disk", "Written to disk", "MiB/s"),
    ("syncs", "Syncs (or commits) of the store", "1/s"),
    ("switches", "Context switches", "1/s"),
    ("refused", "Refused webhook POSTs", "1/s"),
];

/// The whole page.
#[must_use]
pub fn page(report: &RunReport) -> String {
    let mut out = String::with_capacity(256 * 1024);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{} {}</title><style>{}</style></head><body>\n",
        escaped(&report.scenario),
        report.verdict.word(),
        include_str!("page.css")
    );
    head(&mut out, report);
    conditions(&mut out, report);
    plots(&mut out, report);
    figures_table(&mut out, report);
    lines(&mut out, report);
    facts(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Void => "void",
    }
}

fn head(out: &mut String, report: &RunReport) {
    let _ = write!(
        out,
        "<h1>{} <span class=\"verdict {}\">{}</span></h1><p>{}</p><p class=\"soft\">{} · commit {} · seed {} · {}</p>\
         <p>Repeat it:</p><pre>{}</pre>",
        escaped(&report.scenario),
        class(report.verdict),
        report.verdict.word(),
        escaped(&report.about),
        escaped(&report.began),
        escaped(&report.commit),
        report.seed,
        escaped(&report.server),
        escaped(&report.command)
    );
}

fn conditions(out: &mut String, report: &RunReport) {
    out.push_str("<h2>Conditions</h2><div class=\"wide\"><table><tr><th>what</th><th class=\"n\">must be</th><th class=\"n\">is</th><th>verdict</th></tr>");
    for one in &report.conditions {
        let unit = figures::kind(&one.what).map_or("", |kind| kind.unit);
        let sentence = one.bound.is_empty();
        let what = figures::kind(&one.what).map_or_else(
            || escaped(&one.what),
            |kind| format!("{} <span class=\"unit\">{}</span>", escaped(&one.what), escaped(kind.what)),
        );
        // Words need room: only a number stands beside its bound, what explains it below the condition.
        let (value, words) = match one.found.split_once(' ') {
            _ if sentence => ("", one.found.as_str()),
            Some((value, words)) if value.parse::<f64>().is_ok() => (value, words),
            _ => (one.found.as_str(), ""),
        };
        let found = format!("{} <span class=\"unit\">{}</span>", escaped(value), escaped(unit));
        let bound = escaped(&one.bound);
        let words = if words.is_empty() {
            String::new()
        } else {
            format!("<br><span class=\"soft\">{}</span>", escaped(words))
        };
        let _ = write!(
            out,
            "<tr><td>{what}{words}</td><td class=\"n\">{bound}</td><td class=\"n\">{found}</td><td class=\"v {}\">{}</td></tr>",
            class(one.verdict),
            one.verdict.word()
        );
    }
    out.push_str("</table></div>");
    for note in &report.notes {
        let _ = write!(out, "<p class=\"soft\">Note: {}</p>", escaped(note));
    }
}

fn plots(out: &mut String, report: &RunReport) {
    out.push_str("<h2>Over time</h2>");
    if !report.marks.is_empty() {
        out.push_str("<details open><summary>What disturbed (shaded in the plots)</summary><ol class=\"marks\">");
        for mark in &report.marks {
            let _ = write!(
                out,
                "<li>{} <span class=\"soft\">{:.1} to {:.1} s</span></li>",
                escaped(&mark.what),
                mark.from_s,
                mark.to_s
            );
        }
        out.push_str("</ol></details>");
    }
    out.push_str("<div class=\"plots\">");
    for (group, title, unit) in PLOTS {
        let lines: Vec<Line<'_>> =
            report.series.group(group).map(|(name, series)| Line { name, points: series.points.clone() }).collect();
        out.push_str(&over_time(title, unit, &lines, &report.marks));
    }
    let latencies: Vec<_> = report.latencies.iter().map(|(name, snapshot)| (name.as_str(), snapshot)).collect();
    out.push_str(&percentiles("Latencies by percentile", &latencies));
    if !report.pairs.is_empty() {
        out.push_str(&pairs(report));
    }
    out.push_str("</div>");
}

fn pairs(report: &RunReport) -> String {
    let of = |value: fn(&super::data::Pair) -> f64| -> Vec<(f64, f64)> {
        report.pairs.iter().enumerate().map(|(n, pair)| ((n + 1) as f64, value(pair))).collect()
    };
    let mut out = String::from(
        "<figure><figcaption>Floor and engine in turn <span class=\"unit\">CPU µs per message</span></figcaption><div class=\"wide\"><table><tr><th class=\"n\">pair</th><th class=\"n\">floor</th><th class=\"n\">engine</th><th class=\"n\">efficiency</th></tr>",
    );
    for ((n, floor), (_, engine)) in of(|pair| pair.floor_us).into_iter().zip(of(|pair| pair.engine_us)) {
        let _ = write!(
            out,
            "<tr><td class=\"n\">{n}</td><td class=\"n\">{floor:.1}</td><td class=\"n\">{engine:.1}</td><td class=\"n\">{:.3}</td></tr>",
            floor / engine
        );
    }
    let ratios: Vec<f64> = report.pairs.iter().map(super::data::Pair::efficiency).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    let _ = write!(out, "</table></div><p>median {:.3}, {low:.3} to {high:.3}</p></figure>", median(&ratios));
    out
}

fn figures_table(out: &mut String, report: &RunReport) {
    out.push_str("<h2>Figures</h2><div class=\"wide\"><table><tr><th>figure</th><th class=\"n\">median</th><th class=\"n\">range</th><th>unit</th><th>what it is</th></tr>");
    for kind in figures::ALL {
        let Some(values) = report.figures.get(kind.name) else { continue };
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = if values.len() > 1 { format!("{} to {}", shown(low), shown(high)) } else { String::new() };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{range}</td><td>{}</td><td class=\"soft\">{}</td></tr>",
            kind.name,
            shown(median(values)),
            escaped(kind.unit),
            escaped(kind.what)
        );
    }
    out.push_str("</table></div>");
    let absent: Vec<&str> =
        figures::ALL.iter().map(|kind| kind.name).filter(|name| !report.figures.contains_key(*name)).collect();
    if !absent.is_empty() {
        let _ = write!(out, "<p class=\"soft\">Not measured in this run: {}.</p>", absent.join(", "));
    }
}

fn lines(out: &mut String, report: &RunReport) {
    /// Lines shown one by one; the rest is in the JSON.
    const MOST: usize = 40;
    if report.lines.is_empty() {
        return;
    }
    out.push_str("<h2>Lines, by the simulator's receive times</h2><div class=\"wide\"><table><tr><th>line</th><th class=\"n\">ceiling</th><th class=\"n\">arrivals</th><th class=\"n\">highest second</th><th class=\"n\">mean per s</th><th class=\"n\">least used</th></tr>");
    for line in report.lines.iter().take(MOST) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&line.line),
            shown(f64::from(line.ceiling)),
            shown(line.arrivals as f64),
            shown(line.highest as f64),
            shown(line.mean),
            line.used_min.map_or_else(|| "·".to_owned(), |used| format!("{used:.4}"))
        );
    }
    out.push_str("</table></div>");
    if report.lines.len() > MOST {
        let _ = write!(out, "<p class=\"soft\">{} more are in the JSON.</p>", report.lines.len() - MOST);
    }
}

fn facts(out: &mut String, report: &RunReport) {
    let machine = &report.machine;
    out.push_str("<h2>Machine</h2><dl>");
    let facts = [
        ("processor", machine.processor.clone()),
        ("CPUs", machine.cpus.to_string()),
        ("memory", format!("{} MiB", shown(machine.memory_mib as f64))),
        ("kernel", machine.kernel.clone()),
        ("disk", machine.disk.clone()),
        ("build", machine.build.clone()),
        ("server", report.server.clone()),
    ];
    for (name, value) in facts {
        let value = if value.is_empty() { "unknown".to_owned() } else { value };
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    // What differs is what one looks for in a run that failed.
    let open = if report.check.contains("DIFFERENCES") { " open" } else { "" };
    let _ = write!(
        out,
        "</dl><h2>The witness's check</h2><details{open}><summary>tally, recount, messages and the simulator's ledger, campaign by campaign</summary><pre>{}</pre></details>\
         <h2>The scenario</h2><pre>{}</pre>",
        escaped(report.check.trim()),
        escaped(report.scenario_text.trim())
    );
    if !report.overrides.is_empty() || report.scale != 1.0 {
        let _ = write!(out, "<p>with --scale {} and {}</p>", report.scale, escaped(&report.overrides.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_is_a_page_and_loads_nothing() {
        let page = page(&RunReport { scenario: "a<b".to_owned(), ..RunReport::default() });
        assert!(page.contains("a&lt;b") && page.contains("FAILED") && page.contains("Nothing was measured"));
        for word in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
