//! Twilio's message endpoint: checks and answers as Twilio documents them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::config::TwilioAccount;
use super::plan::Dice;
use super::text::{e164, push_json, sms_parts};
use super::{digest, form};

/// A refusal in the shape of a Twilio error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub http: u16,
    /// Twilio code.
    pub code: u32,
    /// Text for people.
    pub message: &'static str,
}

const fn problem(code: u32, message: &'static str) -> Problem {
    Problem { http: 400, code, message }
}

/// What is taken out of a valid form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<'a> {
    /// The recipient's digits.
    pub recipient: u64,
    /// To and sender carry the `whatsapp:` prefix.
    pub whatsapp: bool,
    /// `From` or `MessagingServiceSid`.
    pub line: Cow<'a, str>,
    /// `StatusCallback`, decoded, with its fragment.
    pub callback: Option<Cow<'a, str>>,
    /// SMS parts; 1 on other channels.
    pub parts: u8,
    /// `Body`.
    pub body: Cow<'a, str>,
    /// Digest of recipient and body, or of recipient and content with its variables.
    pub content: u64,
}

/// The `Authorization` values that an account accepts.
#[must_use]
pub fn basic_values(account: &TwilioAccount) -> Vec<String> {
    let basic = |user: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")));
    let mut values = vec![basic(&account.sid, &account.auth_token)];
    if let (Some(key), Some(secret)) = (&account.api_key, &account.api_secret) {
        values.push(basic(key, secret));
    }
    values
}

/// The account SID of a message path.
#[must_use]
pub fn path(target: &str) -> Option<&str> {
    let target = target.split('?').next().unwrap_or(target);
    target.strip_prefix("/2010-04-01/Accounts/")?.strip_suffix("/Messages.json").filter(|sid| !sid.contains('/'))
}

