//! A batch as it goes over the wire, so that a test can change what a store wrote.

/// In the flags of a batch: a timestamp ends it.
const DATED: u8 = 0x20;

/// One batch, in version 4 of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    kind: u8,
    /// Its statements.
    pub(super) parts: Vec<Part>,
    /// Consistency, flags, and what the flags announce.
    rest: Vec<u8>,
}

/// One prepared statement of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The number that the server gave the statement.
    pub(super) statement: Vec<u8>,
    /// In the order of its question marks; `None`: null.
    pub(super) values: Vec<Option<Vec<u8>>>,
}

/// What is left of some bytes.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn int(&mut self) -> Option<i32> {
        self.take(4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A value; the inner `None` is null. One that is not set is not read: this store has none.
    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        match self.int()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(|bytes| Some(bytes.to_vec())),
        }
    }
}

fn push_short(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u16::try_from(number).expect("few").to_be_bytes());
}

fn push_value(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(-1, |value| i32::try_from(value.len()).expect("short"));
    bytes.extend(length.to_be_bytes());
    bytes.extend(value.unwrap_or_default());
}

impl Batch {
    /// Reads the body of a frame; `None`: not one of prepared statements only.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (kind, count) = (reader.byte()?, reader.short()?);
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            // 0: the statement as text.
            if reader.byte()? != 1 {
                return None;
            }
            let length = reader.short()?;
            let statement = reader.take(length)?.to_vec();
            let values = reader.short()?;
            let values = (0..values).map(|_| reader.value()).collect::<Option<_>>()?;
            parts.push(Part { statement, values });
        }
        (reader.0.len() >= 3).then(|| Self { kind, parts, rest: reader.0.to_vec() })
    }

    /// The body of a frame.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind];
        push_short(&mut bytes, self.parts.len());
        for part in &self.parts {
            bytes.push(1);
            push_short(&mut bytes, part.statement.len());
            bytes.extend(&part.statement);
            push_short(&mut bytes, part.values.len());
            part.values.iter().for_each(|value| push_value(&mut bytes, value.as_deref()));
        }
        bytes.extend(&self.rest);
        bytes
    }

    /// Its timestamp, microseconds, if it carries one.
    pub(super) fn at(&self) -> Option<i64> {
        let at = self.rest.last_chunk().filter(|_| self.rest[2] & DATED != 0)?;
        Some(i64::from_be_bytes(*at))
    }

    /// Dates it otherwise, where it carries a timestamp.
    pub(super) fn date(&mut self, at: i64) {
        if self.rest[2] & DATED != 0
            && let Some(place) = self.rest.last_chunk_mut()
        {
            *place = at.to_be_bytes();
        }
    }
}

/// The entries of a map as (key, value).
pub(super) fn entries(map: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut reader = Reader(map);
    let count = reader.int()?;
    (0..count).map(|_| Some((reader.value()??, reader.value()??))).collect()
}

/// A map of entries.
pub(super) fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = i32::try_from(entries.len()).expect("few").to_be_bytes().to_vec();
    for (key, value) in entries {
        push_value(&mut bytes, Some(key));
        push_value(&mut bytes, Some(value));
    }
    bytes
}

/// The elements of a tuple.
pub(super) fn elements(tuple: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut reader = Reader(tuple);
    let mut elements = Vec::new();
    while !reader.0.is_empty() {
        elements.push(reader.value()?);
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        // Unlogged, one statement "id" with two values, quorum, a timestamp.
        let body = b"\x01\x00\x01\x01\x00\x02id\x00\x02\x00\x00\x00\x01x\xff\xff\xff\xff\x00\x04\x20\0\0\0\0\0\0\0\x07";
        let mut batch = Batch::read(body).unwrap();
        assert_eq!((batch.parts[0].statement.as_slice(), batch.at()), (&b"id"[..], Some(7)));
        assert_eq!(batch.parts[0].values, [Some(b"x".to_vec()), None]);
        assert_eq!(batch.bytes(), body);
        batch.date(6);
        assert_eq!((batch.at(), batch.bytes().len()), (Some(6), body.len()));
        // Cut short, and one with a statement as text.
        assert_eq!(Batch::read(&body[..body.len() - 9]), None);
        assert_eq!(Batch::read(b"\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00"), None);
        let some = vec![(b"k".to_vec(), b"v".to_vec())];
        assert_eq!(entries(&map(&some)), Some(some));
        assert_eq!(elements(b"\x00\x00\x00\x01a\xff\xff\xff\xff"), Some(vec![Some(b"a".to_vec()), None]));
    }
}
