//! Small JSON building blocks for webhook bodies: borrowed where the text allows it, lenient where a provider may be odd.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON string, borrowed from the body unless it holds an escape.
///
/// `Cow<str>` alone always copies inside an `Option` or a `Vec`, and `&str` refuses the escapes that Meta uses (`\/`, `\u00e4`).
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A whole number written as a JSON number or as a string of digits. Anything else is `None` rather than an error: a status
/// with an odd time still tells its stage.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole(pub(super) Option<i64>);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl<'de> Visitor<'de> for WholeVisitor {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, also as a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole, E> {
                Ok(Whole(text.trim().parse().ok()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(number).ok()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(Some(number)))
            }
            fn visit_f64<E: de::Error>(self, _number: f64) -> Result<Whole, E> {
                Ok(Whole(None))
            }
            fn visit_bool<E: de::Error>(self, _value: bool) -> Result<Whole, E> {
                Ok(Whole(None))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Whole, E> {
                Ok(Whole(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Whole, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Whole(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Whole, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Whole(None))
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// The elements of a JSON array, unread; `None` if `raw` is no array. `null` is an empty one.
pub(super) fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str::<Option<Vec<&RawValue>>>(raw.get()).ok().map(Option::unwrap_or_default)
}

/// What a JSON error says, without the text that it is about (serde's own message quotes values).
pub(super) fn reason(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Data => "not of the expected shape",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_borrows_when_it_can() {
        let plain: Text<'_> = serde_json::from_str(r#""abc""#).expect("a string");
        assert!(matches!(plain.0, Cow::Borrowed("abc")));
        let optional: Option<Text<'_>> = serde_json::from_str(r#""abc""#).expect("a string");
        assert!(matches!(optional, Some(Text(Cow::Borrowed("abc")))));
        let escaped: Text<'_> = serde_json::from_str(r#""a\/\u00e4""#).expect("a string");
        assert_eq!(escaped.as_str(), "a/ä");
    }

    #[test]
    fn whole_reads_numbers_and_strings_and_shrugs_at_the_rest() {
        for (json, want) in [
            ("1790000000", Some(1_790_000_000)),
            (r#""1790000000""#, Some(1_790_000_000)),
            ("-1", Some(-1)),
            ("18446744073709551615", None),
            (r#""soon""#, None),
            ("1.5", None),
            ("null", None),
            ("true", None),
            (r#"[1,{"a":2}]"#, None),
            (r#"{"a":[1]}"#, None),
        ] {
            let got: Whole = serde_json::from_str(json).expect(json);
            assert_eq!(got, Whole(want), "{json}");
        }
    }

    #[test]
    fn reason_quotes_nothing() {
        let error = serde_json::from_str::<u32>(r#""+16505551234""#).expect_err("not a number");
        assert!(!reason(&error).contains("1650"), "{}", reason(&error));
    }
}
