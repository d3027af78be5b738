//! Generated recipients: numbers under +999, which no country has.

use std::path::Path;

use ring::digest;
use sluice_proto::v1;

use crate::witness::audience::Audience;

/// First names for parameters.
const NAMES: [&str; 12] =
    ["Ada", "Alan", "Annie", "Barbara", "Dennis", "Donald", "Edsger", "Frances", "Grace", "John", "Katherine", "Linus"];

/// The number of recipient `n` of block `block` (a block for each campaign keeps recipients apart).
#[must_use]
pub fn phone(block: u32, n: u32) -> String {
    format!("+999{block:03}{n:09}")
}

/// Block and number of a generated recipient; `None` for any other address.
#[must_use]
pub fn number(address: &str) -> Option<(u32, u32)> {
    let digits = address.strip_prefix("+999").filter(|digits| digits.len() == 12)?;
    let (block, n) = digits.split_at_checked(3)?;
    Some((block.parse().ok()?, n.parse().ok()?))
}

/// Two body parameters of recipient `n`.
#[must_use]
pub fn params(n: u32) -> [String; 2] {
    [NAMES[n as usize % NAMES.len()].to_owned(), format!("{}%", 5 + n % 40)]
}

/// Row `n` of block `block` for an import.
#[must_use]
pub fn row(block: u32, n: u32) -> v1::RecipientRow {
    v1::RecipientRow {
        address: Some(v1::recipient_row::Address::Phone(phone(block, n))),
        body_params: params(n).to_vec(),
        ..v1::RecipientRow::default()
    }
}

/// The external id of recipient `n` of block `block`, where it has one.
#[must_use]
pub fn external_id(block: u32, n: u32) -> String {
    format!("customer-{block}-{n}")
}

/// The row at a place of an audience.
#[must_use]
pub fn row_of(audience: &Audience, place: u32) -> v1::RecipientRow {
    let row = row(audience.block, audience.first + place);
    v1::RecipientRow { external_id: audience.external_id(place), ..row }
}

/// Recipients `0..count` of a block, as a check expects them.
#[must_use]
pub fn phones(block: u32, count: u32) -> Audience {
    Audience { block, count, ..Audience::default() }
}

/// Writes a CSV file of `count` recipients with their parameters.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv(path: &Path, block: u32, count: u32) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_path(path)?;
    out.write_record(["phone", "body_param_1", "body_param_2"])?;
    for n in 0..count {
        let [name, discount] = params(n);
        out.write_record([phone(block, n), name, discount])?;
    }
    out.flush()?;
    Ok(())
}

/// Reads such a file as rows of an import.
///
/// # Errors
/// When the file cannot be read or a record is short.
pub fn read_csv(path: &Path) -> anyhow::Result<Vec<v1::RecipientRow>> {
    let mut rows = Vec::new();
    for record in csv::Reader::from_path(path)?.into_records() {
        let record = record?;
        anyhow::ensure!(record.len() == 3, "line {}: {} columns", rows.len() + 2, record.len());
        rows.push(v1::RecipientRow {
            address: Some(v1::recipient_row::Address::Phone(record[0].to_owned())),
            body_params: vec![record[1].to_owned(), record[2].to_owned()],
            ..v1::RecipientRow::default()
        });
    }
    Ok(rows)
}

/// The digest of a chunk as the contract defines it.
#[must_use]
pub fn digest(rows: &[v1::RecipientRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 80);
    for row in rows {
        let (phone, country, national) = match &row.address {
            Some(v1::recipient_row::Address::Phone(phone)) => (phone.as_str(), "", ""),
            Some(v1::recipient_row::Address::National(n)) => ("", n.country_code.as_str(), n.phone_number.as_str()),
            None => ("", "", ""),
        };
        for text in [phone, country, national, &row.external_id] {
            put(&mut bytes, text);
        }
        for list in [&row.header_params, &row.body_params, &row.button_params] {
            bytes.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|text| put(&mut bytes, text));
        }
        let mut named: Vec<(&String, &String)> = row.named_params.iter().collect();
        named.sort_unstable();
        bytes.extend_from_slice(&(named.len() as u32 * 2).to_le_bytes());
        for (key, value) in named {
            put(&mut bytes, key);
            put(&mut bytes, value);
        }
    }
    digest::digest(&digest::SHA256, &bytes).as_ref().to_vec()
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::text::sms_parts;

    #[test]
    fn a_file_goes_round() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("people.csv");
        write_csv(&path, 7, 50).expect("written");
        let rows = read_csv(&path).expect("read");
        assert_eq!(rows.len(), 50);
        assert_eq!(rows[9], row(7, 9));
        assert_eq!(phone(7, 9), "+999007000000009");
        assert_eq!(number(&phone(7, 9)), Some((7, 9)));
        assert_eq!(number("+4915550100"), None);
    }

    #[test]
    fn the_long_text_has_two_parts_for_everybody_and_the_other_one() {
        use crate::harness::config::{LONG_TEXT, TEXT};
        for [name, discount] in (0..480).map(params) {
            let parts = |text: &str| sms_parts(&text.replace("{{1}}", &name).replace("{{2}}", &discount));
            assert_eq!((parts(TEXT), parts(LONG_TEXT)), (1, 2), "{name} {discount}");
        }
    }

    #[test]
    fn the_digest_depends_on_every_field_and_on_the_order() {
        let rows = [row(1, 1), row(1, 2)];
        let base = digest(&rows);
        assert_eq!(base.len(), 32);
        assert_ne!(base, digest(&[row(1, 2), row(1, 1)]));
        let mut other = rows.clone();
        other[0].external_id = "x".to_owned();
        assert_ne!(base, digest(&other));
        let mut shifted = rows;
        let moved = shifted[0].body_params.pop().expect("two");
        shifted[0].button_params.push(moved);
        assert_ne!(base, digest(&shifted));
    }
}
