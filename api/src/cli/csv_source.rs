//! Reads CSV from any [`Read`], one record at a time, in bounded memory.
//!
//! The format is RFC 4180 with the liberties that spreadsheets take: a UTF-8 byte order mark, lines that end in `\n`, `\r\n` or `\r`,
//! blank lines, a last line without an end. What cannot be read with certainty is an error that names line and column, not a guess:
//! a quote that is never closed, text after a closing quote, bytes that are not UTF-8, a record over the limit.
//!
//! Why not the `csv` crate here: its record grows with the input, so one line of a gigabyte would be read whole before anybody
//! could say no, and it reads an unclosed quote as "the rest of the file". The tests use it as the witness.

use std::io::{self, Read};

use super::csv_record::{Building, is_char_start};
pub use super::csv_record::{CsvError, CsvErrorKind, Position, Record};

/// Bytes read from the source at a time.
const BUFFER_BYTES: usize = 64 * 1024;

const BOM_UTF8: &[u8] = &[0xEF, 0xBB, 0xBF];

/// What a source may demand of memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest record in bytes, quotes and delimiters left out.
    pub record_bytes_max: usize,
    /// The most fields in a record.
    pub fields_max: usize,
}

impl Default for Limits {
    /// 1 MiB a record, so that a chunk with one such record still fits a message of 4 MiB; 1,024 fields.
    fn default() -> Self {
        Self { record_bytes_max: 1024 * 1024, fields_max: 1_024 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a record: line ends here are blank lines.
    RecordStart,
    FieldStart,
    Unquoted,
    Quoted,
    /// A quote was read inside quotes: it closes the field, or is the first of two.
    QuoteInQuoted,
}

/// A reader of records.
pub struct CsvSource<R> {
    source: R,
    delimiter: u8,
    limits: Limits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: Position,
    /// The last byte was `\r`: a `\n` that follows belongs to the same line end.
    after_cr: bool,
    at_beginning: bool,
    bytes_read: u64,
}

impl<R: Read> CsvSource<R> {
    /// Reads from `source` with the given delimiter (an ASCII byte other than quote, `\r` and `\n`).
    pub fn new(source: R, delimiter: u8, limits: Limits) -> Self {
        debug_assert!(delimiter.is_ascii() && !matches!(delimiter, b'"' | b'\r' | b'\n'));
        Self {
            source,
            delimiter,
            limits,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            position: Position { line: 1, column: 1 },
            after_cr: false,
            at_beginning: true,
            bytes_read: 0,
        }
    }

    /// Bytes taken from the source so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads the next record; `false` at the end of the file.
    ///
    /// # Errors
    /// Whatever [`CsvErrorKind`] lists. After an error the source is not to be read again.
    pub fn read(&mut self, record: &mut Record) -> Result<bool, CsvError> {
        let mut building = Building::over(record);
        let mut state = State::RecordStart;
        loop {
            if self.start == self.end && !self.fill()? {
                return self.finish(state, building, record);
            }
            state = match state {
                State::RecordStart => match self.buffer[self.start] {
                    byte @ (b'\r' | b'\n') => {
                        self.line_end(byte);
                        State::RecordStart
                    }
                    _ => State::FieldStart,
                },
                State::FieldStart => self.field_start(&mut building)?,
                State::Unquoted => self.unquoted(&mut building)?,
                State::Quoted => self.quoted(&mut building)?,
                State::QuoteInQuoted => match self.buffer[self.start] {
                    b'"' => {
                        self.charge(1, &building)?;
                        self.step();
                        building.bytes.push(b'"');
                        State::Quoted
                    }
                    byte if byte == self.delimiter || matches!(byte, b'\r' | b'\n') => State::Unquoted,
                    _ => return Err(self.error(&building, CsvErrorKind::TextAfterQuote)),
                },
            };
            if building.complete {
                return building.into_record(record).map(|()| true);
            }
        }
    }

    fn field_start(&mut self, building: &mut Building) -> Result<State, CsvError> {
        if building.fields.len() >= self.limits.fields_max {
            return Err(self.error(building, CsvErrorKind::TooManyFields { limit: self.limits.fields_max }));
        }
        building.open(self.position);
        if self.buffer[self.start] == b'"' {
            self.step();
            return Ok(State::Quoted);
        }
        Ok(State::Unquoted)
    }

    /// Takes the text up to the end of the field. Comes here for the delimiter after a closing quote, too.
    fn unquoted(&mut self, building: &mut Building) -> Result<State, CsvError> {
        let delimiter = self.delimiter;
        let rest = &self.buffer[self.start..self.end];
        let stop = rest.iter().position(|&byte| byte == delimiter || byte == b'\n' || byte == b'\r');
        self.take_run(stop.unwrap_or(rest.len()), building)?;
        if stop.is_none() {
            return Ok(State::Unquoted);
        }
        building.close();
        let byte = self.buffer[self.start];
        if byte == delimiter {
            self.step();
            building.delimited = true;
            // The next byte may lie beyond the buffer or the file; the field begins here all the same.
            return Ok(State::FieldStart);
        }
        self.line_end(byte);
        building.complete = true;
        Ok(State::RecordStart)
    }

    fn quoted(&mut self, building: &mut Building) -> Result<State, CsvError> {
        let rest = &self.buffer[self.start..self.end];
        let stop = rest.iter().position(|&byte| byte == b'"' || byte == b'\n' || byte == b'\r');
        self.take_run(stop.unwrap_or(rest.len()), building)?;
        let Some(byte) = stop.map(|_| self.buffer[self.start]) else { return Ok(State::Quoted) };
        if byte == b'"' {
            self.step();
            return Ok(State::QuoteInQuoted);
        }
        // Charged like text, or a file of nothing but line ends inside one quote would have no bound.
        self.charge(1, building)?;
        building.bytes.push(byte);
        self.line_end(byte);
        Ok(State::Quoted)
    }

    /// Moves `length` bytes without line ends into the field.
    fn take_run(&mut self, length: usize, building: &mut Building) -> Result<(), CsvError> {
        if length == 0 {
            return Ok(());
        }
        self.charge(length, building)?;
        let run = &self.buffer[self.start..self.start + length];
        building.bytes.extend_from_slice(run);
        self.position.column += run.iter().filter(|&&byte| is_char_start(byte)).count() as u64;
        self.start += length;
        self.after_cr = false;
        Ok(())
    }

    fn charge(&self, length: usize, building: &Building) -> Result<(), CsvError> {
        let limit = self.limits.record_bytes_max;
        if building.bytes.len() + length <= limit {
            return Ok(());
        }
        Err(self.error(building, CsvErrorKind::RecordTooLong { record_line: building.line(), limit }))
    }

    /// Passes one byte that is no line end.
    fn step(&mut self) {
        self.start += 1;
        self.position.column += 1;
        self.after_cr = false;
    }

    fn line_end(&mut self, byte: u8) {
        self.start += 1;
        if byte == b'\n' && self.after_cr {
            self.after_cr = false;
            return;
        }
        self.after_cr = byte == b'\r';
        self.position = Position { line: self.position.line + 1, column: 1 };
    }

    fn finish(&mut self, state: State, mut building: Building, record: &mut Record) -> Result<bool, CsvError> {
        match state {
            State::RecordStart => {
                building.give_back(record);
                return Ok(false);
            }
            State::Quoted => {
                let opened = building.fields.last().map_or(self.position, |field| field.position);
                return Err(CsvError {
                    position: opened,
                    field: building.fields.len().saturating_sub(1),
                    kind: CsvErrorKind::QuoteNotClosed,
                });
            }
            // The file ends with a delimiter: one more field, empty.
            State::FieldStart if building.delimited => building.open(self.position),
            State::FieldStart | State::Unquoted | State::QuoteInQuoted => {}
        }
        building.close();
        building.into_record(record).map(|()| true)
    }

    /// Reads more; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool, CsvError> {
        self.start = 0;
        self.end = self.read_some(0)?;
        if self.at_beginning {
            self.at_beginning = false;
            // A mark may arrive in pieces.
            while self.end > 0 && self.end < BOM_UTF8.len() {
                let more = self.read_some(self.end)?;
                if more == 0 {
                    break;
                }
                self.end += more;
            }
            let head = &self.buffer[..self.end];
            if head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]) {
                return Err(CsvError { position: self.position, field: 0, kind: CsvErrorKind::Utf16 });
            }
            if head.starts_with(BOM_UTF8) {
                self.start = BOM_UTF8.len();
                if self.start == self.end {
                    return self.fill();
                }
            }
        }
        Ok(self.end > self.start)
    }

    fn read_some(&mut self, at: usize) -> Result<usize, CsvError> {
        loop {
            match self.source.read(&mut self.buffer[at..]) {
                Ok(count) => {
                    self.bytes_read += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(CsvError { position: self.position, field: 0, kind: CsvErrorKind::Io(error) });
                }
            }
        }
    }

    fn error(&self, building: &Building, kind: CsvErrorKind) -> CsvError {
        CsvError { position: self.position, field: building.fields.len().saturating_sub(1), kind }
    }
}

#[cfg(test)]
#[path = "csv_source_tests.rs"]
mod tests;
