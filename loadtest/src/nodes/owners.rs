//! Who owned which pool when, by the nodes' own logs: every generation of the ownership gave a pool to one node at most.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a node logs when it took a pool.
const TOOK: &str = "the pool is this node's";

/// What is known of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// How often pools were taken, by how: first, handed over, taken over.
    pub taken: BTreeMap<&'static str, u64>,
    /// Contradictions, in words. There must be none.
    pub wrong: Vec<String>,
    /// Lines that no node may ever log, and what else was logged as an error (by its words: how often).
    pub panics: Vec<String>,
    /// Errors that nodes logged, by their words.
    pub errors: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Line {
    level: String,
    #[serde(default)]
    message: String,
    pool: Option<String>,
    from: Option<String>,
    clean: Option<bool>,
    epoch: Option<u64>,
    generation: Option<u64>,
}

/// Reads the logs of all nodes, each with everything that it logged over all its lives.
#[must_use]
pub fn read<'l>(logs: impl IntoIterator<Item = (usize, &'l str)>) -> Owners {
    let mut owners = Owners::default();
    let mut takers: BTreeMap<(String, u64), Vec<(usize, u64)>> = BTreeMap::new();
    for (node, log) in logs {
        for line in log.lines() {
            if line.contains("panicked at") {
                owners.panics.push(format!("node-{node}: {line}"));
            }
            let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
            if line.level == "ERROR" {
                *owners.errors.entry(line.message.clone()).or_default() += 1;
            }
            if let (TOOK, Some(pool), Some(epoch), Some(generation)) =
                (line.message.as_str(), line.pool, line.epoch, line.generation)
            {
                let how = match (line.from, line.clean) {
                    (None, _) => "first",
                    (Some(_), Some(true)) => "handed over",
                    (Some(_), _) => "taken over",
                };
                *owners.taken.entry(how).or_default() += 1;
                takers.entry((pool, generation)).or_default().push((node, epoch));
            }
        }
    }
    for ((pool, generation), by) in takers {
        if by.len() > 1 {
            owners.wrong.push(format!("{pool}: generation {generation} made it theirs, (node, epoch): {by:?}"));
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(pool: &str, from: Option<&str>, epoch: u64, generation: u64) -> String {
        let line = serde_json::json!({
            "level": "INFO", "message": TOOK, "pool": pool, "from": from, "clean": from.is_some(), "epoch": epoch, "generation": generation
        });
        line.to_string()
    }

    #[test]
    fn a_generation_with_two_owners_is_found() {
        let first = [took("acme/a", None, 1, 2), took("acme/b", None, 1, 3)].join("\n");
        let second = format!("{}\nthread 'main' panicked at x.rs:1:2:", took("acme/a", Some("node-0"), 4, 9));
        let fine = read([(0, first.as_str()), (1, second.as_str())]);
        assert_eq!(fine.taken, BTreeMap::from([("first", 2), ("handed over", 1)]));
        assert_eq!((fine.wrong.len(), fine.panics.len()), (0, 1));
        let third = took("acme/a", Some("node-0"), 7, 9);
        let wrong = read([(1, second.as_str()), (2, third.as_str())]).wrong;
        assert_eq!(wrong, ["acme/a: generation 9 made it theirs, (node, epoch): [(1, 4), (2, 7)]"]);
    }
}
