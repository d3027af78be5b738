//! Faults on the send side, seeded, switched at run time.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::plan::Dice;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The provider's rate-limit answer (130429, 20429). Not accepted.
    RateLimit,
    /// An error answer of `http`, `code` and `body`. Not accepted.
    Error,
    /// The same, but the message was accepted: its statuses will come.
    AcceptThenError,
    /// The connection is reset before a byte is read. Not accepted. Hits connections, so `line` is ignored.
    ResetUnread,
    /// The message is accepted and the connection reset without an answer.
    AcceptThenReset,
    /// No answer for `ms`, then a reset. Not accepted.
    Hang,
    /// Accepted; no answer for `ms`, then a reset.
    AcceptThenHang,
    /// The answer comes later by `ms`.
    Delay,
}

/// What an error answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The provider's JSON with `code`.
    #[default]
    Json,
    /// A page of HTML, as from an edge proxy.
    Html,
    /// Nothing.
    Empty,
}

/// One fault rule. Rules are looked at in order; delays add up, the first of any other kind that hits decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens.
    pub kind: Kind,
    /// Only on this line (its identity at the provider); without it on all.
    #[serde(default)]
    pub line: Option<String>,
    /// Share of requests that are hit.
    #[serde(default = "one")]
    pub share: f64,
    /// HTTP status of an error answer.
    #[serde(default = "default_http")]
    pub http: u16,
    /// Provider code of an error answer.
    #[serde(default)]
    pub code: u32,
    /// Body of an error answer.
    #[serde(default)]
    pub body: Body,
    /// Lowest and highest time of a hang or delay.
    #[serde(default)]
    pub ms: [u32; 2],
    /// Ends after so many hits.
    #[serde(default)]
    pub hits_max: Option<u64>,
    /// Ends so long after it was switched on.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

fn one() -> f64 {
    1.0
}

fn default_http() -> u16 {
    500
}

impl Rule {
    /// A rule that hits everything, with default answers.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            line: None,
            share: 1.0,
            http: default_http(),
            code: 0,
            body: Body::Json,
            ms: [0, 0],
            hits_max: None,
            for_ms: None,
        }
    }

    /// With this share.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// With this time.
    #[must_use]
    pub fn ms(mut self, low: u32, high: u32) -> Self {
        self.ms = [low, high];
        self
    }

    /// Until so many hits.
    #[must_use]
    pub fn hits_max(mut self, hits: u64) -> Self {
        self.hits_max = Some(hits);
        self
    }

    /// Answering this.
    #[must_use]
    pub fn answering(mut self, http: u16, code: u32, body: Body) -> Self {
        self.http = http;
        self.code = code;
        self.body = body;
        self
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Faults {
    seed: u64,
    rules: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    rule: Rule,
    since_ns: u64,
    hits: u64,
    /// How often each recipient was hit, so that its next try has a fresh chance under the same seed.
    again: HashMap<u64, u32>,
    requests: u64,
}

/// What was decided for one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Time added before the answer.
    pub delay_ms: u32,
    /// What goes wrong, and its parameters.
    pub fault: Option<Fault>,
}

/// A fault with its parameters drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// HTTP status.
    pub http: u16,
    /// Provider code.
    pub code: u32,
    /// Body.
    pub body: Body,
    /// How long (hang).
    pub ms: u32,
}

impl Faults {
    /// Rules that are on from `now_ns`.
    #[must_use]
    pub fn new(seed: u64, rules: Vec<Rule>, now_ns: u64) -> Self {
        let active = |rule| Active { rule, since_ns: now_ns, hits: 0, again: HashMap::new(), requests: 0 };
        Self { seed, rules: rules.into_iter().map(active).collect() }
    }

    /// Whether there are rules at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules with the number of their hits.
    #[must_use]
    pub fn report(&self) -> Vec<(Rule, u64)> {
        self.rules.iter().map(|a| (a.rule.clone(), a.hits)).collect()
    }

