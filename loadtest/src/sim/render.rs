//! Status webhooks: what their bodies look like.

use std::io::Write as _;

use super::config::{MetaAccount, TwilioAccount};
use super::core::Core;
use super::form;
use super::ledger::Entry;
use super::plan::{Dice, Journey, Plan, Status, Timestamps};
use super::text::push_json;
use super::{date, meta};

/// The statuses of one POST, copied out of the books.
#[derive(Debug, Default)]
pub struct Batch {
    items: Vec<Item>,
    correlations: String,
}

/// One status of a POST.
#[derive(Debug, Clone, Copy)]
struct Item {
    number: u32,
    status: Status,
    entry: Entry,
    /// Where its correlation id stands in the batch.
    from: usize,
    to: usize,
}

/// What is particular to one POST.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Also a status of a message nobody knows.
    pub stranger: bool,
    /// False contents: every status becomes `failed`.
    pub forged: bool,
}

impl Batch {
    /// Empties it.
    pub fn clear(&mut self) {
        self.items.clear();
        self.correlations.clear();
    }

    /// Adds one status.
    pub fn push(&mut self, number: u32, status: Status, entry: &Entry, correlation: &str) {
        let from = self.correlations.len();
        self.correlations.push_str(correlation);
        self.items.push(Item { number, status, entry: *entry, from, to: self.correlations.len() });
    }

    /// How many statuses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Puts the statuses of a line next to each other: one change speaks of one line.
    pub fn group(&mut self) {
        if self.items.windows(2).any(|pair| pair[0].entry.line > pair[1].entry.line) {
            self.items.sort_by_key(|item| item.entry.line);
        }
    }

    fn correlation(&self, item: &Item) -> &str {
        &self.correlations[item.from..item.to]
    }
}

