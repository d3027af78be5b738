//! Fair shares of a line among the campaigns that want to send: round robin, one batch each.

use std::collections::VecDeque;

use super::ids::CampaignKey;

/// What one campaign gets at least in its turn, where there is so much: every batch costs a commit and a few wake-ups, and with
/// a hundred campaigns on a line batches of one are most of the work. Equal campaigns then differ by no more than this.
pub(super) const BATCH: u32 = 4;

/// Who wants how much, in turn.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// In order of their turn; each wants at least one.
    turns: VecDeque<(CampaignKey, u32)>,
    /// What the first has had of its turn.
    had: u32,
}

impl Shares {
    /// A campaign wants `wanted` permits in all from now on (0: none). Its turn stays where it was.
    pub fn want(&mut self, campaign: CampaignKey, wanted: u32) {
        match self.turns.iter().position(|(key, _)| *key == campaign) {
            Some(at) if wanted == 0 => {
                self.turns.remove(at);
                if at == 0 {
                    self.had = 0;
                }
            }
            Some(at) => self.turns[at].1 = wanted,
            None if wanted > 0 => self.turns.push_back((campaign, wanted)),
            None => {}
        }
    }

    /// Campaigns that want something.
    pub fn wanting(&self) -> usize {
        self.turns.len()
    }

    /// Deals out up to `room` permits, equally among those that want some; what one does not want goes to the others. A turn
    /// that the room cut short goes on with the next room.
    pub fn deal(&mut self, mut room: u32) -> Vec<(CampaignKey, u32)> {
        let mut dealt: Vec<(CampaignKey, u32)> = Vec::new();
        let turn = (room / u32::try_from(self.turns.len().max(1)).unwrap_or(u32::MAX)).max(BATCH);
        while room > 0
            && let Some((campaign, wanted)) = self.turns.front_mut()
        {
            let given = turn.saturating_sub(self.had).min(*wanted).min(room);
            let campaign = *campaign;
            *wanted -= given;
            room -= given;
            self.had += given;
            let satisfied = *wanted == 0;
            if given > 0 {
                match dealt.iter_mut().find(|(key, _)| *key == campaign) {
                    Some((_, sum)) => *sum += given,
                    None => dealt.push((campaign, given)),
                }
            }
            if satisfied {
                self.turns.pop_front();
                self.had = 0;
            } else if self.had >= turn {
                self.turns.rotate_left(1);
                self.had = 0;
            }
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Equal campaigns with standing demand differ by no more than one batch, whatever the rooms.
        #[test]
        fn equal_campaigns_get_equal_shares(campaigns in 1_u32..40, rooms in prop::collection::vec(1_u32..20, 200..400)) {
            let mut shares = Shares::default();
            let mut got = vec![0_u32; campaigns as usize];
            for room in &rooms {
                for key in 0..campaigns {
                    shares.want(CampaignKey(key), 1_000);
                }
                let dealt = shares.deal(*room);
                prop_assert_eq!(dealt.iter().map(|(_, n)| n).sum::<u32>(), *room);
                for (key, n) in dealt {
                    got[key.0 as usize] += n;
                }
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(most - least <= 20, "{least} to {most}");
        }
    }

    #[test]
    fn what_one_does_not_want_goes_to_the_others() {
        let mut shares = Shares::default();
        shares.want(CampaignKey(1), 2);
        shares.want(CampaignKey(2), 100);
        assert_eq!(shares.deal(50), vec![(CampaignKey(1), 2), (CampaignKey(2), 48)]);
        assert_eq!(shares.wanting(), 1);
        shares.want(CampaignKey(2), 0);
        assert_eq!(shares.deal(50), vec![]);
    }
}
