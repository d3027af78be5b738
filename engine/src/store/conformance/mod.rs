//! What every store promises, as checks that any implementation can run: one [`Factory`], one line of [`every_promise`].
//!
//! The checks know nothing of the store but its contract. Each begins with a fresh one.

pub(crate) mod counts;
pub(crate) mod events;
mod fixtures;
pub(crate) mod imports;
pub(crate) mod model;
pub(crate) mod records;
pub(crate) mod way;

use std::sync::Arc;

use crate::store::Store;

pub(crate) use self::fixtures::*;

/// Makes the store under test.
pub(crate) trait Factory: Send + Sync {
    /// Opens the store, empty the first time, with what it held before the next times. The one before has been closed.
    fn open(&self) -> Arc<dyn Store>;
}

/// Makes a test of each promise. `$factory`: an expression that gives a fresh [`Factory`].
macro_rules! every_promise {
    ($factory:expr) => {
        $crate::store::conformance::every_promise! { $factory =>
            way::a_window_gives_untried_recipients_in_order,
            way::a_message_goes_its_way_and_the_tally_with_it,
            way::entries_that_do_not_fit_are_told_apart,
            way::waiting_messages_come_when_they_are_due,
            way::doubts_expire_when_their_wait_is_over,
            way::open_attempts_are_found_after_a_restart,
            way::an_ended_campaign_sends_only_what_was_decided_to_be_sent_again,
            way::facts_of_every_attempt_are_kept,
            way::an_old_attempts_echo_is_applied_to_it,
        }
    };
    ($factory:expr => $($room:ident :: $promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let factory = $factory;
                $crate::store::conformance::$room::$promise(&factory).await;
            }
        )*
    };
}
pub(crate) use every_promise;
