//! Cuts a file into the chunks of an import. The cuts depend on the file alone, so that a second run of the same import makes the
//! same chunks and the server can recognise them.

use std::fs::File;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use sluice_proto::v1::{ImportChunk, NationalNumber, RecipientRow, recipient_row::Address};

use super::csv_columns::Columns;
use super::csv_source::{CsvError, CsvErrorKind, CsvSource, Limits, Position, Record};

/// Rows in a chunk, unless the server takes fewer.
pub const CHUNK_ROWS: u32 = 2_000;
/// A chunk ends with the row that reaches this many bytes of text: with the longest record on top it stays under the 4 MiB of a message.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// An error in a file, with the file's name.
#[derive(Debug, thiserror::Error)]
#[error("{name}:{error}")]
pub struct FileError {
    name: String,
    /// What and where.
    pub error: CsvError,
}

/// A file that is read more than once: to check it, to send it, to name the lines of refused rows.
#[derive(Debug, Clone)]
pub struct CsvFile {
    /// Where it is.
    pub path: PathBuf,
    /// What people know it by.
    pub name: String,
    /// What separates its fields.
    pub delimiter: u8,
    /// What it may demand.
    pub limits: Limits,
}

/// What a first reading of the whole file found: it is well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Rows after the header.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl CsvFile {
    /// Opens the file and reads its header row into `header`.
    ///
    /// # Errors
    /// The file cannot be opened, is empty, or does not begin with a well-formed record.
    pub fn open(&self, header: &mut Record) -> Result<CsvSource<File>, FileError> {
        let start = Position { line: 1, column: 1 };
        let io = |error| self.error(CsvError { position: start, field: 0, kind: CsvErrorKind::Io(error) });
        let file = File::open(&self.path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(std::io::Error::other(
                "this is no regular file, and it is read more than once: give `-` as the file and pipe it in",
            )));
        }
        let mut source = CsvSource::new(file, self.delimiter, self.limits);
        if !source.read(header).map_err(|error| self.error(error))? {
            return Err(io(std::io::Error::other("the file is empty; the first row must name the columns")));
        }
        Ok(source)
    }

    /// Reads the whole file, so that one that is broken in its last line is refused before its first row is sent.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn survey(&self) -> Result<Survey, FileError> {
        let mut record = Record::default();
        let mut source = self.open(&mut record)?;
        let mut rows = 0;
        while source.read(&mut record).map_err(|error| self.error(error))? {
            rows += 1;
        }
        Ok(Survey { rows, bytes: source.bytes_read() })
    }

    /// Gives an error the name of the file.
    pub fn error(&self, error: CsvError) -> FileError {
        FileError { name: self.name.clone(), error }
    }

    /// The name of an import of this file: its own, made to fit the rules for ids.
    #[must_use]
    pub fn import_id(&self) -> String {
        import_id(&self.path)
    }
}

fn import_id(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let id: String = stem.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let id: String = id.trim_start_matches(['.', '_', '-']).chars().take(63).collect();
    if id.is_empty() { "import".into() } else { id }
}

/// Which part of a file to make chunks of.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Rows in a chunk, at least 1.
    pub chunk_rows: u32,
    /// Rows that the server holds already. A chunk ends there in any case. The chunks before it are made too: the server compares each
    /// with what it holds, by its digest, which finds a file that was changed anywhere since last time.
    pub acked_rows: u64,
}

/// A chunk on its way.
#[derive(Debug, Clone)]
pub struct CutChunk {
    /// As it is sent.
    pub chunk: ImportChunk,
    /// It is only sent to be compared: the server holds it.
    pub check: bool,
}

impl CutChunk {
    /// The row after its last one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.chunk.row_offset + self.chunk.rows.len() as u64
    }
}

