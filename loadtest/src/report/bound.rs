//! A bound on a figure: `<= 5`, `>= 0.99`, `< 5`, `> 0`, `= 0`.

use std::fmt;
use std::str::FromStr;

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// At most.
    AtMost,
    /// At least.
    AtLeast,
    /// Below.
    Below,
    /// Above.
    Above,
    /// Exactly.
    Exactly,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// How.
    pub relation: Relation,
    /// With what.
    pub than: f64,
}

impl Bound {
    /// Whether a value keeps it. What is not a number keeps nothing.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self.relation {
            Relation::AtMost => value <= self.than,
            Relation::AtLeast => value >= self.than,
            Relation::Below => value < self.than,
            Relation::Above => value > self.than,
            Relation::Exactly => (value - self.than).abs() < f64::EPSILON,
        }
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let signs = [
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Below),
            (">", Relation::Above),
            ("=", Relation::Exactly),
        ];
        let text = text.trim();
        let found = signs.iter().find_map(|(sign, relation)| Some((text.strip_prefix(sign)?, *relation)));
        let Some((number, relation)) = found else {
            return Err(format!("{text} is no bound"));
        };
        match number.trim().replace('_', "").parse::<f64>() {
            Ok(than) if than.is_finite() => Ok(Self { relation, than }),
            _ => Err(format!("{number} is no number")),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.relation {
            Relation::AtMost => "≤",
            Relation::AtLeast => "≥",
            Relation::Below => "<",
            Relation::Above => ">",
            Relation::Exactly => "=",
        };
        write!(f, "{sign} {}", self.than)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_judge() {
        let bound = |text: &str| text.parse::<Bound>();
        assert!(bound(">= 0.99").expect("reads").holds(0.99));
        assert!(!bound(">= 0.99").expect("reads").holds(0.989));
        assert!(bound("<= 15_000").expect("reads").holds(15_000.0));
        assert!(!bound("< 5").expect("reads").holds(5.0));
        assert!(bound("=0").expect("reads").holds(0.0));
        assert!(!bound("> 0").expect("reads").holds(f64::NAN));
        assert_eq!(bound("<= 5").expect("reads").to_string(), "≤ 5");
        for wrong in ["5", "", "<= five", "== 5", "<= NaN", "<= inf"] {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
