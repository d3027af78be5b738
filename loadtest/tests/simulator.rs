//! The simulator from outside, over real sockets: what it accepts, what it refuses, what it posts back.

mod receiver;

use std::time::Duration;

use receiver::{Receiver, shown};
use sluice_loadtest::sim::config::{
    Button, Header, MetaAccount, MetaLine, MetaTemplate, TwilioAccount, TwilioContent, TwilioLine,
};
use sluice_loadtest::sim::faults::{Body, Kind, Rule};
use sluice_loadtest::sim::form;
use sluice_loadtest::sim::pairs::PairLimit;
use sluice_loadtest::sim::plan::Plan;
use sluice_loadtest::sim::{SimConfig, SimHandle};
use sluice_loadtest::wire::client::{Address, Connection, once, render};

const SECRET: &str = "s3cr3t-app-key-0123456789abcdef0";
const AUTH_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SID: &str = "AC00000000000000000000000000000001";
const HX: &str = "HX00000000000000000000000000000001";
const MG: &str = "MG00000000000000000000000000000001";
const SECONDS: Duration = Duration::from_secs(20);

fn config(ceiling: u32, plan: Plan) -> SimConfig {
    let template = |name: &str, body, names: &[&str], header, buttons| MetaTemplate {
        name: name.to_owned(),
        language: "en_US".to_owned(),
        header,
        body,
        body_names: names.iter().map(|n| (*n).to_owned()).collect(),
        buttons,
    };
    let button = Button { index: 0, sub_type: "url".to_owned() };
    SimConfig {
        plan,
        webhook_connections: 8,
        meta: vec![MetaAccount {
            account: "meta".to_owned(),
            token: "token".to_owned(),
            app_secret: SECRET.to_owned(),
            waba_id: "100000000000001".to_owned(),
            webhook: None,
            rate_http: 400,
            pair: PairLimit::default(),
            lines: vec![MetaLine { id: "2001".to_owned(), number: "+15550100001".to_owned(), ceiling }],
            templates: vec![
                template("two", 2, &[], Header::None, vec![]),
                template("named", 0, &["first", "last"], Header::None, vec![]),
                template("full", 1, &[], Header::Image, vec![button]),
            ],
        }],
        twilio: vec![TwilioAccount {
            account: "twilio".to_owned(),
            sid: SID.to_owned(),
            auth_token: AUTH_TOKEN.to_owned(),
            api_key: Some("SK1".to_owned()),
            api_secret: Some("key-secret".to_owned()),
            connect: None,
            lines: ["+15550100002", "whatsapp:+15550100003", MG]
                .map(|id| TwilioLine { id: id.to_owned(), ceiling })
                .to_vec(),
            contents: vec![TwilioContent { sid: HX.to_owned(), variables: 2 }],
        }],
        ..SimConfig::default()
    }
}

fn quick() -> Plan {
    Plan {
        sent_ms: [1, 5],
        delivered_ms: [1, 5],
        read_ms: [1, 5],
        failed_ms: [1, 5],
        copy_ms: [1, 5],
        flush_ms: 5,
        ..Plan::default()
    }
}

/// A customer of the simulated provider with one connection.
struct Customer {
    authority: String,
    connection: Option<Connection>,
}

impl Customer {
    fn new(sim: &SimHandle) -> Self {
        Self { authority: sim.api().to_string(), connection: None }
    }

    /// One request; an error when the connection breaks.
    async fn post(&mut self, target: &str, headers: &str, body: &[u8]) -> std::io::Result<(u16, serde_json::Value)> {
        let address = Address { authority: self.authority.clone(), target: target.to_owned() };
        let mut connection = match self.connection.take() {
            Some(connection) if connection.usable() => connection,
            _ => Connection::open(&self.authority, SECONDS).await?,
        };
        let request = render("POST", &address, headers, body);
        let (status, body) = connection.exchange(&request).await?;
        let json = serde_json::from_slice(body).unwrap_or(serde_json::Value::Null);
        self.connection = Some(connection);
        Ok((status, json))
    }

    async fn meta(&mut self, body: &serde_json::Value) -> std::io::Result<(u16, serde_json::Value)> {
        let headers = "authorization: Bearer token\r\ncontent-type: application/json\r\n";
        self.post("/v25.0/2001/messages", headers, body.to_string().as_bytes()).await
    }

