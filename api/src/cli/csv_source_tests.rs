use super::*;
use proptest::prelude::*;

/// Hands out at most `step` bytes at a time, so that every state is met at the edge of a buffer.
struct Dribble<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.len().min(self.step).min(out.len());
        let (now, later) = self.bytes.split_at(count);
        out[..count].copy_from_slice(now);
        self.bytes = later;
        Ok(count)
    }
}

fn read_with(bytes: &[u8], step: usize, limits: Limits) -> Result<Vec<Vec<String>>, CsvError> {
    let mut source = CsvSource::new(Dribble { bytes, step }, b',', limits);
    let mut record = Record::default();
    let mut all = Vec::new();
    while source.read(&mut record)? {
        all.push(record.iter().map(str::to_owned).collect());
    }
    assert!(!source.read(&mut record).expect("the end stays the end"));
    Ok(all)
}

/// Reads the same bytes in pieces of several sizes, which must make no difference.
fn read(bytes: &[u8]) -> Result<Vec<Vec<String>>, CsvError> {
    let whole = read_with(bytes, usize::MAX, Limits::default());
    for step in [1, 2, 3, 7] {
        let pieces = read_with(bytes, step, Limits::default());
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "in pieces of {step}");
    }
    whole
}

fn rows(text: &str) -> Vec<Vec<String>> {
    read(text.as_bytes()).expect("reads")
}

fn place(bytes: &[u8]) -> (u64, u64, String) {
    let error = read(bytes).expect_err("must be refused");
    (error.position.line, error.position.column, error.kind.to_string())
}

#[test]
fn plain_rows_with_every_line_end() {
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(rows(&format!("a,b{end}1,2{end}")), [["a", "b"], ["1", "2"]], "{end:?}");
        assert_eq!(rows(&format!("a,b{end}1,2")), [["a", "b"], ["1", "2"]], "{end:?}, last line open");
        assert_eq!(rows(&format!("{end}a{end}{end}{end}b{end}{end}")), [["a"], ["b"]], "{end:?}, blank lines");
    }
    assert_eq!(rows(""), Vec::<Vec<String>>::new());
    assert_eq!(rows("\n\r\n"), Vec::<Vec<String>>::new());
}

#[test]
fn empty_fields_are_fields() {
    assert_eq!(rows(","), [["", ""]]);
    assert_eq!(rows(",\n,"), [["", ""], ["", ""]]);
    assert_eq!(rows("a,"), [["a", ""]]);
    assert_eq!(rows("\"\""), [[""]]);
    assert_eq!(rows("\"\",\"\"\n"), [["", ""]]);
}

#[test]
fn quotes_protect_delimiters_quotes_and_line_ends() {
    assert_eq!(
        rows("\"a,b\",\"say \"\"hi\"\"\",\"two\r\nlines\"\nx,y,z"),
        [["a,b", "say \"hi\"", "two\r\nlines"], ["x", "y", "z"]]
    );
    assert_eq!(
        rows("a \"quoted\" word,5\" nail"),
        [["a \"quoted\" word", "5\" nail"]],
        "a quote inside plain text is text"
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_field() {
    assert_eq!(rows("\u{FEFF}phone,x\n1,2"), [["phone", "x"], ["1", "2"]]);
    assert_eq!(rows("\u{FEFF}"), Vec::<Vec<String>>::new());
    assert_eq!(rows("\u{FEFF}\"q\""), [["q"]]);
}

#[test]
fn positions_count_lines_inside_quotes_and_characters_not_bytes() {
    let text = "h\n\"a\nb\",grün,x\n\nlast";
    let mut source = CsvSource::new(text.as_bytes(), b',', Limits::default());
    let mut record = Record::default();
    assert!(source.read(&mut record).expect("header"));
    assert_eq!(record.line(), 1);
    assert!(source.read(&mut record).expect("row"));
    assert_eq!(record.line(), 2);
    assert_eq!(record.position(1), Some(Position { line: 3, column: 4 }));
    assert_eq!(record.position(2), Some(Position { line: 3, column: 9 }), "ü is one column");
    assert!(source.read(&mut record).expect("last"));
    assert_eq!(record.line(), 5);
    assert_eq!((record.len(), record.bytes(), record.get(0), record.get(1)), (1, 4, Some("last"), None));
    assert_eq!(source.bytes_read(), text.len() as u64);
}

#[test]
fn other_encodings_are_named() {
    let (line, column, reason) = place(b"phone,name\n+999,M\xFCller\n");
    assert_eq!((line, column), (2, 7));
    assert!(reason.contains("0xFC") && reason.contains("WINDOWS-1252"), "{reason}");

    let (line, column, reason) = place(b"\xFF\xFEp\0h\0");
    assert_eq!((line, column), (1, 1));
    assert!(reason.contains("UTF-16"), "{reason}");

    let (line, column, reason) = place(b"a\nb\0c");
    assert_eq!((line, column), (2, 2));
    assert!(reason.contains("zero byte"), "{reason}");
}

#[test]
fn two_halves_of_a_character_do_not_make_one_across_a_delimiter() {
    let (line, column, reason) = place(b"x\xC3,\xBCy\n");
    assert_eq!((line, column), (1, 2));
    assert!(reason.contains("0xC3"), "{reason}");
}

#[test]
fn quoting_mistakes_name_their_place() {
    let (line, column, reason) = place(b"a,b\n1,\"open\n2,3\n");
    assert_eq!((line, column), (2, 3), "where the quote opens");
    assert!(reason.contains("never closed"), "{reason}");

    let (line, column, reason) = place(b"a,b\n\"x\"y,1\n");
    assert_eq!((line, column), (2, 4));
    assert!(reason.contains("after a closing quote"), "{reason}");
}

/// An endless line, as from a file of one gigabyte without a line end: nothing of it is kept beyond the limit.
struct Endless {
    served: u64,
    byte: u8,
}

impl Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        out.fill(self.byte);
        self.served += out.len() as u64;
        Ok(out.len())
    }
}

