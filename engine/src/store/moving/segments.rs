//! A campaign's messages, read segment by segment.

use super::Movable;
use super::carry::{Failed, from};
use crate::domain::ids::{CampaignKey, SEGMENT_LEN};
use crate::store::paging;
use crate::store::{MessageFilter, MessageRecord, Page, Paged};

/// Reads a campaign's messages segment by segment.
pub(super) struct Segments {
    campaign: CampaignKey,
    after: Option<Vec<u8>>,
    /// The beginning of the next segment, read with the one before.
    begun: Vec<MessageRecord>,
}

impl Segments {
    /// From this place on.
    pub(super) fn after(campaign: CampaignKey, next_seq: u32) -> Self {
        let after = (next_seq > 0).then(|| paging::mark(i64::from(next_seq) - 1));
        Self { campaign, after, begun: Vec::new() }
    }

    /// The next segment that has any message, and what is left; empty: there is none.
    pub(super) async fn next(self, source: &dyn Movable) -> Result<(Vec<MessageRecord>, Option<Self>), Failed> {
        let Self { campaign, mut after, begun: mut segment } = self;
        let filter = MessageFilter { all_attempts: true, ..MessageFilter::default() };
        loop {
            let page = Page { size: SEGMENT_LEN as usize, after };
            let Paged { items, next } = from(source.messages(campaign, &filter, page).await)?;
            segment.extend(items);
            let number = segment.first().map(|first| first.key.segment());
            let end = segment.iter().position(|message| Some(message.key.segment()) != number);
            after = next;
            let begun = end.map(|end| segment.split_off(end)).unwrap_or_default();
            if after.is_none() {
                // What is left may be several short segments: each is given by itself.
                let rest = (!begun.is_empty()).then_some(Self { campaign, after: Some(last_place(&begun)), begun });
                return Ok((segment, rest));
            }
            if !begun.is_empty() {
                return Ok((segment, Some(Self { campaign, after, begun })));
            }
        }
    }
}

/// A mark behind the last message read.
fn last_place(messages: &[MessageRecord]) -> Vec<u8> {
    paging::mark(messages.last().map_or(-1, |last| i64::from(last.key.seq)))
}
