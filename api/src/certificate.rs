//! When a certificate expires: read from its DER by hand, since nothing else of it is needed here.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, left out of version 1 certificates.
const CONTEXT_0: u8 = 0xa0;

/// When the first certificate of the PEM file's chain expires; `None` when it cannot be told.
#[must_use]
pub fn chain_expires(file: &Path) -> Option<Timestamp> {
    let chain = CertificateDer::pem_file_iter(file).ok()?;
    chain.filter_map(|certificate| not_after(&certificate.ok()?)).min()
}

/// `notAfter` of one certificate (RFC 5280, section 4.1).
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let mut certificate = inside(certificate, SEQUENCE)?;
    let mut signed = take(&mut certificate, SEQUENCE)?;
    if signed.first() == Some(&CONTEXT_0) {
        element(&mut signed)?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        element(&mut signed)?;
    }
    let mut validity = take(&mut signed, SEQUENCE)?;
    element(&mut validity)?;
    time(element(&mut validity)?)
}

fn inside(mut input: &[u8], tag: u8) -> Option<&[u8]> {
    take(&mut input, tag)
}

fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(input).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Takes one element off: its tag and its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Certificates are far smaller than four bytes of length.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, content))
}

fn time((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // Two digits of the year: 50 and above belong to the last century.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_certificate() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls-cert.pem");
        let expires = chain_expires(&file).expect("it is a certificate");
        assert_eq!(expires.to_string(), "2126-10-28T12:16:09Z");
    }

    #[test]
    fn both_ways_to_write_a_time() {
        let text = |tag, text: &str| time((tag, text.as_bytes())).map(|at| at.to_string());
        assert_eq!(text(UTC_TIME, "301231235959Z").as_deref(), Some("2030-12-31T23:59:59Z"));
        assert_eq!(text(UTC_TIME, "991231235959Z").as_deref(), Some("1999-12-31T23:59:59Z"));
        assert_eq!(text(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00Z"));
        assert_eq!(text(SEQUENCE, "20500101000000Z"), None);
    }

    #[test]
    fn nonsense_is_no_certificate() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls-cert.pem");
        let whole = CertificateDer::from_pem_file(file).expect("it is a certificate");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "cut at {length}");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
