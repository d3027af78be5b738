//! How a campaign spreads what it wants over the lines of its pool.
//!
//! A campaign that wants much asks every line for all of it: what each grants follows from what it has left. One that wants little (it has a
//! rate of its own, or few slots) asks only as many lines as that needs, those with the most left: else each message costs a question, a
//! grant and its return at every line of the pool.

use super::share::BATCH;

/// What is known of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Permits it could grant now; `None`: it is stopped.
    pub spare: Option<u32>,
    /// What it was asked for and has not granted yet.
    pub asked: u32,
}

/// How much to ask of each line, in their order. `turn` decides between equals.
pub fn spread(wants: u32, offers: &[Offer], turn: usize) -> Vec<u32> {
    let lines = u32::try_from(offers.len()).unwrap_or(u32::MAX);
    let able = offers.iter().filter(|offer| offer.spare.is_some()).count();
    // Where all are stopped, all are asked: the first that is released grants.
    if wants == 0 || able == 0 || wants >= BATCH.saturating_mul(lines) {
        return vec![wants; offers.len()];
    }
    let mut order: Vec<usize> = (0..offers.len()).filter(|at| offers[*at].spare.is_some()).collect();
    order.sort_by_key(|at| {
        let Offer { spare, asked } = offers[*at];
        let spare = spare.unwrap_or(0);
        // Whoever was asked and can grant stays asked.
        let rest = (at + offers.len() - turn % offers.len()) % offers.len();
        (!(asked > 0 && spare > 0), std::cmp::Reverse(spare), asked == 0, rest)
    });
    let chosen = able.min(wants.div_ceil(BATCH) as usize);
    let mut asks = vec![0; offers.len()];
    let among = u32::try_from(chosen).unwrap_or(1);
    for (place, at) in (0..among).zip(order) {
        asks[at] = wants / among + u32::from(place < wants % among);
    }
    asks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(spare: Option<u32>, asked: u32) -> Offer {
        Offer { spare, asked }
    }

    #[test]
    fn little_is_asked_of_the_line_with_the_most_left() {
        let offers = [offer(Some(3), 0), offer(Some(9), 0), offer(None, 0), offer(Some(9), 0)];
        assert_eq!(spread(1, &offers, 0), [0, 1, 0, 0]);
        assert_eq!(spread(1, &offers, 2), [0, 0, 0, 1], "between equals the turn decides");
        assert_eq!(spread(7, &offers, 0), [0, 4, 0, 3]);
        assert_eq!(spread(16, &offers, 0), [16; 4], "much is asked of all");
        assert_eq!(spread(0, &offers, 0), [0; 4]);
    }

    #[test]
    fn who_was_asked_stays_asked_while_it_can_grant() {
        assert_eq!(spread(1, &[offer(Some(1), 1), offer(Some(9), 0)], 0), [1, 0]);
        assert_eq!(spread(1, &[offer(Some(0), 1), offer(Some(9), 0)], 0), [0, 1], "it is full: another is asked");
        assert_eq!(spread(1, &[offer(Some(0), 0), offer(Some(0), 1)], 0), [0, 1], "all are full: it keeps its place");
        assert_eq!(spread(1, &[offer(None, 1), offer(None, 0)], 0), [1, 1]);
    }

    proptest! {
        #[test]
        fn as_much_is_asked_as_is_wanted_and_never_of_a_stopped_line_beside_others(
            wants in 0_u32..200,
            offers in prop::collection::vec((prop::option::of(0_u32..50), 0_u32..5), 1..30),
            turn in any::<usize>(),
        ) {
            let offers: Vec<Offer> = offers.into_iter().map(|(spare, asked)| offer(spare, asked)).collect();
            let asks = spread(wants, &offers, turn);
            prop_assert_eq!(asks.len(), offers.len());
            let sum: u32 = asks.iter().sum();
            prop_assert!(asks.iter().all(|asked| *asked == wants) || sum == wants, "{:?}", asks);
            if offers.iter().any(|offer| offer.spare.is_some()) && sum == wants {
                prop_assert!(offers.iter().zip(&asks).all(|(offer, asked)| offer.spare.is_some() || *asked == 0 || *asked == wants));
            }
        }
    }
}
