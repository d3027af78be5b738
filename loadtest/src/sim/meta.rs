//! The Cloud API's message endpoint: checks, answers and status webhooks as Meta documents them.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::{Header, MetaAccount, MetaTemplate};
use super::digest;
use super::plan::Dice;
use super::text::{e164, good_parameter};

/// Most buttons of a template.
const BUTTONS_MAX: u8 = 10;

/// A refusal in the shape of a Graph error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub http: u16,
    /// Graph code.
    pub code: u32,
    /// The details shown to people.
    pub details: String,
}

impl Problem {
    fn new(http: u16, code: u32, details: impl Into<String>) -> Self {
        Self { http, code, details: details.into() }
    }
}

/// What is taken out of a valid body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<'a> {
    /// The recipient's digits.
    pub recipient: u64,
    /// `biz_opaque_callback_data`, empty when missing.
    pub correlation: Cow<'a, str>,
    /// Digest of recipient, template and parameters.
    pub content: u64,
    /// A template message, whose answer carries `message_status`.
    pub template: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow)]
    messaging_product: Option<Cow<'a, str>>,
    #[serde(borrow)]
    recipient_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    biz_opaque_callback_data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    template: Option<Template<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    /// A quoted reply; nothing here depends on it.
    #[serde(borrow)]
    #[allow(dead_code)]
    context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    language: Language<'a>,
    #[serde(borrow, default)]
    components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Language<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    /// Accepted and ignored, as Meta does.
    #[serde(borrow)]
    #[allow(dead_code)]
    policy: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Component<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    sub_type: Option<Cow<'a, str>>,
    /// A string or a number; both are accepted.
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Vec<Parameter<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameter_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow)]
    coupon_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    image: Option<Media<'a>>,
    #[serde(borrow)]
    video: Option<Media<'a>>,
    #[serde(borrow)]
    document: Option<Media<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Media<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    link: Option<Cow<'a, str>>,
    #[serde(borrow)]
    #[allow(dead_code)]
    filename: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    #[allow(dead_code)]
    preview_url: Option<bool>,
}

/// The phone number id of a message path, `/v{major}.{minor}/{id}/messages`.
#[must_use]
pub fn path(target: &str) -> Option<&str> {
    let rest = target.strip_prefix("/v")?;
    let (version, rest) = rest.split_once('/')?;
    let (major, minor) = version.split_once('.')?;
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !number(major) || !number(minor) {
        return None;
    }
    rest.strip_suffix("/messages").filter(|id| number(id))
}

/// Checks a body against the account's templates.
///
/// # Errors
/// With the Graph error that Meta would answer.
pub fn check<'a>(
    account: &MetaAccount,
    own_number: &str,
    content_type: Option<&str>,
    body: &'a [u8],
) -> Result<Checked<'a>, Problem> {
    let bad = |details: &str| Problem::new(400, 100, details);
    let json =
        content_type.is_some_and(|t| t.split(';').next().unwrap_or(t).trim().eq_ignore_ascii_case("application/json"));
    if !json {
        return Err(bad("The parameter messaging_product is required (content type is not JSON)."));
    }
    let message: Message<'a> =
        serde_json::from_slice(body).map_err(|error| Problem::new(400, 100, format!("Invalid parameter: {error}")))?;
    if message.messaging_product.as_deref() != Some("whatsapp") {
        return Err(bad("The parameter messaging_product is required and must be whatsapp."));
    }
    if message.recipient_type.as_deref().is_some_and(|t| t != "individual") {
        return Err(bad("recipient_type must be individual."));
    }
    let Some(to) = message.to.as_deref() else {
        return Err(Problem::new(400, 131_008, "The parameter to is required."));
    };
    let Some(recipient) = e164(to) else {
        return Err(Problem::new(400, 131_009, "The parameter to is not a phone number in E.164 form."));
    };
    if to[1..] == *own_number {
        return Err(Problem::new(400, 131_021, "The recipient cannot be the sender."));
    }
    let correlation = message.biz_opaque_callback_data.unwrap_or_default();
    if correlation.chars().count() > 512 {
        return Err(bad("biz_opaque_callback_data is longer than 512 characters."));
    }
    let kind = message.kind.as_deref().unwrap_or("text");
    let content = match (kind, &message.template, &message.text) {
        ("template", Some(template), None) => {
            check_template(account, template)?;
            digest_of(recipient, template)
        }
        ("text", None, Some(text)) => {
            let body = text.body.as_deref().unwrap_or("");
            if body.is_empty() {
                return Err(Problem::new(400, 131_008, "The parameter text.body is required."));
            }
            if body.chars().count() > 4096 {
                return Err(bad("text.body is longer than 4096 characters."));
            }
            digest::free_text(recipient, body)
        }
        ("template" | "text", _, _) => {
            return Err(Problem::new(400, 131_008, format!("The parameter {kind} is required, and no other payload.")));
        }
        _ => return Err(Problem::new(400, 131_051, "Unsupported message type.")),
    };
    Ok(Checked { recipient, correlation, content, template: kind == "template" })
}

