//! Which CSV column is what: from the header row and the template's placeholders to rows of the contract.

use sluice_proto::v1::{NationalNumber, RecipientRow, recipient_row::Address};

use super::csv_source::Record;

/// What the campaign's template wants filled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// The columns as the template names them (`Template.columns`).
    pub columns: Vec<String>,
    /// Whether a line of the campaign's pool may do without some of them: so for SMS, whose text may use fewer than the WhatsApp
    /// template of the same definition. Then the server alone knows which, and says so row by row.
    pub optional: bool,
}

/// Where a parameter goes in a row of the contract. By list where the column's name says the place, because a name in each of a
/// million rows is half of what would be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header(usize),
    Body(usize),
    Button(usize),
    Named,
}

impl Slots {
    fn places(&self) -> Vec<Place> {
        let mut buttons = 0;
        let place = |column: &String| {
            if let Some(number) = numbered(column, "header_param_") {
                Place::Header(number)
            } else if let Some(number) = numbered(column, "body_param_") {
                Place::Body(number)
            } else if column.starts_with("button_") {
                // Buttons are numbered by kind in their columns, and all together in the list.
                buttons += 1;
                Place::Button(buttons - 1)
            } else {
                Place::Named
            }
        };
        self.columns.iter().map(place).collect()
    }
}

/// The place in a list, from 0, of a column that ends in a number from 1.
fn numbered(column: &str, prefix: &str) -> Option<usize> {
    let number: usize = column.strip_prefix(prefix)?.parse().ok()?;
    number.checked_sub(1)
}

/// What is wrong with a header row: the columns it lacks or has twice.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct HeaderError(pub Vec<String>);

/// Why a row cannot be sent as it stands; the server is not asked.
#[derive(Debug, PartialEq, Eq)]
pub struct RowError {
    /// The column by name, or by number when the header has no name for it.
    pub column: String,
    /// What is wrong.
    pub reason: String,
}

/// What one column of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Phone,
    CountryCode,
    PhoneNumber,
    ExternalId,
    /// The parameter with this place in `Slots::columns`.
    Parameter(usize),
    Ignored,
}

/// The columns of one file.
#[derive(Debug, Clone)]
pub struct Columns {
    names: Vec<String>,
    phone: Option<usize>,
    national: Option<(usize, usize)>,
    external_id: Option<usize>,
    /// By place in the list; absent where the file has no column for it.
    header: Vec<Option<usize>>,
    body: Vec<Option<usize>>,
    buttons: Vec<Option<usize>>,
    named: Vec<(String, usize)>,
    /// Each parameter's column in the file, by the template's name for it.
    parameters: Vec<(String, usize)>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

impl Columns {
    /// Reads a header row. Names are taken without surrounding spaces and in any case; a named parameter that is called like one
    /// of our own columns is written `param:NAME`.
    ///
    /// # Errors
    /// Everything that is wrong, at once: no phone column, one given twice, a parameter of the template without a column.
    pub fn resolve(header: &Record, slots: &Slots) -> Result<Self, HeaderError> {
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        let roles: Vec<Role> = names.iter().map(|name| role(&name.to_ascii_lowercase(), slots)).collect();
        let find = |wanted: Role| roles.iter().position(|role| *role == wanted);
        let mut wrong = Vec::new();
        for (index, role) in roles.iter().enumerate() {
            if *role != Role::Ignored && find(*role) != Some(index) {
                wrong.push(format!("column `{}` is there twice", names[index]));
            }
        }
        let mut columns = Self {
            phone: find(Role::Phone),
            national: find(Role::CountryCode).zip(find(Role::PhoneNumber)),
            external_id: find(Role::ExternalId),
            header: Vec::new(),
            body: Vec::new(),
            buttons: Vec::new(),
            named: Vec::new(),
            parameters: Vec::new(),
            missing: Vec::new(),
            ignored: Vec::new(),
            names,
        };
        for (number, (name, place)) in slots.columns.iter().zip(slots.places()).enumerate() {
            let column = find(Role::Parameter(number));
            columns.place(name, place, column);
        }
        if !slots.optional {
            wrong.extend(columns.missing.iter().map(|name| format!("the template needs a column `{name}`")));
        }
        match (columns.phone, columns.national) {
            (None, None) => {
                wrong.push("there is no column `phone`, and not both `country_code` and `phone_number`".into())
            }
            (Some(_), Some(_)) => wrong.push("give either `phone`, or `country_code` and `phone_number`".into()),
            _ => {}
        }
        if !wrong.is_empty() {
            return Err(HeaderError(wrong));
        }
        // Half of a number in parts beside a whole one means nothing, and is said so.
        let unused = |role: Role| match role {
            Role::CountryCode | Role::PhoneNumber => columns.national.is_none(),
            role => role == Role::Ignored,
        };
        let named = roles.iter().zip(&columns.names);
        columns.ignored = named.filter(|(role, _)| unused(**role)).map(|(_, name)| name.clone()).collect();
        Ok(columns)
    }