    /// Whether this connection is reset before its next request is read.
    pub fn reset_unread(&mut self, now_ns: u64) -> bool {
        let seed = self.seed;
        self.rules.iter_mut().enumerate().any(|(place, active)| {
            if active.rule.kind != Kind::ResetUnread || active.over(now_ns) {
                return false;
            }
            active.requests += 1;
            let hit = Dice::new(seed, &[place as u64, active.requests]).hit(active.rule.share);
            active.hits += u64::from(hit);
            hit
        })
    }

    /// Decides for one request on `line` to `recipient`.
    pub fn decide(&mut self, now_ns: u64, line: &str, recipient: u64) -> Decision {
        let mut decision = Decision { delay_ms: 0, fault: None };
        for (place, active) in self.rules.iter_mut().enumerate() {
            let elsewhere = active.rule.line.as_deref().is_some_and(|l| l != line);
            if active.rule.kind == Kind::ResetUnread || elsewhere || active.over(now_ns) {
                continue;
            }
            let round = active.again.get(&recipient).copied().unwrap_or(0);
            let mut dice = Dice::new(self.seed, &[place as u64, recipient, u64::from(round)]);
            if !dice.hit(active.rule.share) {
                continue;
            }
            active.hits += 1;
            if active.rule.share < 1.0 {
                active.again.insert(recipient, round + 1);
            }
            let ms = dice.between(active.rule.ms);
            if active.rule.kind == Kind::Delay {
                decision.delay_ms += ms;
                continue;
            }
            decision.fault = Some(Fault {
                kind: active.rule.kind,
                http: active.rule.http,
                code: active.rule.code,
                body: active.rule.body,
                ms,
            });
            break;
        }
        decision
    }
}

impl Active {
    fn over(&self, now_ns: u64) -> bool {
        let timed =
            self.rule.for_ms.is_some_and(|ms| now_ns.saturating_sub(self.since_ns) >= ms.saturating_mul(1_000_000));
        timed || self.rule.hits_max.is_some_and(|max| self.hits >= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_hits_the_same_recipients() {
        let run = |seed| -> Vec<bool> {
            let rules = vec![Rule::new(Kind::Error).share(0.3)];
            let mut faults = Faults::new(seed, rules, 0);
            let mut hits = Vec::new();
            for n in 0..300 {
                hits.push(faults.decide(0, "l", n % 100).fault.is_some());
            }
            hits
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
        let hits = run(4);
        let always = (0..100).filter(|n| hits[*n] && hits[n + 100] && hits[n + 200]).count();
        assert!(always < 15, "a hit recipient has a fresh chance: {always}");
    }

    #[test]
    fn rules_end_by_hits_and_by_time_and_keep_to_their_line() {
        let rules = vec![Rule::new(Kind::RateLimit).hits_max(2)];
        let mut faults = Faults::new(1, rules, 0);
        let hits = (0..5).filter(|n| faults.decide(0, "l", *n).fault.is_some()).count();
        assert_eq!(hits, 2);

        let mut rule = Rule::new(Kind::Hang).ms(5, 5);
        rule.for_ms = Some(10);
        rule.line = Some("a".to_owned());
        let mut faults = Faults::new(1, vec![Rule::new(Kind::Delay).ms(3, 3), rule], 0);
        assert_eq!(faults.decide(0, "b", 1).fault, None);
        let both = faults.decide(9_999_999, "a", 1);
        assert_eq!((both.delay_ms, both.fault.map(|f| f.ms)), (3, Some(5)));
        assert_eq!(faults.decide(10_000_000, "a", 1).fault, None);
    }

    #[test]
    fn connections_are_reset_by_share() {
        let rules = vec![Rule::new(Kind::ResetUnread).share(0.5)];
        let mut faults = Faults::new(1, rules, 0);
        let hits = (0..1_000).filter(|_| faults.reset_unread(0)).count();
        assert!((400..600).contains(&hits), "{hits}");
    }
}
