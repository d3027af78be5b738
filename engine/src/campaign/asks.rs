//! What a campaign has asked of its lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::CampaignRef;
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::spread::{Offer, spread};
use crate::line::LineMsg;
use crate::line::gate::LineShared;

/// What each line was last told that the campaign wants, less what it granted since.
pub(super) struct Asks {
    campaign: CampaignKey,
    actor: CampaignRef,
    look_ahead: Duration,
    /// Not there: it has to be told.
    told: HashMap<LineKey, u32>,
    /// Rises with every question, so that equals are asked in turn.
    turn: usize,
}

impl Asks {
    pub(super) fn new(campaign: CampaignKey, actor: CampaignRef, look_ahead: Duration) -> Self {
        Self { campaign, actor, look_ahead, told: HashMap::new(), turn: campaign.0 as usize }
    }

    /// A line that is new, or started anew, has not heard of the campaign.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    /// A line granted so many.
    pub(super) fn granted(&mut self, line: LineKey, count: u32) {
        if let Some(told) = self.told.get_mut(&line) {
            *told = told.saturating_sub(count);
        }
    }

    /// Whether a line was asked for more than it granted.
    pub(super) fn are_open(&self) -> bool {
        self.told.values().any(|told| *told > 0)
    }

    /// Tells each line what is wanted of it, where that is not what it knows.
    pub(super) fn ask(&mut self, wants: u32, lines: &[Arc<LineShared>]) {
        let asks = if wants == 0 || lines.len() == 1 {
            vec![wants; lines.len()]
        } else {
            let told = |line: &LineShared| self.told.get(&line.key).copied().unwrap_or(0);
            let offers = lines.iter().map(|line| Offer { spare: line.spare(self.look_ahead), asked: told(line) });
            spread(wants, &offers.collect::<Vec<_>>(), self.turn)
        };
        for (line, wanted) in lines.iter().zip(asks) {
            let told = self.told.get(&line.key).copied();
            // A little change is not worth a message; more than a third, or to and from nothing, is.
            let much = |told: u32| wanted == 0 || told == 0 || told.abs_diff(wanted) > wanted / 3;
            if told != Some(wanted) && told.is_none_or(much) {
                self.turn = self.turn.wrapping_add(usize::from(wanted > 0));
                self.told.insert(line.key, wanted);
                line.cast(LineMsg::Want { campaign: self.campaign, actor: self.actor.clone(), wanted });
            }
        }
    }
}
