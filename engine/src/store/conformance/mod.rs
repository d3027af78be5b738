//! What every store promises, as checks that any implementation can run: one [`Factory`], one line of [`every_promise`].
//!
//! The checks know nothing of the store but its contract. Each begins with a fresh one.

mod broken;
pub(crate) mod counts;
pub(crate) mod events;
mod fixtures;
pub(crate) mod imports;
pub(crate) mod model;
pub(crate) mod records;
pub(crate) mod way;

use std::pin::Pin;
use std::sync::Arc;

use crate::store::Store;

pub(crate) use self::fixtures::*;

/// Makes the store under test.
pub(crate) trait Factory: Send + Sync {
    /// Opens the store, empty the first time, with what it held before the next times. The one before has been closed.
    fn open(&self) -> Arc<dyn Store>;
}

/// A promise as a function.
pub(crate) type Promise = for<'f> fn(&'f dyn Factory) -> Pin<Box<dyn Future<Output = ()> + 'f>>;

/// Names every promise to another macro.
macro_rules! name_promises {
    ($then:ident $($argument:tt)*) => {
        $then! { $($argument)* =>
            records::a_campaign_is_created_once_for_one_request,
            records::campaigns_change_only_from_the_version_seen,
            records::the_stores_own_fields_are_kept,
            records::campaigns_are_listed_newest_first_by_filter_and_page,
            records::a_deleted_campaign_leaves_nothing_and_its_key_is_not_used_again,
            records::a_line_brings_its_pool_and_its_sender_is_unique,
            records::pools_keep_their_kind,
            records::templates_have_versions,
            records::another_tenants_ids_are_unknown,
            records::everything_outlives_a_restart,
            imports::chunks_are_appended_in_order_and_safe_to_repeat,
            imports::an_import_goes_into_a_draft_only,
            imports::rows_checked_against_old_rules_are_refused,
            imports::refused_rows_are_listed_in_pages,
            imports::duplicates_are_refused_at_the_seal_with_both_rows_named,
            imports::sealing_again_gives_the_same_and_the_digest_is_of_the_list,
            imports::an_empty_list_cannot_be_sealed,
            way::a_window_gives_untried_recipients_in_order,
            way::a_message_goes_its_way_and_the_tally_with_it,
            way::entries_that_do_not_fit_are_told_apart,
            way::waiting_messages_come_when_they_are_due,
            way::doubts_expire_when_their_wait_is_over,
            way::open_attempts_are_found_after_a_restart,
            way::an_ended_campaign_sends_only_what_was_decided_to_be_sent_again,
            way::ending_again_takes_back_what_was_to_be_sent_again,
            way::facts_of_every_attempt_are_kept,
            way::an_old_attempts_echo_is_applied_to_it,
            way::what_an_older_attempt_came_to_shows_while_the_newest_is_silent,
            counts::failures_are_counted_by_the_code_that_is_shown,
            counts::the_recount_equals_what_is_kept,
            counts::a_tenants_totals_are_the_sum_of_its_campaigns,
            counts::messages_are_listed_by_filter_and_page,
            events::parked_events_wait_move_and_are_counted,
            events::the_same_event_is_parked_once,
            events::provider_ids_are_found_on_the_accounts_lines,
            events::inbound_events_are_kept,
            model::random_entries_end_as_in_a_plain_model,
        }
    };
}

/// Makes a test of each promise. `$factory`: an expression that gives a fresh [`Factory`].
macro_rules! every_promise {
    ($factory:expr) => {
        $crate::store::conformance::name_promises! { test_promises $factory }
    };
}

macro_rules! test_promises {
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

macro_rules! list_promises {
    (=> $($room:ident :: $promise:ident,)*) => {
        vec![$((stringify!($promise), (|factory| Box::pin($room::$promise(factory))) as Promise),)*]
    };
}

/// Every promise with its name.
pub(crate) fn all_promises() -> Vec<(&'static str, Promise)> {
    name_promises! { list_promises }
}

pub(crate) use {every_promise, name_promises, test_promises};
