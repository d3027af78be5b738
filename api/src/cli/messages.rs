//! `messages`, `message`, `in-doubt`, `resolve`, `orphans`: looking at single messages and deciding on those in doubt.

use clap::{Args, ValueEnum};
use sluice_proto::v1::{
    GetMessageRequest, ListInDoubtRequest, ListInDoubtResponse, ListMessagesRequest, ListMessagesResponse,
    ListOrphansRequest, ListOrphansResponse, MessageSeqs, Resolution, ResolveMessagesRequest, get_message_request::Key,
    resolve_messages_request::By,
};

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::message_view as view;
use super::output::{Console, collect};
use super::select::MessageFilterArgs;
use super::values;

/// Places in one call of `resolve`.
const SEQS_MAX: usize = 10_000;

/// Which messages to list.
#[derive(Debug, Clone, Args)]
pub struct MessagesArgs {
    /// The campaign
    pub campaign: String,
    /// The most to list; 0 for all (`export` is made for many)
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    #[command(flatten)]
    pub filter: MessageFilterArgs,
}

/// Which message to show.
#[derive(Debug, Clone, Args)]
pub struct MessageArgs {
    /// The campaign
    pub campaign: String,
    /// Its place in the campaign, from 0
    #[arg(required_unless_present = "external_id", conflicts_with = "external_id")]
    pub seq: Option<u32>,
    /// Your own id of it
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
}

/// What to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// It went out
    Sent,
    /// It did not go out
    Failed,
    /// Send it again; may arrive twice
    SendAgain,
}

/// A decision on messages in doubt.
#[derive(Debug, Clone, Args)]
pub struct ResolveArgs {
    /// The campaign
    pub campaign: String,
    /// The decision
    #[arg(long = "as", value_enum, value_name = "DECISION")]
    pub decision: Decision,
    /// The messages by their places, e.g. 17,18,4711
    #[arg(long, value_name = "SEQ", value_delimiter = ',')]
    pub seq: Vec<u32>,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    #[command(flatten)]
    pub filter: MessageFilterArgs,
}

/// Runs `messages`.
pub async fn list(args: &MessagesArgs, server: &Server, console: &mut Console) -> Outcome {
    let filter = args.filter.text();
    let page = |page_size, page_token| {
        let request =
            ListMessagesRequest { campaign_id: args.campaign.clone(), filter: filter.clone(), page_size, page_token };
        async move {
            let answer = server.messages().list_messages(server.request(request)).await?.into_inner();
            Ok((answer.messages, answer.next_page_token))
        }
    };
    let (messages, next_page_token) = collect(args.limit, page).await?;
    let answer = ListMessagesResponse { messages, next_page_token, as_of: None };
    console.list(&answer, &answer.messages, view::table)?;
    note_more(!answer.next_page_token.is_empty(), args.limit, console);
    Ok(Exit::Ok)
}

fn note_more(more: bool, limit: usize, console: &mut Console) {
    if more && console.for_people() {
        console.note(&format!("there are more than {limit}; --limit 0 lists all"));
    }
}

/// Runs `message`.
pub async fn show(args: &MessageArgs, server: &Server, console: &mut Console) -> Outcome {
    let key = args.external_id.clone().map(Key::ExternalId).or(args.seq.map(Key::Seq));
    let request = GetMessageRequest { campaign_id: args.campaign.clone(), key };
    let answer = server.messages().get_message(server.request(request)).await?.into_inner();
    console.answer(&answer, |answer, width| view::history(answer.message.as_ref(), width))?;
    Ok(Exit::Ok)
}

/// Runs `in-doubt`.
pub async fn in_doubt(campaign: &str, limit: usize, server: &Server, console: &mut Console) -> Outcome {
    let page = |page_size, page_token| {
        let request = ListInDoubtRequest { campaign_id: campaign.to_owned(), page_size, page_token };
        async move {
            let answer = server.messages().list_in_doubt(server.request(request)).await?.into_inner();
            Ok((answer.messages, answer.next_page_token))
        }
    };
    let (messages, next_page_token) = collect(limit, page).await?;
    let answer = ListInDoubtResponse { messages, next_page_token, as_of: None };
    if answer.messages.is_empty() && console.for_people() {
        console.note("nothing is in doubt");
        return Ok(Exit::Ok);
    }
    console.list(&answer, &answer.messages, view::doubt_table)?;
    note_more(!answer.next_page_token.is_empty(), limit, console);
    Ok(Exit::Ok)
}

/// Runs `resolve`.
pub async fn resolve(args: &ResolveArgs, server: &Server, console: &mut Console) -> Outcome {
    let filter = args.filter.text();
    let by = match (args.seq.as_slice(), filter.as_str()) {
        ([], "") => return Err(Failure::usage("which messages? give --seq, or e.g. --status unconfirmed")),
        ([], _) => By::Filter(filter.clone()),
        (seqs, "") if seqs.len() > SEQS_MAX => {
            return Err(Failure::usage(format!("at most {SEQS_MAX} messages can be named; give a filter")));
        }
        (seqs, "") => {
            let mut seqs = seqs.to_vec();
            seqs.sort_unstable();
            seqs.dedup();
            By::Seqs(MessageSeqs { seqs })
        }
        _ => return Err(Failure::usage("give either --seq or a filter, not both")),
    };
    let resolution = match args.decision {
        Decision::Sent => Resolution::ConfirmSent,
        Decision::Failed => Resolution::ConfirmFailed,
        Decision::SendAgain => Resolution::SendAgain,
    };
    if !args.yes && matches!(&by, By::Filter(_)) {
        let what = match args.decision {
            Decision::Sent => "count as sent",
            Decision::Failed => "count as failed",
            Decision::SendAgain => "send again, perhaps twice,",
        };
        console.confirm(&format!("{what} all messages of {} in doubt that match `{filter}`?", args.campaign))?;
    }
    let request =
        ResolveMessagesRequest { campaign_id: args.campaign.clone(), resolution: resolution as i32, by: Some(by) };
    let answer = server.messages().resolve_messages(server.long_request(request)).await?.into_inner();
    console.answer(&answer, view::resolved)?;
    Ok(if answer.unresolved.is_empty() { Exit::Ok } else { Exit::Partial })
}

/// Runs `orphans`.
pub async fn orphans(account: &str, limit: usize, server: &Server, console: &mut Console) -> Outcome {
    let page = |page_size, page_token| {
        let request = ListOrphansRequest { account_id: account.to_owned(), page_size, page_token };
        async move {
            let answer = server.messages().list_orphans(server.request(request)).await?.into_inner();
            Ok((answer.orphans, answer.next_page_token))
        }
    };
    let (orphans, next_page_token) = collect(limit, page).await?;
    let answer = ListOrphansResponse { orphans, next_page_token, as_of: None };
    console.list(&answer, &answer.orphans, view::orphan_table)?;
    note_more(!answer.next_page_token.is_empty(), limit, console);
    Ok(Exit::Ok)
}

/// The time of the newest thing that happened to a message.
#[must_use]
pub fn last_time(message: &sluice_proto::v1::Message) -> String {
    let newest = message.attempts.iter().flat_map(|attempt| {
        let stages = attempt.stages.iter().filter_map(|stage| stage.first_seen_time.as_ref());
        stages.chain(attempt.accepted_time.as_ref()).chain(attempt.intent_time.as_ref())
    });
    values::time(newest.max_by_key(|time| (time.seconds, time.nanos)))
}
