//! What a CSV source yields: records, and errors with their places.

use std::io;

/// A place in the file as an editor shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1; line breaks inside quotes count.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

/// Why reading stopped. No record after it can be had.
#[derive(Debug, thiserror::Error)]
#[error("{}:{}: {kind}", position.line, position.column)]
pub struct CsvError {
    /// Where.
    pub position: Position,
    /// The field of the record, from 0, for errors inside one.
    pub field: usize,
    /// What is wrong.
    pub kind: CsvErrorKind,
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum CsvErrorKind {
    /// The source could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A record is longer than [`Limits::record_bytes_max`].
    #[error(
        "the record that begins in line {record_line} is longer than {limit} bytes; is a quote left open, or is this no CSV file?"
    )]
    RecordTooLong {
        /// The line in which the record begins.
        record_line: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A record has more fields than [`Limits::fields_max`].
    #[error("the record has more than {limit} fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
    /// The file ends inside quotes; the position is that of the opening quote.
    #[error("the quote that opens here is never closed")]
    QuoteNotClosed,
    /// Something other than a delimiter or a line end follows a closing quote.
    #[error("text after a closing quote; a quote inside a quoted field is written twice (\"\")")]
    TextAfterQuote,
    /// A field is not UTF-8.
    #[error(
        "not UTF-8 (byte 0x{byte:02X}); if the file was saved as Windows-1252 or Latin-1, convert it first, e.g. `iconv -f WINDOWS-1252 -t UTF-8`"
    )]
    NotUtf8 {
        /// The first byte that does not fit.
        byte: u8,
    },
    /// The file begins with the byte order mark of UTF-16.
    #[error("the file is UTF-16; save it as UTF-8, or convert it, e.g. `iconv -f UTF-16 -t UTF-8`")]
    Utf16,
    /// A zero byte: not a text file.
    #[error("a zero byte: this is no text file, or it is UTF-16")]
    ZeroByte,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    start: usize,
    end: usize,
    pub(super) position: Position,
}

/// One record; reused from read to read, so that reading allocates only while it grows.
#[derive(Debug, Default)]
pub struct Record {
    text: String,
    fields: Vec<Field>,
}

impl Record {
    /// How many fields it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether it has none: so before the first read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// One field, unquoted.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.fields.get(index).and_then(|field| self.text.get(field.start..field.end))
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| self.text.get(field.start..field.end))
    }

    /// Where a field begins.
    #[must_use]
    pub fn position(&self, index: usize) -> Option<Position> {
        self.fields.get(index).map(|field| field.position)
    }

    /// The line in which the record begins, from 1; 0 before the first read.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.fields.first().map_or(0, |field| field.position.line)
    }

    /// Bytes of all fields together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// A record while it is read: bytes, not yet known to be text.
pub(super) struct Building {
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Field>,
    /// A delimiter was the last thing read: one more field follows, if only an empty one.
    pub(super) delimited: bool,
    /// The line end was read.
    pub(super) complete: bool,
}

impl Building {
    pub(super) fn over(record: &mut Record) -> Self {
        let mut bytes = std::mem::take(&mut record.text).into_bytes();
        let mut fields = std::mem::take(&mut record.fields);
        bytes.clear();
        fields.clear();
        Self { bytes, fields, delimited: false, complete: false }
    }

    pub(super) fn line(&self) -> u64 {
        self.fields.first().map_or(0, |field| field.position.line)
    }

    pub(super) fn open(&mut self, position: Position) {
        let at = self.bytes.len();
        self.fields.push(Field { start: at, end: at, position });
        self.delimited = false;
    }

    pub(super) fn close(&mut self) {
        if let Some(field) = self.fields.last_mut() {
            field.end = self.bytes.len();
        }
    }

    /// Hands the memory back without a record.
    pub(super) fn give_back(self, record: &mut Record) {
        record.text = String::from_utf8(self.bytes).unwrap_or_default();
        record.fields = self.fields;
    }

    /// Checks that every field is text. One pass over all of them, then the seams: two halves of a character on either side of
    /// a delimiter would pass together.
    pub(super) fn into_record(self, record: &mut Record) -> Result<(), CsvError> {
        if let Some(at) = self.bytes.iter().position(|&byte| byte == 0) {
            return Err(self.text_error(at, CsvErrorKind::ZeroByte));
        }
        match std::str::from_utf8(&self.bytes) {
            Err(error) => {
                let at = error.valid_up_to();
                let byte = self.bytes.get(at).copied().unwrap_or_default();
                return Err(self.text_error(at, CsvErrorKind::NotUtf8 { byte }));
            }
            Ok(text) => {
                if let Some(field) = self.fields.iter().find(|field| !text.is_char_boundary(field.end)) {
                    let at = field.end.saturating_sub(1);
                    return Err(self.text_error(at, CsvErrorKind::NotUtf8 { byte: self.bytes[at] }));
                }
            }
        }
        self.give_back(record);
        Ok(())
    }

    /// An error at a byte of the record: the column is exact unless quotes or line ends precede it inside its field.
    fn text_error(&self, at: usize, kind: CsvErrorKind) -> CsvError {
        let index = self.fields.iter().position(|field| at < field.end).unwrap_or(0);
        let Some(field) = self.fields.get(index) else {
            return CsvError { position: Position { line: 1, column: 1 }, field: 0, kind };
        };
        let before = self.bytes.get(field.start..at).unwrap_or_default();
        let column = field.position.column + before.iter().filter(|&&byte| is_char_start(byte)).count() as u64;
        CsvError { position: Position { line: field.position.line, column }, field: index, kind }
    }
}

/// Whether a byte begins a character of UTF-8: any but a continuation byte.
pub(super) fn is_char_start(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}
