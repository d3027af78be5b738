//! Imports.
//!
//! One task reads and checks chunks, another stores them; between them lies a queue of two, so that the rows of the next chunks
//! are checked while the one before becomes durable. All three (reader, queue, answers) are bounded: an importer who does not
//! take its acknowledgements is not read from.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use sluice_engine::control::{Control, Error, ImportOpened, ImportSession, ReadyChunk};
use sluice_proto::v1;
use sluice_proto::v1::import_service_server::ImportService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use v1::import_recipients_request::Part as Asked;
use v1::import_recipients_response::Part as Told;

use super::convert::{self, timestamp};
use super::places::Place;
use super::{Front, enter, pages, status};
use crate::auth::Principal;
use sluice_engine::control::CHUNK_ROWS_MAX;

/// Checked chunks that wait for the store.
const CHECKED_MAX: usize = 2;
/// Answers that wait for the reader.
const ANSWERS_MAX: usize = 4;

/// Needs the importers' time limit besides what all services share.
pub(super) struct Imports {
    pub(super) front: Front,
    /// Longest silence of an importer.
    pub(super) idle: Duration,
}

type Answer = Result<v1::ImportRecipientsResponse, Status>;

#[tonic::async_trait]
impl ImportService for Imports {
    type ImportRecipientsStream = BoxStream<'static, Answer>;

    async fn import_recipients(
        &self,
        request: Request<Streaming<v1::ImportRecipientsRequest>>,
    ) -> Result<Response<Self::ImportRecipientsStream>, Status> {
        let (caller, chunks) = enter(request)?;
        let place = self.front.streams.imports.take(&caller.tenant)?;
        let mut reader = Reader { chunks, idle: self.idle, shutdown: self.front.shutdown.clone() };
        let header = match reader.next().await? {
            Some(Asked::Header(header)) => header,
            _ => return Err(status::of(&Error::invalid("header", "the first message must be the header"))),
        };
        let control = self.front.control.clone();
        let opened = control
            .open_import(&caller.tenant, &header.campaign_id, &header.import_id)
            .await
            .map_err(|error| status::of(&error))?;
        let (answers, told) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(import(control, opened, reader, answers, self.front.answer_bytes_max, place));
        Ok(Response::new(ReceiverStream::new(told).boxed()))
    }

    async fn get_import(
        &self,
        request: Request<v1::GetImportRequest>,
    ) -> Result<Response<v1::GetImportResponse>, Status> {
        let work = |control: Control, caller: Principal, request: v1::GetImportRequest| async move {
            let import = control.import(&caller.tenant, &request.campaign_id, &request.import_id).await?;
            let import = convert::import(&request.campaign_id, import, control.now());
            Ok(v1::GetImportResponse { import: Some(import) })
        };
        self.front.call(request, work).await
    }

    async fn list_imports(
        &self,
        request: Request<v1::ListImportsRequest>,
    ) -> Result<Response<v1::ListImportsResponse>, Status> {
        let work = |control: Control, caller: Principal, request: v1::ListImportsRequest| async move {
            let page = convert::page(request.page_size, request.page_token);
            let page = control.list_imports(&caller.tenant, &request.campaign_id, &page).await?;
            let now = control.now();
            Ok(v1::ListImportsResponse {
                imports: page.items.into_iter().map(|i| convert::import(&request.campaign_id, i, now)).collect(),
                next_page_token: page.next_token,
                as_of: Some(timestamp(now)),
            })
        };
        self.front.call(request, work).await
    }

    async fn list_refused_rows(
        &self,
        request: Request<v1::ListRefusedRowsRequest>,
    ) -> Result<Response<v1::ListRefusedRowsResponse>, Status> {
        let bytes_max = self.front.answer_bytes_max;
        let work = move |control: Control, caller: Principal, request: v1::ListRefusedRowsRequest| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page = convert::page(size, asked.page_token.clone());
                let page = control.refused_rows(tenant, &asked.campaign_id, &asked.import_id, &page).await?;
                Ok(page.map(convert::refused_row))
            });
            let page = page.await?;
            Ok(v1::ListRefusedRowsResponse { rows: page.items, next_page_token: page.next_token })
        };
        self.front.call(request, work).await
    }
}