/// Writes the body of a Meta webhook. Statuses are spread over entries and changes as the plan says.
pub fn meta_body(
    out: &mut Vec<u8>,
    core: &Core,
    account: (usize, &MetaAccount),
    batch: &Batch,
    plans: &[std::sync::Arc<Plan>],
    dice: &mut Dice,
    extras: Extras,
) {
    let latest = &plans[plans.len() - 1];
    let (place, account) = account;
    out.extend_from_slice(br#"{"object":"whatsapp_business_account","entry":["#);
    let pieces = u32::from(latest.entries).min(batch.len() as u32);
    let size = batch.len().div_ceil(dice.between([1, pieces.max(1)]) as usize).max(1);
    let mut rest = &batch.items[..];
    let mut entry_open = false;
    let mut first = true;
    while !rest.is_empty() || (first && extras.stranger) {
        let line = rest.first().map(|item| item.entry.line);
        let same = rest.iter().take_while(|item| Some(item.entry.line) == line).count();
        let (piece, after) = rest.split_at(same.min(size));
        rest = after;
        // A further piece is sometimes a second change of the same entry, sometimes a new entry.
        if entry_open && dice.hit(0.5) {
            out.push(b',');
        } else {
            if entry_open {
                out.extend_from_slice(b"]},");
            }
            let _ = write!(out, r#"{{"id":"{}","changes":["#, account.waba_id);
            entry_open = true;
        }
        let line = &core.lines[usize::from(line.unwrap_or(0))];
        let _ = write!(
            out,
            r#"{{"field":"messages","value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"{}","phone_number_id":"{}"}},"#,
            line.number, line.id
        );
        if latest.contacts && !extras.forged {
            write_contacts(out, piece);
        }
        out.extend_from_slice(br#""statuses":["#);
        for (n, item) in piece.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            let id = core.provider_id(place, item.number);
            let plan = &plans[usize::from(item.entry.plan).min(plans.len() - 1)];
            let correlation = batch.correlation(item);
            meta_status(out, core.config.seed, item, &id, correlation, plan, dice, extras.forged);
        }
        if extras.stranger && first {
            if !piece.is_empty() {
                out.push(b',');
            }
            let id = meta::wamid(dice.next(), 1);
            let _ = write!(
                out,
                r#"{{"id":"{id}","status":"delivered","timestamp":"{}","recipient_id":"999{:09}"}}"#,
                core.clock.now_ns() / 1_000_000_000,
                dice.next() % 1_000_000_000
            );
        }
        out.extend_from_slice(b"]}}");
        first = false;
    }
    if entry_open {
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
}

fn write_contacts(out: &mut Vec<u8>, piece: &[Item]) {
    let mut any = false;
    for item in piece.iter().filter(|item| item.status != Status::Failed) {
        out.extend_from_slice(if any { b"," } else { br#""contacts":["# });
        any = true;
        let digits = item.entry.recipient;
        let _ = write!(
            out,
            r#"{{"profile":{{"name":"R {}"}},"wa_id":"{digits}","user_id":"US.1{digits:018}"}}"#,
            digits % 10_000
        );
    }
    if any {
        out.extend_from_slice(b"],");
    }
}

#[allow(clippy::too_many_arguments)]
fn meta_status(
    out: &mut Vec<u8>,
    seed: u64,
    item: &Item,
    id: &str,
    correlation: &str,
    plan: &Plan,
    dice: &mut Dice,
    forged: bool,
) {
    let journey = Journey::of(plan, seed, item.entry.recipient);
    let status = if forged { Status::Failed } else { item.status };
    let number = match plan.timestamps {
        Timestamps::Text => false,
        Timestamps::Number => true,
        Timestamps::Mixed => dice.hit(0.5),
    };
    let quote = if number { "" } else { "\"" };
    let _ = write!(
        out,
        r#"{{"id":"{id}","status":"{}","timestamp":{quote}{}{quote},"recipient_id":"{}","#,
        status.word(),
        happened(item, &journey),
        item.entry.recipient
    );
    if !correlation.is_empty() {
        out.extend_from_slice(br#""biz_opaque_callback_data":""#);
        push_json(out, correlation);
        out.extend_from_slice(b"\",");
    }
    if status == Status::Failed {
        let code = if forged { 131_000 } else { journey.code(&plan.meta_codes) };
        let title = meta::title(code);
        let _ = write!(
            out,
            r#""errors":[{{"code":{code},"title":"{title}","message":"{title}","error_data":{{"details":"Simulated: {title}."}},"href":"https:\/\/developers.facebook.com\/docs\/whatsapp\/cloud-api\/support\/error-codes\/"}}]}}"#
        );
    } else {
        let _ = write!(
            out,
            r#""recipient_user_id":"US.1{:018}","pricing":{{"billable":true,"pricing_model":"PMP","type":"regular","category":"marketing"}}}}"#,
            item.entry.recipient
        );
    }
}

/// Unix seconds at which the status happened according to the plan.
fn happened(item: &Item, journey: &Journey) -> u64 {
    let step = journey.steps().iter().find(|s| s.status == item.status);
    (item.entry.at_ns / 1_000_000 + step.map_or(0, |s| u64::from(s.at_ms))) / 1000
}

/// A Twilio callback: the public URL it is signed for, and its parameters.
#[derive(Debug, Clone, Default)]
pub struct Callback {
    /// The URL without fragment.
    pub url: String,
    /// The URL's fragment with its `#`, or nothing.
    pub fragment: String,
    /// Names and values, sorted by name.
    pub params: Vec<(&'static str, String)>,
}

impl Callback {
    /// The encoded form.
    pub fn write_form(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.params {
            form::push(out, name, value);
        }
    }
}

/// The callback of the first status of `batch`; `(before, after)` is the URL around its correlation id.
#[must_use]
pub fn twilio_callback(
    core: &Core,
    account: (usize, &TwilioAccount),
    batch: &Batch,
    url: &(String, String),
    plan: &Plan,
    extras: Extras,
) -> Callback {
    let Some(item) = batch.items.first() else {
        return Callback::default();
    };
    let (place, account) = account;
    let journey = Journey::of(plan, core.config.seed, item.entry.recipient);
    let line = &core.lines[usize::from(item.entry.line)].id;
    let service = line.starts_with("MG");
    let whatsapp = item.entry.whatsapp;
    let prefix = if whatsapp { "whatsapp:" } else { "" };
    let mut sid = core.provider_id(place, item.number);
    let mut correlation = batch.correlation(item).to_owned();
    if extras.stranger {
        sid = super::twilio::sid(core.clock.now_ns(), 1);
        correlation = "stranger".to_owned();
    }
    let failed = extras.forged || item.status == Status::Failed;
    let word = match (failed, journey.steps().len()) {
        (false, _) => item.status.word(),
        (true, 0 | 1) => "failed",
        (true, _) => "undelivered",
    };
    let mut params: Vec<(&'static str, String)> =
        vec![("AccountSid", account.sid.clone()), ("ApiVersion", "2010-04-01".to_owned())];
    if whatsapp {
        params.push(("ChannelInstallSid", "XE00000000000000000000000000000001".to_owned()));
        params.push(("ChannelPrefix", "whatsapp".to_owned()));
        params.push(("ChannelToAddress", format!("+{}XXXX", item.entry.recipient / 10_000)));
    }
    if failed {
        let code = if extras.forged { 30_008 } else { journey.code(&plan.twilio_codes) };
        params.push(("ErrorCode", code.to_string()));
    }
    if whatsapp {
        params.push(("EventType", word.to_uppercase()));
    }
    let from = if service { "+15550109999" } else { line.as_str() };
    let from = if service && whatsapp { format!("whatsapp:{from}") } else { from.to_owned() };
    params.push(("From", from));
    params.push(("MessageSid", sid.clone()));
    params.push(("MessageStatus", word.to_owned()));
    if service {
        params.push(("MessagingServiceSid", line.clone()));
    }
    if !whatsapp && (failed || item.status == Status::Delivered) {
        params.push(("RawDlrDoneDate", date::carrier(happened(item, &journey))));
    }
    params.push(("SmsSid", sid));
    params.push(("SmsStatus", word.to_owned()));
    params.push(("To", format!("{prefix}+{}", item.entry.recipient)));
    let whole = format!("{}{correlation}{}", url.0, url.1);
    let (url, fragment) = match whole.find('#') {
        Some(at) => (whole[..at].to_owned(), whole[at..].to_owned()),
        None => (whole, String::new()),
    };
    Callback { url, fragment, params }
}
