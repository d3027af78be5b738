//! Between the types of the contract and those of the engine.

mod campaign;
mod import;
mod line;
mod message;
mod nodes;
mod stats;
mod template;

pub(super) use campaign::{campaign, campaign_spec, campaign_update, outcome, selection};
pub(super) use import::{import, refused_row, row_chunk};
pub(super) use line::{account, line, line_spec, pool};
pub(super) use message::{decision, message, orphan, unresolved};
pub(super) use nodes::nodes;
pub(super) use stats::{delta, recount, tenant_totals};
pub(super) use template::{parameters, put_template, template};

use std::time::Duration;

use sluice_engine::control::{Error, PageRequest, Result};
use sluice_engine::domain::line::ProviderKind;
use sluice_engine::domain::time::UnixMillis;
use sluice_proto::v1;

/// A stamp of the ledger on the wire.
pub(super) fn timestamp(at: UnixMillis) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(1_000) * 1_000_000;
    prost_types::Timestamp { seconds: at.seconds(), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// A time from the wire.
pub(super) fn at(field: &str, time: prost_types::Timestamp) -> Result<UnixMillis> {
    // The bounds of google.protobuf.Timestamp: year 1 to 9999.
    let seconds = (-62_135_596_800..=253_402_300_799).contains(&time.seconds);
    if !seconds || !(0..1_000_000_000).contains(&time.nanos) {
        return Err(Error::invalid(field, "is not a time"));
    }
    Ok(UnixMillis(time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000))
}

/// A span on the wire.
pub(super) fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// A span from the wire; negative ones are none.
pub(super) fn duration(field: &str, span: prost_types::Duration) -> Result<Duration> {
    match (u64::try_from(span.seconds), u32::try_from(span.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Error::invalid(field, "is not a span of time of zero or more")),
    }
}

/// A record's version as an etag.
pub(super) fn etag(version: u64) -> String {
    format!("{version:x}")
}

/// The version of an etag; `None`: the caller does not insist.
pub(super) fn expected(etag: &str) -> Result<Option<u64>> {
    if etag.is_empty() {
        return Ok(None);
    }
    let version = u64::from_str_radix(etag, 16).ok().filter(|version| self::etag(*version) == etag);
    version.map(Some).ok_or_else(|| Error::invalid("etag", "is not an etag that this server gave"))
}

/// Which page.
pub(super) fn page(size: i32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// The channel on the wire.
pub(super) fn provider(kind: ProviderKind) -> v1::Provider {
    match kind {
        ProviderKind::Meta => v1::Provider::Meta,
        ProviderKind::TwilioSms => v1::Provider::TwilioSms,
        ProviderKind::TwilioWhatsapp => v1::Provider::TwilioWhatsapp,
    }
}

/// The channel from the wire; `None` when it is not said. A number of a newer version is refused.
pub(super) fn kind(field: &str, number: i32) -> Result<Option<ProviderKind>> {
    match v1::Provider::try_from(number) {
        Ok(v1::Provider::Unspecified) => Ok(None),
        Ok(v1::Provider::Meta) => Ok(Some(ProviderKind::Meta)),
        Ok(v1::Provider::TwilioSms) => Ok(Some(ProviderKind::TwilioSms)),
        Ok(v1::Provider::TwilioWhatsapp) => Ok(Some(ProviderKind::TwilioWhatsapp)),
        Err(_) => Err(Error::invalid(field, "is not a value that this server knows")),
    }
}

/// The class of the engine's table on the wire.
pub(super) fn failure_class(name: &str) -> v1::FailureClass {
    v1::FailureClass::from_str_name(&format!("FAILURE_CLASS_{}", name.to_ascii_uppercase()))
        .unwrap_or(v1::FailureClass::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for millis in [0, 1, -1, 999, -999, 1_800_000_000_123, -62_135_596_800_000] {
            assert_eq!(at("t", timestamp(UnixMillis(millis))), Ok(UnixMillis(millis)));
        }
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, 0)] {
            assert!(at("t", prost_types::Timestamp { seconds, nanos }).is_err());
        }
        assert_eq!(duration("d", span(Duration::from_millis(1_500))), Ok(Duration::from_millis(1_500)));
        assert!(duration("d", prost_types::Duration { seconds: -1, nanos: 0 }).is_err());
    }

    #[test]
    fn etags_are_strict() {
        assert_eq!(expected(""), Ok(None));
        assert_eq!(expected(&etag(255)), Ok(Some(255)));
        for bad in ["x", "0ff", "FF", "+1", "-1", &"f".repeat(17)] {
            assert!(expected(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_class_of_the_table_has_a_value_on_the_wire() {
        for class in sluice_engine::provider::Class::ALL {
            assert_ne!(failure_class(class.as_str()), v1::FailureClass::Unspecified, "{}", class.as_str());
        }
    }
}
