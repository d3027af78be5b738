//! Names of traces and spans, and which messages are traced.
//!
//! A message's trace is a function of the message: a webhook that comes minutes later, or after a restart, finds the trace of its
//! message by the correlation id alone, and the decision to trace it is the one that its hand-out made. Nothing is remembered.

use super::ids::MessageKey;

/// A trace, in the sense of W3C Trace Context; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// A span of a trace; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

/// One span, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanRef {
    /// Its trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

/// The steps of an attempt that others refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From the grant to the durable intent.
    HandOut = 1,
    /// The request to the provider.
    Request = 2,
}

impl TraceId {
    /// The span of this step of an attempt: whoever knows the attempt knows it.
    #[must_use]
    pub fn span(self, attempt: u16, step: Step) -> SpanRef {
        let [low, high] = halves(self.0);
        let place = (u64::from(attempt) << 8) | step as u64;
        SpanRef { trace: self, span: SpanId(mix(low ^ high.rotate_left(32) ^ mix(place)).max(1)) }
    }
}

/// Decides at the head, for each message, whether it is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    salt: u64,
    /// Traces whose low 56 bits are below this are kept.
    below: u64,
}

/// W3C Trace Context takes these bits of a trace id to be random.
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// Keeps this share of all messages, 0 to 1. `salt` is the installation's: two that report to one collector differ in it.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // clamped
    pub fn new(salt: u64, ratio: f64) -> Self {
        Self { salt, below: (ratio.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64 }
    }

    /// The trace of a message; `None`: it is not traced.
    #[must_use]
    pub fn trace(&self, message: MessageKey) -> Option<TraceId> {
        let place = (u64::from(message.campaign.0) << 32) | u64::from(message.seq);
        let high = mix(self.salt ^ mix(place));
        let low = mix(high ^ self.salt.rotate_left(32));
        let kept = low & ((1 << RANDOM_BITS) - 1) < self.below;
        kept.then_some(TraceId(((u128::from(high) << 64) | u128::from(low)).max(1)))
    }
}

fn halves(id: u128) -> [u64; 2] {
    #[allow(clippy::cast_possible_truncation)] // the halves are what is wanted
    [id as u64, (id >> 64) as u64]
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): every bit of the input
/// moves half of the output's. Names need to be spread, not secret.
const fn mix(bits: u64) -> u64 {
    let mut z = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::ids::CampaignKey;

    fn message(campaign: u32, seq: u32) -> MessageKey {
        MessageKey { campaign: CampaignKey(campaign), seq }
    }

    #[test]
    fn all_none_and_the_share_asked_for() {
        let kept = |ratio| {
            let sampling = Sampling::new(7, ratio);
            (0..100_000).filter(|seq| sampling.trace(message(1, *seq)).is_some()).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (0, 100_000));
        // Five standard deviations of a binomial distribution are 475.
        assert!((9_525..=10_475).contains(&kept(0.1)), "{}", kept(0.1));
    }

    #[test]
    fn a_larger_share_keeps_what_a_smaller_one_keeps() {
        let (few, many) = (Sampling::new(7, 0.01), Sampling::new(7, 0.5));
        for seq in 0..10_000 {
            assert!(few.trace(message(3, seq)).is_none_or(|trace| many.trace(message(3, seq)) == Some(trace)), "{seq}");
        }
    }

    #[test]
    fn no_two_messages_steps_or_installations_share_a_name() {
        let (here, there) = (Sampling::new(1, 1.0), Sampling::new(2, 1.0));
        let mut traces = HashSet::new();
        let mut spans = HashSet::new();
        for campaign in 1..=20 {
            for seq in 0..1_000 {
                for sampling in [here, there] {
                    let trace = sampling.trace(message(campaign, seq)).expect("all are kept");
                    assert!(traces.insert(trace), "{campaign}/{seq}");
                    for attempt in 1..=3 {
                        for step in [Step::HandOut, Step::Request] {
                            assert!(spans.insert(trace.span(attempt, step)), "{campaign}/{seq}/{attempt}");
                        }
                    }
                }
            }
        }
        assert_eq!(traces.len(), 40_000);
    }
}
