//! The server behind its own certificate, asked by its own command line.

use std::process::Output;

use sluice_loadtest::harness::process::binary;
use sluice_loadtest::harness::world::{World, WorldPlan};
use tokio::process::Command;

use crate::QUICK;

/// A certificate for this machine, and the authority that signed it, which no system knows.
const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/testdata");

async fn sluice(world: &World, server: &str, more: &[&str]) -> Output {
    let mut command = Command::new(binary().await.expect("the server's binary"));
    command.args(["lines", "list", "--server", server]).args(more).env("SLUICE_TOKEN", world.token());
    command.output().await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_behind_a_certificate() {
    let tls =
        format!("[tls.grpc]\ncert_file = \"{CERTIFICATES}/tls-cert.pem\"\nkey_file = \"{CERTIFICATES}/tls-key.pem\"\n");
    let plan = WorldPlan { extra: format!("{QUICK}{tls}"), ..WorldPlan::default() };
    let world = World::start(plan).await.expect("the world starts");
    let address = world.server().expect("up").addresses.grpc.clone();
    let authority = format!("{CERTIFICATES}/tls-ca.pem");

    let known = sluice(&world, &format!("https://{address}"), &["--ca-file", &authority]).await;
    assert!(known.status.success(), "{}", String::from_utf8_lossy(&known.stderr));
    // Neither a stranger's certificate nor a connection without one is taken for the server.
    for (server, advice) in [(format!("https://{address}"), "--ca-file"), (format!("http://{address}"), "[tls.grpc]")] {
        let refused = sluice(&world, &server, &[]).await;
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(5), "{server}: {words}");
        assert!(words.contains(&address) && words.contains(advice), "{server}: {words}");
        println!("{words}");
    }
}
