//! Who may be under way: bodies and their bytes, counted for each account, so that one account's flood is its own.

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
}

impl Admission {
    pub(super) const fn new(bodies_max: usize, bytes_max: usize) -> Self {
        Self { bodies: AtomicUsize::new(0), bytes: AtomicUsize::new(0), bodies_max, bytes_max }
    }

    /// A place for a body of at most `bytes`, or `None` at once.
    pub(super) fn enter(&self, bytes: usize) -> Option<Place<'_>> {
        // Both are taken first and checked afterwards: whoever finds too much gives everything back, by the drop.
        let bodies_before = self.bodies.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Place { admission: self, bytes };
        let fits = bodies_before < self.bodies_max && bytes_before.saturating_add(bytes) <= self.bytes_max;
        fits.then_some(place)
    }
}

impl Place<'_> {
    /// Makes the place cover a body of `bytes`; `false` if there is no room for so many. For bodies that do not declare their
    /// length: charging each with the most that it may become would let in only a handful.
    pub(super) fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let before = self.admission.bytes.fetch_add(more, Ordering::Relaxed);
            self.bytes += more;
            return before.saturating_add(more) <= self.admission.bytes_max;
        }
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admission.bodies.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(2, 100);
        let first = admission.enter(60).expect("room for both");
        assert!(admission.enter(41).is_none(), "too many bytes");
        let second = admission.enter(40).expect("exactly fits");
        assert!(admission.enter(0).is_none(), "too many bodies");
        drop(first);
        let third = admission.enter(60).expect("the first place is free again");
        drop((second, third));
        let mut grows = admission.enter(0).expect("room");
        assert!(grows.cover(60) && grows.cover(50) && grows.cover(100));
        assert!(!grows.cover(101));
        drop(grows);
        assert_eq!((admission.bodies.into_inner(), admission.bytes.into_inner()), (0, 0));
    }
}
