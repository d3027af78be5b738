//! Who is to have what: plain decisions on one snapshot. Every node comes to the same ones, so that they rarely meet; where they
//! do, the generation decides.

use std::collections::{BTreeMap, BTreeSet};

use super::ownership::{NodeSeen, PoolRef, Snapshot};

/// Pools without work that move together at most. One with work moves alone.
const IDLE_AT_ONCE: usize = 64;

/// Weight of a pool that nothing is sent by.
pub const IDLE: u64 = 1;

/// This node.
#[derive(Debug, Clone, Copy)]
pub struct Me<'a> {
    /// Its name.
    pub name: &'a str,
    /// The epoch of its term.
    pub epoch: u64,
    /// It gives everything away and takes nothing.
    pub draining: bool,
}

/// Pools for another node.
pub type Gift = (String, Vec<PoolRef>);

/// Nodes whose term goes on.
fn alive(snapshot: &Snapshot) -> impl Iterator<Item = (&String, &NodeSeen)> {
    snapshot.nodes.iter().filter(|(_, node)| !node.left)
}

/// Whose terms are to be ended: everybody's whose lease is over.
pub fn dead<'s>(snapshot: &'s Snapshot, me: Me<'_>, is_over: impl Fn(&str) -> bool) -> Vec<&'s str> {
    let others = alive(snapshot).map(|(name, _)| name.as_str()).filter(|name| *name != me.name);
    others.filter(|name| is_over(name)).collect()
}

/// Pools that are this node's.
pub fn mine<'s>(snapshot: &'s Snapshot, me: Me<'_>) -> impl Iterator<Item = &'s PoolRef> {
    snapshot
        .pools
        .iter()
        .filter(move |(_, seen)| !seen.given && seen.node == me.name && seen.epoch == me.epoch)
        .map(|(pool, _)| pool)
}

/// Who is to take each pool that nobody owns: where it was given to, if that node is there; else in turn whoever has the least.
/// `wanted`: pools that this node was asked for; one that nobody ever had is its own.
pub fn takers(snapshot: &Snapshot, me: Me<'_>, wanted: &BTreeSet<PoolRef>) -> BTreeMap<PoolRef, String> {
    let mut loads: BTreeMap<&str, u64> =
        alive(snapshot).filter(|(_, node)| !node.draining).map(|(name, node)| (name.as_str(), node.load)).collect();
    let mut takers = BTreeMap::new();
    let free = snapshot.pools.iter().filter(|(pool, _)| snapshot.is_free(pool));
    for (pool, seen) in free {
        let to = seen.to.as_deref().filter(|to| seen.given && loads.contains_key(to));
        let least = || loads.iter().min_by_key(|(name, load)| (**load, **name)).map(|(name, _)| *name);
        let Some(taker) = to.or_else(least) else { break };
        takers.insert(pool.clone(), taker.to_owned());
        loads.entry(taker).and_modify(|load| *load += IDLE);
    }
    if !me.draining {
        let new = wanted.iter().filter(|pool| !snapshot.pools.contains_key(*pool));
        takers.extend(new.map(|pool| (pool.clone(), me.name.to_owned())));
    }
    takers
}

/// What this node takes now. `has_waited`: a pool that its taker leaves lying for long; then anybody takes it.
pub fn to_take(
    snapshot: &Snapshot,
    me: Me<'_>,
    wanted: &BTreeSet<PoolRef>,
    has_waited: impl Fn(&PoolRef) -> bool,
) -> Vec<PoolRef> {
    if me.draining {
        return Vec::new();
    }
    let takers = takers(snapshot, me, wanted).into_iter();
    takers.filter(|(pool, taker)| taker == me.name || has_waited(pool)).map(|(pool, _)| pool).collect()
}

/// Whether a node takes pools: its term goes on, and it does not drain.
pub fn takes(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.nodes.get(name).is_some_and(|node| !node.left && !node.draining)
}

/// Whether anybody else takes pools, as far as is known.
pub fn has_others(snapshot: &Snapshot, me: Me<'_>) -> bool {
    snapshot.nodes.keys().any(|name| name != me.name && takes(snapshot, name))
}

