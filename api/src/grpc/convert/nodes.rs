//! Who owns what.

use std::time::Duration;

use sluice_engine::domain::ids::TenantId;
use sluice_engine::nodes::{NodeView, NodesView, PoolState, PoolView, Why};
use sluice_proto::v1;

use super::{span, timestamp};

/// What a tenant is told: all nodes, and its own pools. `None`: the server has its ledger for itself.
pub(in crate::grpc) fn nodes(view: Option<NodesView>, tenant: &TenantId, node_id: &str) -> v1::GetNodesResponse {
    let Some(view) = view else {
        return v1::GetNodesResponse { node_id: node_id.to_owned(), ..v1::GetNodesResponse::default() };
    };
    let NodesView { me, as_of, generation, nodes, pools } = view;
    v1::GetNodesResponse {
        as_of: Some(timestamp(as_of)),
        generation,
        nodes: nodes.into_iter().map(|view| node(view, &me)).collect(),
        pools: pools.into_iter().filter(|view| view.pool.tenant == *tenant).map(ownership).collect(),
        node_id: me,
    }
}

fn node(view: NodeView, me: &str) -> v1::Node {
    let is_me = view.name == me;
    let state = match (view.alive, view.draining) {
        (false, _) => v1::NodeState::Gone,
        (true, true) => v1::NodeState::Draining,
        (true, false) => v1::NodeState::Alive,
    };
    v1::Node {
        node_id: view.name,
        address: view.address,
        version: view.version,
        protocol: view.protocol,
        epoch: view.epoch,
        state: state.into(),
        load: view.load,
        pools: view.pools,
        lease_left: is_me.then(|| span(view.lease)),
        silent_for: (!is_me).then(|| span(view.lease)),
        clock_ahead: view.skew_ms.filter(|_| !is_me).map(signed),
    }
}

fn signed(millis: i64) -> prost_types::Duration {
    let prost_types::Duration { seconds, nanos } = span(Duration::from_millis(millis.unsigned_abs()));
    if millis < 0 {
        prost_types::Duration { seconds: -seconds, nanos: -nanos }
    } else {
        prost_types::Duration { seconds, nanos }
    }
}

fn ownership(view: PoolView) -> v1::PoolOwnership {
    let state = match view.state {
        PoolState::Owned => v1::OwnershipState::Owned,
        PoolState::Arriving => v1::OwnershipState::Arriving,
        PoolState::Given => v1::OwnershipState::Given,
        PoolState::Orphaned => v1::OwnershipState::Orphaned,
    };
    let reason = match view.why {
        Why::First => v1::OwnershipReason::First,
        Why::TakenOver => v1::OwnershipReason::TakenOver,
        Why::HandedOver => v1::OwnershipReason::HandedOver,
    };
    v1::PoolOwnership {
        pool_id: view.pool.pool.as_str().to_owned(),
        node_id: view.node,
        reason: reason.into(),
        since_time: Some(timestamp(view.since)),
        state: state.into(),
        to_node_id: view.to.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::domain::ids::PoolId;
    use sluice_engine::domain::time::UnixMillis;
    use sluice_engine::nodes::PoolRef;

    fn view() -> NodesView {
        let node = |name: &str, skew_ms| NodeView {
            name: name.to_owned(),
            address: "10.0.0.7:7403".to_owned(),
            version: "1".to_owned(),
            protocol: if name == "b" { 2 } else { 1 },
            epoch: 3,
            alive: true,
            draining: name == "b",
            load: 5,
            pools: 2,
            skew_ms,
            lease: Duration::from_millis(1_500),
        };
        let pool = |tenant: &str, to: Option<&str>| PoolView {
            pool: PoolRef::new(&TenantId::new(tenant).unwrap(), &PoolId::new("wa").unwrap()),
            node: "b".to_owned(),
            why: Why::TakenOver,
            since: UnixMillis(7_000),
            state: PoolState::Given,
            to: to.map(str::to_owned),
        };
        NodesView {
            me: "a".to_owned(),
            as_of: UnixMillis(9_000),
            generation: 4,
            nodes: vec![node("a", None), node("b", Some(-1_250))],
            pools: vec![pool("acme", Some("a")), pool("other", None)],
        }
    }

    #[test]
    fn a_tenant_sees_the_nodes_and_its_own_pools() {
        let told = nodes(Some(view()), &TenantId::new("acme").unwrap(), "a");
        assert_eq!((told.node_id.as_str(), told.generation, told.nodes.len()), ("a", 4, 2));
        let [me, other] = &told.nodes[..] else { panic!() };
        assert_eq!((me.state(), other.state()), (v1::NodeState::Alive, v1::NodeState::Draining));
        assert_eq!((me.protocol, other.protocol), (1, 2));
        assert_eq!((me.lease_left.is_some(), me.silent_for, me.clock_ahead), (true, None, None));
        let behind = other.clock_ahead.unwrap();
        assert_eq!((behind.seconds, behind.nanos, other.lease_left), (-1, -250_000_000, None));
        let [pool] = &told.pools[..] else { panic!("{:?}", told.pools) };
        assert_eq!((pool.node_id.as_str(), pool.to_node_id.as_str()), ("b", "a"));
        assert_eq!((pool.state(), pool.reason()), (v1::OwnershipState::Given, v1::OwnershipReason::TakenOver));
    }

    #[test]
    fn a_server_alone_says_so() {
        let told = nodes(None, &TenantId::new("acme").unwrap(), "local");
        assert_eq!((told.node_id.as_str(), told.nodes.len(), told.pools.len()), ("local", 0, 0));
    }
}
