//! Rows of an import: their digest, and how one becomes a recipient.

use ring::digest::{Context, SHA256};

use crate::domain::line::ProviderKind;
use crate::domain::phone::{Address, PhoneError, Region};
use crate::domain::template::{RowParams, Shape, params};
use crate::store::NewRecipient;

/// Most rows in a chunk.
pub const CHUNK_ROWS_MAX: usize = 10_000;
/// Longest reason of a refused row, in bytes: it is stored and listed, and a list of parameters may be as long as a message.
const REASON_BYTES_MAX: usize = 1_024;
/// Longest `external_id`, in bytes.
const EXTERNAL_ID_BYTES_MAX: usize = 128;

/// Where a row says to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowAddress {
    /// Nothing given.
    None,
    /// One text: E.164, or a national format of the campaign's region.
    Phone(String),
    /// Two columns.
    Parts {
        /// The calling code.
        country_code: String,
        /// The rest.
        phone_number: String,
    },
}

/// One row as the caller sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where to send.
    pub address: RowAddress,
    /// The caller's own id; may be empty.
    pub external_id: String,
    /// The header's parameters.
    pub header: Vec<String>,
    /// The body's parameters.
    pub body: Vec<String>,
    /// The buttons' parameters.
    pub buttons: Vec<String>,
    /// Parameters by column, in any order.
    pub named: Vec<(String, String)>,
}

/// A run of rows as the caller sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChunk {
    /// The place of the first row in the import.
    pub offset: u64,
    /// The rows.
    pub rows: Vec<Row>,
    /// The digest that the caller states.
    pub digest: Vec<u8>,
}

/// Room for the words that say how much is left out of a reason.
const MORE_BYTES_MAX: usize = 32;

/// What is wrong with a row: the first field at fault, and all that is wrong in words, as far as [`REASON_BYTES_MAX`] go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowFault {
    pub(super) field: String,
    pub(super) reason: String,
}

