//! A caller's deadline, as gRPC tells it: time left, in the header `grpc-timeout`.

use std::time::Duration;

use tonic::codegen::http::{HeaderMap, HeaderValue};

/// The header.
pub(super) const HEADER: &str = "grpc-timeout";

/// The time that the caller gives; `None`: none, or nothing that can be read.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The time left as it is sent: in milliseconds, as long as eight digits hold them.
pub(super) fn header(left: Duration) -> HeaderValue {
    let millis = left.as_millis().clamp(1, 99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).unwrap_or(HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_what_is_sent_is_read_again() {
        let read = |text: &'static str| {
            of(&HeaderMap::from_iter([(
                tonic::codegen::http::HeaderName::from_static(HEADER),
                HeaderValue::from_static(text),
            )]))
        };
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("6n", 6),
        ] {
            assert_eq!(read(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        for millis in [1, 30_000, 99_999_999] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, header(Duration::from_millis(millis)));
            assert_eq!(of(&headers), Some(Duration::from_millis(millis)));
        }
    }
}