    async fn twilio(&mut self, pairs: &[(&str, &str)]) -> std::io::Result<(u16, serde_json::Value)> {
        let mut body = Vec::new();
        pairs.iter().for_each(|(name, value)| form::push(&mut body, name, value));
        // base64 of SID:AUTH_TOKEN
        let basic = "QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMTowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==";
        let headers = format!("authorization: Basic {basic}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
        self.post(&format!("/2010-04-01/Accounts/{SID}/Messages.json"), &headers, &body).await
    }
}

fn template(to: &str, correlation: &str) -> serde_json::Value {
    serde_json::json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": to,
        "biz_opaque_callback_data": correlation, "type": "template",
        "template": { "name": "two", "language": { "code": "en_US" }, "components": [
            { "type": "body", "parameters": [{ "type": "text", "text": "Ada" }, { "type": "text", "text": "25%" }] } ] } })
}

#[tokio::test]
async fn a_meta_message_is_accepted_and_reported_with_good_signatures() {
    let receiver = Receiver::start(SECRET, AUTH_TOKEN, 0).await;
    let sim = SimHandle::start(config(1_000, quick())).expect("starts");
    sim.set_target("meta", &receiver.meta_url()).expect("target");
    let mut customer = Customer::new(&sim);
    for n in 0..300 {
        let to = format!("+999{n:09}");
        let (status, answer) = customer.meta(&template(&to, &format!("corr-{n}"))).await.expect("answered");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["contacts"][0]["input"], to);
        assert_eq!(answer["messages"][0]["message_status"], "accepted");
    }
    assert_eq!(sim.quiesce(SECONDS).await, 0);
    let seen = receiver.by_correlation();
    assert_eq!(receiver.bad_signatures(), 0);
    let records = sim.records();
    assert_eq!(records.len(), 300);
    for record in &records {
        assert_eq!(seen[&record.correlation].0, record.planned, "{record:?}");
        assert_eq!(seen[&record.correlation].1, record.id);
        assert_eq!(record.acked, record.planned);
    }
    let summary = sim.summary();
    assert_eq!(summary.accepted, 300);
    assert_eq!(summary.correlations_doubled, 0);
    let read = records.iter().filter(|r| shown(r.acked) == "read").count() as u64;
    assert_eq!(summary.shown["read"], read);
    let stamping = sim.stamping();
    // The kernel switches its stamps on a little after it was asked to.
    assert!(stamping.by_kernel >= 290, "Linux gives receive times: {stamping:?}");
}

#[tokio::test]
async fn what_meta_refuses_is_refused() {
    let sim = SimHandle::start(config(1_000, quick())).expect("starts");
    let mut customer = Customer::new(&sim);
    let good = template("+999000000001", "c");
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    let text = |text: &str| serde_json::json!({ "type": "text", "text": text });
    let cases: Vec<(serde_json::Value, u16, u32)> = vec![
        (with(&|b| b["messaging_product"] = "sms".into()), 400, 100),
        (with(&|b| b["to"] = "999000000001".into()), 400, 131_009),
        (with(&|b| b["to"] = "+15550100001".into()), 400, 131_021),
        (with(&|b| b["type"] = "sticker".into()), 400, 131_051),
        (with(&|b| b["surprise"] = 1.into()), 400, 100),
        (with(&|b| b["biz_opaque_callback_data"] = "x".repeat(513).into()), 400, 100),
        (with(&|b| b["template"]["name"] = "none".into()), 404, 132_001),
        (with(&|b| b["template"]["language"]["code"] = "de".into()), 404, 132_001),
        (with(&|b| b["template"]["components"][0]["parameters"] = serde_json::json!([text("a")])), 400, 132_000),
        (with(&|b| b["template"]["components"] = serde_json::json!([])), 400, 132_000),
        (with(&|b| b["template"]["components"][0]["parameters"][0]["text"] = "a\nb".into()), 400, 132_018),
        (with(&|b| b["template"]["components"][0]["parameters"][0]["text"] = "".into()), 400, 131_008),
        (with(&|b| b["template"]["components"][0]["parameters"][0]["parameter_name"] = "x".into()), 400, 100),
        (with(&|b| b["template"]["name"] = "full".into()), 400, 132_000),
        (serde_json::json!([1]), 400, 100),
    ];
    for (body, http, code) in &cases {
        let (status, answer) = customer.meta(body).await.expect("answered");
        assert_eq!((status, answer["error"]["code"].as_u64()), (*http, Some(u64::from(*code))), "{body} -> {answer}");
    }
    for (target, token, http, code) in
        [("/v25.0/2001/messages", "other", 401, 190), ("/v25.0/2002/messages", "token", 400, 33)]
    {
        let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        let (status, answer) = customer.post(target, &headers, good.to_string().as_bytes()).await.expect("answered");
        assert_eq!((status, answer["error"]["code"].as_u64()), (http, Some(code)));
    }
    let (status, _) = customer.post("/2001/messages", "", b"").await.expect("answered");
    assert_eq!(status, 404);

    let full = serde_json::json!({
        "messaging_product": "whatsapp", "to": "+999000000002", "type": "template",
        "template": { "name": "full", "language": { "code": "en_US" }, "components": [
            { "type": "header", "parameters": [{ "type": "image", "image": { "link": "https://cdn.example.test/a.jpg" } }] },
            { "type": "body", "parameters": [text("Ada")] },
            { "type": "button", "sub_type": "url", "index": 0, "parameters": [text("tail")] } ] } });
    assert_eq!(customer.meta(&full).await.expect("answered").0, 200);
    let named = serde_json::json!({
        "messaging_product": "whatsapp", "to": "+999000000002", "type": "template",
        "template": { "name": "named", "language": { "code": "en_US" }, "components": [
            { "type": "body", "parameters": [
                { "type": "text", "parameter_name": "last", "text": "L" },
                { "type": "text", "parameter_name": "first", "text": "\u{1F44D}" }] } ] } });
    assert_eq!(customer.meta(&named).await.expect("answered").0, 200);
    let free =
        serde_json::json!({ "messaging_product": "whatsapp", "to": "+999000000002", "text": { "body": "hello" } });
    assert_eq!(customer.meta(&free).await.expect("answered").0, 200);
    assert_eq!(sim.summary().accepted, 3);
}

