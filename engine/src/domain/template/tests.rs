//! Definitions, rows and previews.

use super::*;
use ProviderKind::{Meta, TwilioSms, TwilioWhatsapp};
use proptest::prelude::*;

/// Header image per row, two body values, a URL tail and a payload: one slot of every kind but the code.
fn rich() -> Template {
    Template {
        id: "spring-sale".into(),
        name: "spring_sale_v3".into(),
        language: "en_US".into(),
        kind: TemplateKind::Approved,
        format: ParamFormat::Positional,
        header: Some(Header::Media { media: MediaKind::Image, value: None, filename: None }),
        body: "Hello {{1}}, take {{2}} off. {{1}}!".into(),
        footer: Some("Reply STOP to leave".into()),
        buttons: vec![
            Button::Url { label: "Shop".into(), url: "https://shop.example.test/{{1}}".into() },
            Button::QuickReply { label: "Stop".into(), payload: Some("OPTOUT:{{1}}".into()) },
            Button::Phone { label: "Call".into(), number: "+15550100".into() },
        ],
        sms_body: Some("{{1}}: {{2}} off".into()),
        content_sid: Some(format!("HX{}", "0".repeat(32))),
        content_keys: Vec::new(),
        preview_url: false,
    }
}

fn text(body: &str) -> Template {
    Template {
        kind: TemplateKind::Text,
        header: None,
        body: body.into(),
        footer: None,
        buttons: Vec::new(),
        sms_body: None,
        content_sid: None,
        ..rich()
    }
}

fn named() -> Template {
    Template {
        format: ParamFormat::Named,
        header: Some(Header::Text { text: "For {{ first_name }}".into() }),
        body: "Dear {{first_name}}, {{discount}} off".into(),
        buttons: vec![Button::Url { label: "Shop".into(), url: "https://shop.example.test/{{1}}".into() }],
        sms_body: Some("{{discount}} for {{first_name}}".into()),
        ..rich()
    }
}

fn columns(shape: &Shape) -> Vec<&str> {
    shape.slots().iter().map(|slot| slot.column.as_str()).collect()
}

fn findings(template: &Template) -> Vec<String> {
    template.compile().unwrap_err().iter().map(ToString::to_string).collect()
}

