//! Recipient addresses: E.164 numbers, checked by their bytes.
//!
//! The check is deliberately only syntactic (`+`, 8 to 15 digits, no leading zero): generated load uses
//! `+999…`, which no number plan knows, and the provider has the last word anyway. Numbers in a national
//! format are read by the phone library, and only when the caller names a region.

use phonenumber::country;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Fewest digits of an address. E.164 sets no lower bound; no mobile number is shorter.
pub const DIGITS_MIN: usize = 8;
/// Most digits of an address, without the `+` (ITU-T E.164).
pub const DIGITS_MAX: usize = 15;
/// Longest text that is handed to the phone library, in bytes; its patterns are not made for more.
const NATIONAL_BYTES_MAX: usize = 40;

/// An E.164 number: 8 to 15 digits of which the first is not zero.
///
/// Held as the number its digits spell, so it is eight bytes, `Copy` and a good key; no leading zero can get lost.
/// `Display`, serde and [`Address::text`] write it with the `+`. `Debug` shows only the last two digits,
/// so that addresses do not reach logs by accident.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(u64);

/// Why a text is not an address. The texts are shown to the person who made the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Nothing there.
    #[error("the phone number is empty")]
    Empty,
    /// No `+`, so the country is unknown; a region would help.
    #[error(
        "the number does not start with `+` and a country code; give it in E.164 form or name the campaign's region"
    )]
    NoPlus,
    /// A country code never starts with zero.
    #[error("a zero follows the `+`; a country code does not start with zero")]
    LeadingZero,
    /// A byte that is no digit, at this byte offset.
    #[error("{found:?} at position {position} is not a digit")]
    NotADigit {
        /// Place in the text, counted in characters from 1.
        position: usize,
        /// The character found there.
        found: char,
    },
    /// Fewer than [`DIGITS_MIN`] digits.
    #[error("{digits} digits are too few for an international number (at least {DIGITS_MIN})")]
    TooShort {
        /// Digits found.
        digits: usize,
    },
    /// More than [`DIGITS_MAX`] digits.
    #[error("{digits} digits are too many for an international number (at most {DIGITS_MAX})")]
    TooLong {
        /// Digits found.
        digits: usize,
    },
    /// The phone library cannot read it in this region.
    #[error("not a telephone number of region {region}")]
    NotOfRegion {
        /// The region it was read in.
        region: Region,
    },
    /// The separate country-code column is not 1 to 3 digits.
    #[error("the country code is not one to three digits")]
    CountryCode,
    /// National part with a trunk zero that the phone library does not know how to drop.
    #[error("the national number starts with a zero that does not belong there; leave the trunk prefix out")]
    TrunkZero,
}

impl Address {
    /// Reads strict E.164: `+`, then 8 to 15 digits, the first of them 1 to 9. No spaces, nothing else.
    pub fn parse_e164(text: &str) -> Result<Self, PhoneError> {
        match text.as_bytes() {
            [] => Err(PhoneError::Empty),
            [b'+', digits @ ..] => match Self::from_ascii(digits) {
                Some(address) => Ok(address),
                None => Err(reason(text, 1)),
            },
            _ => Err(PhoneError::NoPlus),
        }
    }

    /// Reads an address from digits without the `+`, as Meta writes them in webhooks.
    pub fn parse_digits(text: &str) -> Result<Self, PhoneError> {
        if text.is_empty() {
            return Err(PhoneError::Empty);
        }
        Self::from_ascii(text.as_bytes()).ok_or_else(|| reason(text, 0))
    }

    /// Reads one field of an import: surrounding white space is dropped, strict E.164 is taken as it is, and anything
    /// else goes to the phone library if a region is given.
    pub fn parse(text: &str, region: Option<Region>) -> Result<Self, PhoneError> {
        let text = text.trim();
        match (Self::parse_e164(text), region) {
            (Ok(address), _) => Ok(address),
            (Err(PhoneError::Empty), _) => Err(PhoneError::Empty),
            (Err(_), Some(region)) => region.read(text),
            (Err(error), None) => Err(error),
        }
    }

