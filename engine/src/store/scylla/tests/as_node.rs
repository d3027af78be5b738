//! The same promises, kept by a node that shares the keyspace and owns the pools concerned.

use std::sync::Arc;

use super::super::{NodeConfig, ScyllaStore};
use super::server;
use super::*;
use crate::domain::ids::{PoolId, TenantId};
use crate::domain::time::Clock;
use crate::nodes::PoolRef;
use crate::store::Store;
use crate::store::conformance::{Factory, test_promises};

/// Stores that work as a node.
struct AsNode(ScyllaConfig);

impl AsNode {
    fn new() -> Self {
        let mut config = server::fresh_keyspace();
        let (name, address) = ("node-1".to_owned(), "127.0.0.1:7403".to_owned());
        config.node = Some(NodeConfig { name, address, version: "1".to_owned(), protocol: 1 });
        Self(config)
    }
}

impl Factory for AsNode {
    fn open(&self) -> Arc<dyn Store> {
        let config = self.0.clone();
        server::block(async move {
            let store = ScyllaStore::open(config, Clock::system()).await.expect("it opens");
            let ownership = store.ownership().expect("it shares");
            let pools = ["acme", "Other"].into_iter().flat_map(|tenant| {
                ["main", "side", "sms", "second"].map(|pool| PoolRef {
                    tenant: TenantId::new(tenant).expect("a tenant"),
                    pool: PoolId::new(pool).expect("a pool"),
                })
            });
            let pools: Vec<PoolRef> = pools.collect();
            let seen = ownership.look().await.expect("it answers");
            let taken = ownership.take(&seen, &pools).await.expect("it answers").expect("nobody else is there");
            assert_eq!(taken.len(), pools.len());
            store
        })
    }
}

impl Drop for AsNode {
    fn drop(&mut self) {
        server::drop_keyspace(&self.0);
    }
}

// Those in which it matters whose a campaign is, and what is held in memory of the whole keyspace.
test_promises! { AsNode::new() =>
    records::a_deleted_campaign_leaves_nothing_and_its_key_is_not_used_again,
    records::everything_outlives_a_restart,
    imports::chunks_are_appended_in_order_and_safe_to_repeat,
    imports::rows_checked_against_old_rules_are_refused,
    imports::duplicates_are_refused_at_the_seal_with_both_rows_named,
    way::a_window_gives_untried_recipients_in_order,
    way::a_message_goes_its_way_and_the_tally_with_it,
    way::waiting_messages_come_when_they_are_due,
    way::open_attempts_are_found_after_a_restart,
    way::an_ended_campaign_sends_only_what_was_decided_to_be_sent_again,
    counts::the_recount_equals_what_is_kept,
    events::parked_events_wait_move_and_are_counted,
    events::the_same_event_is_parked_once,
    events::provider_ids_are_found_on_the_accounts_lines,
    events::inbound_events_are_kept,
    model::random_entries_end_as_in_a_plain_model,
}
