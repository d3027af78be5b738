//! Page marks: where a listing goes on. Opaque outside; a number or a text inside.

use super::{Page, Paged, StoreError, StoreResult};

const FOREIGN: &str = "this page mark is not one of this listing; begin again without it";

/// The number that a page begins behind; `None`: the first page.
pub(super) fn number_after(page: &Page) -> StoreResult<Option<i64>> {
    let Some(mark) = &page.after else { return Ok(None) };
    match <[u8; 8]>::try_from(mark.as_slice()) {
        Ok(bytes) => Ok(Some(i64::from_be_bytes(bytes))),
        Err(_) => Err(StoreError::Conflict(FOREIGN.to_owned())),
    }
}

/// The text that a page begins behind; the empty text: the first page.
pub(super) fn text_after(page: &Page) -> StoreResult<String> {
    match String::from_utf8(page.after.clone().unwrap_or_default()) {
        Ok(text) => Ok(text),
        Err(_) => Err(StoreError::Conflict(FOREIGN.to_owned())),
    }
}

/// A mark behind this number.
pub(super) fn mark(number: i64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Cuts what was read (one more than the page holds, if there is more) to a page.
pub(super) fn cut<T>(mut items: Vec<T>, size: usize, number: impl Fn(&T) -> i64) -> Paged<T> {
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(|last| mark(number(last))) } else { None };
    Paged { items, next }
}

/// Goes through a listing page by page.
#[derive(Debug)]
pub(super) struct Pages {
    size: usize,
    after: Option<Vec<u8>>,
    ended: bool,
}

impl Pages {
    /// From the beginning.
    pub(super) fn of(size: usize) -> Self {
        Self { size, after: None, ended: false }
    }

    /// The page to ask for; `None`: there is no more.
    pub(super) fn next(&mut self) -> Option<Page> {
        (!self.ended).then(|| Page { size: self.size, after: self.after.take() })
    }

    /// Takes what was answered.
    pub(super) fn read<T>(&mut self, answer: Paged<T>) -> Vec<T> {
        self.ended = answer.next.is_none();
        self.after = answer.next;
        answer.items
    }
}
