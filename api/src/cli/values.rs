//! Values on the command line: times, rates, labels, and the short words for the contract's enums.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluice_proto::v1::{self, RatePeriod, SendRate};

/// Reads a length of time, e.g. `90s`, `15m`, `1h 30m`.
///
/// # Errors
/// In words, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|_| "not a length of time; write e.g. 90s, 15m or 1h30m".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}

/// Reads a point in time in RFC 3339, with its offset.
///
/// # Errors
/// In words, for clap.
pub fn timestamp(text: &str) -> Result<prost_types::Timestamp, String> {
    let parsed: Timestamp = text.parse().map_err(|_| {
        "not a time with an offset, up to 9999-12-30T22:00:00Z; write e.g. 2031-05-01T09:00:00+02:00 or 2031-05-01T07:00:00Z".to_owned()
    })?;
    Ok(prost_types::Timestamp { seconds: parsed.as_second(), nanos: parsed.subsec_nanosecond() })
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// In words, for clap.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Reads a rate, e.g. `80/s`, `6000/min`; a bare number is per second.
///
/// # Errors
/// In words, for clap.
pub fn rate(text: &str) -> Result<SendRate, String> {
    let (count, period) = text.split_once('/').unwrap_or((text, "s"));
    let per = match period.trim() {
        "s" | "sec" | "second" => RatePeriod::Second,
        "m" | "min" | "minute" => RatePeriod::Minute,
        _ => return Err("not a rate; write e.g. 80/s or 6000/min".to_owned()),
    };
    let count = count.trim().parse().map_err(|_| "not a rate; write e.g. 80/s or 6000/min".to_owned())?;
    Ok(SendRate { count, per: per as i32, burst: None })
}

/// A length of time as the contract has it.
#[must_use]
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// The short word of an enum value: its name without the prefix, in lower case, e.g. `CAMPAIGN_STATE_RUNNING` → `running`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

macro_rules! words {
    ($($(#[$doc:meta])* $function:ident, $enum:ident, $prefix:literal;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $function(value: v1::$enum) -> String {
            word(value.as_str_name(), $prefix)
        })*
    };
}

words! {
    /// e.g. `running`.
    campaign_state, CampaignState, "CAMPAIGN_STATE_";
    /// e.g. `in_doubt`.
    status, MessageStatus, "MESSAGE_STATUS_";
    /// e.g. `delivered`.
    stage, Stage, "STAGE_";
    /// e.g. `twilio_sms`.
    provider, Provider, "PROVIDER_";
    /// e.g. `ready`.
    line_state, LineState, "LINE_STATE_";
    /// e.g. `operator`.
    hold_reason, HoldReason, "HOLD_REASON_";
    /// e.g. `accepted`.
    attempt_phase, AttemptPhase, "ATTEMPT_PHASE_";
    /// e.g. `recipient`.
    failure_class, FailureClass, "FAILURE_CLASS_";
    /// e.g. `whatsapp`.
    template_kind, TemplateKind, "TEMPLATE_KIND_";
    /// e.g. `image`.
    media_kind, MediaKind, "MEDIA_KIND_";
    /// e.g. `line_ceiling`.
    binding_limit, BindingLimit, "BINDING_LIMIT_";
}

/// What limits a campaign's pace, in words.
#[must_use]
pub fn binding_words(limit: v1::BindingLimit) -> &'static str {
    use v1::BindingLimit as L;
    match limit {
        L::Unspecified => "nothing",
        L::Rate => "its own rate",
        L::Workers => "its workers, all in flight",
        L::LineCeiling => "the lines' ceilings",
        L::LineSlowed => "a line that the provider slowed down",
        L::LineInFlight => "the lines' in-flight maximum",
        L::LineHeld => "held or probing lines",
        L::Store => "the ledger",
        L::RetryWait => "the wait for retries",
        L::Schedule => "its start time",
        L::Paused => "the pause",
        L::Held => "the hold",
        L::Drained => "nothing; all is sent, outcomes are awaited",
    }
}

/// A time in UTC to the second, or a dash.
#[must_use]
pub fn time(stamp: Option<&prost_types::Timestamp>) -> String {
    stamp
        .and_then(|stamp| Timestamp::new(stamp.seconds, stamp.nanos).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// A time in RFC 3339 with its fraction, or nothing: for files.
#[must_use]
pub fn rfc3339(stamp: Option<&prost_types::Timestamp>) -> String {
    stamp
        .and_then(|stamp| Timestamp::new(stamp.seconds, stamp.nanos).ok())
        .map_or_else(String::new, |time| time.to_string())
}

/// A number with separators, e.g. `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in two units at most, e.g. `1h 05m`, `12s`.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// A rate for people: few digits where they mean little.
#[must_use]
pub fn per_second(rate: f64) -> String {
    if rate >= 100.0 { format!("{}/s", count(rate.round() as u64)) } else { format!("{rate:.1}/s") }
}

/// Reads a short word as one of an enum's values.
///
/// # Errors
/// In words, with those that would do.
pub fn parse_word<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> String) -> Result<T, String> {
    let wanted = text.replace('-', "_");
    all.iter().copied().find(|value| name(*value) == wanted).ok_or_else(|| {
        let words: Vec<String> = all.iter().map(|value| name(*value)).collect();
        format!("must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(duration("-1s").is_err() && duration("ten").is_err());
        let stamp = timestamp("2031-05-01T09:00:00.5+02:00").expect("reads");
        assert_eq!(time(Some(&stamp)), "2031-05-01 07:00:00Z");
        assert_eq!(rfc3339(Some(&stamp)), "2031-05-01T07:00:00.5Z");
        assert!(timestamp("2031-05-01T09:00:00").is_err(), "without an offset it is not one time");
        assert_eq!(rate("80"), Ok(SendRate { count: 80, per: RatePeriod::Second as i32, burst: None }));
        assert_eq!(rate("6000/min").expect("reads").per, RatePeriod::Minute as i32);
        assert!(rate("80/h").is_err() && rate("x/s").is_err());
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(key_value("=x").is_err() && key_value("x").is_err());
    }

    #[test]
    fn numbers_are_written_for_people() {
        let written: Vec<String> = [0, 999, 1_000, 12_345, 1_234_567].map(count).into();
        assert_eq!(written, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let spans: Vec<String> = [0, 59, 61, 3_660, 90_000].map(span).into();
        assert_eq!(spans, ["0s", "59s", "1m 01s", "1h 01m", "1d 01h"]);
        assert_eq!([per_second(0.0), per_second(79.96), per_second(1_234.5)], ["0.0/s", "80.0/s", "1,235/s"]);
        assert_eq!(time(None), "-");
    }

    #[test]
    fn words_are_the_enums_own() {
        assert_eq!(campaign_state(v1::CampaignState::Running), "running");
        assert_eq!(status(v1::MessageStatus::InDoubt), "in_doubt");
        let all = [v1::Provider::Meta, v1::Provider::TwilioSms];
        assert_eq!(parse_word("twilio-sms", &all, provider), Ok(v1::Provider::TwilioSms));
        assert_eq!(parse_word("fax", &all, provider), Err("must be one of meta, twilio_sms".into()));
    }
}
