//! Who may be under way: bodies and their bytes, counted for each account, so that one account's flood is its own.
//!
//! What counts is what has come, not what was announced: nobody is known by then, and whoever announces bodies and does not send them
//! would take the places of the provider's.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of one account. Taking and giving back are two additions each; nobody ever waits for a place.
#[derive(Debug)]
pub(super) struct Admission {
    bodies: AtomicUsize,
    bytes: AtomicUsize,
    bodies_max: usize,
    bytes_max: usize,
}

/// A place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<'a> {
    admission: &'a Admission,
    bytes: usize,
    is_whole: bool,
}

impl Admission {
    pub(super) const fn new(bodies_max: usize, bytes_max: usize) -> Self {
        Self { bodies: AtomicUsize::new(0), bytes: AtomicUsize::new(0), bodies_max, bytes_max }
    }

    /// A place for a body that begins to come.
    pub(super) const fn enter(&self) -> Place<'_> {
        Place { admission: self, bytes: 0, is_whole: false }
    }
}

impl Place<'_> {
    /// Makes the place cover a body of `bytes`; `false` if there is no room for so many. Whoever finds too much gives everything back,
    /// by the drop.
    pub(super) fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let before = self.admission.bytes.fetch_add(more, Ordering::Relaxed);
            self.bytes += more;
            return before.saturating_add(more) <= self.admission.bytes_max;
        }
        true
    }

    /// Counts a body that has come as a whole; `false` if there is no room for one more.
    pub(super) fn whole(&mut self) -> bool {
        self.is_whole = true;
        self.admission.bodies.fetch_add(1, Ordering::Relaxed) < self.admission.bodies_max
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.bodies.fetch_sub(usize::from(self.is_whole), Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(2, 100);
        let come = |bytes| {
            let mut place = admission.enter();
            (place.cover(bytes) && place.whole()).then_some(place)
        };
        let first = come(60).expect("room for both");
        assert!(come(41).is_none(), "too many bytes");
        let second = come(40).expect("exactly fits");
        assert!(come(0).is_none(), "too many bodies");
        drop(first);
        let third = come(60).expect("the first place is free again");
        drop((second, third));
        let mut grows = admission.enter();
        assert!(grows.cover(60) && grows.cover(50) && grows.cover(100));
        assert!(!grows.cover(101));
        drop(grows);
        // Bodies that have begun are in nobody's way.
        let begun: Vec<_> = (0..10).map(|_| admission.enter()).collect();
        assert!(come(100).is_some());
        drop(begun);
        assert_eq!((admission.bodies.into_inner(), admission.bytes.into_inner()), (0, 0));
    }
}
