//! What makes two events of a webhook the same, as a number: they need no index of their own.

use ring::digest::{Context, SHA256};

/// The number of these texts, each of which counts with its length.
pub(super) fn number_of(texts: [&str; 4]) -> u64 {
    let mut sha = Context::new(&SHA256);
    for text in texts {
        sha.update(&(text.len() as u64).to_be_bytes());
        sha.update(text.as_bytes());
    }
    let digest = sha.finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    // Not negative, so that it is the same number in a bigint.
    u64::from_be_bytes(first) >> 1
}