    fn place(&mut self, name: &str, place: Place, column: Option<usize>) {
        match column {
            Some(column) => self.parameters.push((name.to_owned(), column)),
            None => self.missing.push(name.to_owned()),
        }
        let (list, index) = match place {
            Place::Header(index) => (&mut self.header, index),
            Place::Body(index) => (&mut self.body, index),
            Place::Button(index) => (&mut self.buttons, index),
            Place::Named => {
                self.named.extend(column.map(|column| (name.to_owned(), column)));
                return;
            }
        };
        if list.len() <= index {
            list.resize(index + 1, None);
        }
        list[index] = column;
    }

    /// Parameters of the template for which the file has no column.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Columns that mean nothing to us or to the template, by name.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Turns a record into a row of the contract.
    ///
    /// # Errors
    /// A record with fewer or more fields than the header.
    pub fn row(&self, record: &Record) -> Result<RecipientRow, RowError> {
        let (given, wanted) = (record.len(), self.names.len());
        if given != wanted {
            let column = self.names.get(given).cloned().unwrap_or_else(|| (wanted + 1).to_string());
            let reason = format!("the row has {given} fields, the header has {wanted}");
            return Err(RowError { column, reason });
        }
        let text = |index: usize| record.get(index).unwrap_or_default().to_owned();
        let list =
            |columns: &[Option<usize>]| columns.iter().map(|index| index.map(text).unwrap_or_default()).collect();
        let address = match (self.phone, self.national) {
            (Some(phone), _) => Some(Address::Phone(record.get(phone).unwrap_or_default().trim().to_owned())),
            (None, Some((code, number))) => Some(Address::National(NationalNumber {
                country_code: record.get(code).unwrap_or_default().trim().to_owned(),
                phone_number: record.get(number).unwrap_or_default().trim().to_owned(),
            })),
            (None, None) => None,
        };
        Ok(RecipientRow {
            address,
            external_id: self.external_id.map(text).unwrap_or_default(),
            header_params: list(&self.header),
            body_params: list(&self.body),
            button_params: list(&self.buttons),
            named_params: self.named.iter().map(|(name, index)| (name.clone(), text(*index))).collect(),
        })
    }

    /// The column behind a field that the server found wrong, e.g. `body_params[0]` → `body_param_1`; the field itself when no
    /// column is behind it.
    #[must_use]
    pub fn column_of(&self, field: &str) -> String {
        let last = field.rsplit('.').next().unwrap_or(field);
        let (name, key) = match last.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']')),
            None => (last, ""),
        };
        let at = |columns: &[Option<usize>]| {
            key.parse::<usize>().ok().and_then(|number| columns.get(number).copied().flatten())
        };
        let parameter = |wanted: &str| self.parameters.iter().find(|(name, _)| name == wanted).map(|(_, index)| *index);
        let column = match name {
            "phone" | "address" if self.phone.is_some() => self.phone,
            "country_code" => self.national.map(|(code, _)| code),
            "phone" | "phone_number" | "address" | "national" => self.national.map(|(_, number)| number),
            "external_id" => self.external_id,
            "header_params" => at(&self.header),
            "body_params" => at(&self.body),
            "button_params" => at(&self.buttons),
            "named_params" => parameter(key),
            column => parameter(column),
        };
        column.and_then(|index| self.names.get(index)).map_or_else(|| field.to_owned(), Clone::clone)
    }
}

fn role(name: &str, slots: &Slots) -> Role {
    let parameter = |name: &str| slots.columns.iter().position(|column| column == name).map(Role::Parameter);
    if let Some(name) = name.strip_prefix("param:") {
        return parameter(name).unwrap_or(Role::Ignored);
    }
    match name {
        "phone" => Role::Phone,
        "country_code" => Role::CountryCode,
        "phone_number" => Role::PhoneNumber,
        "external_id" => Role::ExternalId,
        _ => parameter(name).unwrap_or(Role::Ignored),
    }
}

#[cfg(test)]
mod tests {
    use super::super::csv_source::{CsvSource, Limits};
    use super::*;