/// The correlation id of a body that is not valid otherwise; empty when there is none to be found.
#[must_use]
pub fn correlation_of(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let id = value.as_ref().and_then(|value| value.get("biz_opaque_callback_data")?.as_str());
    id.unwrap_or_default().to_owned()
}

/// What a checked template message says. Components in the order header, body, buttons by index, however they were sent.
fn digest_of(recipient: u64, sent: &Template<'_>) -> u64 {
    let of = |kind: &'static str| sent.components.iter().filter(move |c| c.kind.eq_ignore_ascii_case(kind));
    let index = |button: &Component<'_>| button.index.and_then(|raw| raw.get().trim_matches('"').parse::<u8>().ok());
    let buttons = (0..BUTTONS_MAX).flat_map(|place| of("button").filter(move |button| index(button) == Some(place)));
    let parameters = of("header").chain(of("body")).chain(buttons).flat_map(|component| &component.parameters);
    digest::template(recipient, &sent.name, &sent.language.code, parameters.map(Parameter::value))
}

impl Parameter<'_> {
    /// Its text, payload, coupon code, or the link or id of its medium.
    fn value(&self) -> &str {
        let medium = self.image.as_ref().or(self.video.as_ref()).or(self.document.as_ref());
        let medium = medium.and_then(|medium| medium.link.as_deref().or(medium.id.as_deref()));
        let texts = [self.text.as_deref(), self.payload.as_deref(), self.coupon_code.as_deref()];
        texts.into_iter().flatten().next().or(medium).unwrap_or("")
    }
}