/// Reads a file and hands over its chunks, until `hand_over` says that nobody wants more.
///
/// A row that cannot be turned into a recipient goes out as an empty row: the server refuses it, counts it, and the rows of file and
/// import keep the same numbers.
///
/// # Errors
/// The file changed for the worse since it was surveyed.
pub fn cut(
    file: &CsvFile,
    columns: &Columns,
    cut: Cut,
    mut hand_over: impl FnMut(CutChunk) -> bool,
) -> Result<(), FileError> {
    let mut record = Record::default();
    let mut source = file.open(&mut record)?;
    let mut cutter = Cutter { cut, offset: 0, count: 0, bytes: 0, rows: Vec::new() };
    while source.read(&mut record).map_err(|error| file.error(error))? {
        let row = columns.row(&record).unwrap_or_default();
        if let Some(chunk) = cutter.push(row, record.bytes())
            && !hand_over(chunk)
        {
            return Ok(());
        }
    }
    if let Some(chunk) = cutter.close() {
        hand_over(chunk);
    }
    Ok(())
}

struct Cutter {
    cut: Cut,
    /// The first row of the chunk.
    offset: u64,
    /// Rows so far.
    count: u64,
    bytes: usize,
    rows: Vec<RecipientRow>,
}

impl Cutter {
    fn push(&mut self, row: RecipientRow, bytes: usize) -> Option<CutChunk> {
        self.rows.push(row);
        self.count += 1;
        self.bytes += bytes;
        let full = self.rows.len() >= self.cut.chunk_rows as usize || self.bytes >= CHUNK_BYTES;
        if full || self.count == self.cut.acked_rows { self.close() } else { None }
    }

    /// Ends the chunk; `None` when it has no rows.
    fn close(&mut self) -> Option<CutChunk> {
        let rows = std::mem::take(&mut self.rows);
        let row_offset = std::mem::replace(&mut self.offset, self.count);
        self.bytes = 0;
        if rows.is_empty() {
            return None;
        }
        let sha256 = digest(&rows).to_vec().into();
        Some(CutChunk { chunk: ImportChunk { row_offset, rows, sha256 }, check: self.count <= self.cut.acked_rows })
    }
}

