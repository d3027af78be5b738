//! `lines …`: the sending identities.

use clap::{Args, Subcommand};
use sluice_proto::v1::{
    CreateLineRequest, GetLineRequest, HoldLineRequest, Line, ListLinesRequest, ListLinesResponse, MoveLineRequest,
    Provider, ReleaseLineRequest, SenderIdentity, UpdateLineRequest, sender_identity::Identity,
};

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::output::{Console, Table, collect, or_dash};
use super::values;

/// What to do with lines.
#[derive(Debug, Clone, Subcommand)]
pub enum LinesCommand {
    /// Make a line
    Create(Box<CreateArgs>),
    /// List lines with their health
    List {
        /// Only lines of this pool
        #[arg(long, default_value = "", hide_default_value = true)]
        pool: String,
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Show one line
    Show {
        /// The line
        line: String,
    },
    /// Change a line's limits or description; takes effect within a second
    Update(UpdateArgs),
    /// Stop all sending through a line until it is released
    Hold {
        /// The line
        line: String,
        /// Why, for people
        #[arg(long)]
        reason: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Let a held line send again
    Release {
        /// The line
        line: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Move a held line with nothing in flight into another pool
    Move {
        /// The line
        line: String,
        /// The pool to join
        #[arg(long)]
        pool: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
}

/// A new line.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// Its id [default: the server makes one]
    #[arg(default_value = "", hide_default_value = true)]
    pub line: String,
    /// The configured provider account; `sluice accounts` lists them
    #[arg(long)]
    pub account: String,
    /// Provider and channel: meta, twilio_sms or twilio_whatsapp
    #[arg(long, value_parser = provider)]
    pub provider: Provider,
    #[command(flatten)]
    pub sender: SenderArgs,
    /// The most per second: messages, or SMS parts for twilio_sms; 1 to 10,000
    #[arg(long, value_name = "N")]
    pub ceiling: u32,
    /// The most messages in flight, 1 to 4,096 [default: the server's, 256 unless configured]
    #[arg(long, value_name = "N")]
    pub in_flight_max: Option<u32>,
    /// The pool to join; made when it does not exist [default: one with the line's id]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub pool: String,
    /// Text for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
    /// Makes the call safe to repeat
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
}

/// Who recipients see.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct SenderArgs {
    /// Meta: the phone number id
    #[arg(long, value_name = "DIGITS")]
    pub phone_number_id: Option<String>,
    /// Twilio: the number that sends, E.164
    #[arg(long, value_name = "PHONE")]
    pub from_number: Option<String>,
    /// Twilio SMS: the short code that sends
    #[arg(long, value_name = "DIGITS")]
    pub short_code: Option<String>,
    /// Twilio: the messaging service that chooses the sender
    #[arg(long, value_name = "SID")]
    pub messaging_service: Option<String>,
}

impl SenderArgs {
    fn identity(&self) -> Option<Identity> {
        let of = |text: &Option<String>, make: fn(String) -> Identity| text.clone().map(make);
        of(&self.phone_number_id, Identity::MetaPhoneNumberId)
            .or_else(|| of(&self.from_number, Identity::TwilioFromNumber))
            .or_else(|| of(&self.short_code, Identity::TwilioShortCode))
            .or_else(|| of(&self.messaging_service, Identity::TwilioMessagingServiceSid))
    }
}

/// What to change about a line.
#[derive(Debug, Clone, Args)]
pub struct UpdateArgs {
    /// The line
    pub line: String,
    /// New ceiling; a lower one binds the windows that begin after the answer
    #[arg(long, value_name = "N")]
    pub ceiling: Option<u32>,
    /// New in-flight maximum
    #[arg(long, value_name = "N")]
    pub in_flight_max: Option<u32>,
    /// New description
    #[arg(long)]
    pub description: Option<String>,
    /// Only if this is still its version
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
}

/// Reads a provider's short word.
///
/// # Errors
/// In words, for clap.
pub fn provider(text: &str) -> Result<Provider, String> {
    values::parse_word(text, &[Provider::Meta, Provider::TwilioSms, Provider::TwilioWhatsapp], values::provider)
}

/// Runs `lines …`.
pub async fn run(command: &LinesCommand, server: &Server, console: &mut Console) -> Outcome {
    let mut client = server.lines();
    match command {
        LinesCommand::Create(args) => {
            let request = CreateLineRequest {
                request_id: args.request_id.clone(),
                line_id: args.line.clone(),
                pool_id: args.pool.clone(),
                account_id: args.account.clone(),
                provider: args.provider as i32,
                sender: Some(SenderIdentity { identity: args.sender.identity() }),
                description: args.description.clone(),
                ceiling_per_second: args.ceiling,
                in_flight_max: args.in_flight_max,
            };
            let answer = client.create_line(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, width| details(answer.line.as_ref(), width))?;
        }
        LinesCommand::List { pool, limit } => list(pool, *limit, server, console).await?,
        LinesCommand::Show { line } => {
            let answer = client.get_line(server.request(GetLineRequest { line_id: line.clone() })).await?.into_inner();
            console.answer(&answer, |answer, width| details(answer.line.as_ref(), width))?;
        }
        LinesCommand::Update(args) => {
            if args.ceiling.is_none() && args.in_flight_max.is_none() && args.description.is_none() {
                return Err(Failure::usage("nothing to change was given"));
            }
            let request = UpdateLineRequest {
                line_id: args.line.clone(),
                etag: args.etag.clone(),
                description: args.description.clone(),
                ceiling_per_second: args.ceiling,
                in_flight_max: args.in_flight_max,
            };
            let answer = client.update_line(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, width| details(answer.line.as_ref(), width))?;
        }
        LinesCommand::Hold { line, reason, etag } => {
            let request = HoldLineRequest { line_id: line.clone(), reason: reason.clone(), etag: etag.clone() };
            let answer = client.hold_line(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, _| {
                format!(
                    "line {line} is held; {} in flight, nothing else leaves\n",
                    values::count(answer.in_flight.into())
                )
            })?;
        }
        LinesCommand::Release { line, etag } => {
            let request = ReleaseLineRequest { line_id: line.clone(), etag: etag.clone() };
            let answer = client.release_line(server.request(request)).await?.into_inner();
            console.answer(&answer, |_, _| format!("line {line} is released\n"))?;
        }
        LinesCommand::Move { line, pool, etag } => {
            let request = MoveLineRequest { line_id: line.clone(), pool_id: pool.clone(), etag: etag.clone() };
            let answer = client.move_line(server.request(request)).await?.into_inner();
            console.answer(&answer, |_, _| format!("line {line} is in pool {pool}\n"))?;
        }
    }
    Ok(Exit::Ok)
}

async fn list(pool: &str, limit: usize, server: &Server, console: &mut Console) -> Outcome<()> {
    let page = |page_size, page_token| {
        let request = ListLinesRequest { page_size, page_token, pool_id: pool.to_owned() };
        async move {
            let answer = server.lines().list_lines(server.request(request)).await?.into_inner();
            Ok((answer.lines, answer.next_page_token))
        }
    };
    let (lines, next_page_token) = collect(limit, page).await?;
    let as_of = lines.first().and_then(|line| line.as_of);
    let answer = ListLinesResponse { lines, next_page_token, as_of };
    console.list(&answer, &answer.lines, table)
}

fn table(lines: &[Line], width: Option<u16>) -> String {
    let mut table =
        Table::new(width, &["LINE", "POOL", "PROVIDER", "STATE", "CEILING>", "ALLOWED>", "USED>", "IN FLIGHT>"]);
    for line in lines {
        let health = line.health.as_ref();
        table.row([
            line.line_id.clone(),
            line.pool_id.clone(),
            values::provider(line.provider()),
            health.map_or_else(|| "-".to_owned(), |health| values::line_state(health.state())),
            format!("{}/s", values::count(line.ceiling_per_second.into())),
            values::per_second(health.map_or(0.0, |health| health.allowed_per_second)),
            values::per_second(health.map_or(0.0, |health| health.used_per_second)),
            values::count(health.map_or(0, |health| health.in_flight).into()),
        ]);
    }
    table.text()
}

fn details(line: Option<&Line>, width: Option<u16>) -> String {
    let Some(line) = line else { return String::new() };
    let sender = match line.sender.as_ref().and_then(|sender| sender.identity.as_ref()) {
        Some(Identity::MetaPhoneNumberId(id)) => format!("phone number id {id}"),
        Some(Identity::TwilioFromNumber(number)) => number.clone(),
        Some(Identity::TwilioShortCode(code)) => format!("short code {code}"),
        Some(Identity::TwilioMessagingServiceSid(sid)) => format!("messaging service {sid}"),
        None => "-".to_owned(),
    };
    let unit = if line.provider() == Provider::TwilioSms { "SMS parts" } else { "messages" };
    let mut pairs = vec![
        ("line", line.line_id.clone()),
        ("pool", line.pool_id.clone()),
        ("account", line.account_id.clone()),
        ("provider", values::provider(line.provider())),
        ("sender", sender),
        ("description", or_dash(&line.description)),
        ("ceiling", format!("{} {unit} per second", values::count(line.ceiling_per_second.into()))),
        ("in flight max", values::count(line.in_flight_max.into())),
    ];
    if let Some(health) = &line.health {
        let state = values::line_state(health.state());
        pairs.push((
            "state",
            health.hold.as_ref().map_or(state.clone(), |hold| {
                let until = hold
                    .until_time
                    .as_ref()
                    .map_or_else(String::new, |time| format!(", until {}", values::time(Some(time))));
                format!(
                    "{state}: {} ({}, since {}{until})",
                    or_dash(&hold.detail),
                    values::hold_reason(hold.reason()),
                    values::time(hold.hold_time.as_ref())
                )
            }),
        ));
        pairs.push(("allowed now", values::per_second(health.allowed_per_second)));
        pairs.push(("used", values::per_second(health.used_per_second)));
        pairs.push(("in flight", values::count(health.in_flight.into())));
    }
    pairs.push(("created", values::time(line.create_time.as_ref())));
    pairs.push(("etag", or_dash(&line.etag)));
    Table::pairs(width, pairs)
}
