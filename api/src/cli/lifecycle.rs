//! `start`, `pause`, `resume`, `cancel`: one campaign, several, or all that match.

use clap::Args;
use sluice_proto::v1::{
    BatchCancelCampaignsRequest, BatchCancelCampaignsResponse, BatchPauseCampaignsRequest, BatchResumeCampaignsRequest,
    BatchStartCampaignsRequest, Campaign, CampaignIds, CampaignOutcome, CampaignSelection, CancelCampaignRequest,
    PauseCampaignRequest, ResumeCampaignRequest, StartCampaignRequest, campaign_selection::By,
};

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome, code_name};
use super::output::{Console, Table, or_dash};
use super::select::SelectArgs;
use super::values;

/// Ids in one batch call.
const BATCH_IDS_MAX: usize = 1_000;

/// A move of a campaign's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Start,
    Pause,
    Resume,
    Cancel,
}

impl Move {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

/// Which campaigns to move.
#[derive(Debug, Clone, Args)]
pub struct MoveArgs {
    /// Only if this is still its version; for one campaign
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    #[command(flatten)]
    pub select: SelectArgs,
}

/// Moves campaigns. One is moved by its own call, whose errors say more; several by a batch call with an answer for each.
pub async fn run(step: Move, args: &MoveArgs, server: &Server, console: &mut Console) -> Outcome {
    let ids = args.select.ids(step.verb(), server, console).await?;
    match ids.as_slice() {
        [id] => one(step, id, &args.etag, server, console).await,
        _ => several(step, &ids, server, console).await,
    }
}

async fn one(step: Move, id: &str, etag: &str, server: &Server, console: &mut Console) -> Outcome {
    let mut client = server.campaigns();
    let (campaign_id, etag) = (id.to_owned(), etag.to_owned());
    match step {
        Move::Start => {
            let request = server.long_request(StartCampaignRequest { campaign_id, etag });
            let answer = client.start_campaign(request).await?.into_inner();
            console.answer(&answer, |answer, _| moved(answer.campaign.as_ref(), ""))?;
        }
        Move::Resume => {
            let request = server.request(ResumeCampaignRequest { campaign_id, etag });
            let answer = client.resume_campaign(request).await?.into_inner();
            console.answer(&answer, |answer, _| moved(answer.campaign.as_ref(), ""))?;
        }
        Move::Pause => {
            let request = server.request(PauseCampaignRequest { campaign_id, etag });
            let answer = client.pause_campaign(request).await?.into_inner();
            console.answer(&answer, |answer, _| moved(answer.campaign.as_ref(), &in_flight(answer.in_flight)))?;
        }
        Move::Cancel => {
            let request = server.request(CancelCampaignRequest { campaign_id, etag });
            let answer = client.cancel_campaign(request).await?.into_inner();
            console.answer(&answer, |answer, _| moved(answer.campaign.as_ref(), &in_flight(answer.in_flight)))?;
        }
    }
    Ok(Exit::Ok)
}

fn in_flight(count: u64) -> String {
    format!("; {} in flight, nothing else leaves", values::count(count))
}

fn moved(campaign: Option<&Campaign>, more: &str) -> String {
    let Some(campaign) = campaign else { return String::new() };
    let mut text = format!("campaign {} is {}{more}", campaign.campaign_id, values::campaign_state(campaign.state()));
    if campaign.state() == sluice_proto::v1::CampaignState::Scheduled {
        let start = campaign.settings.as_ref().and_then(|settings| settings.start_at.as_ref());
        text = format!("{text}, starts at {}", values::time(start));
    }
    if let Some(audience) = &campaign.audience {
        text = format!("{text} ({} recipients)", values::count(audience.count));
    }
    text.push('\n');
    text
}

async fn several(step: Move, ids: &[String], server: &Server, console: &mut Console) -> Outcome {
    let (mut outcomes, mut broken) = (Vec::with_capacity(ids.len()), None);
    for part in ids.chunks(BATCH_IDS_MAX) {
        match batch(step, part, server).await {
            Ok(some) => outcomes.extend(some),
            Err(failure) if outcomes.is_empty() => return Err(failure),
            // What became of the others has to be seen all the same.
            Err(failure) => {
                broken = Some(failure);
                break;
            }
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.code != 0).count();
    // The four batch answers have the same shape, which is all that their JSON shows.
    let answer = BatchCancelCampaignsResponse { outcomes };
    console.list(&answer, &answer.outcomes, |outcomes, width| {
        let mut table = Table::new(width, &["CAMPAIGN", "STATE", "IN FLIGHT>", "RESULT"]);
        for outcome in outcomes {
            let ok = outcome.code == 0;
            let result =
                if ok { "ok".to_owned() } else { format!("{}: {}", code_name(outcome.code.into()), outcome.message) };
            let state = if outcome.state == 0 { String::new() } else { values::campaign_state(outcome.state()) };
            table.row([outcome.campaign_id.clone(), or_dash(&state), values::count(outcome.in_flight), result]);
        }
        table.text()
    })?;
    if let Some(failure) = broken {
        let rest = ids.len() - answer.outcomes.len();
        let what = format!("no answer for the last {rest} of {} campaigns", ids.len());
        return Err(Failure { exit: Exit::Partial, ..failure.context(what) }.hint("the same again is safe"));
    }
    if failed == 0 {
        return Ok(Exit::Ok);
    }
    console.note(&format!("{failed} of {} campaigns failed", answer.outcomes.len()));
    Ok(Exit::Partial)
}

async fn batch(step: Move, ids: &[String], server: &Server) -> Outcome<Vec<CampaignOutcome>> {
    let selection = Some(CampaignSelection { by: Some(By::Ids(CampaignIds { campaign_ids: ids.to_vec() })) });
    let mut client = server.campaigns();
    Ok(match step {
        Move::Start => {
            let request = server.long_request(BatchStartCampaignsRequest { selection });
            client.batch_start_campaigns(request).await?.into_inner().outcomes
        }
        Move::Pause => {
            let request = server.request(BatchPauseCampaignsRequest { selection });
            client.batch_pause_campaigns(request).await?.into_inner().outcomes
        }
        Move::Resume => {
            let request = server.request(BatchResumeCampaignsRequest { selection });
            client.batch_resume_campaigns(request).await?.into_inner().outcomes
        }
        Move::Cancel => {
            let request = server.request(BatchCancelCampaignsRequest { selection });
            client.batch_cancel_campaigns(request).await?.into_inner().outcomes
        }
    })
}
