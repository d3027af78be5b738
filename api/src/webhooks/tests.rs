//! The listener on real sockets, with a sink that the tests hold in hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use parking_lot::Mutex;
use ring::hmac;
use sluice_engine::webhook::{Event, SinkError, StatusEvent, WebhookSink, meta, twilio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::TlsFiles;
use crate::tls;

const SECRET: &str = "app-secret";
const TOKEN: &str = "auth-token";
const PUBLIC_URL: &str = "https://hooks.example.test";
const META: &str = "/webhooks/meta/main";
const TWILIO: &str = "/webhooks/twilio/sms?c=AQAAACoAAAAHAAGr-_9876543210";
const STATUS: &str = r#"{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"2"},"statuses":[{"id":"wamid.1","status":"sent","timestamp":"1790000000"}]}}]}]}"#;
const FORM: &str = "MessageSid=SM1&MessageStatus=delivered";
const MIB: usize = 1024 * 1024;

/// A sink that keeps what it gets, answers as told, and can be made to wait.
struct TestSink {
    got: Mutex<Vec<(Arc<str>, Vec<Event>)>>,
    answer: Mutex<Result<(), SinkError>>,
    gate: Semaphore,
    entered: Semaphore,
}

#[async_trait]
impl WebhookSink for TestSink {
    async fn accept(&self, account: &Arc<str>, events: Vec<Event>) -> Result<(), SinkError> {
        self.entered.add_permits(1);
        let _pass = self.gate.acquire().await.expect("the gate is never closed");
        let answer = *self.answer.lock();
        if answer.is_ok() {
            self.got.lock().push((Arc::clone(account), events));
        }
        answer
    }

    async fn set_aside(&self, _: &Arc<str>, _: Vec<StatusEvent>) -> Result<(), SinkError> {
        Err(SinkError::Busy)
    }
}

struct Server {
    address: SocketAddr,
    sink: Arc<TestSink>,
    stop: CancellationToken,
    ended: JoinHandle<Drained>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut WebhookConfig)) -> Self {
        let url = twilio::PublicUrl::parse(PUBLIC_URL).expect("a URL");
        let account = |name: &str, receiver| WebhookAccount { name: Arc::from(name), receiver };
        let mut config = WebhookConfig {
            accounts: vec![
                account("main", Receiver::Meta(meta::Receiver::new(SECRET, "verify-me"))),
                account("sms", Receiver::Twilio(twilio::Receiver::new(twilio::SignatureKey::new(TOKEN, None), url))),
            ],
            limits: WebhookLimits {
                body_bytes_max: 3 * MIB,
                twilio_body_bytes_max: MIB / 4,
                body_read_timeout: Duration::from_secs(10),
                account_bodies_max: 100,
                account_bytes_max: 32 * MIB,
            },
            listener: ListenerLimits {
                connections_max: 100,
                header_read_timeout: Duration::from_secs(10),
                drain_timeout: Duration::from_secs(10),
            },
            tls: None,
        };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let sink = Arc::new(TestSink {
            got: Mutex::default(),
            answer: Mutex::new(Ok(())),
            gate: Semaphore::new(1_000),
            entered: Semaphore::new(0),
        });
        let stop = CancellationToken::new();
        let ended = tokio::spawn(serve(listener, Arc::clone(&sink) as Arc<dyn WebhookSink>, config, stop.clone()));
        Self { address, sink, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: &[u8]) -> Answered {
        let mut stream = self.connect().await;
        ask(&mut stream, request).await
    }

    fn events(&self) -> usize {
        self.sink.got.lock().iter().map(|(_, events)| events.len()).sum()
    }

    /// Makes the sink wait until [`Semaphore::add_permits`] on its gate.
    fn shut_gate(&self) {
        self.sink.gate.forget_permits(1_000);
    }
}

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

async fn ask<IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut IO, request: &[u8]) -> Answered {
    stream.write_all(request).await.expect("the server reads");
    answer(stream).await
}

