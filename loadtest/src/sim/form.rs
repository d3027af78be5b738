//! `application/x-www-form-urlencoded`, both ways.

use std::borrow::Cow;

/// A decoded name and its value.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Parses a form into decoded pairs, in order, repeated names and empty values kept.
///
/// # Errors
/// When a percent escape is broken or the decoded bytes are not UTF-8.
pub fn parse(body: &[u8]) -> Result<Vec<Pair<'_>>, &'static str> {
    let body = std::str::from_utf8(body).map_err(|_| "form is not UTF-8")?;
    let mut pairs = Vec::with_capacity(12);
    for part in body.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

/// Decodes one name or value: `+` is a space, `%xx` a byte.
///
/// # Errors
/// When an escape is broken or the result is not UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains(['+', '%']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).ok_or("broken percent escape");
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8,
            other => other,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| "form is not UTF-8")
}

/// Appends one encoded pair, with `&` before it unless it is the first.
pub fn push(out: &mut Vec<u8>, name: &str, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !out.is_empty() {
        out.push(b'&');
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    for &byte in value.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_go_round() {
        let mut out = Vec::new();
        push(&mut out, "Body", " Stop é &=+%");
        push(&mut out, "Empty", "");
        let pairs = parse(&out).expect("good form");
        assert_eq!(pairs[0], ("Body".into(), " Stop é &=+%".into()));
        assert_eq!(pairs[1], ("Empty".into(), "".into()));
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert!(parse(b"a=%2").is_err());
        assert!(parse(b"a=%zz").is_err());
        assert!(parse(b"a=%ff").is_err());
    }
}
