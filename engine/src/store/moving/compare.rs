//! The proof: both ledgers are read again, everything in them, and counted again, campaign by campaign.
//!
//! What is compared are the records themselves, as text, by sums of their digests: in any order, in bounded memory. A campaign's list
//! is also digested as its seal did it. Each difference is one line for people.

use std::fmt::Debug;

use ring::digest::{Context, SHA256, digest};

use super::Movable;
use super::carry::{Failed, Moved, Progress, Told, from, to};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, SEGMENT_LEN};
use crate::domain::tally::Tally;
use crate::store::paging::Pages;
use crate::store::{Counts, LineFilter, MessageFilter, ParkedEvent, StoreError, StoreResult};

/// Records read at a time.
const PAGE: usize = 1_000;

/// What a set of records comes to, in whatever order they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    count: u64,
    digests: u128,
}

impl Sum {
    fn add(&mut self, record: &impl Debug) {
        let digest = digest(&SHA256, format!("{record:?}").as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&digest.as_ref()[..16]);
        self.count += 1;
        self.digests = self.digests.wrapping_add(u128::from_be_bytes(first));
    }

    fn of<T: Debug>(records: &[T]) -> Self {
        let mut sum = Self::default();
        records.iter().for_each(|record| sum.add(record));
        sum
    }
}

/// A campaign as one ledger tells it.
#[derive(Debug, PartialEq)]
struct Side {
    record: Campaign,
    imports: Sum,
    chunks: Sum,
    refused: Sum,
    messages: Sum,
    audience: String,
    kept: Counts,
    tally: Counts,
    counted: Counts,
}

/// Every difference between the two, a line for each.
pub(super) async fn compare(
    source: &dyn Movable,
    target: &dyn Movable,
    campaigns: &[(Campaign, Tally)],
    moved: &mut Moved,
    told: Told<'_>,
) -> Result<Vec<String>, Failed> {
    let mut differences = Vec::new();
    let (here, there) = (from(records(source).await)?, to(records(target).await)?);
    for ((what, here), (_, there)) in here.iter().zip(&there) {
        if here != there {
            differences.push(differs(what, *here, *there));
        }
    }
    for (campaign, _) in campaigns {
        let name = format!("campaign {}/{}", campaign.tenant, campaign.id);
        let here = from(read(source, campaign.key).await)?;
        let there = match target.campaign(&campaign.tenant, &campaign.id).await {
            Ok(found) if found.key == campaign.key => to(read(target, campaign.key).await)?,
            Ok(_) | Err(StoreError::NotFound(_)) => {
                differences.push(format!("{name} is not in the target"));
                continue;
            }
            Err(error) => return Err(Failed::Target(error)),
        };
        differ(&name, &here, &there, &mut differences);
        moved.campaigns += 1;
        moved.messages += here.messages.count;
        moved.tally.absorb(&here.counted.tally);
        if told(Progress::Compared { campaign }).is_break() {
            return Err(Failed::Stopped);
        }
    }
    Ok(differences)
}

fn differs(what: &str, here: Sum, there: Sum) -> String {
    let content = if here.count == there.count { ", of other content" } else { "" };
    format!("{what}: {} in the source, {} in the target{content}", here.count, there.count)
}

fn differ(name: &str, here: &Side, there: &Side, differences: &mut Vec<String>) {
    let mut note = |text: String| differences.push(format!("{name}: {text}"));
    if here.record != there.record {
        note("its record is not the same".to_owned());
    }
    for (what, here, there) in [
        ("imports", here.imports, there.imports),
        ("chunks of imports", here.chunks, there.chunks),
        ("refused rows", here.refused, there.refused),
        ("messages", here.messages, there.messages),
    ] {
        if here != there {
            note(differs(what, here, there));
        }
    }
    for (which, told) in [("source", here), ("target", there)] {
        if told.record.sealed.as_ref().is_some_and(|sealed| sealed.digest != told.audience) {
            note(format!("the list in the {which} is not the one that was sealed"));
        }
        if told.tally != told.counted || told.kept != told.counted {
            note(format!(
                "tally and recount differ in the {which}: {:?} kept, {:?} counted",
                told.kept.tally, told.counted.tally
            ));
        }
    }
    if here.counted != there.counted {
        note(format!("{:?} counted in the source, {:?} in the target", here.counted.tally, there.counted.tally));
    }
}