/// Reads one answer, leaving the connection usable.
async fn answer<IO: AsyncRead + Unpin>(stream: &mut IO) -> Answered {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let n = stream.read(&mut byte).await.expect("an answer");
        assert_eq!(n, 1, "the connection ended before an answer: {}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("heads are ASCII").to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("the whole body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Answered { status, head, body: String::from_utf8(body).expect("text") }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}

fn post(path: &str, signature: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{signature}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn meta_signature(body: &str) -> String {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let hex: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x-hub-signature-256: sha256={hex}")
}

fn meta_post(body: &str) -> Vec<u8> {
    post(META, &meta_signature(body), body)
}

fn twilio_post(target: &str, body: &str) -> Vec<u8> {
    // The bodies here are in signing order and hold nothing that is encoded.
    let signed = format!("{PUBLIC_URL}{target}{}", body.replace(['=', '&'], ""));
    let token = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(hmac::sign(&token, signed.as_bytes()));
    post(target, &format!("content-type: application/x-www-form-urlencoded\r\nx-twilio-signature: {signature}"), body)
}

#[tokio::test]
async fn meta_gets_200_and_the_sink_the_events() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        let answered = ask(&mut stream, &meta_post(STATUS)).await;
        assert_eq!((answered.status, answered.body.as_str()), (200, ""));
    }
    let got = server.sink.got.lock();
    assert_eq!((got.len(), &*got[0].0, got[0].1.len()), (2, "main", 1));
}

#[tokio::test]
async fn twilio_gets_204_and_the_sink_the_events() {
    let server = Server::start().await;
    assert_eq!(server.ask(&twilio_post(TWILIO, FORM)).await.status, 204);
    let got = server.sink.got.lock();
    let [Event::Status(status)] = got[0].1.as_slice() else { panic!("one status") };
    assert_eq!(status.correlation.expect("from the query").as_str(), "AQAAACoAAAAHAAGr-_9876543210");
}

