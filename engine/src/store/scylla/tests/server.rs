//! One CQL server for all tests of the process, started by the repository's script on first use.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::{ScyllaConfig, apply_schema, connect, schema};

/// Never dropped: the script notices the end of this process by the end of its standard input.
struct Server {
    _script: Child,
    nodes: Vec<String>,
    /// Its process group; 0: not ours.
    group: u32,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/cql");
        let mut child = Command::new("bash")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs .ci/cql");
        let (mut line, mut group) = (String::new(), String::new());
        let mut output = BufReader::new(child.stdout.as_mut().expect("piped"));
        output.read_line(&mut line).expect("its output");
        output.read_line(&mut group).expect("its output");
        assert!(!line.trim().is_empty(), "no CQL server: .ci/cql says above what is missing");
        let nodes = line.trim().split(',').map(str::to_owned).collect();
        Server { _script: child, nodes, group: group.trim().parse().unwrap_or(0) }
    })
}

/// Runs a future to its end from inside a test's runtime.
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

/// A configuration for a keyspace that nobody has used.
pub(super) fn unmade_keyspace() -> ScyllaConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nodes = server().nodes.clone();
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    ScyllaConfig::new(nodes, format!("test_{process}_{number}"))
}

/// A keyspace of its own, with the tables.
pub(crate) fn fresh_keyspace() -> ScyllaConfig {
    let config = unmade_keyspace();
    // While others make and drop tables the server may be too busy to say that it lives; what was begun is gone on with.
    let mut applied = block(apply_schema(&config, Some(1)));
    for _ in 0..10 {
        if applied.is_err() {
            applied = block(apply_schema(&config, Some(1)));
        }
    }
    assert!(applied.is_ok(), "{applied:?}");
    config
}

/// Gives the room of a test's keyspace back. One that cannot be dropped now stays.
pub(super) fn drop_keyspace(config: &ScyllaConfig) {
    let drop = async {
        if let Ok(session) = connect::connect(config).await {
            let dropped = schema::patient(format!("DROP KEYSPACE IF EXISTS {}", config.keyspace));
            let _ = session.query_unpaged(dropped, ()).await;
        }
    };
    block(drop);
}

/// The server stands still until this is dropped.
pub(super) struct Frozen(u32);

/// Stops the server's processes; `None`: they are not ours.
pub(super) fn freeze() -> Option<Frozen> {
    let group = server().group;
    (group > 0).then(|| {
        signal("-STOP", group);
        let frozen = Frozen(group);
        let asked = std::time::SystemTime::now();
        // The signal is one thread's to hear, which tells the others: on a busy machine they go on for a while.
        while !is_stopped(group) {
            assert!(asked.elapsed().is_ok_and(|waited| waited.as_secs() < 30), "the server does not stop");
            std::thread::yield_now();
        }
        frozen
    })
}

/// Whether each thread of a process stands still.
fn is_stopped(process: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads");
    // `number (name) state …`; a thread that ended meanwhile has none.
    let state = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).ok();
    let stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z', 'X']));
    tasks.filter_map(|task| state(task.ok()?)).all(stopped)
}

fn signal(name: &str, group: u32) {
    let status = Command::new("kill").args([name, "--", &format!("-{group}")]).status();
    assert!(status.expect("kill").success());
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}
