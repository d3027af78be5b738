//! `recount`: counts the messages anew and compares with the tally.

use sluice_proto::v1::{Recount, RecountCampaignRequest, RecountTenantRequest};

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::output::{Console, Format, Table};
use super::{json, values};

/// Runs `recount CAMPAIGN`. A difference is a defect of the server: exit code 1.
pub async fn campaign(campaign: &str, server: &Server, console: &mut Console) -> Outcome {
    let request = server.long_request(RecountCampaignRequest { campaign_id: campaign.to_owned() });
    let answer = server.campaigns().recount_campaign(request).await?.into_inner();
    console.answer(&answer, |answer, width| {
        answer.recount.as_ref().map(|recount| text(recount, width)).unwrap_or_default()
    })?;
    let differs = answer.recount.is_some_and(|recount| !recount.differences.is_empty());
    verdict(usize::from(differs))
}

/// Runs `recount --all`: one answer for each campaign as it is done.
pub async fn tenant(server: &Server, console: &mut Console) -> Outcome {
    let mut answers = server.campaigns().recount_tenant(RecountTenantRequest {}).await?.into_inner();
    let (mut campaigns, mut differing) = (0_u64, 0_usize);
    while let Some(answer) = answers.message().await? {
        let Some(recount) = &answer.recount else { continue };
        campaigns += 1;
        differing += usize::from(!recount.differences.is_empty());
        match console.format {
            Format::Table => console.say(text(recount, console.width).trim_end())?,
            Format::Json | Format::Ndjson => json::write_line(&mut console.out, &answer)?,
        }
    }
    console.note(&format!("campaigns counted: {}, that differ: {differing}", values::count(campaigns)));
    verdict(differing)
}

fn verdict(differing: usize) -> Outcome {
    match differing {
        0 => Ok(Exit::Ok),
        _ => Err(Failure::new(Exit::Failed, "tally and messages differ, which is a defect of the server")
            .hint("keep the server's log and a backup of its store, and report it")),
    }
}

fn text(recount: &Recount, width: Option<u16>) -> String {
    let name = &recount.campaign_id;
    if recount.differences.is_empty() {
        return format!("campaign {name}: {} messages counted, the tally is right\n", values::count(recount.messages));
    }
    let mut table = Table::new(width, &["COUNT", "TALLY>", "MESSAGES>"]);
    for difference in &recount.differences {
        table.row([difference.name.clone(), values::count(difference.before), values::count(difference.after)]);
    }
    let counted = values::count(recount.messages);
    format!("campaign {name}: {counted} messages counted, the tally differs\n{}", table.text())
}
