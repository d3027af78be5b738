//! Whole requests, as the providers receive them.

use super::*;
use crate::domain::correlation::CorrelationKey;
use crate::domain::template::{Button, Header, MediaKind, ParamFormat, ParamList, TemplateKind};
use crate::provider::{Secret, SenderIdentity};
use proptest::prelude::*;
use serde_json::{Value, json};

fn meta_line() -> LineIdentity {
    LineIdentity {
        kind: ProviderKind::Meta,
        account: "acme".into(),
        credentials: Credentials::Meta { access_token: Secret::new("EAAtoken") },
        sender: SenderIdentity::PhoneNumberId("200000000000002".into()),
        base_url: meta::BASE_URL.into(),
        api_version: "v25.0".into(),
        public_base_url: None,
    }
}

fn twilio_line(kind: ProviderKind, sender: SenderIdentity) -> LineIdentity {
    LineIdentity {
        kind,
        account: "acme".into(),
        credentials: Credentials::Twilio {
            account_sid: format!("AC{}", "0".repeat(32)),
            api_key_sid: None,
            secret: Secret::new("0123456789abcdef"),
        },
        sender,
        base_url: "http://127.0.0.1:9000/twilio/".into(),
        api_version: twilio::API_VERSION.into(),
        public_base_url: Some("https://hooks.example.test/in/".into()),
    }
}

fn template() -> Template {
    Template {
        id: "spring".into(),
        name: "spring_sale_v3".into(),
        language: "en_US".into(),
        kind: TemplateKind::Approved,
        format: ParamFormat::Positional,
        header: Some(Header::Media { media: MediaKind::Document, value: None, filename: Some("o\"ffer.pdf".into()) }),
        body: "Hello {{2}}, {{1}} off".into(),
        footer: None,
        buttons: vec![
            Button::Phone { label: "Call".into(), number: "+15550100".into() },
            Button::Url { label: "Shop".into(), url: "https://shop.example.test/{{1}}".into() },
            Button::QuickReply { label: "Stop".into(), payload: Some("OPTOUT:{{1}}".into()) },
            Button::CopyCode { code: "SPRING25".into() },
        ],
        sms_body: Some("Hi {{2}}: {{1}} off & more".into()),
        content_sid: Some(format!("HX{}", "1".repeat(32))),
        content_keys: Vec::new(),
        preview_url: false,
    }
}

fn plain(kind: TemplateKind, body: &str) -> Template {
    Template { kind, header: None, body: body.into(), buttons: Vec::new(), sms_body: None, ..template() }
}

fn id() -> CorrelationId {
    CorrelationKey::new([7; 32]).encode(1, 2, 3)
}

fn rendered(line: &LineIdentity, template: &Template, params: &[&str]) -> String {
    let plan = RequestPlan::new(line, template).unwrap();
    let mut body = Vec::new();
    let to = "+15550100123".parse().unwrap();
    plan.render(to, params, &id(), &mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn meta_json(template: &Template, params: &[&str]) -> Value {
    serde_json::from_str(&rendered(&meta_line(), template, params)).unwrap()
}

/// The form's pairs, decoded by another implementation than ours.
fn form(body: &str) -> Vec<(String, String)> {
    let decode =
        |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
    body.split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn field<'f>(form: &'f [(String, String)], name: &str) -> Option<&'f str> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_meta_template_carries_every_component() {
    let params = ["https://cdn.example.test/o.pdf", "25%", "Ada \"A\"", "c42?u=7", "c42"];
    assert_eq!(
        meta_json(&template(), &params),
        json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+15550100123",
            "biz_opaque_callback_data": id().as_str(), "type": "template",
            "template": { "name": "spring_sale_v3", "language": { "code": "en_US" }, "components": [
                { "type": "header", "parameters": [ { "type": "document",
                    "document": { "link": "https://cdn.example.test/o.pdf", "filename": "o\"ffer.pdf" } } ] },
                { "type": "body", "parameters": [
                    { "type": "text", "text": "25%" }, { "type": "text", "text": "Ada \"A\"" } ] },
                { "type": "button", "sub_type": "url", "index": "1",
                    "parameters": [ { "type": "text", "text": "c42?u=7" } ] },
                { "type": "button", "sub_type": "quick_reply", "index": "2",
                    "parameters": [ { "type": "payload", "payload": "OPTOUT:c42" } ] },
                { "type": "button", "sub_type": "copy_code", "index": "3",
                    "parameters": [ { "type": "coupon_code", "coupon_code": "SPRING25" } ] } ] }
        })
    );
    let by_id = meta_json(&template(), &["1234567890", "a", "b", "c", "d"]);
    assert_eq!(by_id["template"]["components"][0]["parameters"][0]["document"]["id"], "1234567890");
}

