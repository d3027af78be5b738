//! Series as SVG: no script, no font, no network; colours come from the page's style, so that they change with its mode. Every line also
//! has a pattern of its own, for those who do not tell its colour from another's.

use std::fmt::Write as _;

use super::data::Mark;
use super::figures::shown;
use crate::measure::histogram::Snapshot;
use crate::measure::series::thinned;

/// Size of a plot in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 250.0;
/// Room for labels.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Points of a line; more cannot be told apart.
const POINTS: usize = 700;
/// Marks that get a number; of more only the lines are drawn.
const NUMBERED: usize = 24;
/// Colours of the page's style; line patterns change with each round through them.
const COLOURS: usize = 6;

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its points in order.
    pub points: Vec<(f64, f64)>,
}

/// Text that may stand in HTML and SVG.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A plot of values over seconds, with marks. Where nothing was read twice there is nothing to see over time, and it says so.
#[must_use]
pub fn over_time(title: &str, unit: &str, lines: &[Line<'_>], marks: &[Mark]) -> String {
    let lines: Vec<&Line<'_>> = lines.iter().filter(|line| !line.points.is_empty()).collect();
    if lines.iter().all(|line| line.points.len() < 2) {
        return empty(title);
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(at, _)| *at).chain(marks.iter().map(|mark| mark.to_s)).fold(1e-3, f64::max);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let (top, step) = axis(highest);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / last).clamp(0.0, 1.0);
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0);
    let mut out = open(title);
    for (n, mark) in marks.iter().enumerate() {
        let (from, to) = (x(mark.from_s), x(mark.to_s).max(x(mark.from_s) + 1.0));
        let _ = write!(
            out,
            r#"<rect class="mark" x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}"><title>{}</title></rect>"#,
            to - from,
            HEIGHT - TOP - BOTTOM,
            escaped(&mark.what)
        );
        if marks.len() <= NUMBERED {
            let _ = write!(
                out,
                r#"<text class="number" x="{:.1}" y="{:.1}">{}</text>"#,
                (from + to) / 2.0,
                TOP - 3.0,
                n + 1
            );
        }
    }
    let mut tick = 0.0;
    while tick <= top * 1.000_1 {
        level(&mut out, y(tick), &shown(tick));
        tick += step;
    }
    let (_, step) = axis(last);
    let mut tick = 0.0;
    while tick <= last {
        place(&mut out, x(tick), &format!("{} s", shown(tick)));
        tick += step;
    }
    for (n, line) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            thinned(&line.points, POINTS).into_iter().map(|(at, value)| (x(at), y(value))).collect();
        draw(&mut out, n, line.name, &points);
    }
    close(out, title, unit, &lines.iter().map(|line| line.name).collect::<Vec<_>>())
}

/// Latencies as curves over percentiles, both logarithmic: the tail is what matters.
#[must_use]
pub fn percentiles(title: &str, all: &[(&str, &Snapshot)]) -> String {
    const SHARES: [(f64, &str); 7] = [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ];
    let all: Vec<(&str, &Snapshot)> = all.iter().filter(|(_, snapshot)| snapshot.count() > 0).copied().collect();
    if all.is_empty() {
        return empty(title);
    }
    let right = SHARES.len() as f64 - 1.0;
    let x = |share: f64| LEFT + (WIDTH - LEFT - RIGHT) * (place_of(share) / right).clamp(0.0, 1.0);
    let longest = all.iter().filter_map(|(_, s)| s.longest_ms()).fold(1.0, f64::max);
    let shortest = all.iter().filter_map(|(_, s)| s.quantile_ms(0.0)).fold(longest, f64::min).max(1e-3);
    let (low, high) = (shortest.log10().floor(), longest.log10().ceil().max(shortest.log10().floor() + 1.0));
    let y = |ms: f64| {
        let share = (ms.max(1e-3).log10() - low) / (high - low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    };
    let mut out = open(title);
    let mut power = low;
    while power <= high {
        level(&mut out, y(10f64.powf(power)), &shown(10f64.powf(power)));
        power += 1.0;
    }
    for (share, words) in SHARES {
        place(&mut out, x(share), words);
    }
    for (n, (name, snapshot)) in all.iter().enumerate() {
        let total = snapshot.count() as f64;
        let most = (1.0 - 1.0 / total).clamp(0.0, 0.99999);
        let last = place_of(most);
        let steps = 120;
        let points: Vec<(f64, f64)> = (0..=steps)
            .filter_map(|step| {
                let at = last * f64::from(step) / f64::from(steps);
                let share = share_at(at);
                Some((LEFT + (WIDTH - LEFT - RIGHT) * at / right, y(snapshot.quantile_ms(share)?)))
            })
            .collect();
        draw(&mut out, n, name, &points);
    }
    close(out, title, "ms", &all.iter().map(|(name, _)| *name).collect::<Vec<_>>())
}

/// Where a percentile stands: 0, 50 %, 90 %, 99 %, … one step apart each.
fn place_of(share: f64) -> f64 {
    match share {
        at if at <= 0.5 => at * 2.0,
        at if at <= 0.9 => 1.0 + (0.5 / (1.0 - at)).ln() / 5f64.ln(),
        at => 2.0 + (0.1 / (1.0 - at)).log10(),
    }
}

/// The percentile at a place: the other way round.
fn share_at(place: f64) -> f64 {
    match place {
        at if at <= 1.0 => at / 2.0,
        at if at <= 2.0 => 1.0 - 0.5 / 5f64.powf(at - 1.0),
        at => 1.0 - 0.1 / 10f64.powf(at - 2.0),
    }
}

/// A round upper end and the distance of its lines: four to eight of them.
fn axis(highest: f64) -> (f64, f64) {
    let highest = if highest.is_finite() && highest > 0.0 { highest } else { 1.0 };
    let rough = highest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(power * 10.0);
    ((highest / step).ceil() * step, step)
}

fn empty(title: &str) -> String {
    format!("<figure><figcaption>{}</figcaption><p class=\"empty\">Nothing was measured.</p></figure>", escaped(title))
}

fn open(title: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}"><rect class="field" x="{LEFT}" y="{TOP}" width="{}" height="{}"/>"#,
        escaped(title),
        WIDTH - LEFT - RIGHT,
        HEIGHT - TOP - BOTTOM
    )
}

