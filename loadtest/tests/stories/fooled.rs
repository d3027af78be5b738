//! A server that drops, doubles, overshoots or miscounts must fail its run. The liar here is a proxy on the server's way to its provider (or on
//! the provider's way back): to the witness it is part of the server, and no broken server need be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::{Lines, META, TWILIO};
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::world::{World, WorldPlan};
use sluice_loadtest::report::Verdict;
use sluice_loadtest::report::verdict::{Evidence, judge, verdict};
use sluice_loadtest::wire::client::Connection;
use sluice_loadtest::wire::request::{Parsed, parse, write_response};
use sluice_loadtest::witness::compare::Kind;
use sluice_loadtest::witness::fetch::Wanted;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::{PATIENCE, prompt, settled, sim};

const RECIPIENTS: u32 = 60;
const CEILING: u32 = 20;
/// Where the ceiling is what is lied about: four seconds' worth leaves at once, so that even a machine that drags it out over some of them
/// has to be found out.
const LOW_CEILING: u32 = 8;
/// The request that is lied about.
const VICTIM: u64 = 7;
/// What a POST about a message that was read holds.
const READ: &[u8] = br#""status":"read""#;
/// For so long everything is held back before it overshoots.
const HELD: Duration = Duration::from_secs(4);

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Nothing.
    None,
    /// One request is answered as accepted and goes nowhere.
    Drop,
    /// One request is answered as undeliverable and goes nowhere.
    Refuse,
    /// The connection of one request is closed, and the request goes nowhere.
    Close,
    /// The two parameters of one request change places.
    Swap,
    /// One request goes out twice.
    Double,
    /// What comes in the first four seconds goes out in one moment.
    Overshoot,
    /// One webhook is answered 200 and goes nowhere.
    Forget,
    /// Every webhook is answered 503, until the provider gives up (an SMS campaign: Twilio does).
    Unavailable,
}

struct Proxy {
    url: String,
    authority: String,
    upstream: Arc<Mutex<String>>,
}

impl Proxy {
    async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let authority = listener.local_addr().expect("bound").to_string();
        let upstream = Arc::new(Mutex::new(String::new()));
        let (to, count, first) = (Arc::clone(&upstream), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, lie, Arc::clone(&to), Arc::clone(&count), Arc::clone(&first)));
            }
        });
        Self { url: format!("http://{authority}"), authority, upstream }
    }

    fn lead_to(&self, authority: &str) {
        authority.trim_start_matches("http://").clone_into(&mut self.upstream.lock());
    }
}