fn row_findings(result: Result<Vec<&str>, Vec<ParamError>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

fn body_row<'a>(body: &'a [&'a str]) -> RowParams<'a, &'a str> {
    RowParams { header: &[], body, buttons: &[], named: &[] }
}

#[test]
fn slots_come_in_flat_order_with_their_columns() {
    let shape = rich().compile().unwrap();
    assert_eq!(
        columns(&shape),
        ["header_param_1", "body_param_1", "body_param_2", "button_url_param_1", "button_payload_param_1"]
    );
    let kinds: Vec<Component> = shape.slots().iter().map(|slot| slot.component).collect();
    use Component::{Body, Header};
    assert_eq!(kinds, [Header, Body, Body, Component::Button(0), Component::Button(1)]);
    assert_eq!(shape.content_keys(), ["1", "2", "3", "4", "5"]);

    let shape = named().compile().unwrap();
    assert_eq!(columns(&shape), ["first_name", "first_name", "discount", "button_url_param_1"]);
    assert_eq!(shape.columns(Meta), ["first_name", "discount", "button_url_param_1"]);
    assert_eq!(shape.columns(TwilioSms), ["first_name", "discount"]);
}

#[test]
fn positional_slots_are_ordered_by_number_not_by_appearance() {
    let shape = text("{{2}} before {{1}}").compile().unwrap();
    assert_eq!(shape.body().fill(&["a", "b"]), "b before a");
}

#[test]
fn a_definition_survives_serde_and_reads_old_json() {
    for template in [rich(), named(), text("x")] {
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
    }
    let least = r#"{"id":"a","name":"a","language":"en","kind":"text","body":"hi","later":1}"#;
    assert!(serde_json::from_str::<Template>(least).unwrap().compile().is_ok());
}

#[test]
fn every_fault_of_a_definition_is_named_at_once() {
    let broken = Template {
        id: "Spring".into(),
        name: "Spring Sale".into(),
        language: "english".into(),
        header: Some(Header::Text { text: "{{1}} and {{2}}".into() }),
        body: "Hello {{1}} and {{3}}".into(),
        footer: Some(String::new()),
        buttons: vec![Button::Url { label: "L".repeat(26), url: "ftp://{{1}}/x".into() }],
        sms_body: Some("{{7}}".into()),
        content_sid: Some("HX12".into()),
        ..rich()
    };
    let fields: Vec<String> = broken.compile().unwrap_err().into_iter().map(|e| e.field).collect();
    let expected = [
        "id",
        "name",
        "language",
        "content_sid",
        "header.text",
        "body",
        "footer",
        "buttons[0].label",
        "buttons[0].url",
        "buttons[0].url",
        "sms_body",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn faulty_placeholders_are_explained() {
    let with_body = |body: &str| findings(&text(body)).remove(0);
    assert_eq!(with_body("Grüße {{1"), "body: placeholder opened at character 7 is not closed");
    assert_eq!(with_body("{{2}}"), "body: placeholders are not numbered without gaps: {{1}} is missing");
    assert_eq!(with_body("{{name}}"), "body: {{name}} is not a positional ({{1}}, {{2}}, …) placeholder");
    assert_eq!(with_body("{{0}}"), "body: {{0}} is not a positional ({{1}}, {{2}}, …) placeholder");
    assert_eq!(with_body("{{}}"), "body: {{}} is not a positional ({{1}}, {{2}}, …) placeholder");
    assert_eq!(with_body(" \n"), "body: must not be empty");
    assert!(text("{ {1} } {{1}}").compile().is_ok(), "single braces are text");
    let many: String = (1..=65).map(|n| format!("{{{{{n}}}}}")).collect();
    assert_eq!(with_body(&many), "body: 65 placeholders, at most 64 are allowed here");
}

#[test]
fn free_text_takes_nothing_around_it() {
    let crowded = Template { kind: TemplateKind::Text, ..rich() };
    assert!(findings(&crowded).contains(&"header: free text has no header, footer or buttons".to_owned()));
    assert_eq!(findings(&text(&"x".repeat(4097))), ["body: 4097 characters, at most 4096 are allowed"]);
    let approved = Template { body: "x".repeat(1025), sms_body: None, ..rich() };
    assert_eq!(findings(&approved), ["body: 1025 characters, at most 1024 are allowed"]);
}

#[test]
fn a_template_of_the_wrong_kind_for_the_line_is_refused() {
    let no_sid = Template { content_sid: None, ..rich() };
    let shape = no_sid.compile().unwrap();
    assert!(shape.suits(Meta).is_ok());
    assert_eq!(shape.suits(TwilioWhatsapp).unwrap_err().field, "content_sid");
    let no_sms = Template { sms_body: None, ..rich() };
    let error = no_sms.compile().unwrap().suits(TwilioSms).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sms_body: this template cannot be sent over twilio_sms: buttons have no place in an SMS; give sms_body"
    );
    let long = text(&"x".repeat(1601)).compile().unwrap();
    assert!(long.suits(Meta).is_ok() && long.suits(TwilioSms).is_err() && long.suits(TwilioWhatsapp).is_err());
}

#[test]
fn rows_map_by_list_and_by_name() {
    let shape = rich().compile().unwrap();
    let (header, body, buttons) = (["https://cdn.example.test/a.jpg"], ["Ada", "25%"], ["c42?u=7", "c42"]);
    let row = RowParams { header: &header, body: &body, buttons: &buttons, named: &[] };
    let flat = shape.map_row(Meta, &row).unwrap();
    assert_eq!(flat, ["https://cdn.example.test/a.jpg", "Ada", "25%", "c42?u=7", "c42"]);
    assert!(shape.check_params(Meta, &flat).is_ok());

    let by_column = [
        ("button_payload_param_1", "c42"),
        ("body_param_2", "25%"),
        ("body_param_1", "Ada"),
        ("header_param_1", "1234567890"),
        ("button_url_param_1", "x"),
    ];
    let row: RowParams<'_, &str> = RowParams { header: &[], body: &[], buttons: &[], named: &by_column };
    assert_eq!(shape.map_row(Meta, &row).unwrap(), ["1234567890", "Ada", "25%", "x", "c42"]);

    let shape = named().compile().unwrap();
    let names = [("first_name", "Ada"), ("discount", "25%"), ("button_url_param_1", "x")];
    let row: RowParams<'_, &str> = RowParams { named: &names, ..row };
    assert_eq!(shape.map_row(Meta, &row).unwrap(), ["Ada", "Ada", "25%", "x"]);
}

#[test]
fn rows_name_each_column_at_fault() {
    let shape = rich().compile().unwrap();
    let header = ["no link"];
    let body = ["Ada", "", "surplus", ""];
    let buttons = ["a\tb", "c"];
    let row = RowParams {
        header: &header,
        body: &body,
        buttons: &buttons,
        named: &[("body_param_1", "Eve"), ("nonsense", "1"), ("empty", "")],
    };
    assert_eq!(
        row_findings(shape.map_row(Meta, &row)),
        [
            "body_param_3: the template has no such parameter",
            "body_param_1: given twice",
            "nonsense: the template has no such parameter",
            "header_param_1: must be an http(s) link or a media id of digits",
            "body_param_2: missing",
            "button_url_param_1: a parameter must not hold a tab",
        ]
    );
    assert_eq!(
        shape.check_params(Meta, &["only one"]).unwrap_err()[0].to_string(),
        "params: 1 values for 5 parameters"
    );
}

#[test]
fn sms_asks_only_for_what_it_sends() {
    let shape = rich().compile().unwrap();
    let flat = shape.map_row(TwilioSms, &body_row(&["Ada", "25%"])).unwrap();
    assert_eq!(flat, ["", "Ada", "25%", "", ""]);
    assert_eq!(shape.columns(TwilioSms), ["body_param_1", "body_param_2"]);
    // Line breaks are WhatsApp's trouble, not that of an SMS.
    assert!(shape.map_row(TwilioSms, &body_row(&["A\nb", "5     x"])).is_ok());
}

#[test]
fn lengths_count_after_substitution() {
    let shape = text("Hello {{1}}").compile().unwrap();
    assert_eq!(shape.slots()[0].max_len_chars, 4090);
    assert!(shape.map_row(TwilioSms, &body_row(&["é".repeat(1594).as_str()])).is_ok());
    let long = "é".repeat(1595);
    assert_eq!(
        row_findings(shape.map_row(TwilioSms, &body_row(&[long.as_str()]))),
        ["body_param_1: too long: the SMS would have 1601 characters, at most 1600 are allowed"]
    );
    assert!(shape.map_row(Meta, &body_row(&[long.as_str()])).is_ok());

    let approved = Template { header: None, buttons: Vec::new(), body: "{{1}} {{2}}".into(), ..rich() };
    let shape = approved.compile().unwrap();
    let (a, b) = ("a".repeat(400), "b".repeat(624));
    assert_eq!(
        row_findings(shape.map_row(Meta, &body_row(&[a.as_str(), b.as_str()]))),
        ["body_param_2: too long: the body would have 1025 characters, at most 1024 are allowed"]
    );
    assert!(shape.map_row(Meta, &body_row(&["a    b", "x"])).is_ok(), "four spaces pass");
    assert_eq!(
        row_findings(shape.map_row(Meta, &body_row(&["a     b", "x\r\n"]))),
        [
            "body_param_1: a parameter must not hold more than four spaces in a row",
            "body_param_2: a parameter must not hold a line break"
        ]
    );
}

#[test]
fn previews_show_the_whole_message() {
    let shape = rich().compile().unwrap();
    let params = ["123", "Ada", "25%", "c42", "x"];
    assert_eq!(
        shape.preview(Meta, &params).text(),
        "[image 123]\nHello Ada, take 25% off. Ada!\nReply STOP to leave\n\
         [Shop] https://shop.example.test/c42\n[Stop]\n[Call] +15550100"
    );
    let sms = shape.preview(TwilioSms, &params);
    assert_eq!((sms.body.as_str(), sms.sms.map(|size| size.parts)), ("Ada: 25% off", Some(1)));

    let joined =
        Template { header: Some(Header::Text { text: "News".into() }), buttons: Vec::new(), sms_body: None, ..rich() };
    let shape = joined.compile().unwrap();
    assert_eq!(
        shape.preview(TwilioSms, &["Ada", "25%"]).body,
        "News\nHello Ada, take 25% off. Ada!\nReply STOP to leave"
    );
}

#[test]
fn content_keys_follow_the_slots() {
    assert_eq!(named().compile().unwrap().content_keys(), ["1", "2", "3", "4"], "a name in two slots cannot be a key");
    let one_each = Template { header: None, buttons: Vec::new(), ..named() };
    assert_eq!(one_each.compile().unwrap().content_keys(), ["first_name", "discount"]);
    let own = Template { content_keys: ["img", "a", "b", "c", "d"].map(String::from).to_vec(), ..rich() };
    assert_eq!(own.compile().unwrap().content_keys()[0], "img");
    let short = Template { content_keys: vec!["a".into()], ..rich() };
    assert_eq!(
        findings(&short),
        ["content_keys: 1 keys for 5 parameters; give one per parameter, all different, or none"]
    );
}

proptest! {
    #[test]
    fn any_definition_compiles_or_is_refused_without_panic(
        body in "(\\PC|\\{|\\}|\\{\\{[0-9a-z_ ]{0,3}\\}\\}){0,30}",
        sms in proptest::option::of("(x|\\{\\{[0-9a-z]{0,2}\\}\\}){0,10}"),
        url in "https://[a-z]{0,5}(\\{\\{1\\}\\}){0,2}[a-z]{0,1}",
        is_named: bool,
    ) {
        let template = Template {
            body,
            sms_body: sms,
            format: if is_named { ParamFormat::Named } else { ParamFormat::Positional },
            buttons: vec![Button::Url { label: "x".into(), url }],
            ..rich()
        };
        if let Ok(shape) = template.compile() {
            for kind in ProviderKind::ALL {
                let _ = shape.suits(kind);
                let _ = shape.preview(kind, &["a", "b"]);
                prop_assert!(shape.columns(kind).len() <= shape.slots().len());
            }
        }
    }

    /// What `map_row` lets through, `check_params` and the limits let through as well.
    #[test]
    fn mapped_rows_pass_the_check(body in proptest::collection::vec("[ a-zé\\n]{0,600}", 0..4)) {
        let template = Template { header: None, buttons: Vec::new(), ..rich() };
        let shape = template.compile().unwrap();
        for kind in ProviderKind::ALL {
            let refs: Vec<&str> = body.iter().map(String::as_str).collect();
            let row = RowParams { header: &[], body: &refs, buttons: &[], named: &[] };
            if let Ok(flat) = shape.map_row(kind, &row) {
                prop_assert!(shape.check_params(kind, &flat).is_ok());
                let rendered = shape.preview(kind, &flat).body.chars().count();
                let most = if kind == TwilioSms { limits::SMS_BODY } else { limits::BODY };
                prop_assert!(rendered <= most);
            }
        }
    }
}