    /// Joins the two columns `country_code` (with or without `+`) and `phone_number` (spaces, hyphens, dots and
    /// parentheses allowed). A leading zero of the second is a trunk prefix in most countries and part of the number in a
    /// few; the phone library knows which, and where it does not know the country the row is refused.
    pub fn from_parts(country_code: &str, number: &str) -> Result<Self, PhoneError> {
        let code = country_code.trim();
        let code = code.strip_prefix('+').unwrap_or(code);
        if !(1..=3).contains(&code.len()) || !code.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PhoneError::CountryCode);
        }
        let number = number.trim();
        if number.is_empty() {
            return Err(PhoneError::Empty);
        }
        let mut joined = String::with_capacity(DIGITS_MAX + 8);
        joined.push('+');
        joined.push_str(code);
        for (position, found) in number.chars().enumerate() {
            match found {
                '0'..='9' => joined.push(found),
                ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' => {}
                _ => {
                    return Err(PhoneError::NotADigit { position: position + 1, found });
                }
            }
        }
        let digits = joined.len() - 1;
        if digits > DIGITS_MAX + 2 {
            return Err(PhoneError::TooLong { digits });
        }
        if joined.as_bytes().get(1 + code.len()) == Some(&b'0') {
            return library(None, &joined).ok_or(PhoneError::TrunkZero);
        }
        Self::parse_e164(&joined)
    }

    /// The address whose digits spell this number; `None` when it has fewer than 8 or more than 15.
    pub const fn from_number(number: u64) -> Option<Self> {
        if number >= 10_000_000 && number < 1_000_000_000_000_000 { Some(Self(number)) } else { None }
    }

    /// The number its digits spell: between 10^7 and 10^15 - 1.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The address as text, without allocating.
    pub fn text(self) -> AddressText {
        let mut bytes = [b'+'; 1 + DIGITS_MAX];
        let mut start = bytes.len();
        let mut rest = self.0;
        while rest > 0 {
            start -= 1;
            bytes[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        // The bytes before the first digit are still `+`.
        AddressText { bytes, start: (start - 1) as u8 }
    }

    fn from_ascii(digits: &[u8]) -> Option<Self> {
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&digits.len()) || digits[0] == b'0' {
            return None;
        }
        let mut number = 0u64;
        for &byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + u64::from(digit);
        }
        Some(Self(number))
    }
}

/// Why the digits after `skip` bytes are refused; only called when they are.
fn reason(text: &str, skip: usize) -> PhoneError {
    let rest = &text[skip..];
    if let Some((position, found)) = rest.chars().enumerate().find(|(_, c)| !c.is_ascii_digit()) {
        return PhoneError::NotADigit { position: position + skip + 1, found };
    }
    match rest.len() {
        0 => PhoneError::Empty,
        digits if digits < DIGITS_MIN => PhoneError::TooShort { digits },
        digits if digits > DIGITS_MAX => PhoneError::TooLong { digits },
        _ => PhoneError::LeadingZero,
    }
}

/// An address written out with its `+`, on the stack.
#[derive(Clone, Copy)]
pub struct AddressText {
    bytes: [u8; 1 + DIGITS_MAX],
    start: u8,
}

impl AddressText {
    /// `+` and the digits.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever written, so the fallback cannot be reached.
        std::str::from_utf8(&self.bytes[self.start as usize..]).unwrap_or_default()
    }

    /// The digits alone.
    pub fn digits(&self) -> &str {
        &self.as_str()[1..]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address(…{:02})", self.0 % 100)
    }
}

impl FromStr for Address {
    type Err = PhoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_e164(text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_e164(&text).map_err(serde::de::Error::custom)
    }
}

/// A region for national number formats: an ISO 3166-1 code that the phone library has rules for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region(country::Id);

/// The text is not a region the phone library knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known region (two letters as in ISO 3166-1, e.g. DE)")]
pub struct UnknownRegion(pub String);

impl Region {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    fn read(self, text: &str) -> Result<Address, PhoneError> {
        if text.len() > NATIONAL_BYTES_MAX {
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            return Err(PhoneError::TooLong { digits });
        }
        library(Some(self.0), text).ok_or(PhoneError::NotOfRegion { region: self })
    }
}

/// Reads and validates with the phone library: a national format that is only *possible* would send the message to a stranger.
fn library(region: Option<country::Id>, text: &str) -> Option<Address> {
    let number = phonenumber::parse(region, text).ok()?;
    if !number.is_valid() || number.extension().is_some() {
        return None;
    }
    let e164 = number.format().mode(phonenumber::Mode::E164).to_string();
    Address::parse_e164(&e164).ok()
}

impl FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownRegion(text.chars().take(16).collect());
        if text.len() != 2 {
            return Err(unknown());
        }
        text.to_ascii_uppercase().parse().map(Self).map_err(|_| unknown())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({})", self.as_str())
    }
}

