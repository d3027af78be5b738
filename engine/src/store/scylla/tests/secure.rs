//! A server that asks for a login and offers TLS.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::{Login, OpenError, apply_schema, client_tls};
use super::*;

/// It ends with this value.
struct Secure {
    _script: Child,
    node: String,
    certificate: PathBuf,
}

fn start() -> Secure {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/cql");
    let mut command = Command::new("bash");
    command.arg(script).env("SLUICE_CQL_SECURE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("bash runs .ci/cql");
    let output = BufReader::new(child.stdout.as_mut().expect("piped"));
    let lines: Vec<String> = output.lines().take(3).map(|line| line.expect("text")).collect();
    let [node, _, certificate] = lines.as_slice() else { panic!("no CQL server: .ci/cql says above what is missing") };
    Secure { node: node.clone(), certificate: certificate.into(), _script: child }
}

fn login(password: &str) -> Option<Login> {
    Some(Login { user: "cassandra".to_owned(), password: password.into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_and_certificates_are_asked_for() {
    let server = tokio::task::block_in_place(start);
    let mut config = ScyllaConfig::new(vec![server.node.clone()], "secured");
    for wrong in [None, login("wrong")] {
        config.login = wrong;
        let refused = apply_schema(&config, Some(1)).await.unwrap_err();
        let told = refused.to_string();
        assert!(matches!(refused, OpenError::Credentials { .. }), "{refused:?}");
        assert!(told.contains("check [store.scylla] user and password") && !told.contains('\n'), "{told}");
    }
    config.login = login("cassandra");
    config.tls = Some(client_tls(Some(&server.certificate)).unwrap());
    // The role is made a moment after the server answers.
    let mut applied = apply_schema(&config, Some(1)).await;
    for _ in 0..100 {
        if matches!(applied, Err(OpenError::Credentials { .. })) {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            applied = apply_schema(&config, Some(1)).await;
        }
    }
    assert_eq!(applied, Ok(None));
    let store = open(&config);
    assert!(store.health().writable);
    store.close().await.unwrap();

    // A server whose certificate is of another authority is not spoken to.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/testdata/tls-ca.pem");
    config.tls = Some(client_tls(Some(std::path::Path::new(other))).unwrap());
    let told = ScyllaStore::open(config, Clock::system()).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("certificate") && !told.contains('\n'), "{told}");
}
