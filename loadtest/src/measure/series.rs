//! Values over time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The unit of its values.
    pub unit: String,
    /// Seconds since the run's begin, and the value.
    pub points: Vec<(f64, f64)>,
}

/// Series by name. Names are `group.name`; a plot takes a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AllSeries(pub BTreeMap<String, Series>);

impl AllSeries {
    /// Adds a point; what is not a number is left out.
    pub fn point(&mut self, name: &str, unit: &str, at_s: f64, value: f64) {
        if !value.is_finite() {
            return;
        }
        let point = (at_s, (value * 1e4).round() / 1e4);
        match self.0.get_mut(name) {
            Some(series) => series.points.push(point),
            None => {
                self.0.insert(name.to_owned(), Series { unit: unit.to_owned(), points: vec![point] });
            }
        }
    }

    /// The series of a group: `(name without the group, series)`.
    pub fn group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (&'a str, &'a Series)> {
        let named = move |name: &'a str| name.strip_prefix(group)?.strip_prefix('.');
        self.0.iter().filter_map(move |(name, series)| Some((named(name)?, series)))
    }

    /// The values of one series between two moments, in order of time.
    #[must_use]
    pub fn values(&self, name: &str, from_s: f64, to_s: f64) -> Vec<f64> {
        let Some(series) = self.0.get(name) else { return Vec::new() };
        series.points.iter().filter(|(at, _)| (from_s..=to_s).contains(at)).map(|(_, value)| *value).collect()
    }
}

/// At most `most` points that show the same shape: of each stretch the lowest and the highest.
#[must_use]
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most.max(4) {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(most.max(4) / 2);
    let mut kept = Vec::with_capacity(most + 2);
    for piece in points.chunks(stretch) {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (piece.iter().min_by(by), piece.iter().max_by(by)) else { continue };
        let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
        kept.push(*first);
        if first != second {
            kept.push(*second);
        }
    }
    kept
}

/// The middle value; 0 without values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(0.0)
}

/// The value below or at which `share` of the values lie, between neighbours in proportion; `None` without values.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.75), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn thinning_keeps_peaks_and_order() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|n| (f64::from(n), if n == 7_777 { 99.0 } else { 1.0 })).collect();
        let thin = thinned(&points, 600);
        assert!(thin.len() <= 602, "{}", thin.len());
        assert!(thin.iter().any(|(_, value)| *value == 99.0));
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(thinned(&points[..3], 600), points[..3].to_vec());
    }

    #[test]
    fn groups_are_found_by_their_name() {
        let mut all = AllSeries::default();
        all.point("cpu.server", "%", 1.0, 50.0);
        all.point("cpu.server", "%", 2.0, f64::NAN);
        all.point("cpus.other", "%", 1.0, 1.0);
        let names: Vec<&str> = all.group("cpu").map(|(name, _)| name).collect();
        assert_eq!(names, vec!["server"]);
        assert_eq!(all.values("cpu.server", 0.0, 5.0), vec![50.0]);
    }
}
