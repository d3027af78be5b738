//! The pure parts that every message passes: join, ceiling, render, and both providers' webhooks.
//!
//! `cargo bench -p sluice-engine --bench hot`, before a change with `-- --save-baseline before`, after it with `-- --baseline before`:
//! criterion says by how much each part has changed and whether that is noise.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ring::hmac;
use sluice_engine::domain::ceiling::{Aim, Window};
use sluice_engine::domain::correlation::CorrelationKey;
use sluice_engine::domain::ids::LineKey;
use sluice_engine::domain::message::{Event, MessageState, Reported};
use sluice_engine::domain::phone::Address;
use sluice_engine::domain::tally::Tally;
use sluice_engine::domain::template::params::encode;
use sluice_engine::domain::template::{ParamFormat, ParamList, Template, TemplateKind};
use sluice_engine::domain::time::{Mono, UnixMillis};
use sluice_engine::provider::{Credentials, LineIdentity, ProviderKind, RequestPlan, Secret, SenderIdentity};
use sluice_engine::webhook::{meta, twilio};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A message from intent to read, its tally moved by each step.
fn join(c: &mut Criterion) {
    let lines: Arc<[LineKey]> = Arc::new([LineKey(1)]);
    let at = UnixMillis(1_700_000_000_000);
    let report = |what| Event::Report {
        attempt: 1,
        lines: Arc::clone(&lines),
        at,
        what,
        provider_at: Some(1_700_000_000),
        provider_id: None,
        failure: None,
    };
    let events = || {
        [
            Event::Intent { attempt: 1, line: LineKey(1), at },
            Event::Accepted { attempt: 1, at, provider_id: "wamid.HBgLMTU1NTAxMDA".into() },
            report(Reported::Sent),
            report(Reported::Read),
            report(Reported::Delivered),
        ]
    };
    let mut group = c.benchmark_group("join");
    group.throughput(Throughput::Elements(5));
    group.bench_function("life of a message", |b| {
        let mut tally = Tally::untouched(1_000_000_000, None);
        b.iter_batched(
            events,
            |events| {
                let mut message = MessageState::default();
                for event in events {
                    let before = message.facets(None);
                    black_box(message.apply(event, None));
                    tally.shift(&before, &message.facets(None));
                }
                // Back to untouched, so that the tally serves for any number of rounds.
                tally.shift(&message.facets(None), &MessageState::default().facets(None));
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// One permit: aim and exact window at a full ceiling.
fn ceiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("ceiling");
    for rate in [80, 10_000] {
        group.bench_function(format!("permit at {rate} per second"), |b| {
            let guard = Duration::from_millis(5);
            let mut aim = Aim::new(f64::from(rate), Duration::from_millis(10), Mono(0));
            let mut window = Window::new(rate, guard, Mono(0));
            let gap = 1_005_000_000 / u64::from(rate) + 1;
            let mut now = 0;
            b.iter(|| {
                now += gap;
                black_box(aim.take(Mono(now), 1));
                black_box(window.pass(Mono(now), 1).is_ok());
            });
        });
    }
    group.finish();
}

fn line(kind: ProviderKind) -> LineIdentity {
    let meta = kind == ProviderKind::Meta;
    LineIdentity {
        kind,
        account: "acme".into(),
        credentials: if meta {
            Credentials::Meta { access_token: Secret::new("EAAtoken") }
        } else {
            Credentials::Twilio {
                account_sid: format!("AC{}", "0".repeat(32)),
                api_key_sid: None,
                secret: Secret::new("0123456789abcdef"),
            }
        },
        sender: if meta {
            SenderIdentity::PhoneNumberId("200000000000002".into())
        } else {
            SenderIdentity::From("+15550100001".into())
        },
        base_url: "http://127.0.0.1:9000".into(),
        api_version: if meta { "v25.0" } else { "2010-04-01" }.into(),
        public_base_url: Some("https://hooks.example.test".into()),
    }
}

fn template(kind: TemplateKind) -> Template {
    Template {
        id: "spring".into(),
        name: "spring_sale".into(),
        language: "en_US".into(),
        kind,
        format: ParamFormat::Positional,
        header: None,
        body: "Hello {{1}}, today you save {{2}} on everything.".into(),
        footer: None,
        buttons: Vec::new(),
        sms_body: None,
        content_sid: None,
        content_keys: Vec::new(),
        preview_url: false,
    }
}

/// Stored parameters and a recipient → the body of a request.
fn render(c: &mut Criterion) -> Outcome<()> {
    let to: Address = "+15550100123".parse()?;
    let stored = encode(&["Katherine", "25%"]);
    let key = CorrelationKey::new([7; 32]);
    let mut group = c.benchmark_group("render");
    for (name, kind, template) in [
        ("meta template", ProviderKind::Meta, template(TemplateKind::Approved)),
        ("twilio sms", ProviderKind::TwilioSms, template(TemplateKind::Text)),
    ] {
        let plan = RequestPlan::new(&line(kind), &template)?;
        let mut params = ParamList::default();
        let mut body = Vec::with_capacity(plan.body_bytes_expected());
        let mut seq = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                seq += 1;
                body.clear();
                let read = params.decode(&stored).is_ok();
                let done = plan.render(to, &params, &key.encode(1, seq, 1), &mut body).is_ok();
                black_box((read, done, plan.permit_cost(&params), body.len()))
            });
        });
    }
    group.finish();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signature and contents of one POST of Meta's, with one and with a hundred statuses.
fn meta_webhook(c: &mut Criterion) -> Outcome<()> {
    const SECRET: &str = "an app secret";
    let receiver = meta::Receiver::new(SECRET, "verify");
    let key = CorrelationKey::new([7; 32]);
    let mut group = c.benchmark_group("webhook");
    for statuses in [1_u32, 100] {
        let one = |n: u32| {
            format!(
                r#"{{"id":"wamid.HBgLMTU1NTAxMDA{n:020}ERgSQjE2","status":"delivered","timestamp":"1700000000","recipient_id":"15550100123","biz_opaque_callback_data":"{}","pricing":{{"billable":true,"pricing_model":"PMP","type":"regular","category":"marketing"}}}}"#,
                key.encode(1, n, 1)
            )
        };
        let all: Vec<String> = (0..statuses).map(one).collect();
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"100000000000001","changes":[{{"field":"messages","value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550100001","phone_number_id":"200000000000002"}},"statuses":[{}]}}}}]}}]}}"#,
            all.join(",")
        );
        let key_of_app = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = format!("sha256={}", hex(hmac::sign(&key_of_app, body.as_bytes()).as_ref()));
        let events = receiver.receive(Some(signature.as_bytes()), body.as_bytes())?;
        assert_eq!(events.len(), statuses as usize, "every status is read");
        group.throughput(Throughput::Elements(u64::from(statuses)));
        group.bench_function(format!("meta, {statuses} a POST"), |b| {
            b.iter(|| black_box(receiver.receive(Some(signature.as_bytes()), body.as_bytes())).is_ok());
        });
    }
    group.finish();
    Ok(())
}