/// Everything that is of no campaign.
async fn records(ledger: &dyn Movable) -> StoreResult<Vec<(&'static str, Sum)>> {
    let (mut pools, mut templates, mut requests) = (Sum::default(), Sum::default(), Sum::default());
    let tenants = ledger.tenants().await?;
    for tenant in &tenants {
        ledger.pools(tenant).await?.iter().for_each(|pool| pools.add(pool));
        let mut pages = Pages::of(PAGE);
        while let Some(page) = pages.next() {
            let items = pages.read(ledger.list_templates(tenant, page).await?);
            items.iter().for_each(|template| templates.add(template));
        }
    }
    let mut pages = Pages::of(PAGE);
    while let Some(page) = pages.next() {
        let items = pages.read(ledger.requests(page).await?);
        items.iter().for_each(|request| requests.add(request));
    }
    let (mut orphans, mut parked, mut inbound) = (Sum::default(), Sum::default(), Sum::default());
    let mut pages = Pages::of(PAGE);
    while let Some(page) = pages.next() {
        let items = pages.read(ledger.all_orphans(page).await?);
        items.iter().for_each(|event| orphans.add(&unnumbered(event)));
    }
    let mut pages = Pages::of(PAGE);
    while let Some(page) = pages.next() {
        let items = pages.read(ledger.all_parked(page).await?);
        items.iter().for_each(|event| parked.add(&unnumbered(event)));
    }
    let mut pages = Pages::of(PAGE);
    while let Some(page) = pages.next() {
        let items = pages.read(ledger.all_inbound(page).await?);
        items.iter().for_each(|event| inbound.add(event));
    }
    Ok(vec![
        ("secret for correlation ids", Sum::of(&[ledger.installation_secret().await?])),
        ("numbers given away", Sum::of(&[ledger.numbers().await?])),
        ("pools", pools),
        ("lines", Sum::of(&ledger.lines(&LineFilter::default()).await?)),
        ("templates", templates),
        ("notes of creations", requests),
        ("orphans", orphans),
        ("parked events", parked),
        ("inbound entries", inbound),
    ])
}

/// Each store numbers them in its own way.
fn unnumbered(event: &ParkedEvent) -> ParkedEvent {
    ParkedEvent { id: 0, ..event.clone() }
}

/// Everything of one campaign.
async fn read(ledger: &dyn Movable, key: CampaignKey) -> StoreResult<Side> {
    let record = ledger.campaign_by_key(key).await?;
    let imports = ledger.imports(key).await?;
    let (mut chunks, mut refused) = (Sum::default(), Sum::default());
    for import in 0..u32::try_from(imports.len()).unwrap_or(u32::MAX) {
        let mut pages = Pages::of(PAGE);
        while let Some(page) = pages.next() {
            let items = pages.read(ledger.chunks(key, import, page).await?);
            items.iter().for_each(|chunk| chunks.add(&(import, chunk)));
        }
    }
    let mut pages = Pages::of(PAGE);
    while let Some(page) = pages.next() {
        let items = pages.read(ledger.refused_rows(key, page).await?);
        let first = refused.count;
        (first..).zip(&items).for_each(|row| refused.add(&row));
    }
    let (messages, audience) = messages(ledger, key).await?;
    let unnumbered = |counts: Counts| Counts { revision: 0, ..counts };
    let (kept, counted) = ledger.recount(key).await?;
    let tally = unnumbered(ledger.tally(key).await?);
    let (kept, counted) = (unnumbered(kept), unnumbered(counted));
    Ok(Side { record, imports: Sum::of(&imports), chunks, refused, messages, audience, kept, tally, counted })
}

/// The sum over a campaign's messages with all that is known of them, and the digest of its list as the seal makes it.
async fn messages(ledger: &dyn Movable, key: CampaignKey) -> StoreResult<(Sum, String)> {
    let filter = MessageFilter { all_attempts: true, ..MessageFilter::default() };
    let (mut sum, mut list, mut pages) = (Sum::default(), Context::new(&SHA256), Pages::of(SEGMENT_LEN as usize));
    while let Some(page) = pages.next() {
        for message in &pages.read(ledger.messages(key, &filter, page).await?) {
            sum.add(message);
            for text in [Some(&message.address), message.external_id.as_ref(), Some(&message.params)] {
                list.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
                list.update(text.map(|text| text.as_bytes()).unwrap_or_default());
            }
        }
    }
    Ok((sum, list.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
}