#[test]
fn a_meta_template_names_its_named_parameters() {
    let named = Template {
        format: ParamFormat::Named,
        header: Some(Header::Text { text: "For {{first_name}}".into() }),
        buttons: Vec::new(),
        ..plain(TemplateKind::Approved, "Dear {{first_name}}, {{discount}}")
    };
    let body = meta_json(&named, &["Ada", "Ada", "25%"]);
    let text = |name: &str, text: &str| json!({"type": "text", "parameter_name": name, "text": text});
    assert_eq!(
        body["template"]["components"],
        json!([
            { "type": "header", "parameters": [text("first_name", "Ada")] },
            { "type": "body", "parameters": [text("first_name", "Ada"), text("discount", "25%")] }
        ])
    );
}

#[test]
fn a_template_without_parameters_has_no_components() {
    let body = meta_json(&plain(TemplateKind::Approved, "Hello"), &[]);
    assert!(body["template"].get("components").is_none());
    let fixed = Template {
        header: Some(Header::Media { media: MediaKind::Image, value: Some("987".into()), filename: None }),
        ..plain(TemplateKind::Approved, "Hello")
    };
    let body = meta_json(&fixed, &[]);
    assert_eq!(
        body["template"]["components"],
        json!([{ "type": "header", "parameters": [ { "type": "image", "image": { "id": "987" } } ] }])
    );
}

#[test]
fn a_meta_text_is_rendered_here() {
    let text = Template { preview_url: true, ..plain(TemplateKind::Text, "Dear \"{{1}}\",\nthanks") };
    assert_eq!(
        meta_json(&text, &["Ada\t\u{1}é"]),
        json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+15550100123",
            "biz_opaque_callback_data": id().as_str(), "type": "text",
            "text": { "preview_url": true, "body": "Dear \"Ada\t\u{1}é\",\nthanks" }
        })
    );
}

#[test]
fn an_sms_form_carries_text_and_callback() {
    let service = format!("MG{}", "2".repeat(32));
    let line = twilio_line(ProviderKind::TwilioSms, SenderIdentity::MessagingService(service.clone()));
    let body = rendered(&line, &template(), &["", "25%", "Ada", "", ""]);
    let callback = format!("https://hooks.example.test/in/webhooks/twilio/acme?c={}#rc=5&rp=all", id());
    let expected = [
        ("To", "+15550100123"),
        ("MessagingServiceSid", &service),
        ("Body", "Hi Ada: 25% off & more"),
        ("StatusCallback", &callback),
    ];
    let expected: Vec<(String, String)> = expected.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    assert_eq!(form(&body), expected);
    assert!(body.ends_with("%23rc%3D5%26rp%3Dall"), "{body}");
}

#[test]
fn whatsapp_through_twilio_sends_content_with_variables() {
    let line = twilio_line(ProviderKind::TwilioWhatsapp, SenderIdentity::From("+15550100999".into()));
    let params = ["https://cdn.example.test/o.pdf", "25%", "A\"da\n", "c", "d"];
    let pairs = form(&rendered(&line, &template(), &params));
    assert_eq!(field(&pairs, "To"), Some("whatsapp:+15550100123"));
    assert_eq!(field(&pairs, "From"), Some("whatsapp:+15550100999"));
    assert_eq!(field(&pairs, "ContentSid"), template().content_sid.as_deref());
    assert_eq!(field(&pairs, "Body"), None);
    let variables: Value = serde_json::from_str(field(&pairs, "ContentVariables").unwrap()).unwrap();
    assert_eq!(variables, json!({"1": params[0], "2": "25%", "3": "A\"da\n", "4": "c", "5": "d"}));

    let bare = form(&rendered(&line, &plain(TemplateKind::Approved, "Hello"), &[]));
    assert_eq!(field(&bare, "ContentVariables"), None, "refused without variables in the content");
    let text = form(&rendered(&line, &plain(TemplateKind::Text, "Hi {{1}}"), &["Ada"]));
    assert_eq!((field(&text, "Body"), field(&text, "ContentSid")), (Some("Hi Ada"), None));
}