fn level(out: &mut String, y: f64, words: &str) {
    let _ = write!(
        out,
        r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="y" x="{}" y="{:.1}">{words}</text>"#,
        WIDTH - RIGHT,
        LEFT - 6.0,
        y + 4.0
    );
}

fn place(out: &mut String, x: f64, words: &str) {
    // What stands at an end is aligned with it, so that nothing is cut off.
    let class = if x > WIDTH - RIGHT - 30.0 { "x end" } else { "x" };
    let _ = write!(out, r#"<text class="{class}" x="{x:.1}" y="{}">{words}</text>"#, HEIGHT - BOTTOM + 18.0);
}

fn draw(out: &mut String, n: usize, name: &str, points: &[(f64, f64)]) {
    let (colour, pattern) = (n % COLOURS, (n / COLOURS + n) % 4);
    let class = format!("line c{colour} p{pattern}");
    if let [(x, y)] = points {
        let _ = write!(
            out,
            r#"<circle class="dot c{colour}" cx="{x:.1}" cy="{y:.1}" r="3"><title>{}</title></circle>"#,
            escaped(name)
        );
        return;
    }
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = write!(
        out,
        r#"<polyline class="{class}" points="{}"><title>{}</title></polyline>"#,
        path.join(" "),
        escaped(name)
    );
}

fn close(mut svg: String, title: &str, unit: &str, names: &[&str]) -> String {
    svg.push_str("</svg>");
    let unit = if unit.is_empty() { String::new() } else { format!(" <span class=\"unit\">{}</span>", escaped(unit)) };
    let mut legend = String::new();
    for (n, name) in names.iter().enumerate() {
        let (colour, pattern) = (n % COLOURS, (n / COLOURS + n) % 4);
        let _ = write!(
            legend,
            r#"<li><svg class="key" viewBox="0 0 26 8"><line class="line c{colour} p{pattern}" x1="0" x2="26" y1="4" y2="4"/></svg>{}</li>"#,
            escaped(name)
        );
    }
    format!("<figure><figcaption>{}{unit}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>", escaped(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        assert_eq!(axis(97.0), (100.0, 20.0));
        assert_eq!(axis(0.0), (1.0, 0.2));
        assert_eq!(axis(f64::NAN), (1.0, 0.2));
        let (top, step) = axis(12_345.0);
        assert!(top >= 12_345.0 && (3.0..=8.0).contains(&(top / step)), "{top} {step}");
    }

    #[test]
    fn an_empty_plot_says_so_and_a_single_point_beside_others_is_a_dot() {
        let none = [Line { name: "a", points: vec![] }];
        assert!(over_time("t", "", &none, &[]).contains("Nothing was measured"));
        let one = Line { name: "a", points: vec![(1.0, 2.0)] };
        assert!(over_time("t", "", std::slice::from_ref(&one), &[]).contains("Nothing was measured"));
        let line = Line { name: "b", points: vec![(0.0, 1.0), (1.0, 1.0)] };
        assert!(over_time("t", "", &[one, line], &[]).contains("<circle"));
    }

    #[test]
    fn names_cannot_break_the_page() {
        let lines = [Line { name: "<script>\"&", points: vec![(0.0, 1.0), (1.0, 2.0)] }];
        let marks = [Mark { from_s: 0.5, to_s: 9.0, what: "</svg>".to_owned() }];
        let plot = over_time("<b>", "<i>", &lines, &marks);
        for bad in ["<script>", "<b>", "<i>"] {
            assert!(!plot.contains(bad), "{plot}");
        }
        assert_eq!(plot.matches("</svg>").count(), 2, "the plot's and the legend's");
    }

    #[test]
    fn the_axis_of_percentiles_is_its_own_inverse() {
        for share in [0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 0.9999] {
            assert!((share_at(place_of(share)) - share).abs() < 1e-9, "{share}");
        }
    }
}
