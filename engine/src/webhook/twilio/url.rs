//! The URL that Twilio signed: our public address plus the request's target, in the forms its back end is known to use.

use std::borrow::Cow;
use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

/// The public address of this server, in both port forms.
///
/// Twilio's own libraries try the URL with its port made explicit and with none, because its back end is not consistent
///. With an odd port the first form keeps it and the second drops it.
#[derive(Debug, Clone)]
pub struct PublicUrl {
    /// What the operator wrote comes first, as the likeliest.
    forms: [Box<str>; 2],
}

/// A public address that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// Neither `http://` nor `https://` in front.
    #[error("must start with https:// or http://")]
    Scheme,
    /// Nothing between the scheme and the path.
    #[error("names no host")]
    Host,
    /// A port that is not 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// A query or a fragment, or a character that no URL has.
    #[error("must end with host, port or path: no query, no fragment, no spaces")]
    Tail,
}

impl PublicUrl {
    /// Takes `https://host[:port][/path]`; user info in front of the host is kept, a trailing slash is not.
    ///
    /// # Errors
    /// [`PublicUrlError`], one for each way to be wrong.
    pub fn parse(base: &str) -> Result<Self, PublicUrlError> {
        let (scheme, rest) = base.split_once("://").ok_or(PublicUrlError::Scheme)?;
        let default_port = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return Err(PublicUrlError::Scheme),
        };
        if rest.bytes().any(|b| matches!(b, b'?' | b'#') || b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(PublicUrlError::Tail);
        }
        let rest = rest.trim_end_matches('/');
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority);
        if host.is_empty() || host.ends_with('@') {
            return Err(PublicUrlError::Host);
        }
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |number| number == 0)) {
            return Err(PublicUrlError::Port);
        }
        let with_port = format!("{scheme}://{host}:{}{path}", port.unwrap_or(default_port)).into_boxed_str();
        let without = format!("{scheme}://{host}{path}").into_boxed_str();
        Ok(Self { forms: if port.is_some() { [with_port, without] } else { [without, with_port] } })
    }

    /// The public address as it was given, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.forms[0]
    }

    pub(super) fn forms(&self) -> impl Iterator<Item = &str> {
        self.forms.iter().map(AsRef::as_ref)
    }
}

/// Splits `user:pass@[::1]:443` into everything before the port, and the port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let host_from = authority.rfind('@').map_or(0, |at| at + 1);
    let port_from = match authority[host_from..].rfind(']') {
        Some(bracket) => host_from + bracket + 1,
        None => host_from,
    };
    match authority[port_from..].rfind(':') {
        Some(colon) => (&authority[..port_from + colon], Some(&authority[port_from + colon + 1..])),
        None => (authority, None),
    }
}

/// The request target in the spellings that may have been signed: as it came, with apostrophes escaped as URL parsers do, and
/// with the query taken apart and put together in the old way of Twilio's Node library. Our own callback URLs hold nothing that
/// the spellings differ in, so there is one candidate unless the operator's URL is unusual.
pub(super) fn spellings(target: &str) -> Vec<Cow<'_, str>> {
    let mut all = vec![Cow::Borrowed(target)];
    let Some((path, query)) = target.split_once('?') else {
        return all;
    };
    if query.contains('\'') {
        all.push(Cow::Owned(format!("{path}?{}", query.replace('\'', "%27"))));
    }
    let legacy = format!("{path}?{}", legacy_query(query));
    if all.iter().all(|known| *known != legacy) {
        all.push(Cow::Owned(legacy));
    }
    all
}

fn legacy_query(query: &str) -> String {
    let mut rebuilt = String::with_capacity(query.len() + 16);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if !rebuilt.is_empty() {
            rebuilt.push('&');
        }
        recode(name, &mut rebuilt);
        rebuilt.push('=');
        recode(value, &mut rebuilt);
    }
    rebuilt
}

fn recode(text: &str, out: &mut String) {
    let spaced = text.replace('+', " ");
    for byte in percent_decode_str(&spaced) {
        // What Node's querystring module leaves alone.
        if byte.is_ascii_alphanumeric() || b"-_.~!*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(base: &str) -> Vec<String> {
        PublicUrl::parse(base).expect(base).forms().map(str::to_owned).collect()
    }

    #[test]
    fn both_port_forms_the_given_one_first() {
        assert_eq!(forms("https://h.test/"), ["https://h.test", "https://h.test:443"]);
        assert_eq!(forms("http://h.test:80/base"), ["http://h.test:80/base", "http://h.test/base"]);
        assert_eq!(forms("http://h.test:1234"), ["http://h.test:1234", "http://h.test"]);
        assert_eq!(forms("https://u:p@h.test"), ["https://u:p@h.test", "https://u:p@h.test:443"]);
        assert_eq!(forms("https://[::1]:8443/x/"), ["https://[::1]:8443/x", "https://[::1]/x"]);
        assert_eq!(forms("https://[::1]"), ["https://[::1]", "https://[::1]:443"]);
    }

    #[test]
    fn what_is_no_public_url_is_refused() {
        for (base, want) in [
            ("hooks.example.test", PublicUrlError::Scheme),
            ("ftp://h", PublicUrlError::Scheme),
            ("https://", PublicUrlError::Host),
            ("https:///path", PublicUrlError::Host),
            ("https://u@", PublicUrlError::Host),
            ("https://h:0", PublicUrlError::Port),
            ("https://h:99999", PublicUrlError::Port),
            ("https://h:", PublicUrlError::Port),
            ("https://h/?a=1", PublicUrlError::Tail),
            ("https://h/#x", PublicUrlError::Tail),
            ("https://h /", PublicUrlError::Tail),
        ] {
            assert_eq!(PublicUrl::parse(base).err(), Some(want), "{base}");
        }
    }

    #[test]
    fn our_own_targets_have_one_spelling() {
        assert_eq!(spellings("/webhooks/twilio/main?c=AQAAACoAAAAHAAGr-_9876543210").len(), 1);
        assert_eq!(spellings("/webhooks/twilio/main").len(), 1);
        assert_eq!(
            spellings("/x?Body=It's+amazing"),
            ["/x?Body=It's+amazing", "/x?Body=It%27s+amazing", "/x?Body=It's%20amazing"]
        );
    }
}