/// SHA-256 over rows, as `ImportChunk.sha256` of the contract lays it down.
#[must_use]
pub fn digest(rows: &[RecipientRow]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    let mut bytes = Vec::with_capacity(256);
    for row in rows {
        bytes.clear();
        let (phone, code, number) = match &row.address {
            Some(Address::Phone(phone)) => (phone.as_str(), "", ""),
            Some(Address::National(NationalNumber { country_code, phone_number })) => {
                ("", country_code.as_str(), phone_number.as_str())
            }
            None => ("", "", ""),
        };
        for text in [phone, code, number, &row.external_id] {
            put(&mut bytes, text);
        }
        for list in [&row.header_params, &row.body_params, &row.button_params] {
            put_length(&mut bytes, list.len());
            list.iter().for_each(|text| put(&mut bytes, text));
        }
        let mut pairs: Vec<_> = row.named_params.iter().collect();
        pairs.sort_unstable();
        put_length(&mut bytes, pairs.len() * 2);
        for (name, value) in pairs {
            put(&mut bytes, name);
            put(&mut bytes, value);
        }
        hash.update(&bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Lengths are bounded by the record limit, far below 4 GiB.
fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::csv_columns::Slots;
    use super::*;
    use std::io::Write as _;

    fn file(text: &str) -> (tempfile::NamedTempFile, CsvFile) {
        let mut on_disk = tempfile::NamedTempFile::new().expect("a file");
        on_disk.write_all(text.as_bytes()).expect("written");
        let path = on_disk.path().to_owned();
        (on_disk, CsvFile { name: path.display().to_string(), path, delimiter: b',', limits: Limits::default() })
    }

    fn chunks(csv: &CsvFile, chunk_rows: u32, acked_rows: u64) -> Vec<(u64, u64, bool)> {
        let mut header = Record::default();
        csv.open(&mut header).expect("opens");
        let columns = Columns::resolve(&header, &Slots::default()).expect("resolves");
        let mut all = Vec::new();
        cut(csv, &columns, Cut { chunk_rows, acked_rows }, |chunk| {
            assert_eq!(chunk.chunk.sha256.as_ref(), digest(&chunk.chunk.rows));
            all.push((chunk.chunk.row_offset, chunk.end(), chunk.check));
            true
        })
        .expect("reads");
        all
    }

    fn phones(count: u32) -> String {
        (0..count).fold("phone\n".to_owned(), |text, n| format!("{text}+999{n:07}\n"))
    }

    #[test]
    fn the_whole_file_in_even_chunks() {
        let (_keep, csv) = file(&phones(10));
        assert_eq!(chunks(&csv, 4, 0), [(0, 4, false), (4, 8, false), (8, 10, false)]);
        assert_eq!(chunks(&csv, 5, 0), [(0, 5, false), (5, 10, false)]);
        assert_eq!(csv.survey().expect("reads"), Survey { rows: 10, bytes: 6 + 10 * 12 });
    }

    #[test]
    fn everything_that_is_held_is_checked() {
        let (_keep, csv) = file(&phones(16));
        assert_eq!(chunks(&csv, 4, 12), [(0, 4, true), (4, 8, true), (8, 12, true), (12, 16, false)]);
        assert_eq!(chunks(&csv, 4, 4), [(0, 4, true), (4, 8, false), (8, 12, false), (12, 16, false)]);
        assert_eq!(chunks(&csv, 4, 16), [(0, 4, true), (4, 8, true), (8, 12, true), (12, 16, true)], "all is held");
    }

    #[test]
    fn a_file_that_grew_is_cut_where_it_ended_before() {
        let (_keep, csv) = file(&phones(20));
        assert_eq!(
            chunks(&csv, 8, 10),
            [(0, 8, true), (8, 10, true), (10, 18, false), (18, 20, false)],
            "the last chunk of the shorter file was 8 to 10"
        );
    }

    #[test]
    fn long_rows_make_short_chunks() {
        let long = "x".repeat(CHUNK_BYTES / 3);
        let (_keep, csv) =
            file(&(0..7).fold("phone,external_id\n".to_owned(), |text, n| format!("{text}+{n},{long}\n")));
        assert_eq!(chunks(&csv, 1_000, 0), [(0, 3, false), (3, 6, false), (6, 7, false)]);
    }

    #[test]
    fn a_row_that_cannot_be_read_keeps_its_number() {
        let (_keep, csv) = file("phone,external_id\n+1,a\n+2\n+3,c\n");
        let mut header = Record::default();
        csv.open(&mut header).expect("opens");
        let columns = Columns::resolve(&header, &Slots::default()).expect("resolves");
        let mut rows = Vec::new();
        cut(&csv, &columns, Cut { chunk_rows: 10, acked_rows: 0 }, |chunk| {
            rows = chunk.chunk.rows;
            true
        })
        .expect("reads");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1], RecipientRow::default());
        assert_eq!(rows[2].external_id, "c");
    }

    #[test]
    fn the_digest_is_that_of_the_contract() {
        let row = RecipientRow {
            address: Some(Address::Phone("+1".into())),
            body_params: vec!["a".into()],
            named_params: [("b", "2"), ("a", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..RecipientRow::default()
        };
        let mut bytes = vec![2, 0, 0, 0, b'+', b'1'];
        bytes.extend([0; 4 * 3]); // country code, number, external id
        bytes.extend([0; 4]); // header
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, b'a']); // body
        bytes.extend([0; 4]); // buttons
        bytes.extend([4, 0, 0, 0]); // two pairs
        for text in [b'a', b'1', b'b', b'2'] {
            bytes.extend([1, 0, 0, 0, text]);
        }
        assert_eq!(digest(std::slice::from_ref(&row)), ring::digest::digest(&SHA256, &bytes).as_ref());
        assert_ne!(digest(&[row.clone(), row.clone()]), digest(std::slice::from_ref(&row)));
    }

    #[test]
    fn names_of_files_become_ids() {
        for (path, id) in [
            ("/data/Spring Sale 2031.csv", "spring-sale-2031"),
            ("a_b.c.csv", "a_b.c"),
            ("_x.csv", "x"),
            ("Ü.csv", "import"),
            ("", "import"),
        ] {
            assert_eq!(import_id(Path::new(path)), id, "{path}");
        }
    }

    #[test]
    fn trouble_names_the_file() {
        let (_keep, csv) = file("phone\n\"open");
        let error = csv.survey().expect_err("refused").to_string();
        assert_eq!(error, format!("{}:2:1: the quote that opens here is never closed", csv.path.display()));
        let (_keep, empty) = file("");
        assert!(empty.survey().expect_err("refused").to_string().contains("the file is empty"));
        let folder = CsvFile { path: std::env::temp_dir(), ..empty };
        assert!(folder.survey().is_err());
    }
}
