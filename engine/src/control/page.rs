//! Pages of listings. A token is opaque, belongs to the query that made it, and cannot be made by a caller.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::error::{Error, Result};
use crate::store::{Page, Paged};

/// Items on a page when the caller does not say.
const PAGE_SIZE_DEFAULT: usize = 100;
/// Most items on a page; a caller who asks for more gets as many.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Bytes of the token's authentication code.
const MAC_LEN: usize = 12;
/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 1_024;

/// Which page, as the caller says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items; 0: [`PAGE_SIZE_DEFAULT`].
    pub size: i32,
    /// From the page before; empty: the first page.
    pub token: String,
}

/// One page, as the caller gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct PageOf<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; empty: this was the last.
    pub next_token: String,
}

impl<T> PageOf<T> {
    /// The same page with other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> PageOf<U> {
        PageOf { items: self.items.into_iter().map(f).collect(), next_token: self.next_token }
    }
}

/// Makes and reads tokens. The key comes from the installation, so tokens outlive a restart.
#[derive(Clone)]
pub(super) struct PageTokens {
    key: hmac::Key,
}

impl PageTokens {
    pub(super) fn new(installation_secret: &[u8; 32]) -> Self {
        let keyed = |key: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, key);
        // A key of its own: what is learnt of tokens says nothing of correlation ids.
        let derived = hmac::sign(&keyed(installation_secret), b"sluice page tokens");
        Self { key: keyed(derived.as_ref()) }
    }

    fn mac(&self, query: &[&str], after: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = hmac::Context::with_key(&self.key);
        for part in query {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(after);
        let mut code = [0; MAC_LEN];
        code.copy_from_slice(&mac.sign().as_ref()[..MAC_LEN]);
        code
    }

    /// Where a listing goes on, as a token. `query` is everything that the listing depends on, the tenant included.
    pub(super) fn seal(&self, query: &[&str], after: Option<&[u8]>) -> String {
        after.map_or_else(String::new, |after| {
            let mut bytes = self.mac(query, after).to_vec();
            bytes.extend_from_slice(after);
            URL_SAFE_NO_PAD.encode(bytes)
        })
    }

    /// Reads a token of the same query; the empty one is the beginning.
    pub(super) fn open(&self, query: &[&str], field: &str, token: &str) -> Result<Option<Vec<u8>>> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = (token.len() <= TOKEN_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten();
        bytes
            .filter(|bytes| bytes.len() >= MAC_LEN && bytes[..MAC_LEN] == self.mac(query, &bytes[MAC_LEN..]))
            .map(|bytes| Some(bytes[MAC_LEN..].to_vec()))
            .ok_or_else(|| Error::invalid(field, "is not a token of this query: start from the first page"))
    }

    /// The store's page for a caller's.
    pub(super) fn page(&self, query: &[&str], asked: &PageRequest) -> Result<Page> {
        let size = usize::try_from(asked.size).map_err(|_| Error::invalid("page_size", "must not be negative"))?;
        let size = if size == 0 { PAGE_SIZE_DEFAULT } else { size.min(PAGE_SIZE_MAX) };
        Ok(Page { size, after: self.open(query, "page_token", &asked.token)? })
    }

    /// The caller's page for the store's.
    pub(super) fn answer<T>(&self, query: &[&str], page: Paged<T>) -> PageOf<T> {
        PageOf { next_token: self.seal(query, page.next.as_deref()), items: page.items }
    }
}

/// A page of a short list that is at hand as a whole, in order of `id`.
pub(super) fn cut<T>(mut items: Vec<T>, page: &Page, id: impl Fn(&T) -> String) -> Paged<T> {
    items.sort_by_cached_key(&id);
    let mut rest: Vec<T> = match &page.after {
        Some(after) => items.into_iter().filter(|item| id(item).as_bytes() > after.as_slice()).collect(),
        None => items,
    };
    let more = rest.len() > page.size;
    rest.truncate(page.size);
    let next = rest.last().filter(|_| more).map(|item| id(item).into_bytes());
    Paged { items: rest, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_query() {
        let tokens = PageTokens::new(&[7; 32]);
        let query = ["ListCampaigns", "acme", "state=running"];
        let token = tokens.seal(&query, Some(b"abc"));
        assert_eq!(tokens.open(&query, "page_token", &token), Ok(Some(b"abc".to_vec())));
        assert_eq!(tokens.open(&query, "page_token", ""), Ok(None));
        assert_eq!(tokens.seal(&query, None), "");
        let others = [
            ["ListCampaigns", "acme", "state=paused"],
            ["ListCampaigns", "other", "state=running"],
            ["ListLines", "acme", "state=running"],
            ["ListCampaigns", "acmestate=running", ""],
        ];
        for other in others {
            assert!(tokens.open(&other, "page_token", &token).is_err(), "{other:?}");
        }
        let stranger = PageTokens::new(&[8; 32]);
        assert!(stranger.open(&query, "page_token", &token).is_err());
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let tokens = PageTokens::new(&[7; 32]);
        let token = tokens.seal(&["q"], Some(&[0, 1, 2]));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(tokens.open(&["q"], "page_token", &changed).is_err(), "character {at}");
        }
        for bad in ["x", "!!!", &"A".repeat(5_000)] {
            assert!(tokens.open(&["q"], "page_token", bad).is_err());
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let tokens = PageTokens::new(&[7; 32]);
        let size = |size| tokens.page(&["q"], &PageRequest { size, token: String::new() }).map(|page| page.size);
        assert_eq!((size(0), size(1), size(5_000)), (Ok(100), Ok(1), Ok(1_000)));
        assert!(size(-1).is_err());
    }

    #[test]
    fn a_short_list_is_cut_into_pages() {
        let items: Vec<String> = (0..25).map(|n| format!("{n:02}")).rev().collect();
        let mut page = Page { size: 10, after: None };
        let mut seen = Vec::new();
        loop {
            let cut = cut(items.clone(), &page, Clone::clone);
            seen.extend(cut.items);
            match cut.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, (0..25).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    }
}