/// The importer's side of the stream.
struct Reader {
    chunks: Streaming<v1::ImportRecipientsRequest>,
    idle: Duration,
    shutdown: CancellationToken,
}

impl Reader {
    /// The next message; `None` at the end. Silence and a server that goes down end the stream.
    async fn next(&mut self) -> Result<Option<Asked>, Status> {
        let message = tokio::select! {
            message = tokio::time::timeout(self.idle, self.chunks.message()) => message,
            () = self.shutdown.cancelled() => return Err(status::shutting_down()),
        };
        match message {
            Err(_) => Err(Status::deadline_exceeded("no chunk came for too long: connect again and go on")),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(message))) => message
                .part
                .map(Some)
                .ok_or_else(|| status::of(&Error::invalid("part", "is required: a header or a chunk"))),
        }
    }

    /// The next chunk, with its rows checked.
    async fn next_checked(&mut self, session: &ImportSession) -> Result<Option<ReadyChunk>, Status> {
        let chunk = match self.next().await? {
            None => return Ok(None),
            Some(Asked::Header(_)) => {
                return Err(status::of(&Error::invalid("header", "only the first message is a header")));
            }
            Some(Asked::Chunk(chunk)) => chunk,
        };
        let session = session.clone();
        match tokio::task::spawn_blocking(move || session.check(convert::row_chunk(chunk))).await {
            Ok(checked) => checked.map(Some).map_err(|error| status::of(&error)),
            Err(error) => Err(status::of(&Error::Bug(format!("checking a chunk failed: {error}")))),
        }
    }
}

/// Reads, checks, stores and acknowledges until the importer is done, goes away, or makes a mistake.
async fn import(
    control: Control,
    opened: ImportOpened,
    mut reader: Reader,
    answers: mpsc::Sender<Answer>,
    answer_bytes_max: usize,
    place: Place,
) {
    let ImportOpened { session, mut acked_rows } = opened;
    let chunk_rows_max = u32::try_from(CHUNK_ROWS_MAX).unwrap_or(u32::MAX);
    let ready = v1::ImportReady { acked_rows, chunk_rows_max };
    if answers.send(told(Told::Ready(ready))).await.is_err() {
        return;
    }
    let rows = |result| metrics::counter!(crate::metrics::IMPORT_ROWS, "result" => result);
    let (stored, refused) = (rows("stored"), rows("refused"));
    let (checked, mut to_store) = mpsc::channel(CHECKED_MAX);
    let reading = tokio::spawn({
        let session = session.clone();
        async move {
            loop {
                let chunk = reader.next_checked(&session).await;
                let last = !matches!(chunk, Ok(Some(_)));
                // A closed queue: the storing side has given up, and has said why.
                if checked.send(chunk).await.is_err() || last {
                    return;
                }
            }
        }
    });
    while let Some(chunk) = to_store.recv().await {
        let answer = match chunk {
            Ok(None) => break,
            Err(status) => Err(status),
            Ok(Some(chunk)) => match control.store_chunk(&session, acked_rows, chunk).await {
                Err(error) => Err(status::of(&error)),
                Ok(ack) => {
                    acked_rows = ack.acked_rows;
                    if !ack.repeated {
                        stored.increment(u64::from(ack.stored));
                        refused.increment(ack.refused.len() as u64);
                    }
                    let refused_rows = u32::try_from(ack.refused.len()).unwrap_or(u32::MAX);
                    let mut refused: Vec<_> = ack.refused.into_iter().map(convert::refused_row).collect();
                    refused.truncate(pages::fit(&refused, answer_bytes_max));
                    let (stored, repeated) = (ack.stored, ack.repeated);
                    told(Told::Ack(v1::ImportAck { acked_rows, stored, refused, repeated, refused_rows }))
                }
            },
        };
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            break;
        }
    }
    reading.abort();
    drop(place);
}

fn told(part: Told) -> Answer {
    Ok(v1::ImportRecipientsResponse { part: Some(part) })
}