    fn record(line: &str) -> Record {
        let mut record = Record::default();
        let found = CsvSource::new(line.as_bytes(), b',', Limits::default()).read(&mut record).expect("reads");
        assert!(found);
        record
    }

    fn slots<const N: usize>(columns: [&str; N]) -> Slots {
        Slots { columns: columns.map(str::to_owned).into(), optional: false }
    }

    fn positional() -> Slots {
        slots(["header_param_1", "body_param_1", "body_param_2", "button_url_param_1", "button_payload_param_1"])
    }

    fn named() -> Slots {
        slots(["header_param_1", "first_name", "phone"])
    }

    #[test]
    fn rows_follow_the_names_not_the_order() {
        let header = record(
            "body_param_2, Phone ,external_id,notes,body_param_1,header_param_1,button_url_param_1,body_param_3,button_payload_param_1",
        );
        let columns = Columns::resolve(&header, &positional()).expect("resolves");
        assert_eq!(columns.ignored(), ["notes", "body_param_3"]);
        let row = columns.row(&record("b2, +9991 ,e-1,whatever,b1,h1,/x,b3,yes")).expect("fits");
        assert_eq!(row.address, Some(Address::Phone("+9991".into())));
        assert_eq!(
            (row.external_id.as_str(), row.header_params, row.button_params),
            ("e-1", vec!["h1".into()], vec!["/x".into(), "yes".into()])
        );
        assert_eq!(row.body_params, ["b1", "b2"]);
        assert_eq!(columns.column_of("body_params[1]"), "body_param_2");
        assert_eq!(columns.column_of("phone"), "Phone");
        assert_eq!(columns.column_of("body_params[7]"), "body_params[7]");
        assert_eq!(columns.column_of("body_param_2"), "body_param_2");
        assert_eq!(columns.column_of("rows[3].body_param_1"), "body_param_1");
        assert_eq!(columns.column_of("button_params[1]"), "button_payload_param_1");
    }

    #[test]
    fn named_parameters_by_name_and_by_prefix() {
        let header = record("country_code,phone_number,First_Name,param:phone,header_param_1");
        let columns = Columns::resolve(&header, &named()).expect("resolves");
        let row = columns.row(&record("999,0123,Ada,+1555,https://example.com/a.png")).expect("fits");
        assert_eq!(
            row.address,
            Some(Address::National(NationalNumber { country_code: "999".into(), phone_number: "0123".into() }))
        );
        assert_eq!(row.named_params["first_name"], "Ada");
        assert_eq!(row.named_params["phone"], "+1555");
        assert_eq!(columns.column_of("named_params[phone]"), "param:phone");
        assert_eq!(columns.column_of("national.phone_number"), "phone_number");
        assert_eq!(columns.column_of("phone"), "phone_number");
    }

    #[test]
    fn everything_wrong_with_a_header_is_said_at_once() {
        let header = record("body_param_1,external_id,EXTERNAL_ID,button_url_param_1,button_payload_param_1");
        let HeaderError(wrong) = Columns::resolve(&header, &positional()).expect_err("refused");
        assert_eq!(
            wrong,
            [
                "column `EXTERNAL_ID` is there twice",
                "the template needs a column `header_param_1`",
                "the template needs a column `body_param_2`",
                "there is no column `phone`, and not both `country_code` and `phone_number`",
            ]
        );
        let both = record("phone,country_code,phone_number");
        assert!(Columns::resolve(&both, &Slots::default()).is_err());
        assert!(Columns::resolve(&record("phone"), &named()).is_err());
    }

    #[test]
    fn for_sms_a_column_may_be_left_out() {
        let slots = Slots { optional: true, ..positional() };
        let columns = Columns::resolve(&record("phone,body_param_2"), &slots).expect("resolves");
        assert_eq!(
            columns.missing(),
            ["header_param_1", "body_param_1", "button_url_param_1", "button_payload_param_1"]
        );
        let row = columns.row(&record("+999,b2")).expect("fits");
        assert_eq!(row.body_params, ["", "b2"], "the second stays the second");
    }

    #[test]
    fn ragged_rows_are_refused_alone() {
        let columns = Columns::resolve(&record("phone,external_id"), &Slots::default()).expect("resolves");
        let short = columns.row(&record("+999")).expect_err("short");
        assert_eq!(
            (short.column.as_str(), short.reason.as_str()),
            ("external_id", "the row has 1 fields, the header has 2")
        );
        let long = columns.row(&record("+999,a,b")).expect_err("long");
        assert_eq!(long.column, "3");
    }
}
