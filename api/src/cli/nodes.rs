//! `nodes`: who shares the ledger, and who works on what, and why.

use sluice_engine::nodes::protocol::work_together;
use sluice_proto::v1::{
    GetNodesRequest, GetNodesResponse, Node, NodeState, OwnershipReason, OwnershipState, PoolOwnership,
};

use super::connect::Server;
use super::failure::{Exit, Outcome};
use super::output::{Console, Table};
use super::values;

/// Runs `nodes`.
pub async fn run(server: &Server, console: &mut Console) -> Outcome {
    let answer = server.admin().get_nodes(server.request(GetNodesRequest {})).await?.into_inner();
    console.answer(&answer, text)?;
    Ok(Exit::Ok)
}

fn text(answer: &GetNodesResponse, width: Option<u16>) -> String {
    if answer.nodes.is_empty() {
        return format!("{} has its ledger for itself: everything is its own.\n", answer.node_id);
    }
    let mut nodes = Table::new(width, &["NODE", "STATE", "POOLS>", "LOAD>", "LEASE", "CLOCK", "ADDRESS", "VERSION"]);
    let own = answer.nodes.iter().find(|node| node.node_id == answer.node_id).map_or(0, |node| node.protocol);
    for node in &answer.nodes {
        let name =
            if node.node_id == answer.node_id { format!("{} (this)", node.node_id) } else { node.node_id.clone() };
        nodes.row([
            name,
            state(node.state()).to_owned(),
            values::count(node.pools),
            values::count(node.load),
            lease(node),
            clock(node),
            node.address.clone(),
            node.version.clone(),
        ]);
    }
    let mut text = nodes.text();
    text.extend(answer.nodes.iter().filter_map(|node| other_protocol(node, own)));
    if !answer.pools.is_empty() {
        let mut pools = Table::new(width, &["POOL", "NODE", "STATE", "WHY", "SINCE"]);
        for pool in &answer.pools {
            pools.row([
                pool.pool_id.clone(),
                pool.node_id.clone(),
                where_it_stands(pool),
                why(pool.reason()).to_owned(),
                values::time(pool.since_time.as_ref()),
            ]);
        }
        text.push('\n');
        text.push_str(&pools.text());
    }
    text
}

/// A line for a node that does not understand quite what the answering one does.
fn other_protocol(node: &Node, own: u32) -> Option<String> {
    // Servers before the first that says so, and who is gone and says nothing any more.
    if [0, own].contains(&node.protocol) || own == 0 || node.state() == NodeState::Gone {
        return None;
    }
    let so = if work_together(own, node.protocol) { "they work together" } else { "they refuse each other's calls" };
    Some(format!("{} speaks protocol {} and this node {own}: {so}.\n", node.node_id, node.protocol))
}

const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unspecified => "unknown",
        NodeState::Alive => "alive",
        NodeState::Draining => "draining",
        NodeState::Gone => "gone",
    }
}

const fn why(reason: OwnershipReason) -> &'static str {
    match reason {
        OwnershipReason::Unspecified => "unknown",
        OwnershipReason::First => "asked for it first",
        OwnershipReason::TakenOver => "taken over",
        OwnershipReason::HandedOver => "handed over",
    }
}

fn where_it_stands(pool: &PoolOwnership) -> String {
    let word = match pool.state() {
        OwnershipState::Unspecified => "unknown",
        OwnershipState::Owned => "owned",
        OwnershipState::Arriving => "arriving",
        OwnershipState::Given => "given away",
        OwnershipState::Orphaned => "without an owner",
    };
    if pool.to_node_id.is_empty() { word.to_owned() } else { format!("{word}, goes to {}", pool.to_node_id) }
}

/// How long the lease still is, or how long ago the last sign of life was.
fn lease(node: &Node) -> String {
    match (node.state(), &node.lease_left, &node.silent_for) {
        (NodeState::Gone, ..) => "-".to_owned(),
        (_, Some(left), _) => format!("{} left", seconds(left)),
        (_, None, Some(silent)) => format!("{} ago", seconds(silent)),
        (_, None, None) => "-".to_owned(),
    }
}

/// How far its clock is ahead (+) or behind (-) of the answering node's.
fn clock(node: &Node) -> String {
    let Some(ahead) = &node.clock_ahead else { return "-".to_owned() };
    let sign = if ahead.seconds < 0 || ahead.nanos < 0 { '-' } else { '+' };
    let size = prost_types::Duration { seconds: ahead.seconds.abs(), nanos: ahead.nanos.abs() };
    format!("{sign}{}", seconds(&size))
}

/// To a tenth: leases are seconds.
fn seconds(span: &prost_types::Duration) -> String {
    format!("{}.{} s", span.seconds, span.nanos / 100_000_000)
}
