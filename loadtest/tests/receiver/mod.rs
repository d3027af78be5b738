//! A webhook receiver for tests: checks signatures in its own way, notes what it saw, fails now and then.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use parking_lot::Mutex;
use ring::hmac;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Statuses seen as bits, the message id, and how often any status was seen.
type Seen = HashMap<String, (u8, String, u32)>;

#[derive(Default)]
struct State {
    seen: Seen,
    bad: u64,
    posts: u64,
}

/// A running receiver; its task ends with the test's runtime.
pub(crate) struct Receiver {
    at: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Answers 503 to every `fail_each`-th good POST (0: never).
    pub(crate) async fn start(secret: &'static str, token: &'static str, fail_each: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), secret, token, fail_each));
            }
        });
        Self { at, state }
    }

    pub(crate) fn authority(&self) -> String {
        self.at.to_string()
    }

    pub(crate) fn meta_url(&self) -> String {
        format!("http://{}/webhooks/meta/m", self.at)
    }

    pub(crate) fn by_correlation(&self) -> Seen {
        self.state.lock().seen.clone()
    }

    pub(crate) fn bad_signatures(&self) -> u64 {
        self.state.lock().bad
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, secret: &str, token: &str, fail_each: u64) {
    let mut buffer = Vec::new();
    loop {
        let Some(head_end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8(buffer[..head_end].to_vec()).expect("ASCII head");
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (n, v) = line.split_once(':')?;
                n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
            })
        };
        let len: usize = header("content-length").and_then(|l| l.parse().ok()).expect("a length");
        while buffer.len() < head_end + 4 + len {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = buffer[head_end + 4..head_end + 4 + len].to_vec();
        buffer.drain(..head_end + 4 + len);
        let target = head.split(' ').nth(1).expect("a target").to_owned();
        let found = if let Some(signature) = header("x-hub-signature-256") {
            check_meta(&body, &signature, secret)
        } else {
            check_twilio(
                &target,
                &body,
                &header("x-twilio-signature").unwrap_or_default(),
                token,
                &header("host").unwrap_or_default(),
            )
        };
        let status = {
            let mut state = state.lock();
            match found {
                None => {
                    state.bad += 1;
                    "401 Unauthorized"
                }
                Some(_) if fail_each > 0 && state.posts % fail_each == fail_each - 1 => {
                    state.posts += 1;
                    "503 Service Unavailable"
                }
                Some(statuses) => {
                    state.posts += 1;
                    for (correlation, id, word) in statuses {
                        let slot = state.seen.entry(correlation).or_insert((0, id, 0));
                        slot.0 |= bit(&word);
                        slot.2 += 1;
                    }
                    "200 OK"
                }
            }
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn check_meta(body: &[u8], signature: &str, secret: &str) -> Option<Vec<(String, String, String)>> {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let hex: String = mac.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    if signature != format!("sha256={hex}") {
        return None;
    }
    let json: serde_json::Value = serde_json::from_slice(body).expect("good JSON");
    assert_eq!(json["object"], "whatsapp_business_account");
    let mut all = Vec::new();
    for entry in json["entry"].as_array().expect("entries") {
        for change in entry["changes"].as_array().expect("changes") {
            assert_eq!(change["field"], "messages");
            assert_eq!(change["value"]["metadata"]["phone_number_id"], "2001");
            for status in change["value"]["statuses"].as_array().expect("statuses") {
                assert!(status["timestamp"].is_string() || status["timestamp"].is_u64());
                let text = |name: &str| status[name].as_str().unwrap_or("").to_owned();
                if status["status"] == "failed" {
                    assert!(status["errors"][0]["code"].as_u64().is_some_and(|code| code > 0));
                }
                all.push((text("biz_opaque_callback_data"), text("id"), text("status")));
            }
        }
    }
    assert!((1..=1001).contains(&all.len()), "{}", all.len());
    Some(all)
}

fn check_twilio(
    target: &str,
    body: &[u8],
    signature: &str,
    token: &str,
    host: &str,
) -> Option<Vec<(String, String, String)>> {
    let pairs = sluice_loadtest::sim::form::parse(body).expect("a form");
    let mut sorted = pairs.clone();
    sorted.sort();
    // The public URL: some tests use a host of their own, the others this receiver.
    let hosts = ["https://hooks.example.test".to_owned(), format!("http://{host}")];
    let good = hosts.iter().any(|host| {
        let token = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
        let mut mac = hmac::Context::with_key(&token);
        mac.update(format!("{host}{target}").as_bytes());
        for (name, value) in &sorted {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        base64::engine::general_purpose::STANDARD.encode(mac.sign()) == signature
    });
    if !good {
        return None;
    }
    let get = |wanted: &str| pairs.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.to_string()).unwrap_or_default();
    assert_eq!(get("MessageSid"), get("SmsSid"));
    let correlation = target.split("?c=").nth(1).unwrap_or("").to_owned();
    Some(vec![(correlation, get("MessageSid"), get("MessageStatus"))])
}

fn bit(word: &str) -> u8 {
    match word {
        "sent" => 1,
        "delivered" => 2,
        "read" => 4,
        "failed" | "undelivered" => 8,
        _ => 0,
    }
}

/// The word for a set of bits.
pub(crate) fn shown(bits: u8) -> &'static str {
    sluice_loadtest::sim::records::shown(bits)
}
