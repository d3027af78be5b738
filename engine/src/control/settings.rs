//! What a caller may ask of a campaign, and its bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Violations;
use crate::domain::campaign::{DeliveryPolicy, Rate, RateUnit, Settings};
use crate::domain::ids::CampaignId;
use crate::domain::phone::Region;
use crate::domain::time::UnixMillis;

const NAME_CHARS_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 4_000;
const LABELS_MAX: usize = 32;
const LABEL_BYTES_MAX: usize = 128;
/// Most messages of a campaign in flight.
pub const WORKERS_MAX: u32 = 10_000;
const RETRIES_MAX: u32 = 100;
/// Highest rate of a campaign, per second: the highest ceiling of a line; a pool may carry more, its lines' ceilings then bind.
const RATE_PER_SECOND_MAX: u32 = 10_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const START_AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A campaign to be created.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CampaignSpec {
    /// The id; empty: one is made.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who creates it.
    pub created_by: String,
    /// What it is to do.
    pub settings: SettingsSpec,
}

/// What a campaign is to do, as the caller says it; `None` is the default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SettingsSpec {
    /// The template's id.
    pub template: String,
    /// The pool's id.
    pub pool: String,
    /// Own rate.
    pub rate: Option<Rate>,
    /// In-flight maximum.
    pub workers: Option<u32>,
    /// In doubt: wait or send again.
    pub policy: Option<DeliveryPolicy>,
    /// Retry budget.
    pub retries_max: Option<u32>,
    /// Region for national phone formats; empty: none.
    pub region: String,
    /// Begin no earlier.
    pub start_at: Option<UnixMillis>,
    /// Expire then.
    pub stop_at: Option<UnixMillis>,
    /// Settle after that long at the latest.
    pub settle_window: Option<Duration>,
}

/// What is to change; `None` stays. The inner `None` takes away.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CampaignUpdate {
    /// New name.
    pub name: Option<String>,
    /// New text.
    pub description: Option<String>,
    /// New labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// New own rate.
    pub rate: Option<Option<Rate>>,
    /// New in-flight maximum.
    pub workers: Option<u32>,
    /// New policy.
    pub policy: Option<DeliveryPolicy>,
    /// New retry budget.
    pub retries_max: Option<u32>,
    /// New region; draft only.
    pub region: Option<String>,
    /// New start; before the start only.
    pub start_at: Option<Option<UnixMillis>>,
    /// New stop.
    pub stop_at: Option<Option<UnixMillis>>,
    /// New settle window.
    pub settle_window: Option<Duration>,
    /// New template; draft without recipients only.
    pub template: Option<String>,
    /// New pool; before the start only.
    pub pool: Option<String>,
}

impl SettingsSpec {
    /// The settings with defaults filled in; what is wrong is added to `violations` under `settings.`.
    pub(super) fn checked(&self, defaults: &Settings, now: UnixMillis, violations: &mut Violations) -> Settings {
        let settings = Settings {
            rate: self.rate,
            workers: self.workers.unwrap_or(defaults.workers),
            policy: self.policy.unwrap_or(defaults.policy),
            retries_max: narrow(self.retries_max.unwrap_or(u32::from(defaults.retries_max))),
            region: region(&self.region, "settings.region", violations),
            start_at: self.start_at,
            stop_at: self.stop_at,
            settle_window_ms: self.settle_window.map_or(defaults.settle_window_ms, millis),
        };
        check_limits("settings.", &settings, self.retries_max, violations);
        check_times("settings.", &settings, now, violations);
        settings
    }
}

/// A retry budget in the record's width; what does not fit is refused by [`check_limits`].
pub(super) fn narrow(retries: u32) -> u8 {
    u8::try_from(retries).unwrap_or(u8::MAX)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The region's two letters, if it is one.
pub(super) fn region(text: &str, field: &str, violations: &mut Violations) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<Region>() {
        Ok(region) => Some(region.as_str().to_owned()),
        Err(error) => {
            violations.add(field, error.to_string());
            None
        }
    }
}

/// Rate, workers, policy, retries and settle window.
pub(super) fn check_limits(at: &str, settings: &Settings, retries: Option<u32>, violations: &mut Violations) {
    if let Some(rate) = settings.rate {
        let max = match rate.per {
            RateUnit::Second => RATE_PER_SECOND_MAX,
            RateUnit::Minute => RATE_PER_SECOND_MAX * 60,
        };
        let fits = (1..=max).contains(&rate.count);
        violations.require(fits, &format!("{at}rate.count"), || format!("must be 1 to {max}"));
        let fits = rate.burst.is_none_or(|burst| (1..=rate.count.max(1)).contains(&burst));
        violations.require(fits, &format!("{at}rate.burst"), || "must be 1 to `count`".to_owned());
    }
    let fits = (1..=WORKERS_MAX).contains(&settings.workers);
    violations.require(fits, &format!("{at}workers"), || format!("must be 1 to {WORKERS_MAX}"));
    let fits = retries.is_none_or(|retries| retries <= RETRIES_MAX);
    violations.require(fits, &format!("{at}retry_policy.retries_max"), || format!("must be 0 to {RETRIES_MAX}"));
    let (field, max) = match settings.policy {
        DeliveryPolicy::AtMostOnce { .. } => ("at_most_once.echo_wait", 7 * DAY),
        DeliveryPolicy::AtLeastOnce { .. } => ("at_least_once.grace", DAY),
    };
    let fits = (SECOND..=max).contains(&settings.policy.wait());
    violations.require(fits, &format!("{at}delivery_policy.{field}"), || format!("must be 1 s to {} s", max.as_secs()));
    let window = Duration::from_millis(settings.settle_window_ms);
    let fits = (SECOND..=30 * DAY).contains(&window);
    violations.require(fits, &format!("{at}settle_window"), || "must be 1 s to 30 days".to_owned());
}

