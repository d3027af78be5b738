//! How many SMS parts a text becomes, and with it what a message costs at the line's ceiling.
//!
//! Twilio counts its rates in parts ("segments"). A text whose characters are all in the GSM 03.38 default alphabet takes 160
//! septets in one part or 153 in each of several; any other text is sent as UCS-2 with 70 or 67 UTF-16 units. A character
//! that takes two units (the extension table, a surrogate pair) is never split over two parts, so a part may stay one unit short.

use super::provider_kind::ProviderKind;

const GSM_SINGLE: u32 = 160;
const GSM_MULTI: u32 = 153;
const UCS2_SINGLE: u32 = 70;
const UCS2_MULTI: u32 = 67;

/// The encoding an SMS text travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmsEncoding {
    /// GSM 03.38 default alphabet with its extension table, 7 bits a unit.
    Gsm7,
    /// UTF-16 units.
    Ucs2,
}

/// What a text becomes on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmsSize {
    /// Encoding of all parts.
    pub encoding: SmsEncoding,
    /// Parts, at least 1 (an empty text is one part).
    pub parts: u32,
    /// Septets or UTF-16 units in all.
    pub units: u32,
}

/// Counts a text that comes in pieces, so that a rendered message need not be put together to know its cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartCounter {
    gsm: Track,
    ucs2: Track,
    beyond_gsm: bool,
}

/// One encoding's running count: units in all, whole parts closed so far, units in the open part, if it needs several parts.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    units: u32,
    closed: u32,
    open: u32,
}

impl Track {
    fn push(&mut self, units: u32, part_max: u32) {
        self.units += units;
        if self.open + units > part_max {
            self.closed += 1;
            self.open = 0;
        }
        self.open += units;
    }

    fn parts(&self, single_max: u32) -> u32 {
        if self.units <= single_max { 1 } else { self.closed + 1 }
    }
}

impl PartCounter {
    /// Counts one more piece of the text.
    pub fn push(&mut self, text: &str) {
        for c in text.chars() {
            match gsm_septets(c) {
                0 => self.beyond_gsm = true,
                septets => self.gsm.push(septets, GSM_MULTI),
            }
            self.ucs2.push(c.len_utf16() as u32, UCS2_MULTI);
        }
    }

    /// The size of everything counted so far.
    pub fn size(&self) -> SmsSize {
        if self.beyond_gsm {
            SmsSize { encoding: SmsEncoding::Ucs2, parts: self.ucs2.parts(UCS2_SINGLE), units: self.ucs2.units }
        } else {
            SmsSize { encoding: SmsEncoding::Gsm7, parts: self.gsm.parts(GSM_SINGLE), units: self.gsm.units }
        }
    }
}

/// The size of a whole text. A messaging service with smart encoding may make less of it, never more.
pub fn sms_size(text: &str) -> SmsSize {
    let mut counter = PartCounter::default();
    counter.push(text);
    counter.size()
}

/// Permits one message takes from its line's ceiling: SMS parts at Twilio, 1 for WhatsApp.
pub fn permit_cost(kind: ProviderKind, rendered: &str) -> u32 {
    match kind {
        ProviderKind::TwilioSms => sms_size(rendered).parts,
        ProviderKind::Meta | ProviderKind::TwilioWhatsapp => 1,
    }
}

