//! Answers that are bounded in bytes: a client of gRPC takes 4 MiB unless told otherwise, and what is larger it can never get past.

use prost::Message;
use sluice_engine::control::{PAGE_SIZE_MAX, PageOf, Result};

/// How many of `items`, from the first, fit into `bytes_max`: at least one, since a page without items would lead nowhere.
pub(super) fn fit<T: Message>(items: &[T], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take_while(|item| {
        bytes += item.encoded_len();
        bytes <= bytes_max
    });
    fits.count().max(1)
}

/// A page that fits into `bytes_max`. Where `size` items do not, the page is read again with as many as do: only the ledger knows where
/// a shorter page ends. `ask` reads a page of a size.
pub(super) async fn fitting<T, F>(bytes_max: usize, mut size: i32, ask: impl Fn(i32) -> F) -> Result<PageOf<T>>
where
    T: Message,
    F: Future<Output = Result<PageOf<T>>>,
{
    loop {
        let page = ask(size).await?;
        let fits = fit(&page.items, bytes_max);
        if fits >= page.items.len() {
            return Ok(page);
        }
        // Smaller than before each time; a single item always fits.
        size = i32::try_from(fits).unwrap_or(i32::MAX);
    }
}

/// How many items the next page should hold, when they are as long as those of this one: so a walk reads no page twice for long.
pub(super) fn next_size<T: Message>(items: &[T], bytes_max: usize) -> i32 {
    let bytes: usize = items.iter().map(Message::encoded_len).sum();
    let size = bytes_max.saturating_mul(items.len()).checked_div(bytes).unwrap_or(PAGE_SIZE_MAX);
    i32::try_from(size.clamp(1, PAGE_SIZE_MAX)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is encoded as its own length and two bytes more.
    fn items(lens: &[usize]) -> Vec<String> {
        lens.iter().map(|len| "x".repeat(*len)).collect()
    }

    #[test]
    fn as_many_fit_as_have_room_and_one_always_does() {
        assert_eq!(fit(&items(&[8, 8, 8]), 30), 3);
        assert_eq!(fit(&items(&[8, 8, 8]), 29), 2);
        assert_eq!(fit(&items(&[100, 8]), 30), 1);
        assert_eq!(fit(&items(&[]), 30), 1);
    }

    #[test]
    fn the_next_size_follows_the_items() {
        assert_eq!(next_size(&items(&[8, 8]), 100), 10);
        assert_eq!(next_size(&items(&[200]), 100), 1);
        assert_eq!(next_size(&items(&[]), 100), 1_000);
        assert_eq!(next_size(&items(&[0]), usize::MAX), 1_000);
    }

    #[tokio::test]
    async fn a_page_that_does_not_fit_is_read_again_until_it_does() {
        let asked = parking_lot::Mutex::new(Vec::new());
        let ask = |size: i32| {
            asked.lock().push(size);
            // The list changes between two readings: the second page is as long as the first in bytes.
            let len = if asked.lock().len() == 1 { 8 } else { 18 };
            let items = items(&vec![len; usize::try_from(size).unwrap()]);
            std::future::ready(Ok(PageOf { items, next_token: "next".to_owned() }))
        };
        let page = fitting(40, 10, ask).await.unwrap();
        assert_eq!((page.items.len(), &*page.next_token), (2, "next"));
        assert_eq!(*asked.lock(), [10, 4, 2]);
    }
}