#[tokio::test]
async fn twilio_messages_are_accepted_reported_and_signed_over_the_public_url() {
    let receiver = Receiver::start(SECRET, AUTH_TOKEN, 0).await;
    let sim = SimHandle::start(config(1_000, quick())).expect("starts");
    sim.set_target("twilio", &receiver.authority()).expect("target");
    let mut customer = Customer::new(&sim);
    for n in 0..100 {
        let to = format!("+999{n:09}");
        let callback = format!("https://hooks.example.test/webhooks/twilio/t?c=corr-{n}#rc=5&rp=all");
        let line = if n % 2 == 0 { ("From", "+15550100002") } else { ("MessagingServiceSid", MG) };
        let fields = [("To", to.as_str()), line, ("Body", "Hello é"), ("StatusCallback", &callback)];
        let (status, answer) = customer.twilio(&fields).await.expect("answered");
        assert_eq!(status, 201, "{answer}");
        assert_eq!(answer["to"], to);
        assert_eq!(answer["status"], if n % 2 == 0 { "queued" } else { "accepted" });
        assert_eq!(answer["sid"].as_str().map(str::len), Some(34));
    }
    let fields = [
        ("To", "whatsapp:+999000001000"),
        ("From", "whatsapp:+15550100003"),
        ("ContentSid", HX),
        ("ContentVariables", r#"{"1":"Ada","2":"25%"}"#),
        ("StatusCallback", "https://hooks.example.test/webhooks/twilio/t?c=corr-wa"),
    ];
    assert_eq!(customer.twilio(&fields).await.expect("answered").0, 201);
    assert_eq!(sim.quiesce(SECONDS).await, 0);
    assert_eq!(receiver.bad_signatures(), 0);
    let seen = receiver.by_correlation();
    for record in sim.records() {
        assert_eq!(seen[&record.correlation].0, record.planned, "{record:?}");
        assert_eq!(seen[&record.correlation].1, record.id);
    }
}

#[tokio::test]
async fn what_twilio_refuses_is_refused() {
    let sim = SimHandle::start(config(1_000, quick())).expect("starts");
    let mut customer = Customer::new(&sim);
    let (to, from) = (("To", "+999000000001"), ("From", "+15550100002"));
    let body = ("Body", "x");
    let long = "x".repeat(1601);
    type Fields<'a> = Vec<(&'a str, &'a str)>;
    let cases: Vec<(Fields<'_>, u16, u64)> = vec![
        (vec![from, body], 400, 21_604),
        (vec![("To", "12"), from, body], 400, 21_211),
        (vec![to, body], 400, 21_603),
        (vec![to, from, ("MessagingServiceSid", MG), body], 400, 20_422),
        (vec![to, ("From", "+15550100009"), body], 400, 21_606),
        (vec![to, ("MessagingServiceSid", "MG9"), body], 404, 21_701),
        (vec![("To", "whatsapp:+999000000001"), from, body], 400, 21_910),
        (vec![("To", "whatsapp:+999000000001"), ("From", "whatsapp:+15550100009"), body], 400, 63_007),
        (vec![to, from], 400, 21_602),
        (vec![to, from, ("Body", &long)], 400, 21_617),
        (vec![to, from, ("ContentVariables", "{}")], 400, 21_654),
        (vec![to, from, ("ContentSid", "HX9")], 400, 21_655),
        (vec![to, from, ("ContentSid", HX), ("ContentVariables", "{")], 400, 21_656),
        (vec![to, from, ("ContentSid", HX), ("ContentVariables", r#"{"1":"a"}"#)], 400, 21_656),
        (vec![to, from, body, ("StatusCallback", "/relative")], 400, 21_609),
        (vec![to, from, body, ("StatusCallback", "https://under_score.test/")], 400, 21_609),
        (vec![to, from, body, ("body", "lower case")], 400, 20_001),
        (vec![to, to, from, body], 400, 20_001),
    ];
    for (fields, http, code) in &cases {
        let (status, answer) = customer.twilio(fields).await.expect("answered");
        assert_eq!((status, answer["code"].as_u64()), (*http, Some(*code)), "{fields:?} -> {answer}");
    }
    let target = format!("/2010-04-01/Accounts/{SID}/Messages.json");
    let headers = "authorization: Basic QQ==\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let (status, answer) = customer.post(&target, headers, b"To=x").await.expect("answered");
    assert_eq!((status, answer["code"].as_u64()), (401, Some(20_003)));
    assert_eq!(sim.summary().accepted, 0);
}

#[tokio::test]
async fn above_the_ceiling_is_answered_too_fast_and_counted() {
    let sim = SimHandle::start(config(10, quick())).expect("starts");
    let mut customer = Customer::new(&sim);
    let mut codes = Vec::new();
    for n in 0..30 {
        let (status, answer) = customer.meta(&template(&format!("+9990000000{n:02}"), "c")).await.expect("answered");
        codes.push((status, answer["error"]["code"].as_u64()));
    }
    let rate = &sim.rates(10)[0];
    assert_eq!(rate.arrivals, 30);
    // Unless the machine took a second for these thirty, ten went through.
    let span = rate.last_ns - rate.first_ns;
    if span < 1_000_000_000 {
        assert_eq!(codes.iter().filter(|c| c.0 == 200).count(), 10);
        assert!(codes[10..].iter().all(|c| *c == (400, Some(130_429))));
        assert_eq!(rate.highest, 30, "what was refused has arrived, too");
        assert_eq!(sim.summary().refused["2001"][&130_429], 20);
    }
    // SMS are counted in parts: 4 + 4 fit in 10, another 4 do not.
    let long = "x".repeat(160 * 3 + 10);
    let mut statuses = Vec::new();
    for n in 0..3 {
        let to = format!("+99900000010{n}");
        statuses.push(
            customer.twilio(&[("To", &to), ("From", "+15550100002"), ("Body", &long)]).await.expect("answered").0,
        );
    }
    assert_eq!(statuses, vec![201, 201, 429]);
}

#[tokio::test]
async fn faults_do_what_they_say() {
    let sim = SimHandle::start(config(10_000, quick())).expect("starts");
    let mut customer = Customer::new(&sim);
    let mut accepted = 0;
    let cases: Vec<(Rule, Option<u16>, bool)> = vec![
        (Rule::new(Kind::RateLimit), Some(400), false),
        (Rule::new(Kind::Error).answering(503, 2, Body::Json), Some(503), false),
        (Rule::new(Kind::Error).answering(502, 0, Body::Html), Some(502), false),
        (Rule::new(Kind::AcceptThenError).answering(500, 0, Body::Empty), Some(500), true),
        (Rule::new(Kind::ResetUnread), None, false),
        (Rule::new(Kind::AcceptThenReset), None, true),
        (Rule::new(Kind::Hang).ms(20, 20), None, false),
        (Rule::new(Kind::AcceptThenHang).ms(20, 20), None, true),
        (Rule::new(Kind::Delay).ms(20, 20), Some(200), true),
    ];
    for (n, (rule, expected, accepts)) in cases.into_iter().enumerate() {
        let kind = rule.kind;
        sim.set_faults(vec![rule]);
        let answered = customer.meta(&template(&format!("+99900000000{n}"), "c")).await;
        assert_eq!(answered.ok().map(|a| a.0), expected, "{kind:?}");
        accepted += u64::from(accepts);
        assert_eq!(sim.accepted(), accepted, "{kind:?}");
        sim.set_faults(vec![]);
    }
    let summary = sim.summary();
    assert_eq!(summary.reset_unread, 1);
    assert_eq!(summary.spoilt.values().sum::<u64>(), 3);
}

#[tokio::test]
async fn a_rough_plan_reaches_an_unsteady_receiver_completely() {
    let plan = Plan {
        flush_ms: 5,
        sent_ms: [1, 40],
        delivered_ms: [1, 40],
        read_ms: [1, 40],
        failed_ms: [1, 40],
        copy_ms: [1, 40],
        ..Plan::rough()
    };
    // Every fifth POST is answered 503.
    let receiver = Receiver::start(SECRET, AUTH_TOKEN, 5).await;
    let sim = SimHandle::start(config(10_000, plan)).expect("starts");
    sim.set_target("meta", &receiver.meta_url()).expect("target");
    sim.set_target("twilio", &receiver.authority()).expect("target");
    let mut customer = Customer::new(&sim);
    for n in 0..400 {
        let to = format!("+999{n:09}");
        customer.meta(&template(&to, &format!("corr-{n}"))).await.expect("answered");
        let callback = format!("http://{}/webhooks/twilio/t?c=tw-{n}#rc=5&rp=all", receiver.authority());
        let fields = [("To", to.as_str()), ("From", "+15550100002"), ("Body", "b"), ("StatusCallback", &callback)];
        customer.twilio(&fields).await.expect("answered");
    }
    assert_eq!(sim.quiesce(SECONDS).await, 0);
    let stats = sim.stats();
    assert!(stats.posts_refused > 0 && stats.forged > 0 && stats.unknown > 0, "{stats:?}");
    assert_eq!(stats.forged_accepted, 0);
    assert_eq!(receiver.bad_signatures(), stats.forged);
    let seen = receiver.by_correlation();
    let mut copies = 0;
    for record in sim.records() {
        let (bits, _, times) = &seen[&record.correlation];
        assert_eq!(*bits & record.acked, record.acked, "acknowledged means seen: {record:?}");
        if record.line == "2001" {
            assert_eq!(record.acked, record.planned, "Meta never gives up: {record:?}");
        }
        copies += u64::from(*times) - u64::from(bits.count_ones());
    }
    assert!(copies > 400, "{copies}");
}

#[tokio::test]
async fn the_control_api_answers() {
    let sim = SimHandle::start(config(100, quick())).expect("starts");
    let mut customer = Customer::new(&sim);
    customer.meta(&template("+999000000001", "c")).await.expect("answered");
    let call = |method: &'static str, path: &'static str, body: &'static str| {
        let url = format!("{}{path}", sim.control_url());
        async move {
            let (status, raw) = once(method, &url, body.as_bytes(), SECONDS).await.expect("answered");
            (status, String::from_utf8(raw).expect("text"))
        }
    };
    let (status, ledger) = call("GET", "/ledger", "").await;
    assert_eq!(status, 200);
    assert!(ledger.contains(r#""accepted": 1"#), "{ledger}");
    let (_, entries) = call("GET", "/ledger/entries", "").await;
    let record: sluice_loadtest::sim::records::Record = serde_json::from_str(entries.trim()).expect("one record");
    assert_eq!(record.to, "+999000000001");
    for path in ["/rates?window_ms=1000", "/stats", "/cpu"] {
        assert_eq!(call("GET", path, "").await.0, 200, "{path}");
    }
    let rules = r#"{"rules":[{"kind":"rate_limit","share":0.5,"hits_max":3}]}"#;
    assert_eq!(call("POST", "/faults", rules).await.0, 200);
    assert_eq!(call("POST", "/faults", r#"{"rules":[{"kind":"nonsense"}]}"#).await.0, 400);
    assert_eq!(call("POST", "/plan", r#"{"batch":[1,1]}"#).await.0, 200);
    assert_eq!(call("POST", "/plan", r#"{"batch":[1,5000]}"#).await.0, 400);
    assert_eq!(call("POST", "/targets", r#"{"nobody":"http://x/"}"#).await.0, 400);
    let (_, quiet) = call("POST", "/quiesce?timeout_ms=50", "").await;
    assert!(quiet.contains(r#""quiet": false"#), "no target, nothing acknowledged: {quiet}");
    assert_eq!(call("GET", "/nothing", "").await.0, 404);
}
