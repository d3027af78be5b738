//! Escaping into a byte buffer: JSON strings, form values, and JSON strings inside form values.
//!
//! The target is any growing [`BufMut`] (`Vec<u8>`, `BytesMut`). Each function copies runs of bytes that stand for themselves and looks the others up, without allocating.

use bytes::BufMut;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Bytes that stand for themselves inside a JSON string (all but controls, `"` and `\`).
const JSON_PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Bytes that stand for themselves in a form value (WHATWG URL, the `application/x-www-form-urlencoded` set).
const FORM_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'*' | b'-' | b'.' | b'_');
        byte += 1;
    }
    plain
};

/// Whether a character is shown where it stands. Control characters are not, which terminals obey, nor those that turn the direction of what
/// follows (U+202A to U+202E, U+2066 to U+2069), after which a name reads as another.
#[must_use]
pub fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Calls `odd` for each byte that is not plain, and copies the runs between.
fn runs<B: BufMut>(bytes: &[u8], plain: &[bool; 256], out: &mut B, odd: impl Fn(u8, &mut B)) {
    let mut start = 0;
    for (place, &byte) in bytes.iter().enumerate() {
        if !plain[usize::from(byte)] {
            out.put_slice(&bytes[start..place]);
            odd(byte, out);
            start = place + 1;
        }
    }
    out.put_slice(&bytes[start..]);
}

/// The contents of a JSON string, without the quotes.
pub fn json<B: BufMut>(text: &str, out: &mut B) {
    runs(text.as_bytes(), &JSON_PLAIN, out, |byte, out| {
        out.put_u8(b'\\');
        json_escape(byte, out);
    });
}

/// A form value: space becomes `+`, everything outside the plain set `%XX` by UTF-8 byte.
pub fn form<B: BufMut>(text: &str, out: &mut B) {
    runs(text.as_bytes(), &FORM_PLAIN, out, |byte, out| percent(byte, out));
}

/// The contents of a JSON string inside a form value.
pub fn json_in_form<B: BufMut>(text: &str, out: &mut B) {
    runs(text.as_bytes(), &FORM_PLAIN, out, |byte, out| match byte {
        plain if JSON_PLAIN[usize::from(plain)] => percent(plain, out),
        b'"' => out.put_slice(b"%5C%22"),
        b'\\' => out.put_slice(b"%5C%5C"),
        control => {
            out.put_slice(b"%5C");
            json_escape(control, out);
        }
    });
}

/// What follows the backslash.
fn json_escape<B: BufMut>(byte: u8, out: &mut B) {
    match byte {
        b'\n' => out.put_u8(b'n'),
        b'\r' => out.put_u8(b'r'),
        b'\t' => out.put_u8(b't'),
        b'"' | b'\\' => out.put_u8(byte),
        _ => out.put_slice(&[b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    }
}

fn percent<B: BufMut>(byte: u8, out: &mut B) {
    if byte == b' ' {
        out.put_u8(b'+');
    } else {
        out.put_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through(escape: fn(&str, &mut Vec<u8>), text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Reads a form value back with the percent-encoding crate.
    fn unform(text: &str) -> String {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned()
    }

    #[test]
    fn fixed_cases() {
        assert_eq!(through(json, "a\"b\\c\nd\u{1}é"), "a\\\"b\\\\c\\nd\\u0001é");
        assert_eq!(through(form, "a b+c&d=é~*-._"), "a+b%2Bc%26d%3D%C3%A9%7E*-._");
        assert_eq!(through(json_in_form, "a \"b\"\n"), "a+%5C%22b%5C%22%5Cn");
    }

    proptest! {
        #[test]
        fn readers_get_the_text_back(text in "\\PC{0,40}|[\"\\\\ +%&=\u{0}-\u{1f}é👍]{0,20}") {
            let quoted = format!("\"{}\"", through(json, &text));
            prop_assert_eq!(&serde_json::from_str::<String>(&quoted).unwrap(), &text);
            prop_assert_eq!(&unform(&through(form, &text)), &text);
            prop_assert_eq!(unform(&through(json_in_form, &text)), through(json, &text));
        }
    }
}