/// Signature and contents of one callback of Twilio's.
fn twilio_webhook(c: &mut Criterion) -> Outcome<()> {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let base = "https://hooks.example.test";
    let key = CorrelationKey::new([7; 32]);
    let target = format!("/webhooks/twilio/acme?c={}", key.encode(1, 2, 1));
    let sid = format!("SM{}", "0".repeat(32));
    let account = format!("AC{}", "0".repeat(32));
    // Sorted by name, as the signature wants them.
    let params = [
        ("AccountSid", account.as_str()),
        ("ApiVersion", "2010-04-01"),
        ("From", "+15550100001"),
        ("MessageSid", &sid),
        ("MessageStatus", "delivered"),
        ("RawDlrDoneDate", "2611171206"),
        ("SmsSid", &sid),
        ("SmsStatus", "delivered"),
        ("To", "+15550100123"),
    ];
    let body: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}={}", value.replace('+', "%2B"))).collect();
    let body = body.join("&");
    let token = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let mut mac = hmac::Context::with_key(&token);
    mac.update(format!("{base}{target}").as_bytes());
    params.iter().for_each(|(name, value)| mac.update(format!("{name}{value}").as_bytes()));
    let signature = STANDARD.encode(mac.sign());
    let receiver = twilio::Receiver::new(twilio::SignatureKey::new(TOKEN, None), twilio::PublicUrl::parse(base)?);
    let post = twilio::Post {
        target: &target,
        content_type: Some(b"application/x-www-form-urlencoded"),
        signature: Some(signature.as_bytes()),
        body: body.as_bytes(),
    };
    assert_eq!(receiver.receive(&post)?.len(), 1, "the status is read");
    let mut group = c.benchmark_group("webhook");
    group.throughput(Throughput::Elements(1));
    group.bench_function("twilio", |b| b.iter(|| black_box(receiver.receive(&post)).is_ok()));
    group.finish();
    Ok(())
}

fn all(c: &mut Criterion) {
    join(c);
    ceiling(c);
    for done in [render(c), meta_webhook(c), twilio_webhook(c)] {
        done.expect("what is measured works");
    }
}

criterion_group!(hot, all);
criterion_main!(hot);