#[test]
fn heads_are_prepared_and_keep_their_secret() {
    let plan = RequestPlan::new(&meta_line(), &template()).unwrap();
    assert_eq!(plan.path(), "/v25.0/200000000000002/messages");
    assert_eq!(plan.endpoint(), &Endpoint { tls: true, host: "graph.facebook.com".into(), port: 443 });
    assert!(!format!("{plan:?}").contains("EAAtoken"));
    let request = plan.request(());
    assert_eq!(request.method(), "POST");
    assert_eq!(request.headers()["host"], "graph.facebook.com");
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!(request.headers()["authorization"], "Bearer EAAtoken");
    assert!(request.headers()["authorization"].is_sensitive());

    let line = twilio_line(ProviderKind::TwilioSms, SenderIdentity::From("12345".into()));
    let plan = RequestPlan::new(&line, &template()).unwrap();
    let sid = "0".repeat(32);
    assert_eq!(plan.path(), format!("/twilio/2010-04-01/Accounts/AC{sid}/Messages.json"));
    let basic = STANDARD.encode(format!("AC{sid}:0123456789abcdef"));
    assert_eq!(plan.request(()).headers()["authorization"], format!("Basic {basic}").as_str());
    let keyed = LineIdentity {
        credentials: Credentials::Twilio {
            account_sid: format!("AC{sid}"),
            api_key_sid: Some(format!("SK{sid}")),
            secret: Secret::new("x"),
        },
        ..line
    };
    let plan = RequestPlan::new(&keyed, &template()).unwrap();
    let basic = STANDARD.encode(format!("SK{sid}:x"));
    assert_eq!(plan.request(()).headers()["authorization"], format!("Basic {basic}").as_str());
}

#[test]
fn the_wrong_pairing_is_refused_with_reasons() {
    let no_content = Template { content_sid: None, ..template() };
    let line = twilio_line(ProviderKind::TwilioWhatsapp, SenderIdentity::From("+15550100999".into()));
    let error = RequestPlan::new(&line, &no_content).unwrap_err();
    assert!(error.to_string().starts_with("template: content_sid: "), "{error}");
    let wrong = LineIdentity { sender: SenderIdentity::PhoneNumberId("1".into()), public_base_url: None, ..line };
    let error = RequestPlan::new(&wrong, &template()).unwrap_err();
    assert!(error.to_string().contains("sender: must be") && error.to_string().contains("public_base_url: must be"));

    let plan = RequestPlan::new(&meta_line(), &template()).unwrap();
    let to = "+15550100123".parse().unwrap();
    let error = plan.render(to, &["one"], &id(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, RenderError { given: 1, expected: 5 });
}

#[test]
fn permits_are_parts_of_the_rendered_sms() {
    let line = twilio_line(ProviderKind::TwilioSms, SenderIdentity::From("12345".into()));
    let plan = RequestPlan::new(&line, &plain(TemplateKind::Text, "Dear {{1}}!")).unwrap();
    assert_eq!(plan.permit_cost(&["Ada"]), 1);
    assert_eq!(plan.permit_cost(&["x".repeat(154)]), 1);
    assert_eq!(plan.permit_cost(&["x".repeat(155)]), 2);
    assert_eq!(plan.permit_cost(&["ж".repeat(65)]), 2);
    let meta = RequestPlan::new(&meta_line(), &plain(TemplateKind::Text, "Dear {{1}}!")).unwrap();
    assert_eq!(meta.permit_cost(&["x".repeat(1000)]), 1);
}

proptest! {
    /// Whatever a row holds, the body stays well-formed and says what the row said.
    #[test]
    fn any_parameter_arrives_as_it_was(a in "\\PC{0,30}|[\"\\\\{}&=+%\\n\u{0}]{0,10}", b in "\\PC{0,30}", number in 10_000_000u64..1_000_000_000_000_000) {
        let to = Address::from_number(number).unwrap();
        let text = plain(TemplateKind::Text, "<{{1}}|{{2}}>");
        let expected = format!("<{a}|{b}>");
        let mut list = ParamList::default();
        list.decode(&crate::domain::template::params::encode(&[&a, &b])).unwrap();

        let mut body = bytes::BytesMut::new();
        RequestPlan::new(&meta_line(), &text).unwrap().render(to, &list, &id(), &mut body).unwrap();
        let json: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(&json["text"]["body"], &expected);
        prop_assert_eq!(&json["to"], &to.to_string());

        let line = twilio_line(ProviderKind::TwilioSms, SenderIdentity::From("12345".into()));
        let plan = RequestPlan::new(&line, &text).unwrap();
        let mut body = Vec::new();
        plan.render(to, &list, &id(), &mut body).unwrap();
        let pairs = form(std::str::from_utf8(&body).unwrap());
        prop_assert_eq!(field(&pairs, "Body"), Some(expected.as_str()));
        prop_assert_eq!(plan.permit_cost(&list), crate::domain::sms_parts::sms_size(&expected).parts);
    }
}