/// Start and stop against each other and against now.
pub(super) fn check_times(at: &str, settings: &Settings, now: UnixMillis, violations: &mut Violations) {
    let start = settings.start_at.unwrap_or(now);
    let fits = start <= now.after(START_AHEAD_MAX);
    violations.require(fits, &format!("{at}start_at"), || "must lie at most a year ahead".to_owned());
    if let Some(stop) = settings.stop_at {
        let fits = stop > now && stop > start;
        violations.require(fits, &format!("{at}stop_at"), || "must lie after `start_at` and after now".to_owned());
    }
}

/// Name, description and labels.
pub(super) fn check_texts(
    name: Option<&str>,
    description: Option<&str>,
    labels: Option<&BTreeMap<String, String>>,
    violations: &mut Violations,
) {
    if let Some(name) = name {
        let fits = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX && is_printable(name);
        violations.require(fits, "name", || format!("must be 1 to {NAME_CHARS_MAX} printable characters"));
    }
    if let Some(description) = description {
        check_description("description", description, DESCRIPTION_CHARS_MAX, violations);
    }
    for (key, value) in labels.into_iter().flatten() {
        // Keys follow the rule of ids.
        let fits = CampaignId::new(key).is_ok() && value.len() <= LABEL_BYTES_MAX && is_printable(value);
        let field = format!("labels[{}]", key.chars().take(80).collect::<String>());
        violations.require(fits, &field, || {
            format!("the key must be like an id, the value at most {LABEL_BYTES_MAX} printable bytes")
        });
    }
    let fits = labels.is_none_or(|labels| labels.len() <= LABELS_MAX);
    violations.require(fits, "labels", || format!("must be at most {LABELS_MAX}"));
}

/// A text of several lines.
pub(super) fn check_description(field: &str, text: &str, chars_max: usize, violations: &mut Violations) {
    let printable = text.lines().all(is_printable);
    let fits = printable && text.chars().count() <= chars_max;
    violations.require(fits, field, || format!("must be at most {chars_max} printable characters"));
}

pub(super) fn is_printable(text: &str) -> bool {
    text.chars().all(crate::domain::escape::is_shown)
}

#[cfg(test)]
mod tests {
    use super::super::error::Error;
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn wrong(spec: &SettingsSpec) -> Vec<String> {
        let mut violations = Violations::default();
        spec.checked(&Settings::default(), NOW, &mut violations);
        match violations.check() {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(wrong(&SettingsSpec::default()), [""; 0]);
        assert_eq!(
            SettingsSpec::default().checked(&Settings::default(), NOW, &mut Violations::default()),
            Settings::default()
        );
    }

    #[test]
    fn texts_for_people_hold_only_what_can_be_seen() {
        for name in ["Spring", "Grüße an 東京", "שלום"] {
            assert!(is_printable(name), "{name}");
        }
        for name in ["a\x1b[2J", "a\0", "a\nb", "a\u{9b}", "a\u{202e}b", "a\u{2066}b"] {
            assert!(!is_printable(name), "{name:?}");
        }
    }

    #[test]
    fn every_absurd_setting_is_named() {
        let rate = |count, per, burst| Some(Rate { count, per, burst });
        let spec = SettingsSpec {
            rate: rate(0, RateUnit::Second, Some(0)),
            workers: Some(0),
            policy: Some(DeliveryPolicy::AtLeastOnce { grace_ms: 999 }),
            retries_max: Some(101),
            region: "XX".to_owned(),
            start_at: Some(NOW.after(400 * DAY)),
            stop_at: Some(NOW.after(DAY)),
            settle_window: Some(Duration::ZERO),
            ..SettingsSpec::default()
        };
        assert_eq!(
            wrong(&spec),
            [
                "settings.region",
                "settings.rate.count",
                "settings.rate.burst",
                "settings.workers",
                "settings.retry_policy.retries_max",
                "settings.delivery_policy.at_least_once.grace",
                "settings.settle_window",
                "settings.start_at",
                "settings.stop_at",
            ]
        );
        let at_most = |rate| SettingsSpec { rate, ..SettingsSpec::default() };
        assert_eq!(wrong(&at_most(rate(10_000, RateUnit::Second, Some(10_000)))), [""; 0]);
        assert_eq!(wrong(&at_most(rate(600_000, RateUnit::Minute, None))), [""; 0]);
        assert_eq!(wrong(&at_most(rate(10_001, RateUnit::Second, None))), ["settings.rate.count"]);
        assert_eq!(wrong(&at_most(rate(10, RateUnit::Second, Some(11)))), ["settings.rate.burst"]);
        let stop = |at| SettingsSpec { stop_at: Some(at), ..SettingsSpec::default() };
        assert_eq!(wrong(&stop(NOW)), ["settings.stop_at"]);
        assert_eq!(wrong(&stop(NOW.after(Duration::from_millis(1)))), [""; 0]);
    }

    #[test]
    fn texts_and_labels_are_bounded() {
        let wrong = |name: &str, description: &str, labels: &[(&str, &str)]| {
            let mut violations = Violations::default();
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            check_texts(Some(name), Some(description), Some(&labels), &mut violations);
            match violations.check() {
                Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
                _ => Vec::new(),
            }
        };
        assert_eq!(wrong("Spring", "two\nlines", &[("team", "growth")]), [""; 0]);
        assert_eq!(
            wrong(" ", "a\u{7}", &[("Team", "x"), ("a", "\n")]),
            ["name", "description", "labels[Team]", "labels[a]"]
        );
        assert_eq!(wrong(&"x".repeat(201), &"x".repeat(4_001), &[]), ["name", "description"]);
    }
}
