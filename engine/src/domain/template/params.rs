//! Parameter values in slot order: how they are stored and how they are read back.

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use std::fmt;

/// Values by flat slot number.
pub trait ParamSource {
    /// How many there are.
    fn count(&self) -> usize;
    /// The value of a slot, `None` beyond the end.
    fn get(&self, slot: usize) -> Option<&str>;
}

impl<S: AsRef<str>> ParamSource for [S] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, slot: usize) -> Option<&str> {
        <[S]>::get(self, slot).map(AsRef::as_ref)
    }
}

impl<S: AsRef<str>> ParamSource for Vec<S> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, slot: usize) -> Option<&str> {
        <[S]>::get(self, slot).map(AsRef::as_ref)
    }
}

impl<S: AsRef<str>, const N: usize> ParamSource for [S; N] {
    fn count(&self) -> usize {
        N
    }

    fn get(&self, slot: usize) -> Option<&str> {
        <[S]>::get(self, slot).map(AsRef::as_ref)
    }
}

impl ParamSource for ParamList {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, slot: usize) -> Option<&str> {
        let end = *self.ends.get(slot)?;
        let start = if slot == 0 { 0 } else { self.ends[slot - 1] };
        Some(&self.text[start..end])
    }
}

/// The stored form: a JSON array of strings.
pub fn encode<S: AsRef<str>>(params: &[S]) -> String {
    let mut out = Vec::with_capacity(2 + params.iter().map(|p| p.as_ref().len() + 3).sum::<usize>());
    out.push(b'[');
    for (slot, param) in params.iter().enumerate() {
        if slot > 0 {
            out.push(b',');
        }
        out.push(b'"');
        crate::domain::escape::json(param.as_ref(), &mut out);
        out.push(b'"');
    }
    out.push(b']');
    // Escaping only ever adds ASCII to valid UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

/// Stored parameters that cannot be read: the row was not written by [`encode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored parameters are not a JSON array of strings: {0}")]
pub struct ParamsUnreadable(String);

/// A reusable list of decoded parameters: one text and the end of each value in it. Decoding a row into a used list does not
/// allocate once the list has grown to the campaign's longest row.
#[derive(Clone, Debug, Default)]
pub struct ParamList {
    text: String,
    ends: Vec<usize>,
}

impl ParamList {
    /// Replaces the contents by a stored array. An empty text stands for no parameters.
    pub fn decode(&mut self, stored: &str) -> Result<(), ParamsUnreadable> {
        self.text.clear();
        self.ends.clear();
        if stored.is_empty() {
            return Ok(());
        }
        let mut json = serde_json::Deserializer::from_str(stored);
        serde::Deserializer::deserialize_seq(&mut json, Array(self))
            .and_then(|()| json.end())
            .map_err(|error| ParamsUnreadable(error.to_string()))
    }
}

/// Reads the array.
struct Array<'l>(&'l mut ParamList);

/// Reads one of its strings.
struct Element<'l>(&'l mut ParamList);

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Element(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if self.0.ends.len() >= super::limits::SLOTS {
            return Err(E::custom("more values than a template has slots"));
        }
        self.0.text.push_str(value);
        self.0.ends.push(self.0.text.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(stored: &str) -> Result<Vec<String>, ParamsUnreadable> {
        let mut list = ParamList::default();
        list.decode(stored)?;
        Ok((0..list.count()).map(|slot| list.get(slot).unwrap().to_owned()).collect())
    }

    #[test]
    fn refuses_anything_but_an_array_of_strings() {
        for bad in ["{}", "[1]", "[null]", "[[\"a\"]]", "[\"a\"", "[\"a\"] x", "\"a\""] {
            assert!(decoded(bad).is_err(), "{bad}");
        }
        assert_eq!(decoded("").unwrap(), Vec::<String>::new());
        assert_eq!(decoded(" [ \"a\" , \"\" ] ").unwrap(), ["a", ""]);
    }

    #[test]
    fn a_used_list_is_replaced() {
        let mut list = ParamList::default();
        list.decode(r#"["long enough","b"]"#).unwrap();
        list.decode(r#"["x"]"#).unwrap();
        assert_eq!((list.count(), list.get(0), list.get(1)), (1, Some("x"), None));
    }

    proptest! {
        #[test]
        fn round_trips_and_is_what_serde_writes(params in proptest::collection::vec("\\PC{0,20}|[\"\\\\\\n\\t\u{1}]{0,5}", 0..8)) {
            let stored = encode(&params);
            prop_assert_eq!(&serde_json::from_str::<Vec<String>>(&stored).unwrap(), &params);
            prop_assert_eq!(decoded(&stored).unwrap(), params);
        }
    }
}