impl RowFault {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// SHA-256 over the rows in the canonical form that the contract defines: independent of protobuf, so that any language can
/// compute it. Sorts the named parameters of each row on the way.
pub(super) fn digest(rows: &mut [Row]) -> [u8; 32] {
    let mut sha = Context::new(&SHA256);
    for row in rows {
        let (phone, country_code, phone_number) = match &row.address {
            RowAddress::None => ("", "", ""),
            RowAddress::Phone(phone) => (phone.as_str(), "", ""),
            RowAddress::Parts { country_code, phone_number } => ("", country_code.as_str(), phone_number.as_str()),
        };
        for text in [phone, country_code, phone_number, &row.external_id] {
            add(&mut sha, text);
        }
        for list in [&row.header, &row.body, &row.buttons] {
            add_len(&mut sha, list.len());
            for text in list {
                add(&mut sha, text);
            }
        }
        row.named.sort_unstable();
        add_len(&mut sha, row.named.len() * 2);
        for (key, value) in &row.named {
            add(&mut sha, key);
            add(&mut sha, value);
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(sha.finish().as_ref());
    digest
}

fn add(sha: &mut Context, text: &str) {
    add_len(sha, text.len());
    sha.update(text.as_bytes());
}

fn add_len(sha: &mut Context, len: usize) {
    // A request is bounded far below 4 GiB.
    sha.update(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

/// What rows are checked against.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) shape: Shape,
    pub(super) kind: ProviderKind,
    pub(super) region: Option<Region>,
}

impl Rules {
    /// The recipient that a row describes, or what is wrong with it.
    pub(super) fn recipient(&self, number: u64, row: &Row) -> Result<NewRecipient, RowFault> {
        let address = self.address(&row.address)?;
        let external_id = row.external_id.as_str();
        if external_id.len() > EXTERNAL_ID_BYTES_MAX || external_id.chars().any(char::is_control) {
            let reason = format!("must be at most {EXTERNAL_ID_BYTES_MAX} printable bytes");
            return Err(RowFault::new("external_id", reason));
        }
        let named: Vec<(&str, &str)> = row.named.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let given = RowParams { header: &row.header, body: &row.body, buttons: &row.buttons, named: &named };
        let values = self.shape.map_row(self.kind, &given).map_err(|errors| {
            let mut errors = errors.into_iter();
            let first = errors.next().map_or_else(
                || RowFault::new("params", "not usable"),
                |error| RowFault::new(error.column, error.problem.to_string()),
            );
            let mut left = errors.len();
            let mut fault = first;
            for error in errors {
                let more = format!("; {error}");
                if fault.reason.len() + more.len() > REASON_BYTES_MAX - MORE_BYTES_MAX {
                    fault.reason.push_str(&format!("; and {left} more"));
                    break;
                }
                fault.reason.push_str(&more);
                left -= 1;
            }
            fault
        })?;
        Ok(NewRecipient {
            row: number,
            address: address.text().as_str().into(),
            external_id: (!external_id.is_empty()).then(|| external_id.into()),
            params: params::encode(&values).into(),
        })
    }

    fn address(&self, address: &RowAddress) -> Result<Address, RowFault> {
        match address {
            RowAddress::None => Err(RowFault::new("phone", PhoneError::Empty.to_string())),
            RowAddress::Phone(phone) => {
                Address::parse(phone, self.region).map_err(|error| RowFault::new("phone", error.to_string()))
            }
            RowAddress::Parts { country_code, phone_number } => Address::from_parts(country_code, phone_number)
                .map_err(|error| {
                    let field = if error == PhoneError::CountryCode { "country_code" } else { "phone_number" };
                    RowFault::new(field, error.to_string())
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::{ParamFormat, Template, TemplateKind};

    fn row(phone: &str) -> Row {
        Row {
            address: RowAddress::Phone(phone.to_owned()),
            external_id: String::new(),
            header: Vec::new(),
            body: vec!["Ada".to_owned()],
            buttons: Vec::new(),
            named: Vec::new(),
        }
    }

    fn rules(body: &str, format: ParamFormat) -> Rules {
        let template = Template {
            id: "hello".to_owned(),
            name: "hello".to_owned(),
            language: "en_US".to_owned(),
            kind: TemplateKind::Approved,
            format,
            header: None,
            body: body.to_owned(),
            footer: None,
            buttons: Vec::new(),
            sms_body: None,
            content_sid: None,
            content_keys: Vec::new(),
            preview_url: false,
        };
        Rules { shape: template.compile().unwrap(), kind: ProviderKind::Meta, region: None }
    }

    /// The canonical bytes, written out by hand; another language must come to the same digest.
    #[test]
    fn the_digest_is_that_of_the_documented_bytes() {
        let mut rows = vec![
            Row {
                address: RowAddress::Phone("+999123456789".to_owned()),
                external_id: "é".to_owned(),
                header: vec![],
                body: vec!["Ada".to_owned(), String::new()],
                buttons: vec!["x".to_owned()],
                named: vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())],
            },
            Row {
                address: RowAddress::Parts { country_code: "1".to_owned(), phone_number: "5550100".to_owned() },
                ..row("")
            },
        ];
        let mut bytes = Vec::new();
        let mut text = |text: &str| {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        for part in ["+999123456789", "", "", "é"] {
            text(part);
        }
        bytes.extend([0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        bytes.extend(b"Ada");
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'x']);
        bytes.extend([4, 0, 0, 0, 1, 0, 0, 0, b'a', 1, 0, 0, 0, b'1', 1, 0, 0, 0, b'b', 1, 0, 0, 0, b'2']);
        bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, b'1', 7, 0, 0, 0]);
        bytes.extend(b"5550100");
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        bytes.extend(b"Ada");
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(digest(&mut rows), ring::digest::digest(&SHA256, &bytes).as_ref());
    }

    #[test]
    fn a_good_row_becomes_a_recipient() {
        let rules = rules("Hello {{1}}", ParamFormat::Positional);
        let recipient = rules.recipient(7, &Row { external_id: "crm-1".to_owned(), ..row(" +999123456789 ") }).unwrap();
        assert_eq!(&*recipient.address, "+999123456789");
        assert_eq!(recipient.external_id.as_deref(), Some("crm-1"));
        assert_eq!((&*recipient.params, recipient.row), (r#"["Ada"]"#, 7));
    }

    #[test]
    fn a_bad_row_names_its_field() {
        let rules = rules("Hello {{1}}", ParamFormat::Positional);
        let cases: Vec<(Row, &str)> = vec![
            (row("call me"), "phone"),
            (row("030 123456"), "phone"),
            (row("+9991234567890123"), "phone"),
            (Row { address: RowAddress::None, ..row("") }, "phone"),
            (
                Row {
                    address: RowAddress::Parts { country_code: "x".to_owned(), phone_number: "1".to_owned() },
                    ..row("")
                },
                "country_code",
            ),
            (Row { external_id: "x".repeat(129), ..row("+999123456789") }, "external_id"),
            (Row { external_id: "a\0".to_owned(), ..row("+999123456789") }, "external_id"),
            (Row { body: vec![], ..row("+999123456789") }, "body_param_1"),
            (Row { body: vec!["a".to_owned(), "b".to_owned()], ..row("+999123456789") }, "body_param_2"),
            (Row { body: vec!["x".repeat(1_100)], ..row("+999123456789") }, "body_param_1"),
            (Row { named: vec![("colour".to_owned(), "red".to_owned())], ..row("+999123456789") }, "colour"),
        ];
        for (row, field) in cases {
            let fault = rules.recipient(0, &row).unwrap_err();
            assert_eq!(fault.field, field, "{fault:?}");
            assert!(!fault.reason.is_empty());
        }
    }

    #[test]
    fn a_reason_stays_short_whatever_the_row_holds() {
        let rules = rules("Hello {{1}}", ParamFormat::Positional);
        let surplus = Row { body: vec!["x".to_owned(); 1_300_001], ..row("+999123456789") };
        let fault = rules.recipient(0, &surplus).unwrap_err();
        assert_eq!(fault.field, "body_param_2");
        assert_eq!(fault.reason, "the template has no such parameter, nor has it the 1299999 after it");
        let named = (0..100_000).map(|n| (format!("{n}{}", "x".repeat(100)), "y".to_owned())).collect();
        let fault = rules.recipient(0, &Row { named, ..row("+999123456789") }).unwrap_err();
        assert!(fault.reason.len() <= REASON_BYTES_MAX, "{}", fault.reason.len());
        assert!(fault.reason.ends_with(" more"), "{}", fault.reason);
    }

    #[test]
    fn named_parameters_fill_by_name() {
        let rules = rules("Hello {{first_name}}, {{city}}", ParamFormat::Named);
        let named = vec![("city".to_owned(), "Bern".to_owned()), ("first_name".to_owned(), "Ada".to_owned())];
        let recipient = rules.recipient(0, &Row { body: vec![], named, ..row("+999123456789") }).unwrap();
        assert_eq!(&*recipient.params, r#"["Ada","Bern"]"#);
    }
}
