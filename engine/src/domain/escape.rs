//! Escaping into a byte buffer: JSON strings, form values, and JSON strings inside form values.
//!
//! Each copies runs of bytes that stand for themselves and looks the others up, without allocating.

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

/// Calls `odd` for each byte that is not plain, and copies the runs between.
fn runs(bytes: &[u8], plain: &[bool; 256], out: &mut Vec<u8>, mut odd: impl FnMut(u8, &mut Vec<u8>)) {
    let mut start = 0;
    for (place, &byte) in bytes.iter().enumerate() {
        if !plain[usize::from(byte)] {
            out.extend_from_slice(&bytes[start..place]);
            odd(byte, out);
            start = place + 1;
        }
    }
    out.extend_from_slice(&bytes[start..]);
}

/// The contents of a JSON string, without the quotes.
pub fn json(text: &str, out: &mut Vec<u8>) {
    runs(text.as_bytes(), &JSON_PLAIN, out, |byte, out| match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    });
}

/// A form value: space becomes `+`, everything outside the plain set `%XX` by UTF-8 byte.
pub fn form(text: &str, out: &mut Vec<u8>) {
    form_bytes(text.as_bytes(), out);
}

fn form_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    runs(bytes, &FORM_PLAIN, out, percent);
}

/// The contents of a JSON string inside a form value.
pub fn json_in_form(text: &str, out: &mut Vec<u8>) {
    runs(text.as_bytes(), &FORM_PLAIN, out, |byte, out| {
        if JSON_PLAIN[usize::from(byte)] {
            percent(byte, out);
            return;
        }
        match byte {
            b'"' => out.extend_from_slice(b"%5C%22"),
            b'\\' => out.extend_from_slice(b"%5C%5C"),
            b'\n' => out.extend_from_slice(b"%5Cn"),
            b'\r' => out.extend_from_slice(b"%5Cr"),
            b'\t' => out.extend_from_slice(b"%5Ct"),
            _ => {
                out.extend_from_slice(b"%5Cu00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    });
}

fn percent(byte: u8, out: &mut Vec<u8>) {
    if byte == b' ' {
        out.push(b'+');
    } else {
        out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
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
