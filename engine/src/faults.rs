//! Fault points: places at which a test makes an actor panic, to show that nothing is lost. In a build without tests they are nothing.

#[cfg(any(test, feature = "fault-points"))]
mod armed {
    use std::collections::HashMap;

    use parking_lot::Mutex;

    static ARMED: Mutex<Option<HashMap<String, u32>>> = Mutex::new(None);

    /// Makes the next `times` passages of the point panic.
    pub fn arm(point: &str, times: u32) {
        ARMED.lock().get_or_insert_default().insert(point.to_owned(), times);
    }

    /// Disarms every point.
    pub fn reset() {
        *ARMED.lock() = None;
    }

    /// How many panics the point still owes.
    pub fn owed(point: &str) -> u32 {
        ARMED.lock().as_ref().and_then(|map| map.get(point).copied()).unwrap_or(0)
    }

    pub(crate) fn point(point: &'static str) {
        let mut guard = ARMED.lock();
        let fires = guard.as_mut().and_then(|map| map.get_mut(point)).is_some_and(|left| {
            let fires = *left > 0;
            *left = left.saturating_sub(1);
            fires
        });
        drop(guard);
        assert!(!fires, "fault point {point}");
    }
}

#[cfg(any(test, feature = "fault-points"))]
pub use armed::{arm, owed, reset};

/// Panics if a test armed this point.
#[inline]
pub(crate) fn point(name: &'static str) {
    #[cfg(any(test, feature = "fault-points"))]
    armed::point(name);
    #[cfg(not(any(test, feature = "fault-points")))]
    let _ = name;
}