/// Loads the phone library's tables (tens of milliseconds optimised, most of a second not, and about 13 MB kept).
///
/// Call it away from the async runtime when the first campaign that names a region is created, or the first row pays for it.
pub fn warm_up() {
    let _ = phonenumber::parse(Some(country::Id::US), "201 555 0123").map(|number| number.is_valid());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(text: &str) -> Region {
        text.parse().unwrap()
    }

    #[test]
    fn takes_strict_e164_and_nothing_else() {
        for good in ["+15550100", "+999123456789012", "+4930123456"] {
            assert_eq!(Address::parse_e164(good).unwrap().to_string(), good);
        }
        let cases = [
            ("", PhoneError::Empty),
            ("+", PhoneError::Empty),
            ("15550100123", PhoneError::NoPlus),
            (" +15550100123", PhoneError::NoPlus),
            ("+0555010012", PhoneError::LeadingZero),
            ("+1555010", PhoneError::TooShort { digits: 7 }),
            ("+9991234567890123", PhoneError::TooLong { digits: 16 }),
            ("+1555 0100", PhoneError::NotADigit { position: 6, found: ' ' }),
            ("+1555010é", PhoneError::NotADigit { position: 9, found: 'é' }),
            ("++15550100", PhoneError::NotADigit { position: 2, found: '+' }),
            ("+١٢٣٤٥٦٧٨", PhoneError::NotADigit { position: 2, found: '١' }),
        ];
        for (text, error) in cases {
            assert_eq!(Address::parse_e164(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn national_formats_need_a_region() {
        let us = Some(region("us"));
        assert_eq!(Address::parse("(201) 555-0123", None), Err(PhoneError::NoPlus));
        assert_eq!(Address::parse(" (201) 555-0123 ", us).unwrap().to_string(), "+12015550123");
        assert_eq!(Address::parse("030 123456", Some(region("DE"))).unwrap().to_string(), "+4930123456");
        assert_eq!(
            Address::parse("+49 30 123456", us).unwrap().to_string(),
            "+4930123456",
            "international with spaces"
        );
        assert_eq!(Address::parse("hello", us), Err(PhoneError::NotOfRegion { region: region("US") }));
        // Generated numbers pass whatever the region says: the bytes decide first.
        assert_eq!(Address::parse("+999000000001", us).unwrap().to_string(), "+999000000001");
        assert!(matches!(Address::parse(&"1".repeat(5000), us), Err(PhoneError::TooLong { .. })));
        assert!("XX".parse::<Region>().is_err());
        assert!("USA".parse::<Region>().is_err());
    }

    #[test]
    fn joins_the_two_column_form() {
        let parts = |code, number| Address::from_parts(code, number).map(|a| a.to_string());
        assert_eq!(parts("1", "201 555-0123").unwrap(), "+12015550123");
        assert_eq!(parts("+999", "12345678").unwrap(), "+99912345678");
        assert_eq!(parts("49", "030 123456").unwrap(), "+4930123456", "trunk zero dropped");
        assert_eq!(parts("39", "06 1234 5678").unwrap(), "+390612345678", "zero kept in Italy");
        assert_eq!(parts("999", "0123456789"), Err(PhoneError::TrunkZero));
        assert_eq!(parts("", "2015550123"), Err(PhoneError::CountryCode));
        assert_eq!(parts("1234", "2015550123"), Err(PhoneError::CountryCode));
        assert_eq!(parts("1", ""), Err(PhoneError::Empty));
        assert_eq!(parts("1", "20x"), Err(PhoneError::NotADigit { position: 3, found: 'x' }));
    }

    #[test]
    fn debug_hides_the_number() {
        let address = Address::parse_e164("+15550100123").unwrap();
        assert_eq!(format!("{address:?}"), "Address(…23)");
        assert_eq!(address.text().digits(), "15550100123");
    }

    #[test]
    fn from_number_has_the_same_bounds() {
        assert!(Address::from_number(9_999_999).is_none());
        assert!(Address::from_number(10_000_000).is_some());
        assert!(Address::from_number(999_999_999_999_999).is_some());
        assert!(Address::from_number(1_000_000_000_000_000).is_none());
    }

    proptest! {
        #[test]
        fn number_and_text_round_trip(number in 10_000_000u64..1_000_000_000_000_000) {
            let address = Address::from_number(number).unwrap();
            let text = address.to_string();
            prop_assert_eq!(Address::parse_e164(&text), Ok(address));
            prop_assert_eq!(Address::parse_digits(&text[1..]), Ok(address));
            prop_assert_eq!(address.number(), number);
            let json = serde_json::to_string(&address).unwrap();
            prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }

        #[test]
        fn never_panics_and_accepts_only_the_grammar(text in "\\PC{0,20}|\\+[0-9 ]{0,18}") {
            let digits = text.strip_prefix('+').unwrap_or("");
            let expected = (8..=15).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0');
            prop_assert_eq!(Address::parse_e164(&text).is_ok(), text.starts_with('+') && expected);
            let _ = Address::parse_digits(&text);
            let _ = Address::from_parts("49", &text);
        }

        /// The library sees whatever people put into a phone column; what it lets through is still an address.
        #[test]
        fn national_reading_never_panics(text in "\\PC{0,45}|[+0-9() .;,/x*#-]{0,24}|tel:[0-9+;=a-z-]{0,20}", at in 0usize..4) {
            let region = region(["US", "DE", "BR", "IT"][at]);
            if let Ok(address) = Address::parse(&text, Some(region)) {
                prop_assert_eq!(Address::parse_e164(address.text().as_str()), Ok(address));
            }
        }
    }
}