fn check_template(account: &MetaAccount, sent: &Template<'_>) -> Result<(), Problem> {
    let known = account.templates.iter().find(|t| t.name == sent.name && t.language == sent.language.code);
    let Some(known) = known else {
        let details = format!("template name ({}) does not exist in {}", sent.name, sent.language.code);
        return Err(Problem::new(404, 132_001, details));
    };
    let mut header = None;
    let mut body = None;
    let mut buttons: Vec<(u8, &Component<'_>)> = Vec::new();
    for component in &sent.components {
        // Types are written in small letters or capitals; both are accepted.
        let kind = component.kind.to_ascii_lowercase();
        let twice = match kind.as_str() {
            "header" => header.replace(component).is_some(),
            "body" => body.replace(component).is_some(),
            "button" => {
                let index = component.index.map(|raw| raw.get().trim_matches('"'));
                let Some(index) = index.and_then(|i| i.parse().ok()) else {
                    return Err(Problem::new(400, 131_008, "A button needs an index."));
                };
                let twice = buttons.iter().any(|(other, _)| *other == index);
                buttons.push((index, component));
                twice
            }
            other => {
                return Err(Problem::new(400, 100, format!("Unexpected component {other}.")));
            }
        };
        if twice {
            return Err(Problem::new(400, 100, format!("Component {} is given twice.", component.kind)));
        }
    }
    check_header(known, header)?;
    check_body(known, body)?;
    check_buttons(known, &buttons)
}

fn mismatch(place: &str, given: usize, wanted: usize) -> Problem {
    let details = format!(
        "{place}: number of localizable_params ({given}) does not match the expected number of params ({wanted})"
    );
    Problem::new(400, 132_000, details)
}

fn check_header(known: &MetaTemplate, sent: Option<&Component<'_>>) -> Result<(), Problem> {
    let given = sent.map_or(0, |c| c.parameters.len());
    let wanted = usize::from(known.header != Header::None);
    if given != wanted {
        return Err(mismatch("header", given, wanted));
    }
    let Some(parameter) = sent.and_then(|c| c.parameters.first()) else {
        return Ok(());
    };
    let media = match known.header {
        Header::None => return Ok(()),
        Header::Text => return check_text("header", parameter),
        Header::Image => ("image", &parameter.image),
        Header::Video => ("video", &parameter.video),
        Header::Document => ("document", &parameter.document),
    };
    let (word, Some(given)) = media else {
        return Err(Problem::new(400, 132_012, format!("header: expected {}", media.0)));
    };
    if !parameter.kind.eq_ignore_ascii_case(word) || given.id.is_some() == given.link.is_some() {
        return Err(Problem::new(400, 132_012, format!("header: expected {word} with id or link")));
    }
    Ok(())
}

fn check_body(known: &MetaTemplate, sent: Option<&Component<'_>>) -> Result<(), Problem> {
    let parameters = sent.map_or(&[][..], |c| &c.parameters);
    let named = !known.body_names.is_empty();
    let wanted = if named { known.body_names.len() } else { known.body };
    if parameters.len() != wanted {
        return Err(mismatch("body", parameters.len(), wanted));
    }
    for parameter in parameters {
        check_text("body", parameter)?;
        match (&parameter.parameter_name, named) {
            (Some(name), true) if known.body_names.iter().any(|n| n == name.as_ref()) => {}
            (None, false) => {}
            _ => {
                return Err(Problem::new(400, 100, "body: parameter_name does not fit the template."));
            }
        }
    }
    if named {
        let mut names: Vec<_> = parameters.iter().map(|p| &p.parameter_name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != wanted {
            return Err(Problem::new(400, 100, "body: a parameter is given twice."));
        }
    }
    Ok(())
}

fn check_text(place: &str, parameter: &Parameter<'_>) -> Result<(), Problem> {
    if !parameter.kind.eq_ignore_ascii_case("text") {
        return Err(Problem::new(400, 132_012, format!("{place}: expected text, got {}", parameter.kind)));
    }
    match parameter.text.as_deref() {
        None | Some("") => Err(Problem::new(400, 131_008, format!("{place}: text is required"))),
        Some(text) if !good_parameter(text) => {
            Err(Problem::new(400, 132_018, format!("{place}: new line, tab or more than four spaces in a parameter")))
        }
        Some(_) => Ok(()),
    }
}

fn check_buttons(known: &MetaTemplate, sent: &[(u8, &Component<'_>)]) -> Result<(), Problem> {
    if sent.len() > known.buttons.len() {
        return Err(mismatch("buttons", sent.len(), known.buttons.len()));
    }
    for button in &known.buttons {
        let found = sent.iter().find(|(index, _)| *index == button.index);
        let Some((_, component)) = found else {
            let details = format!("buttons: button at index {} requires a parameter", button.index);
            return Err(Problem::new(400, 131_008, details));
        };
        if !component.sub_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case(&button.sub_type))
            || component.parameters.len() != 1
        {
            return Err(Problem::new(400, 132_012, format!("buttons: expected one {} parameter", button.sub_type)));
        }
        let parameter = &component.parameters[0];
        let (kind, value) = match button.sub_type.as_str() {
            "quick_reply" => ("payload", &parameter.payload),
            "copy_code" => ("coupon_code", &parameter.coupon_code),
            _ => ("text", &parameter.text),
        };
        if !parameter.kind.eq_ignore_ascii_case(kind) || value.as_deref().is_none_or(str::is_empty) {
            return Err(Problem::new(400, 132_012, format!("buttons: expected {kind}")));
        }
    }
    Ok(())
}

/// The message id of an accepted message: unique over runs by its nonce, over one run by its number.
#[must_use]
pub fn wamid(nonce: u64, number: u32) -> String {
    let mut bytes = [0; 26];
    bytes[..6].copy_from_slice(b"\x1d\x17\x0a\x0b\x15\x02");
    bytes[6..14].copy_from_slice(&nonce.to_be_bytes());
    bytes[14..22].copy_from_slice(&Dice::new(nonce, &[u64::from(number)]).next().to_be_bytes());
    bytes[22..].copy_from_slice(&number.to_be_bytes());
    let mut id = String::with_capacity(42);
    id.push_str("wamid.");
    STANDARD.encode_string(bytes, &mut id);
    id
}

/// Appends the body of a success.
pub fn write_success(out: &mut Vec<u8>, recipient: u64, id: &str, template: bool) {
    let _ = write!(
        out,
        r#"{{"messaging_product":"whatsapp","contacts":[{{"input":"+{recipient}","wa_id":"{recipient}"}}],"messages":[{{"id":"{id}""#
    );
    if template {
        out.extend_from_slice(br#","message_status":"accepted""#);
    }
    out.extend_from_slice(b"}]}");
}

/// The body of a Graph error.
#[must_use]
pub fn error_body(code: u32, details: &str) -> Vec<u8> {
    serde_json::json!({
        "error": {
            "message": format!("(#{code}) {}", title(code)),
            "type": "OAuthException",
            "code": code,
            "error_data": { "messaging_product": "whatsapp", "details": details },
            "fbtrace_id": "AsimulatedTrace0",
        }
    })
    .to_string()
    .into_bytes()
}

/// Our own short title of a code.
#[must_use]
pub fn title(code: u32) -> &'static str {
    match code {
        1 => "API unknown",
        2 => "API service",
        33 => "Parameter value is not valid",
        100 => "Invalid parameter",
        190 => "Access token has expired",
        130_429 => "Rate limit hit",
        131_000 => "Something went wrong",
        131_008 => "Required parameter is missing",
        131_009 => "Parameter value is not valid",
        131_016 => "Service unavailable",
        131_021 => "Recipient cannot be sender",
        131_026 => "Message undeliverable",
        131_049 => "Not delivered to keep the ecosystem healthy",
        131_051 => "Unsupported message type",
        131_056 => "Pair rate limit hit",
        132_000 => "Parameter count mismatch",
        132_001 => "Template does not exist",
        132_012 => "Parameter format mismatch",
        132_018 => "Template validation failed",
        _ => "Error",
    }
}