#[tokio::test]
async fn a_post_without_events_is_acknowledged_without_the_sink() {
    let server = Server::start().await;
    assert_eq!(server.ask(&meta_post(r#"{"object":"whatsapp_business_account","entry":[]}"#)).await.status, 200);
    assert_eq!(server.sink.got.lock().len(), 0);
}

#[tokio::test]
async fn metas_verification_request() {
    let server = Server::start().await;
    let right = format!("{META}?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-me");
    let answered = server.ask(&get(&right)).await;
    assert_eq!((answered.status, answered.body.as_str()), (200, "1158201444"));
    assert!(answered.head.contains("content-type: text/plain"));
    assert_eq!(server.ask(&get(&right.replace("verify-me", "wrong"))).await.status, 403);
    assert_eq!(server.ask(&get(META)).await.status, 403);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods() {
    let server = Server::start().await;
    for path in [
        "/",
        "/webhooks",
        "/webhooks/meta",
        "/webhooks/meta/other",
        "/webhooks/twilio/main",
        "/webhooks/meta/main/",
        "/metrics",
    ] {
        assert_eq!(server.ask(&get(path)).await.status, 404, "{path}");
        assert_eq!(server.ask(&post(path, "x: y", "")).await.status, 404, "{path}");
    }
    let put = server.ask(format!("PUT {META} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
    assert_eq!(put.status, 405);
    assert!(put.head.contains("allow: get, post"), "{}", put.head);
    assert_eq!(server.ask(&get(TWILIO)).await.status, 405);
}

#[tokio::test]
async fn a_bad_signature_is_401_and_changes_nothing() {
    let recorder = crate::ops::builder().expect("the settings are right").build_recorder();
    let _local = metrics::set_default_local_recorder(&recorder);
    let server = Server::start().await;
    let other = meta_signature("another body");
    let short = &other[..other.len() - 1];
    for signature in [other.as_str(), short, "x-other: y", "x-hub-signature: sha1=00"] {
        assert_eq!(server.ask(&post(META, signature, STATUS)).await.status, 401, "{signature}");
    }
    assert_eq!(server.ask(&post(TWILIO, "x-twilio-signature: AAAAAAAAAAAAAAAAAAAAAAAAAAA=", FORM)).await.status, 401);
    // The right signature for another target.
    let elsewhere = String::from_utf8(twilio_post(TWILIO, FORM)).expect("text").replace("c=AQ", "c=BQ");
    assert_eq!(server.ask(elsewhere.as_bytes()).await.status, 401);
    assert_eq!(server.events(), 0);
    let page = recorder.handle().render();
    for line in [
        r#"sluice_webhook_requests_total{provider="meta",account="main",result="bad_signature"} 4"#,
        r#"sluice_webhook_signature_failures_total{provider="meta",account="main",reason="missing"} 2"#,
        r#"sluice_webhook_signature_failures_total{provider="meta",account="main",reason="malformed"} 1"#,
        r#"sluice_webhook_signature_failures_total{provider="twilio",account="sms",reason="mismatch"} 2"#,
        r#"sluice_webhook_bodies_in_flight{provider="meta",account="main"} 0"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn store_trouble_and_a_busy_engine_are_503_until_they_are_over() {
    let server = Server::start().await;
    for trouble in [SinkError::StoreDown, SinkError::Busy] {
        *server.sink.answer.lock() = Err(trouble);
        let answered = server.ask(&meta_post(STATUS)).await;
        assert_eq!(answered.status, 503);
        assert!(answered.head.contains("retry-after: 1"));
    }
    *server.sink.answer.lock() = Ok(());
    assert_eq!(server.ask(&meta_post(STATUS)).await.status, 200);
}

#[tokio::test]
async fn one_bad_entry_costs_no_other() {
    let server = Server::start().await;
    let body = STATUS.replace(r#""statuses":["#, r#""statuses":[{"status":7},"#);
    assert_eq!(server.ask(&meta_post(&body)).await.status, 200);
    let got = server.sink.got.lock();
    assert!(matches!(got[0].1.as_slice(), [Event::Bad(_), Event::Status(_)]));
}

#[tokio::test]
async fn an_overloaded_account_is_refused_at_once_and_the_other_is_not() {
    let server = Server::start_with(|config| config.limits.account_bodies_max = 2).await;
    server.shut_gate();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(&meta_post(STATUS)).await.expect("the server reads");
        server.sink.entered.acquire().await.expect("never closed").forget();
        waiting.push(stream);
    }
    let refused = server.ask(&meta_post(STATUS)).await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1"));
    // Twilio's account has places of its own: its POST gets as far as the sink.
    let mut other = server.connect().await;
    other.write_all(&twilio_post(TWILIO, FORM)).await.expect("the server reads");
    server.sink.entered.acquire().await.expect("never closed").forget();

    server.sink.gate.add_permits(1_000);
    for stream in &mut waiting {
        assert_eq!(answer(stream).await.status, 200);
    }
    assert_eq!(answer(&mut other).await.status, 204);
    assert_eq!(server.ask(&meta_post(STATUS)).await.status, 200, "the places are free again");
}

#[tokio::test]
async fn bytes_under_way_are_bounded_too() {
    let server = Server::start_with(|config| config.limits.account_bytes_max = 1_000).await;
    let declared = |bytes: usize| format!("POST {META} HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
    let whole = format!("{}{}", declared(1_001), "x".repeat(1_001));
    assert_eq!(server.ask(whole.as_bytes()).await.status, 503);
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
    let head = format!("POST {META} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(server.ask(format!("{head}{}{}", chunk(900), chunk(101)).as_bytes()).await.status, 503, "undeclared");
    assert_eq!(server.ask(&meta_post(STATUS)).await.status, 200);
}

#[tokio::test]
async fn a_body_of_four_megabytes_is_refused_before_it_is_read() {
    let server = Server::start().await;
    // Declared: the answer comes although not one byte of the body was sent.
    let declared = format!("POST {META} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 4 * MIB);
    assert_eq!(server.ask(declared.as_bytes()).await.status, 413);
    let declared = declared.replace(META, TWILIO).replace(&(4 * MIB).to_string(), &(MIB / 2).to_string());
    assert_eq!(server.ask(declared.as_bytes()).await.status, 413, "Twilio's bound is lower");
}

#[tokio::test]
async fn a_chunked_body_of_four_megabytes_is_refused_while_it_is_read() {
    let server = Server::start().await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let writing = tokio::spawn(async move {
        let head = format!("POST {META} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        writer.write_all(head.as_bytes()).await.expect("the server reads");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let mut sent = 0;
        // The server stops reading; how much fits into the kernel's buffers until then is not ours to say.
        while sent < 64 && writer.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 1;
        }
        writer
    });
    assert_eq!(answer(&mut reader).await.status, 413);
    drop(reader);
    drop(writing.await.expect("the writer does not panic"));
    assert_eq!(server.events(), 0);
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let server = Server::start_with(|config| config.listener.header_read_timeout = Duration::from_millis(100)).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /webhooks/meta/main HTTP/1.1\r\nhost: x\r\nx-slow: ").await.expect("the server reads");
    let mut rest = Vec::new();
    // Ends only because the server closes; what it says before, if anything, is no 2xx.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains(" 20"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_slow_body_is_408_and_gives_its_place_back() {
    let server = Server::start_with(|config| {
        config.limits.body_read_timeout = Duration::from_millis(100);
        config.limits.account_bodies_max = 1;
    })
    .await;
    let mut request = meta_post(STATUS);
    request.truncate(request.len() - 1);
    assert_eq!(server.ask(&request).await.status, 408);
    assert_eq!(server.ask(&meta_post(STATUS)).await.status, 200);
}

/// Announced bodies of an account, more than its places and its bytes, of which next to nothing comes.
#[tokio::test]
async fn slow_bodies_take_nobodys_place() {
    let server = Server::start_with(|config| {
        config.limits.account_bodies_max = 2;
        config.limits.account_bytes_max = 4 * MIB;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect().await;
        let head = format!("POST {META} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\nx", 3 * MIB);
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        slow.push(stream);
    }
    let mut form = server.connect().await;
    for _ in 0..20 {
        assert_eq!(ask(&mut form, &meta_post(STATUS)).await.status, 200);
    }
    drop(slow);
}

#[tokio::test]
async fn a_client_that_vanishes_gives_its_place_back() {
    let server = Server::start_with(|config| config.limits.account_bodies_max = 1).await;
    server.shut_gate();
    let mut stream = server.connect().await;
    stream.write_all(&meta_post(STATUS)).await.expect("the server reads");
    server.sink.entered.acquire().await.expect("never closed").forget();
    drop(stream);
    server.sink.gate.add_permits(1_000);
    // The place is free once the server has seen the end of the connection or the sink's answer, whichever comes first.
    while server.ask(&meta_post(STATUS)).await.status != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::start_with(|config| config.listener.connections_max = 1).await;
    let mut first = server.connect().await;
    assert_eq!(ask(&mut first, &meta_post(STATUS)).await.status, 200);
    let mut second = server.connect().await;
    second.write_all(&meta_post(STATUS)).await.expect("the kernel takes it");
    assert_eq!(ask(&mut first, &meta_post(STATUS)).await.status, 200);
    assert_eq!(server.events(), 2, "the second connection is not served yet");
    drop(first);
    assert_eq!(answer(&mut second).await.status, 200);
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_finish() {
    let server = Server::start().await;
    server.shut_gate();
    let mut stream = server.connect().await;
    stream.write_all(&meta_post(STATUS)).await.expect("the server reads");
    server.sink.entered.acquire().await.expect("never closed").forget();
    let idle = server.connect().await;
    server.stop.cancel();
    server.sink.gate.add_permits(1_000);
    assert_eq!(answer(&mut stream).await.status, 200);
    assert_eq!(server.ended.await.expect("no panic"), Drained::Clean, "also with a connection that does nothing");
    drop(idle);
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_has_a_deadline() {
    let server = Server::start_with(|config| config.listener.drain_timeout = Duration::from_millis(50)).await;
    server.shut_gate();
    let mut stream = server.connect().await;
    stream.write_all(&meta_post(STATUS)).await.expect("the server reads");
    server.sink.entered.acquire().await.expect("never closed").forget();
    server.stop.cancel();
    assert_eq!(server.ended.await.expect("no panic"), Drained::Forced { connections: 1 });
}

#[tokio::test]
async fn webhooks_over_tls() {
    let data = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let files = TlsFiles { cert_file: data("tls-cert.pem"), key_file: data("tls-key.pem") };
    let config = tls::server_config(&files, &["http/1.1"]).expect("the test certificate is right");
    let server = Server::start_with(|webhooks| webhooks.tls = Some(TlsAcceptor::from(config))).await;

    use rustls_pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls_pki_types::CertificateDer::from_pem_file(data("tls-ca.pem")).expect("the test CA is right");
    roots.add(ca).expect("it is a CA");
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, server.connect().await).await.expect("the handshake succeeds");
    assert_eq!(ask(&mut stream, &meta_post(STATUS)).await.status, 200);

    // Plain text on the TLS port ends the connection and nothing else.
    let mut plain = server.connect().await;
    plain.write_all(&meta_post(STATUS)).await.expect("the kernel takes it");
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"));
    assert_eq!(ask(&mut stream, &meta_post(STATUS)).await.status, 200);
}