#[test]
fn an_endless_line_stops_at_the_limit() {
    for (byte, opening) in [(b'x', ""), (b'x', "\""), (b'\n', "\""), (b',', ""), (b'"', "\"")] {
        let start = format!("phone\n1\n{opening}");
        let mut endless = Endless { served: 0, byte };
        let limits = Limits { record_bytes_max: 100_000, fields_max: 10 };
        let mut source = CsvSource::new(start.as_bytes().chain(&mut endless), b',', limits);
        let mut record = Record::default();
        let error = loop {
            match source.read(&mut record) {
                Ok(more) => assert!(more),
                Err(error) => break error,
            }
        };
        assert_eq!(
            error.position.line,
            if byte == b'\n' { error.position.line } else { 3 },
            "{byte:?} after {opening:?}: {error}"
        );
        assert!(
            matches!(
                error.kind,
                CsvErrorKind::RecordTooLong { record_line: 3, .. } | CsvErrorKind::TooManyFields { limit: 10 }
            ),
            "{error}"
        );
        assert!(endless.served <= 100_000 * 2 + 3 * BUFFER_BYTES as u64, "{} bytes were read", endless.served);
    }
}

#[test]
fn the_limit_is_exact() {
    let limits = Limits { record_bytes_max: 6, fields_max: 2 };
    assert_eq!(read_with(b"abc,def\n\"a\"\"b\",def", 1, limits).expect("six bytes each").len(), 2);
    assert!(read_with(b"abcd,def", 1, limits).is_err());
    assert!(read_with(b"a,b,c", 1, limits).is_err());
}

#[test]
fn a_source_that_fails_is_an_error_and_one_that_is_interrupted_is_not() {
    struct Broken(u32);
    impl Read for Broken {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => {
                    out[..6].copy_from_slice(b"a\nb\nc,");
                    Ok(6)
                }
                _ => Err(io::Error::other("gone")),
            }
        }
    }
    let mut source = CsvSource::new(Broken(0), b',', Limits::default());
    let mut record = Record::default();
    assert!(source.read(&mut record).expect("a") && source.read(&mut record).expect("b"));
    let error = source.read(&mut record).expect_err("gone");
    assert_eq!(error.to_string(), "3:3: cannot be read: gone");
}

/// Fields that provoke the reader: quotes, delimiters, line ends, characters of several bytes.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9+]{0,12}",
        proptest::collection::vec(
            prop_oneof![Just('"'), Just(','), Just('\n'), Just('\r'), Just('ü'), Just('🦀'), Just('a'), Just(' ')],
            0..8
        )
        .prop_map(|characters| characters.into_iter().collect()),
    ]
}

proptest! {
    /// What an independent writer writes is read back, whatever the pieces in which it arrives.
    #[test]
    fn reads_what_the_csv_crate_writes(
        table in proptest::collection::vec(proptest::collection::vec(field(), 1..6), 0..12),
        step in 1usize..40,
        crlf in any::<bool>(),
        mark in any::<bool>(),
    ) {
        let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().flexible(true).terminator(terminator).from_writer(Vec::new());
        for row in &table {
            writer.write_record(row).expect("writes");
        }
        let mut bytes = if mark { BOM_UTF8.to_vec() } else { Vec::new() };
        bytes.extend(writer.into_inner().expect("flushes"));
        let read = read_with(&bytes, step, Limits::default());
        prop_assert_eq!(read.expect("reads"), table);
    }

    /// Any bytes at all: no panic, the pieces make no difference, and what is accepted is within the limits.
    #[test]
    fn any_bytes_end_in_rows_or_an_error(bytes in proptest::collection::vec(
        prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..200), step in 1usize..20) {
        let limits = Limits { record_bytes_max: 64, fields_max: 8 };
        let whole = read_with(&bytes, usize::MAX, limits);
        let pieces = read_with(&bytes, step, limits);
        // How far a run was read decides where "too long" is found; everything else is the same to the letter.
        match (&whole, &pieces) {
            (Err(a), Err(b)) if matches!(a.kind, CsvErrorKind::RecordTooLong { .. }) => {
                prop_assert!(matches!(b.kind, CsvErrorKind::RecordTooLong { .. }), "{} against {}", a, b);
            }
            _ => prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}")),
        }
        if let Ok(rows) = whole {
            for row in rows {
                prop_assert!(!row.is_empty() && row.len() <= 8);
                prop_assert!(row.iter().map(String::len).sum::<usize>() <= 64);
            }
        }
    }
}