async fn relay(
    mut stream: TcpStream,
    lie: Lie,
    upstream: Arc<Mutex<String>>,
    count: Arc<AtomicU64>,
    first: Arc<Mutex<Option<Instant>>>,
) {
    let mut buffer = Vec::new();
    let mut onward: Option<Connection> = None;
    loop {
        let Parsed::Complete(request) = parse(&buffer, 1 << 20) else {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let mut raw = buffer[..request.consumed].to_vec();
        let consumed = request.consumed;
        // Of statuses the highest is forgotten: a lower one would be made up for by those above it.
        let told = lie != Lie::Forget || raw.windows(READ.len()).any(|part| part == READ);
        let victim = told && count.fetch_add(1, Ordering::Relaxed) == VICTIM;
        let mut out = Vec::new();
        match lie {
            Lie::Drop if victim => {
                let body = r#"{"messaging_product":"whatsapp","messages":[{"id":"wamid.neverSent"}]}"#;
                write_response(&mut out, 200, "application/json", body.as_bytes(), false);
            }
            Lie::Refuse if victim => {
                let body =
                    r#"{"error":{"message":"(#131026) Message undeliverable","type":"OAuthException","code":131026}}"#;
                write_response(&mut out, 400, "application/json", body.as_bytes(), false);
            }
            Lie::Close if victim => return,
            Lie::Unavailable => write_response(&mut out, 503, "text/plain", b"", false),
            Lie::Forget if victim => write_response(&mut out, 200, "text/plain", b"", false),
            _ => {
                if lie == Lie::Swap && victim {
                    raw = swapped(&raw);
                }
                if lie == Lie::Overshoot {
                    let release = *first.lock().get_or_insert_with(Instant::now) + HELD;
                    tokio::time::sleep_until(release).await;
                }
                let times = if lie == Lie::Double && victim { 2 } else { 1 };
                for _ in 0..times {
                    let to = upstream.lock().clone();
                    let mut connection = match onward.take().filter(Connection::usable) {
                        Some(connection) => connection,
                        None => Connection::open(&to, PATIENCE).await.expect("upstream"),
                    };
                    let (status, body) = connection.exchange(&raw).await.expect("an answer");
                    out.clear();
                    write_response(&mut out, status, "application/json", body, false);
                    onward = Some(connection);
                }
            }
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
        buffer.drain(..consumed);
    }
}

/// A request with its two parameters in each other's place.
fn swapped(raw: &[u8]) -> Vec<u8> {
    const MARK: &str = r#""text":""#;
    let text = std::str::from_utf8(raw).expect("a request of ASCII");
    let parts: Vec<&str> = text.split(MARK).collect();
    let [head, first, second] = parts[..] else { panic!("not two parameters: {text}") };
    let ((one, after_one), (two, after_two)) =
        (first.split_once('"').expect("a value"), second.split_once('"').expect("a value"));
    format!("{head}{MARK}{two}\"{after_one}{MARK}{one}\"{after_two}").into_bytes()
}

/// A whole run with this lie; what the witness finds, and the verdict.
async fn lied_to(lie: Lie) -> (BTreeMap<Kind, u64>, Verdict) {
    let (out, back) = match lie {
        Lie::Forget | Lie::Unavailable => (Lie::None, lie),
        _ => (lie, Lie::None),
    };
    let (out, back) = (Proxy::start(out).await, Proxy::start(back).await);
    let mut plan = prompt();
    plan.failed = 0.0;
    plan.read = 1.0;
    plan.read_alone = 0.0;
    plan.delivered = 1.0;
    plan.batch = [1, 1];
    let sms = lie == Lie::Unavailable;
    let ceiling = if lie == Lie::Overshoot { LOW_CEILING } else { CEILING };
    let world = World::start(WorldPlan {
        lines: if sms {
            Lines { meta: vec![], sms: vec![ceiling] }
        } else {
            Lines { meta: vec![ceiling], sms: vec![] }
        },
        plan,
        seed: 77,
        extra: crate::QUICK.to_owned(),
        provider_url: Some(out.url.clone()),
        ..WorldPlan::default()
    })
    .await
    .expect("the world starts");
    out.lead_to(&world.sim.api());
    back.lead_to(&world.server().expect("up").addresses.webhooks);
    let (account, target) = match sms {
        true => (TWILIO, back.authority.clone()),
        false => (META, format!("http://{}/webhooks/meta/{META}", back.authority)),
    };
    sim(&world).set_target(account, &target).expect("the target is taken");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    let (pool, template) = if sms { ("sms", "text") } else { ("wa", "hello") };
    let campaign = CampaignPlan::new("fooled", pool, template);
    crate::launch(&customer, &campaign, 1, RECIPIENTS).await;
    settled(&customer, "fooled").await;
    let wanted = Wanted {
        window: Duration::from_secs(10),
        campaigns: vec!["fooled".to_owned()],
        recipients: [("fooled".to_owned(), people::phones(1, RECIPIENTS))].into(),
        ..Wanted::default()
    };
    let check = world.check(&customer, wanted).await.expect("both sides can be read");
    let given_up = sim(&world).stats().statuses_given_up as f64;
    let conditions = judge(
        &Evidence {
            check: &check,
            figures: &BTreeMap::from([("statuses.given_up".to_owned(), given_up)]),
            objections: &[],
            failures: &[],
            recipients: u64::from(RECIPIENTS),
            // The machine may stand still in the very second: that must not excuse a lie that is not about ceilings.
            stalls_excused: lie != Lie::Overshoot,
        },
        &BTreeMap::new(),
    );
    let found = check.differences.0.iter().map(|(kind, found)| (*kind, found.count)).collect();
    (found, verdict(&conditions))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_proxy_passes() {
    let (found, verdict) = lied_to(Lie::None).await;
    assert_eq!(verdict, Verdict::Passed, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_is_found() {
    let (found, verdict) = lied_to(Lie::Drop).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert!(found.contains_key(&Kind::Lost), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_as_undeliverable_is_found() {
    let (found, verdict) = lied_to(Lie::Refuse).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert_eq!(found.get(&Kind::Dropped), Some(&1), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_and_left_in_doubt_is_found() {
    let (found, verdict) = lied_to(Lie::Close).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert_eq!(found.get(&Kind::Vanished), Some(&1), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_in_each_others_place_are_found() {
    let (found, verdict) = lied_to(Lie::Swap).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert_eq!(found.get(&Kind::WrongContent), Some(&1), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_doubled_is_found() {
    let (found, verdict) = lied_to(Lie::Double).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert_eq!(found.get(&Kind::CorrelationDoubled), Some(&1), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_overshoots_is_found() {
    let (found, verdict) = lied_to(Lie::Overshoot).await;
    // A machine that stood still in that second leaves the question open; it never passes.
    assert_ne!(verdict, Verdict::Passed, "{found:?}");
    assert!(found.contains_key(&Kind::AboveCeiling), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_is_found() {
    let (found, verdict) = lied_to(Lie::Forget).await;
    assert_eq!(verdict, Verdict::Failed, "{found:?}");
    assert!(found.contains_key(&Kind::WrongStatus) || found.contains_key(&Kind::WrongStage), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_until_the_provider_gives_up_is_found() {
    let (found, verdict) = lied_to(Lie::Unavailable).await;
    assert_eq!(verdict, Verdict::Failed, "the books agree, nobody was told anything: {found:?}");
    assert!(found.is_empty(), "no difference can show it: {found:?}");
}
