//! Who was imported into a campaign, and what each is to get. Nothing is listed: generated recipients follow from their number, so that
//! ten million cost a bit each while they are compared.

use super::records::Entry;
use crate::harness::config::{CONTENT_SID, LONG_TEXT, TEMPLATE, TEMPLATE_LANGUAGE, TEXT};
use crate::harness::people;
use crate::sim::digest;
use crate::sim::text::e164;

/// The generated recipients `first..first + count` of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audience {
    /// Their block.
    pub block: u32,
    /// Number of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// They were imported with external ids.
    pub external_ids: bool,
    /// A text message to them is the long one.
    pub long: bool,
}

impl Audience {
    /// The place of an address among them.
    #[must_use]
    pub fn place(&self, address: &str) -> Option<u32> {
        let (block, n) = people::number(address)?;
        (block == self.block && (self.first..self.first + self.count).contains(&n)).then(|| n - self.first)
    }

    /// The address at a place.
    #[must_use]
    pub fn address(&self, place: u32) -> String {
        people::phone(self.block, self.first + place)
    }

    /// The parameters that were imported at a place.
    #[must_use]
    pub fn parameters(&self, place: u32) -> [String; 2] {
        people::params(self.first + place)
    }

    /// The external id that was imported at a place; empty when none was.
    #[must_use]
    pub fn external_id(&self, place: u32) -> String {
        if self.external_ids { people::external_id(self.block, self.first + place) } else { String::new() }
    }

    /// Whether this is what the recipient at a place was to get, over whichever channel.
    #[must_use]
    pub fn is_content(&self, place: u32, entry: &Entry) -> bool {
        let [name, discount] = self.parameters(place);
        let Some(recipient) = e164(&self.address(place)) else { return false };
        let values = [name.as_str(), discount.as_str()];
        if entry.content == digest::template(recipient, TEMPLATE, TEMPLATE_LANGUAGE, values.into_iter()) {
            return true;
        }
        if entry.content == digest::content(recipient, CONTENT_SID, ["1", "2"].into_iter().zip(values)) {
            return true;
        }
        let text = if self.long { LONG_TEXT } else { TEXT };
        let text = text.replace("{{1}}", &name).replace("{{2}}", &discount);
        entry.content == digest::body(recipient, &text)
    }
}
