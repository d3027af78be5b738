//! The metrics page stays bounded: so many running campaigns each with its series, the others summed up, and nothing of what ended.

use std::collections::BTreeSet;

use super::house::{House, acme};
use super::{eventually, together};
use crate::metrics::CAMPAIGN_RATE;

/// What stands in the label of the campaigns that the page shows.
fn shown(house: &House) -> BTreeSet<String> {
    let mut page = String::new();
    house.engine.write_series(&mut page);
    let begin = format!("{CAMPAIGN_RATE}{{campaign=\"");
    let labels = page.lines().filter_map(|line| line.strip_prefix(&begin)?.split_once('"'));
    labels.map(|(campaign, _)| campaign.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_so_many_running_campaigns_and_none_that_ended() {
    let _together = together().await;
    let house = House::with(|config| config.campaign_series_max = 2).await;
    house.line("line-1", "", 1).await;
    let mut runs = Vec::new();
    for id in ["one", "two", "three", "four"] {
        runs.push(house.started(id, "line-1", 50).await);
    }
    let of = |runs: &[&str]| runs.iter().map(|&label| label.to_owned()).collect::<BTreeSet<_>>();
    let key = |at: usize| runs[at].key.to_string();
    assert!(eventually(async || shown(&house) == of(&[&key(0), &key(1), "other"])).await, "{:?}", shown(&house));
    for (ended, left) in [(0, vec![key(1), key(2), "other".to_owned()]), (1, vec![key(2), key(3)])] {
        house.control.cancel_campaign(&acme(), &runs[ended].id, None).await.unwrap();
        let left: BTreeSet<String> = left.into_iter().collect();
        assert!(eventually(async || shown(&house) == left).await, "{:?}", shown(&house));
    }
    house.close().await;
}
