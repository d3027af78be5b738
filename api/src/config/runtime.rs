//! The threads that serve everything.

use std::num::NonZeroUsize;

use super::reader::Section;

/// Most threads that may be asked for.
const WORKER_THREADS_MAX: u64 = 1_024;

/// The runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runtime {
    /// Threads that carry actors, senders and listeners; the embedded store has one more for itself.
    pub worker_threads: NonZeroUsize,
}

impl Runtime {
    pub(super) fn read(s: &mut Section<'_, '_>, store_has_a_thread: bool) -> Self {
        let asked = usize::try_from(s.integer("worker_threads", 0, 0..=WORKER_THREADS_MAX)).unwrap_or(0);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { worker_threads: NonZeroUsize::new(asked).unwrap_or_else(|| of_cores(cores, store_has_a_thread)) }
    }
}

/// One thread per core; the embedded store's writer has a core of its own, as far as there are several. One thread more than cores
/// costs more in waking each other than it carries.
fn of_cores(cores: usize, store_has_a_thread: bool) -> NonZeroUsize {
    NonZeroUsize::new(cores - usize::from(store_has_a_thread && cores > 1)).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::of_cores;

    #[test]
    fn the_embedded_store_has_a_core_of_its_own_where_there_are_several() {
        let threads = |cores, store| of_cores(cores, store).get();
        assert_eq!([1, 2, 3, 8].map(|cores| threads(cores, true)), [1, 1, 2, 7]);
        assert_eq!([1, 2, 8].map(|cores| threads(cores, false)), [1, 2, 8]);
    }
}