/// Checks a form.
///
/// # Errors
/// With the error that Twilio would answer.
pub fn check<'a>(account: &TwilioAccount, content_type: Option<&str>, raw: &'a [u8]) -> Result<Checked<'a>, Problem> {
    let is_form = content_type.is_some_and(|t| {
        let t = t.split(';').next().unwrap_or(t).trim();
        t.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form {
        return Err(problem(21_604, "A 'To' phone number is required (the body is not a form)."));
    }
    let pairs = form::parse(raw).map_err(|message| problem(20_001, message))?;
    let mut fields = Fields::default();
    for (name, value) in pairs {
        fields.put(name.as_ref(), value)?;
    }
    let to = fields.to.filter(|t| !t.is_empty());
    let to = to.ok_or(problem(21_604, "A 'To' phone number is required."))?;
    let (whatsapp, address) = channel(&to);
    let recipient = e164(address).ok_or(problem(21_211, "The 'To' number is not a valid phone number."))?;
    let line = match (fields.from, fields.service) {
        (Some(from), None) => {
            if channel(&from).0 != whatsapp {
                return Err(problem(21_910, "'From' and 'To' must be of the same channel."));
            }
            if from == to {
                return Err(problem(21_266, "'To' and 'From' cannot be the same."));
            }
            from
        }
        (None, Some(service)) => service,
        (None, None) => {
            return Err(problem(21_603, "A 'From' or 'MessagingServiceSid' is required."));
        }
        (Some(_), Some(_)) => {
            return Err(problem(20_422, "Only one of 'From' and 'MessagingServiceSid' is taken here."));
        }
    };
    if !account.lines.iter().any(|known| known.id == line) {
        return Err(match (line.starts_with("MG"), whatsapp) {
            (true, _) => Problem { http: 404, ..problem(21_701, "The messaging service does not exist.") },
            (false, true) => problem(63_007, "There is no channel sender with this 'From' address."),
            (false, false) => problem(21_606, "The 'From' number cannot send messages."),
        });
    }
    let body = fields.body.unwrap_or_default();
    if body.chars().count() > 1600 {
        return Err(problem(21_617, "The body is longer than 1600 characters."));
    }
    let content = match (&fields.content, &fields.variables) {
        (None, Some(_)) => {
            return Err(problem(21_654, "'ContentSid' is required with 'ContentVariables'."));
        }
        (None, None) if body.is_empty() => {
            return Err(problem(21_602, "A message body, media or content is required."));
        }
        (Some(sid), variables) => {
            let variables = check_content(account, sid, variables.as_deref())?;
            digest::content(recipient, sid, variables.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
        }
        (None, None) => digest::body(recipient, &body),
    };
    if let Some(callback) = &fields.callback {
        check_callback(callback)?;
    }
    let lasting = |seconds: &str| seconds.parse().is_ok_and(|s: u32| (1..=36_000).contains(&s));
    if fields.validity.as_deref().is_some_and(|seconds| !lasting(seconds)) {
        return Err(problem(21_624, "'ValidityPeriod' must be between 1 and 36000."));
    }
    Ok(Checked {
        recipient,
        whatsapp,
        line,
        callback: fields.callback,
        parts: if whatsapp { 1 } else { sms_parts(&body) },
        body,
        content,
    })
}

/// The callback URL of a form that is not valid otherwise.
#[must_use]
pub fn callback_of(raw: &[u8]) -> Option<String> {
    let pairs = form::parse(raw).ok()?;
    pairs.into_iter().find_map(|(name, value)| (name == "StatusCallback").then(|| value.into_owned()))
}

#[derive(Default)]
struct Fields<'a> {
    to: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
    service: Option<Cow<'a, str>>,
    body: Option<Cow<'a, str>>,
    content: Option<Cow<'a, str>>,
    variables: Option<Cow<'a, str>>,
    callback: Option<Cow<'a, str>>,
    validity: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    fn put(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Problem> {
        let place = match name {
            "To" => &mut self.to,
            "From" => &mut self.from,
            "MessagingServiceSid" => &mut self.service,
            "Body" => &mut self.body,
            "ContentSid" => &mut self.content,
            "ContentVariables" => &mut self.variables,
            "StatusCallback" => &mut self.callback,
            "ValidityPeriod" => &mut self.validity,
            // Options that change nothing here.
            "SmartEncoded" | "ShortenUrls" | "Attempt" | "ContentRetention" | "AddressRetention" | "RiskCheck"
            | "TrafficType" | "ProvideFeedback" | "MaxPrice" => {
                return Ok(());
            }
            _ => return Err(problem(20_001, "Unknown parameter.")),
        };
        if place.replace(value).is_some() {
            return Err(problem(20_001, "A parameter is given twice."));
        }
        Ok(())
    }
}

fn channel(address: &str) -> (bool, &str) {
    match address.strip_prefix("whatsapp:") {
        Some(rest) => (true, rest),
        None => (false, address),
    }
}

/// The variables, in the order of their keys as text.
fn check_content<'a>(
    account: &TwilioAccount,
    sid: &str,
    variables: Option<&'a str>,
) -> Result<BTreeMap<Cow<'a, str>, Cow<'a, str>>, Problem> {
    let Some(known) = account.contents.iter().find(|c| c.sid == sid) else {
        return Err(problem(21_655, "The 'ContentSid' is invalid."));
    };
    let wrong = problem(21_656, "The 'ContentVariables' are invalid.");
    let variables: BTreeMap<Cow<'_, str>, Cow<'_, str>> = match variables {
        Some(json) => serde_json::from_str(json).map_err(|_| wrong)?,
        None => BTreeMap::new(),
    };
    let all = (1..=known.variables).all(|n| variables.contains_key(n.to_string().as_str()));
    if variables.len() != known.variables || !all {
        return Err(wrong);
    }
    Ok(variables)
}

fn check_callback(url: &str) -> Result<(), Problem> {
    let wrong = problem(21_609, "The 'StatusCallback' URL is not a valid URL.");
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or(wrong)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() || host.contains('_') || url.len() > 4000 || url.contains(char::is_whitespace) {
        return Err(wrong);
    }
    Ok(())
}

/// The retries that the fragment of a callback URL asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrides {
    /// `rc`: how many retries (0 to 5).
    pub retries: u8,
    /// `rp` includes 4xx.
    pub on_4xx: bool,
    /// `rp` includes 5xx.
    pub on_5xx: bool,
    /// `rp` includes connection failures.
    pub on_connect: bool,
    /// `rp` includes read timeouts.
    pub on_read: bool,
    /// `rt`: read timeout in milliseconds.
    pub read_ms: u32,
    /// `tt`: the time all tries together may take, in milliseconds.
    pub total_ms: u32,
}