/// What this node gives away now, and to whom. `weights`: what each of its pools is worth, at least [`IDLE`]. `is_lively`: nodes that
/// were heard of lately; the others may be dead, and get nothing.
///
/// Draining: everything, in turn to whoever has the least. Else only where this node has a quarter more than the mean: to the one
/// with the least, so much that the two do not change places; a pool with work alone, since its lines are silent meanwhile.
pub fn to_give(
    snapshot: &Snapshot,
    me: Me<'_>,
    weights: &BTreeMap<PoolRef, u64>,
    is_lively: impl Fn(&str) -> bool,
) -> Vec<Gift> {
    let mut others: BTreeMap<&str, u64> = alive(snapshot)
        .filter(|(name, node)| name.as_str() != me.name && !node.draining && is_lively(name))
        .map(|(name, node)| (name.as_str(), node.load))
        .collect();
    if me.draining {
        let mut gifts: BTreeMap<String, Vec<PoolRef>> = BTreeMap::new();
        for (pool, weight) in weights {
            let Some((to, load)) = others.iter_mut().min_by_key(|(name, load)| (**load, **name)) else { break };
            *load += weight;
            gifts.entry((*to).to_owned()).or_default().push(pool.clone());
        }
        return gifts.into_iter().collect();
    }
    let Some((to, least)) = others.iter().min_by_key(|(name, load)| (**load, **name)) else { return Vec::new() };
    let mine: u64 = weights.values().sum();
    let total = mine + others.values().sum::<u64>();
    let is_much = 4 * mine * (others.len() as u64 + 1) > 5 * total;
    // Half of what it has more: beyond that the two would change places.
    let room = mine.saturating_sub(*least) / 2;
    if !is_much {
        return Vec::new();
    }
    let busy = weights.iter().filter(|(_, weight)| **weight > IDLE && **weight <= room);
    if let Some((pool, _)) = busy.max_by_key(|(pool, weight)| (**weight, *pool)) {
        return vec![((*to).to_owned(), vec![pool.clone()])];
    }
    let idle = weights.iter().filter(|(_, weight)| **weight <= IDLE).map(|(pool, _)| pool.clone());
    let idle: Vec<PoolRef> = idle.take(usize::try_from(room).unwrap_or(IDLE_AT_ONCE).min(IDLE_AT_ONCE)).collect();
    if idle.is_empty() { Vec::new() } else { vec![((*to).to_owned(), idle)] }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::ownership::{PoolSeen, Why};
    use super::*;
    use crate::domain::ids::{PoolId, TenantId};
    use crate::domain::time::UnixMillis;

    fn pool(number: usize) -> PoolRef {
        PoolRef { tenant: TenantId::new("acme").unwrap(), pool: PoolId::new(&format!("p-{number:03}")).unwrap() }
    }

    fn node(epoch: u64, left: bool, draining: bool, load: u64) -> NodeSeen {
        NodeSeen {
            epoch,
            renewal: 1,
            address: String::new(),
            version: String::new(),
            protocol: 1,
            draining,
            left,
            wall: UnixMillis(0),
            load,
            lease: Duration::ZERO,
        }
    }

    fn seen(node: usize, epoch: u64, given: Option<usize>) -> PoolSeen {
        PoolSeen {
            node: name(node),
            epoch,
            to: given.map(name),
            given: given.is_some(),
            why: Why::First,
            since: UnixMillis(0),
        }
    }

    fn name(number: usize) -> String {
        format!("n{number}")
    }

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        let nodes = prop::collection::vec((1_u64..3, any::<bool>(), any::<bool>(), 0_u64..20), 1..5);
        let pools = prop::collection::vec((0_usize..5, 1_u64..3, prop::option::of(0_usize..5)), 0..30);
        (nodes, pools).prop_map(|(nodes, pools)| Snapshot {
            generation: 1,
            nodes: nodes.into_iter().enumerate().map(|(i, (e, l, d, load))| (name(i), node(e, l, d, load))).collect(),
            pools: Arc::new(
                pools.into_iter().enumerate().map(|(i, (n, e, given))| (pool(i), seen(n, e, given))).collect(),
            ),
        })
    }

    proptest! {
        /// Every pool that nobody owns has exactly one taker, the same for all who look, who is there and stays; no other is touched.
        #[test]
        fn what_nobody_owns_is_taken_by_one(snapshot in snapshots()) {
            let free: BTreeSet<_> = snapshot.pools.keys().filter(|p| snapshot.is_free(p)).cloned().collect();
            let staying: Vec<_> = snapshot.nodes.iter().filter(|(_, n)| !n.left && !n.draining).collect();
            let mut taken = Vec::new();
            for (name, node) in &snapshot.nodes {
                let me = Me { name, epoch: node.epoch, draining: node.draining };
                if !node.left {
                    taken.extend(to_take(&snapshot, me, &BTreeSet::new(), |_| false));
                }
            }
            taken.sort();
            let expected = if staying.is_empty() { Vec::new() } else { free.into_iter().collect() };
            prop_assert_eq!(taken, expected);
        }

        /// Moves for balance come to an end, and each makes the nodes more alike.
        #[test]
        fn balance_comes_to_rest(counts in prop::collection::vec(prop::collection::vec(1_u64..200, 0..12), 2..5)) {
            let mut held: Vec<BTreeMap<PoolRef, u64>> = Vec::new();
            let mut number = 0;
            for weights in counts {
                held.push(weights.into_iter().map(|weight| { number += 1; (pool(number), weight) }).collect());
            }
            let sum = |held: &BTreeMap<PoolRef, u64>| held.values().sum::<u64>();
            let spread = |held: &[BTreeMap<PoolRef, u64>]| held.iter().map(|h| u128::from(sum(h)).pow(2)).sum::<u128>();
            for round in 0..1_000 {
                let mut moved = false;
                for giver in 0..held.len() {
                    let nodes = held.iter().enumerate().map(|(i, h)| (name(i), node(1, false, false, sum(h)))).collect();
                    let snapshot = Snapshot { generation: 1, nodes, pools: Arc::default() };
                    let own = name(giver);
                    let me = Me { name: &own, epoch: 1, draining: false };
                    let before = spread(&held);
                    for (to, pools) in to_give(&snapshot, me, &held[giver].clone(), |_| true) {
                        let to: usize = to[1..].parse().unwrap();
                        for pool in pools {
                            let weight = held[giver].remove(&pool).unwrap();
                            held[to].insert(pool, weight);
                        }
                        moved = true;
                        prop_assert!(spread(&held) < before || before == spread(&held), "round {round}");
                        prop_assert!(spread(&held) <= before);
                    }
                }
                if !moved {
                    return Ok(());
                }
            }
            prop_assert!(false, "it never rests");
        }
    }

    /// The nodes' rows were read before a node came, or came back, and took pools: for all that they say of its term it may go on.
    #[test]
    fn what_a_node_took_since_its_row_was_read_is_not_free() {
        let nodes = [(name(0), node(1, false, false, 0)), (name(1), node(6, true, false, 0))].into();
        let owners = [seen(1, 7, None), seen(2, 1, None), seen(1, 5, None), seen(1, 6, None), seen(2, 1, Some(0))];
        let pools = owners.into_iter().enumerate().map(|(number, seen)| (pool(number), seen)).collect();
        let snapshot = Snapshot { generation: 1, nodes, pools: Arc::new(pools) };
        let me = Me { name: "n0", epoch: 1, draining: false };
        let free = [2, 3, 4].map(pool);
        assert_eq!(to_take(&snapshot, me, &BTreeSet::new(), |_| true), free);
        assert!([0, 1].map(pool).iter().all(|pool| snapshot.owner_of(pool).is_none()), "whose they are it cannot say");
    }

    #[test]
    fn a_gift_goes_where_it_was_sent_unless_nobody_is_there() {
        let nodes = (0..3).map(|i| (name(i), node(1, i == 2, false, i as u64))).collect();
        let pools = Arc::new(BTreeMap::from([
            (pool(0), seen(0, 1, Some(1))),
            (pool(1), seen(0, 1, Some(2))),
            (pool(2), seen(2, 1, None)),
            (pool(3), seen(1, 1, None)),
        ]));
        let snapshot = Snapshot { generation: 1, nodes, pools };
        let me = Me { name: "n0", epoch: 1, draining: false };
        let takers = takers(&snapshot, me, &BTreeSet::from([pool(3), pool(9)]));
        let expected = [(0, 1), (1, 0), (2, 0), (9, 0)].map(|(p, n)| (pool(p), name(n)));
        assert_eq!(takers, BTreeMap::from(expected));
        assert_eq!(to_take(&snapshot, me, &BTreeSet::new(), |_| true).len(), 3, "left lying: anybody takes them");
    }

    #[test]
    fn who_drains_gives_everything_and_takes_nothing() {
        let nodes = (0..3).map(|i| (name(i), node(1, false, i == 0, 0))).collect();
        let snapshot = Snapshot { generation: 1, nodes, pools: Arc::default() };
        let weights: BTreeMap<_, _> = (0..10).map(|i| (pool(i), 1 + i as u64)).collect();
        let me = Me { name: "n0", epoch: 1, draining: true };
        let gifts = to_give(&snapshot, me, &weights, |_| true);
        assert_eq!(gifts.iter().map(|(_, pools)| pools.len()).collect::<Vec<_>>(), [5, 5]);
        assert_eq!(to_take(&snapshot, me, &BTreeSet::from([pool(99)]), |_| true), []);
        let to_the_living = to_give(&snapshot, me, &weights, |name| name == "n2");
        assert_eq!(
            to_the_living.iter().map(|(to, pools)| (to.as_str(), pools.len())).collect::<Vec<_>>(),
            [("n2", 10)]
        );
        assert_eq!(to_give(&snapshot, me, &weights, |_| false), [], "who may be dead gets nothing");
        assert!(
            has_others(&snapshot, me) && takes(&snapshot, "n1") && !takes(&snapshot, "n0") && !takes(&snapshot, "n9")
        );
    }
}
