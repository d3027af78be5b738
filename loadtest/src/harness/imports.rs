//! A customer's imports: generated recipients, in chunks that run a little ahead of their acknowledgements.

use anyhow::bail;
use sluice_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::Customer;
use super::people;
use crate::witness::audience::Audience;

/// Rows in a chunk of an import.
const CHUNK: u32 = 5_000;
/// Chunks sent ahead of their acknowledgement.
const AHEAD: usize = 4;

impl Customer {
    /// Imports generated recipients `0..count` of a block.
    ///
    /// # Errors
    /// When the server refuses a chunk or a row, or the stream breaks.
    pub async fn import(&self, campaign: &str, block: u32, count: u32) -> anyhow::Result<()> {
        self.import_from(campaign, block, 0, count).await
    }

    /// Imports generated recipients `first..first + count` of a block.
    ///
    /// # Errors
    /// When the server refuses a chunk or a row, or the stream breaks.
    pub async fn import_from(&self, campaign: &str, block: u32, first: u32, count: u32) -> anyhow::Result<()> {
        self.import_audience(campaign, Audience { block, first, count, ..Audience::default() }).await
    }

    /// Imports an audience as it stands there.
    ///
    /// # Errors
    /// When the server refuses a chunk or a row, or the stream breaks.
    pub async fn import_audience(&self, campaign: &str, audience: Audience) -> anyhow::Result<()> {
        let chunks = (0..audience.count).step_by(CHUNK as usize).map(move |from| {
            let places = from..audience.count.min(from + CHUNK);
            let rows: Vec<_> = places.map(|place| people::row_of(&audience, place)).collect();
            (u64::from(from), rows)
        });
        self.import_chunks(campaign, "generated", chunks, |_| {}).await
    }

    /// Imports so many of an audience a second time, each with the parameters of somebody else: the first row counts.
    ///
    /// # Errors
    /// When the server refuses a chunk, or a row as anything but a duplicate, or the stream breaks.
    pub async fn import_again(&self, campaign: &str, audience: Audience, again: u32) -> anyhow::Result<()> {
        // Spread over the list, its last recipient among them.
        let row = move |n: u32| {
            let place = u64::from(n + 1) * u64::from(audience.count) / u64::from(again) - 1;
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let body_params = audience.parameters(place + 1).to_vec();
            v1::RecipientRow { body_params, ..people::row_of(&audience, place) }
        };
        let chunks = (0..again).step_by(CHUNK as usize).map(move |from| {
            let rows: Vec<_> = (from..again.min(from + CHUNK)).map(row).collect();
            (u64::from(from), rows)
        });
        self.import_chunks(campaign, "again", chunks, |_| {}).await
    }

    /// Imports rows in chunks of `(offset, rows)`, a few ahead of the acknowledgements; `progress` hears how many rows are durable.
    ///
    /// # Errors
    /// When the server refuses a chunk, or a row as anything but a duplicate, or the stream breaks.
    pub async fn import_chunks(
        &self,
        campaign: &str,
        import: &str,
        chunks: impl Iterator<Item = (u64, Vec<v1::RecipientRow>)> + Send + 'static,
        mut progress: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let header = v1::ImportRecipientsRequest {
            part: Some(v1::import_recipients_request::Part::Header(v1::ImportHeader {
                campaign_id: campaign.to_owned(),
                import_id: import.to_owned(),
            })),
        };
        sender.send(header).await?;
        let mut answers = self.imports().import_recipients(ReceiverStream::new(receiver)).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.part) {
            Some(v1::import_recipients_response::Part::Ready(_)) => {}
            other => bail!("the import was not opened: {other:?}"),
        }
        let feeder = tokio::spawn(async move {
            let mut expected = 0;
            for (offset, rows) in chunks {
                expected = offset + rows.len() as u64;
                let chunk = v1::ImportChunk { row_offset: offset, sha256: people::digest(&rows).into(), rows };
                let part = Some(v1::import_recipients_request::Part::Chunk(chunk));
                if sender.send(v1::ImportRecipientsRequest { part }).await.is_err() {
                    break;
                }
            }
            expected
        });
        let mut acked = 0;
        while let Some(answer) = answers.message().await? {
            if let Some(v1::import_recipients_response::Part::Ack(ack)) = answer.part {
                if let Some(row) = ack.refused.iter().find(|row| row.duplicate_of.is_none()) {
                    bail!("row {} was refused: {:?}", row.row, row.violations);
                }
                acked = ack.acked_rows;
                progress(acked);
            }
        }
        let expected = feeder.await?;
        anyhow::ensure!(acked == expected, "{acked} of {expected} rows were acknowledged");
        Ok(())
    }
}