/// Reads the fragment of a callback URL; what is missing has Twilio's defaults (one retry, on connection failure).
#[must_use]
pub fn overrides(url: &str) -> Overrides {
    let mut asked = Overrides {
        retries: 1,
        on_4xx: false,
        on_5xx: false,
        on_connect: true,
        on_read: false,
        read_ms: 15_000,
        total_ms: 15_000,
    };
    let Some((_, fragment)) = url.split_once('#') else {
        return asked;
    };
    for (name, value) in fragment.split('&').filter_map(|part| part.split_once('=')) {
        let number = |low: u32, high: u32| value.parse().ok().filter(|n| (low..=high).contains(n));
        match name {
            "rc" => asked.retries = number(0, 5).map_or(asked.retries, |n| n as u8),
            "rt" => asked.read_ms = number(100, 15_000).unwrap_or(asked.read_ms),
            "tt" => asked.total_ms = number(100, 15_000).unwrap_or(asked.total_ms),
            "rp" => {
                let has = |word| value.split(',').any(|w| w == word || w == "all");
                (asked.on_4xx, asked.on_5xx) = (has("4xx"), has("5xx"));
                (asked.on_connect, asked.on_read) = (has("ct"), has("rt"));
            }
            _ => {}
        }
    }
    asked
}

/// Splits a callback URL around the value of one query parameter, so that the part that differs per message is stored apart.
/// Without that parameter the whole URL is the first part and the value is empty.
#[must_use]
pub fn split_callback<'a>(url: &'a str, parameter: &str) -> (&'a str, &'a str, &'a str) {
    let query = url.find('?').map_or(url.len(), |at| at + 1);
    let end = url.find('#').unwrap_or(url.len());
    let mut at = query;
    while at < end {
        let next = url[at..end].find('&').map_or(end, |n| at + n);
        if let Some(value) = url[at..next].strip_prefix(parameter).and_then(|v| v.strip_prefix('=')) {
            return (&url[..next - value.len()], value, &url[next..]);
        }
        at = next + 1;
    }
    (url, "", "")
}

/// The message SID of an accepted message.
#[must_use]
pub fn sid(nonce: u64, number: u32) -> String {
    let mixed = Dice::new(nonce, &[u64::from(number)]).next() >> 32;
    format!("SM{nonce:016x}{mixed:08x}{number:08x}")
}

/// Appends the body of a success.
pub fn write_success(out: &mut Vec<u8>, account: &TwilioAccount, checked: &Checked<'_>, sid: &str, date: &str) {
    let account_sid = &account.sid;
    let prefix = if checked.whatsapp { "whatsapp:" } else { "" };
    let service = checked.line.starts_with("MG");
    let _ = write!(out, r#"{{"sid":"{sid}","account_sid":"{account_sid}","messaging_service_sid":"#);
    let write_line = |out: &mut Vec<u8>, given: bool| {
        if given {
            out.push(b'"');
            push_json(out, &checked.line);
            out.push(b'"');
        } else {
            out.extend_from_slice(b"null");
        }
    };
    write_line(out, service);
    let _ = write!(out, r#","to":"{prefix}+{}","from":"#, checked.recipient);
    write_line(out, !service);
    out.extend_from_slice(br#","body":""#);
    push_json(out, &checked.body);
    let (status, parts) = if service { ("accepted", 0) } else { ("queued", checked.parts) };
    let _ = write!(
        out,
        r#"","status":"{status}","direction":"outbound-api","num_segments":"{parts}","num_media":"0","price":null,"price_unit":"USD","error_code":null,"error_message":null,"api_version":"2010-04-01","date_created":"{date}","date_updated":"{date}","date_sent":null,"uri":"/2010-04-01/Accounts/{account_sid}/Messages/{sid}.json","subresource_uris":{{"media":"/2010-04-01/Accounts/{account_sid}/Messages/{sid}/Media.json"}}}}"#
    );
}

/// The body of an error.
#[must_use]
pub fn error_body(http: u16, code: u32, message: &str) -> Vec<u8> {
    serde_json::json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": http,
    })
    .to_string()
    .into_bytes()
}
