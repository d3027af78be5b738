//! What concerns several campaigns at once: asked for together, answered by the owner of each.

use futures_util::stream::{self, StreamExt as _};
use sluice_engine::control::{BatchMove, Control};
use sluice_proto::v1;
use tokio::time::Instant;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::{Front, convert, status};
use crate::auth::Principal;
use crate::nodes::{self, Nodes};

/// Campaigns of a batch that other nodes are asked for at a time.
const AT_A_TIME: usize = 8;

impl Front {
    /// The same move for many campaigns; one that fails does not stop the others.
    pub(super) async fn batch<Q>(
        &self,
        request: Request<Q>,
        selection: impl FnOnce(Q) -> Option<v1::CampaignSelection>,
        asked: BatchMove,
    ) -> Result<Vec<v1::CampaignOutcome>, Status> {
        let until = self.deadline(&request, path(asked));
        let nodes = self.nodes.clone();
        let work = move |control: Control, caller: Principal, chosen| async move {
            let chosen = convert::selection(chosen)?;
            let Some(nodes) = nodes else {
                let outcomes = control.batch(&caller.tenant, chosen, asked).await?;
                return Ok(outcomes.into_iter().map(convert::outcome).collect());
            };
            let ids = control.selected(&caller.tenant, chosen).await?;
            let (nodes, control, caller) = (&*nodes, &control, &caller);
            let each = ids.into_iter().map(|id| at_owner(nodes, control, caller, asked, until, id));
            Ok(stream::iter(each).buffered(AT_A_TIME).collect().await)
        };
        Ok(self.call(request.map(selection), work).await?.into_inner())
    }

    /// Recounts a campaign where it is owned.
    pub(super) async fn recount(&self, caller: &Principal, id: String) -> Result<Option<v1::Recount>, Status> {
        let here = || async {
            let recount = self.control.recount(&caller.tenant, &id).await.map_err(|error| status::of(&error))?;
            Ok(v1::RecountCampaignResponse { recount: Some(convert::recount(recount)) })
        };
        let Some(nodes) = &self.nodes else { return Ok(here().await?.recount) };
        let request = v1::RecountCampaignRequest { campaign_id: id.clone() };
        let path = "/sluice.v1.CampaignService/RecountCampaign";
        let until = Instant::now() + nodes.call_time(path);
        Ok(nodes.at_owner(path, caller, until, &request, here).await?.recount)
    }

    /// When the caller of a call with one answer no longer waits, as far as other nodes need to know.
    fn deadline<Q>(&self, request: &Request<Q>, path: &str) -> Instant {
        let most = self.nodes.as_ref().map(|nodes| nodes.call_time(path)).unwrap_or_default();
        let told = nodes::deadline(request.metadata());
        Instant::now() + told.map_or(most, |told| told.min(most))
    }
}

/// One campaign of a batch: moved by its owner. To the owner it is a call of its own, so all that holds for one holds for each.
async fn at_owner(
    nodes: &Nodes,
    control: &Control,
    caller: &Principal,
    asked: BatchMove,
    until: Instant,
    id: String,
) -> v1::CampaignOutcome {
    let tenant = &caller.tenant;
    let here = || async {
        let (campaign, in_flight) = match asked {
            BatchMove::Start => control.start_campaign(tenant, &id, None).await.map(|campaign| (campaign, 0)),
            BatchMove::Resume => control.resume_campaign(tenant, &id, None).await.map(|campaign| (campaign, 0)),
            BatchMove::Pause => control.pause_campaign(tenant, &id, None).await.map(|h| (h.campaign, h.in_flight)),
            BatchMove::Cancel => control.cancel_campaign(tenant, &id, None).await.map(|h| (h.campaign, h.in_flight)),
        }
        .map_err(|error| status::of(&error))?;
        Ok(v1::PauseCampaignResponse { campaign: Some(convert::campaign(campaign)), in_flight })
    };
    // The messages of the four moves are one on the wire (asserted below).
    let request = v1::PauseCampaignRequest { campaign_id: id.clone(), etag: String::new() };
    let answer: Result<v1::PauseCampaignResponse, Status> =
        nodes.at_owner(path(asked), caller, until, &request, here).await;
    match answer {
        Ok(v1::PauseCampaignResponse { campaign, in_flight }) => {
            let state = campaign.unwrap_or_default().state;
            v1::CampaignOutcome { campaign_id: id, state, in_flight, ..Default::default() }
        }
        Err(status) => v1::CampaignOutcome {
            campaign_id: id,
            state: state_in(&status).into(),
            code: status.code().into(),
            message: status.message().to_owned(),
            in_flight: 0,
        },
    }
}

const fn path(asked: BatchMove) -> &'static str {
    match asked {
        BatchMove::Start => "/sluice.v1.CampaignService/StartCampaign",
        BatchMove::Pause => "/sluice.v1.CampaignService/PauseCampaign",
        BatchMove::Resume => "/sluice.v1.CampaignService/ResumeCampaign",
        BatchMove::Cancel => "/sluice.v1.CampaignService/CancelCampaign",
    }
}

/// The state of a campaign that does not allow the move, from the details of the refusal.
fn state_in(status: &Status) -> v1::CampaignState {
    let info = status.get_details_error_info();
    let name = info.as_ref().and_then(|info| info.metadata.get("state")).map(|name| name.to_uppercase());
    let state = name.and_then(|name| v1::CampaignState::from_str_name(&format!("CAMPAIGN_STATE_{name}")));
    state.unwrap_or(v1::CampaignState::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::DescriptorPool;
    use sluice_engine::domain::campaign::{CampaignState, Move, next_state};

    #[test]
    fn the_messages_of_the_four_moves_are_one_on_the_wire() {
        let pool = DescriptorPool::decode(sluice_proto::FILE_DESCRIPTOR_SET).unwrap();
        let service = pool.get_service_by_name("sluice.v1.CampaignService").unwrap();
        let pause = service.methods().find(|method| method.name() == "PauseCampaign").unwrap();
        for asked in [BatchMove::Start, BatchMove::Pause, BatchMove::Resume, BatchMove::Cancel] {
            let method =
                service.methods().find(|method| path(asked).ends_with(&format!("/{}", method.name()))).unwrap();
            for (ours, its) in [(pause.input(), method.input()), (pause.output(), method.output())] {
                for field in its.fields() {
                    let same = ours.get_field(field.number()).unwrap();
                    assert_eq!((same.name(), same.kind()), (field.name(), field.kind()), "{}", its.full_name());
                }
            }
            assert!(method.input().fields().any(|field| field.name() == "campaign_id"), "{}", method.full_name());
        }
    }

    #[test]
    fn a_refusal_tells_the_state() {
        let error = next_state(CampaignState::Completed, Move::Pause, false).unwrap_err();
        assert_eq!(state_in(&status::of(&error.into())), v1::CampaignState::Completed);
        assert_eq!(state_in(&Status::internal("x")), v1::CampaignState::Unspecified);
    }
}