/// Septets of a character: 1 in the default alphabet, 2 in its extension table, 0 when it is in neither.
/// Source: 3GPP TS 23.038, §6.2.1 and §6.2.1.1 (no national language tables).
fn gsm_septets(c: char) -> u32 {
    match c {
        // `[`, `\`, `]`, `^`, `{`, `|`, `}`, `~` need the escape; the grave accent is in neither table.
        '\n' | '\r' | ' '..='Z' | '_' | 'a'..='z' => 1,
        '[' | '\\' | ']' | '^' | '{' | '|' | '}' | '~' | '€' | '\u{c}' => 2,
        '£' | '¥' | 'è' | 'é' | 'ù' | 'ì' | 'ò' | 'Ç' | 'Ø' | 'ø' | 'Å' | 'å' => 1,
        'Δ' | 'Φ' | 'Γ' | 'Λ' | 'Ω' | 'Π' | 'Ψ' | 'Σ' | 'Θ' | 'Ξ' => 1,
        'Æ' | 'æ' | 'ß' | 'É' | '¤' | '¡' | 'Ä' | 'Ö' | 'Ñ' | 'Ü' | '§' | '¿' => 1,
        'ä' | 'ö' | 'ñ' | 'ü' | 'à' => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (SmsEncoding, u32) {
        let size = sms_size(text);
        (size.encoding, size.parts)
    }

    #[test]
    fn the_default_alphabet_has_127_characters_and_the_extension_10() {
        let septets = |n| (0..=0x10_ffff).filter_map(char::from_u32).filter(|&c| gsm_septets(c) == n).count();
        // 128 codes less the escape itself.
        assert_eq!(septets(1), 127);
        assert_eq!(septets(2), 10);
    }

    #[test]
    fn boundaries_of_both_encodings() {
        use SmsEncoding::{Gsm7, Ucs2};
        assert_eq!(parts(""), (Gsm7, 1));
        for (n, expected) in [(160, 1), (161, 2), (306, 2), (307, 3), (459, 3), (460, 4)] {
            assert_eq!(parts(&"a".repeat(n)), (Gsm7, expected), "{n} letters");
        }
        for (n, expected) in [(70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4)] {
            assert_eq!(parts(&"ж".repeat(n)), (Ucs2, expected), "{n} letters");
        }
        assert_eq!(parts(&("a".repeat(159) + "`")), (Ucs2, 3), "one odd character decides for all");
    }

    #[test]
    fn two_unit_characters_are_not_split() {
        assert_eq!(sms_size(&"€".repeat(80)).parts, 1);
        // 76 of them fill 152 of 153 septets; the last septet stays empty.
        assert_eq!(sms_size(&"€".repeat(152)).parts, 2);
        assert_eq!(sms_size(&"€".repeat(153)).parts, 3);
        assert_eq!(sms_size(&"👍".repeat(35)).parts, 1);
        assert_eq!(sms_size(&"👍".repeat(66)).parts, 2);
        assert_eq!(sms_size(&"👍".repeat(67)).parts, 3);
    }

    #[test]
    fn only_sms_is_paid_in_parts() {
        let long = "a".repeat(400);
        assert_eq!(permit_cost(ProviderKind::TwilioSms, &long), 3);
        assert_eq!(permit_cost(ProviderKind::TwilioWhatsapp, &long), 1);
        assert_eq!(permit_cost(ProviderKind::Meta, &long), 1);
    }

    proptest! {
        #[test]
        fn pieces_count_like_the_whole(pieces in proptest::collection::vec("[a-z€{}]{0,80}|\\PC{0,40}", 0..6)) {
            let mut counter = PartCounter::default();
            for piece in &pieces {
                counter.push(piece);
            }
            prop_assert_eq!(counter.size(), sms_size(&pieces.concat()));
        }

        /// Packs the characters one by one into parts, the slow and obvious way.
        #[test]
        fn agrees_with_packing_one_by_one(text in "[a-zé€|]{0,500}|[a-zж👍]{0,300}") {
            let gsm = text.chars().all(|c| gsm_septets(c) > 0);
            let cost = |c: char| if gsm { gsm_septets(c) as usize } else { c.len_utf16() };
            let (single, multi) = if gsm { (160, 153) } else { (70, 67) };
            let total: usize = text.chars().map(cost).sum();
            let mut packed: Vec<usize> = vec![0];
            for c in text.chars() {
                if packed.last().unwrap() + cost(c) > multi {
                    packed.push(0);
                }
                *packed.last_mut().unwrap() += cost(c);
            }
            let expected = if total <= single { 1 } else { packed.len() };
            prop_assert_eq!(sms_size(&text).parts as usize, expected);
        }
    }
}
