//! Numbers and texts as providers look at them: E.164, GSM-7 and the SMS parts a body needs.

/// Reads a number in E.164 form: `+`, then 8 to 15 digits of which the first is not 0. Returns the digits as a number.
#[must_use]
pub fn e164(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+')?.as_bytes();
    if !(8..=15).contains(&digits.len()) || digits[0] == b'0' {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// Characters of the GSM 03.38 basic alphabet beside ASCII letters and digits: one septet each.
const GSM_BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
/// Characters of its extension table: an escape and the character, two septets.
const GSM_EXTENSION: &str = "^{}\\[~]|€\u{c}";

/// How many SMS parts a body needs: 160 septets or 153 per part; with any other character 70 UTF-16 units or 67 per part.
/// A two-unit character is never split between parts.
#[must_use]
pub fn sms_parts(body: &str) -> u8 {
    let septets = |c: char| {
        if c.is_ascii_alphanumeric() || GSM_BASIC.contains(c) {
            Some(1)
        } else if GSM_EXTENSION.contains(c) {
            Some(2)
        } else {
            None
        }
    };
    let gsm = body.chars().all(|c| septets(c).is_some());
    let (single, part) = if gsm { (160, 153) } else { (70, 67) };
    let width = |c: char| {
        if gsm { septets(c).unwrap_or(1) } else { c.len_utf16() }
    };
    if body.chars().map(width).sum::<usize>() <= single {
        return 1;
    }
    let mut parts = 1u8;
    let mut used = 0;
    for c in body.chars() {
        if used + width(c) > part {
            parts = parts.saturating_add(1);
            used = 0;
        }
        used += width(c);
    }
    parts
}

/// Whether Meta takes this text as a template parameter: no new line, no tab, no more than four spaces in a row.
#[must_use]
pub fn good_parameter(text: &str) -> bool {
    !text.contains(['\n', '\r', '\t']) && !text.contains("     ")
}

/// Appends `text` as the inside of a JSON string.
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\' && b < 0x80) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    // Like Meta, non-ASCII goes out escaped, so that body and signature are plain ASCII.
    for unit in text.encode_utf16() {
        match unit {
            0x22 => out.extend_from_slice(b"\\\""),
            0x5c => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(unit as u8),
            _ => out.extend_from_slice(format!("\\u{unit:04x}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(e164("+999000000001"), Some(999_000_000_001));
        for bad in ["999000000001", "+0123456789", "+1234567", "+1234567890123456", "+1 555", "+", ""] {
            assert_eq!(e164(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_at_their_edges() {
        let a = |n| "a".repeat(n);
        assert_eq!(sms_parts(""), 1);
        assert_eq!(sms_parts(&a(160)), 1);
        assert_eq!(sms_parts(&a(161)), 2);
        assert_eq!(sms_parts(&a(306)), 2);
        assert_eq!(sms_parts(&a(307)), 3);
        assert_eq!(sms_parts(&"€".repeat(80)), 1);
        assert_eq!(sms_parts(&"€".repeat(81)), 2, "153 holds 76 pairs");
        assert_eq!(sms_parts(&"ж".repeat(70)), 1);
        assert_eq!(sms_parts(&"ж".repeat(71)), 2);
        assert_eq!(sms_parts(&"👍".repeat(35)), 1);
        assert_eq!(sms_parts(&"👍".repeat(36)), 2);
        assert_eq!(sms_parts(&"👍".repeat(67)), 3, "67 units hold 33 pairs");
    }

    #[test]
    fn parameters_and_escapes() {
        assert!(good_parameter("a    b"));
        assert!(!good_parameter("a     b"));
        assert!(!good_parameter("a\tb"));
        let mut out = Vec::new();
        push_json(&mut out, "é\"\n👍");
        assert_eq!(out, br#"\u00e9\"\u000a\ud83d\udc4d"#);
    }
}
