//! The stream of an import: a window of chunks under way, acknowledged in order, taken up again after a break.

use std::collections::VecDeque;
use std::time::Duration;

use sluice_proto::v1::{
    ImportAck, ImportHeader, ImportRecipientsRequest, ImportRecipientsResponse, import_recipients_request::Part,
    import_recipients_response::Part as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::connect::Server;
use super::csv_chunks::{self, CsvFile, Cut, CutChunk, FileError};
use super::csv_columns::Columns;
use super::failure::{Exit, Failure, Outcome, is_passing};
use super::import::file_changed;
use super::retry::Patience;

/// Chunks under way: enough to keep the server's group commits busy over any latency, few enough to hold in memory.
const WINDOW: usize = 8;
/// Chunks read ahead.
const READ_AHEAD: usize = 4;
/// How long to wait for the server to close its side, too.
const GOODBYE: Duration = Duration::from_secs(1);

/// What to import and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The campaign.
    pub campaign_id: String,
    /// The name of the import.
    pub import_id: String,
    /// The file.
    pub file: CsvFile,
    /// Its columns.
    pub columns: Columns,
    /// Its rows, as surveyed.
    pub rows: u64,
    /// Rows in a chunk at most.
    pub chunk_rows: u32,
    /// Whether to compare the file with what the server holds of it before going on.
    pub compare: bool,
    /// How long to try again without progress.
    pub retry_for: Duration,
}

/// What happens on the way.
pub trait Events {
    /// The server has said from which row to go on, for the first time.
    fn ready(&mut self, acked_rows: u64);
    /// The rows up to `rows` are held and the same as in the file.
    fn compared(&mut self, rows: u64);
    /// Rows are durable; `refused` counts those that this run saw refused.
    fn acked(&mut self, acked_rows: u64, refused: u64);
    /// The connection broke and will be tried again.
    fn broken(&mut self, why: &str, retry_for: Duration);
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every row of the file is durable.
    Complete {
        /// Rows that were durable before this run.
        resumed_from: u64,
    },
    /// Somebody interrupted; what is acknowledged stays.
    Interrupted {
        /// Rows that are durable.
        acked_rows: u64,
    },
}

/// Sends the file.
///
/// # Errors
/// The server refuses the import or a chunk, stays away for longer than the plan allows, or the file changed under our hands.
pub async fn run(
    plan: &Plan,
    server: &Server,
    events: &mut dyn Events,
    interrupt: &CancellationToken,
) -> Outcome<Ended> {
    let mut sending = Sending { plan, events, source: None, window: VecDeque::new(), state: State::default() };
    let mut patience = Patience::new(plan.retry_for);
    loop {
        let before = sending.state.answered;
        let end = tokio::select! {
            end = sending.stream(server) => end,
            () = interrupt.cancelled() => return Ok(Ended::Interrupted { acked_rows: sending.state.acked_rows }),
        };
        let status = match end {
            Ok(()) => return Ok(Ended::Complete { resumed_from: sending.state.resumed_from }),
            Err(Broken::Final(failure)) => return Err(*failure),
            Err(Broken::Passing(status)) => status,
        };
        if sending.state.answered > before {
            patience.renew();
        }
        sending.events.broken(status.message(), plan.retry_for);
        let waited = tokio::select! {
            waited = patience.wait() => waited,
            () = interrupt.cancelled() => return Ok(Ended::Interrupted { acked_rows: sending.state.acked_rows }),
        };
        if !waited {
            let acked = sending.state.acked_rows;
            return Err(Failure::from(status)
                .hint(format!("{acked} rows are stored durably; the same command again goes on behind them")));
        }
    }
}

/// Why a stream ended early.
enum Broken {
    /// Trying again may help.
    Passing(Status),
    /// It will not.
    Final(Box<Failure>),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Final(Box::new(failure))
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        if is_passing(&status) { Self::Passing(status) } else { Self::Final(Box::new(status.into())) }
    }
}

#[derive(Default)]
struct State {
    started: bool,
    resumed_from: u64,
    acked_rows: u64,
    refused: u64,
    /// Chunks that were answered, those that were only compared included: as long as it grows, trying again is worth while.
    answered: u64,
    /// All chunks have been read from the file.
    read_out: bool,
}

/// What outlives a single stream: the place in the file, and the chunks that are not acknowledged yet.
struct Sending<'a> {
    plan: &'a Plan,
    events: &'a mut dyn Events,
    source: Option<mpsc::Receiver<Result<CutChunk, FileError>>>,
    window: VecDeque<CutChunk>,
    state: State,
}

impl Sending<'_> {
    /// One stream, from its header to the last acknowledgement.
    async fn stream(&mut self, server: &Server) -> Result<(), Broken> {
        // One slot more than the window, for the header: so putting a chunk into it never waits, and acknowledgements are read at
        // all times. A client that waits to send while the server waits to answer would wait for ever.
        let (to_server, requests) = mpsc::channel(WINDOW + 1);
        let header =
            ImportHeader { campaign_id: self.plan.campaign_id.clone(), import_id: self.plan.import_id.clone() };
        put(&to_server, Part::Header(header)).await?;
        let mut client = server.imports();
        let mut answers = client.import_recipients(ReceiverStream::new(requests)).await?.into_inner();
        self.ready(&mut answers).await?;
        for chunk in &self.window {
            put(&to_server, Part::Chunk(chunk.chunk.clone())).await?;
        }
        loop {
            if self.window.is_empty() && self.state.read_out {
                // Our side is closed first, so that the server sees an end and no break; what it says to that changes nothing.
                drop(to_server);
                let _ = tokio::time::timeout(GOODBYE, answers.message()).await;
                return self.complete();
            }
            let room = self.window.len() < WINDOW && !self.state.read_out;
            tokio::select! {
                chunk = next(&mut self.source), if room => match chunk {
                    Some(Ok(chunk)) => {
                        put(&to_server, Part::Chunk(chunk.chunk.clone())).await?;
                        self.window.push_back(chunk);
                    }
                    Some(Err(error)) => return Err(file_changed(error).into()),
                    None => self.state.read_out = true,
                },
                answer = answers.message() => match answer {
                    Ok(Some(ImportRecipientsResponse { part: Some(Answer::Ack(ack)) })) => self.acked(&ack)?,
                    Ok(Some(_)) => return Err(strange("the server answered a chunk with something else")),
                    Ok(None) => return Err(Broken::Passing(Status::unavailable("the server ended the stream"))),
                    Err(status) => return Err(self.refused(status)),
                },
            }
        }
    }

    /// Takes the answer to the header: where to go on.
    async fn ready(&mut self, answers: &mut Streaming<ImportRecipientsResponse>) -> Result<(), Broken> {
        let ready = match answers.message().await? {
            Some(ImportRecipientsResponse { part: Some(Answer::Ready(ready)) }) => ready,
            Some(_) => return Err(strange("the server answered the header with something else")),
            None => return Err(Broken::Passing(Status::unavailable("the server ended the stream"))),
        };
        if ready.acked_rows > self.plan.rows {
            let failure = Failure::new(
                Exit::Refused,
                format!(
                    "import {} of the server has {} rows, the file only {}: it is another file",
                    self.plan.import_id, ready.acked_rows, self.plan.rows
                ),
            );
            return Err(failure.hint("give the import of this file a name of its own: --import-id NAME").into());
        }
        if !self.state.started {
            self.state.started = true;
            self.state.resumed_from = ready.acked_rows;
            self.state.acked_rows = ready.acked_rows;
            self.source = Some(self.read(ready.acked_rows, ready.chunk_rows_max));
            self.events.ready(ready.acked_rows);
            return Ok(());
        }
        // Acknowledged on a stream that broke before the word came through. What is sent to be compared is compared still.
        self.window.retain(|chunk| chunk.check || chunk.end() > ready.acked_rows);
        let next = self.window.iter().find(|chunk| !chunk.check).map(|chunk| chunk.chunk.row_offset);
        if ready.acked_rows < self.state.acked_rows || next.is_some_and(|next| next != ready.acked_rows) {
            return Err(strange(
                "the server holds other rows than those that this run sent; does another import of the same name run?",
            ));
        }
        self.state.acked_rows = ready.acked_rows;
        Ok(())
    }

    /// Reads the file on a thread of its own; it stops when nobody takes its chunks any more.
    fn read(&self, acked_rows: u64, chunk_rows_max: u32) -> mpsc::Receiver<Result<CutChunk, FileError>> {
        let (out, chunks) = mpsc::channel(READ_AHEAD);
        let most = if chunk_rows_max == 0 { u32::MAX } else { chunk_rows_max };
        let (file, columns, compare) = (self.plan.file.clone(), self.plan.columns.clone(), self.plan.compare);
        let cut = Cut { chunk_rows: self.plan.chunk_rows.clamp(1, most), acked_rows };
        tokio::task::spawn_blocking(move || {
            let read = csv_chunks::cut(&file, &columns, cut, |chunk| {
                (chunk.check && !compare) || out.blocking_send(Ok(chunk)).is_ok()
            });
            if let Err(error) = read {
                // Nobody waits any more: the import has ended for another reason.
                let _ = out.blocking_send(Err(error));
            }
        });
        chunks
    }

    fn acked(&mut self, ack: &ImportAck) -> Result<(), Broken> {
        let Some(chunk) = self.window.pop_front() else {
            return Err(strange("the server acknowledged a chunk that was not sent"));
        };
        if ack.acked_rows < chunk.end() {
            return Err(strange("the server acknowledged less than a chunk"));
        }
        self.state.answered += 1;
        if chunk.check {
            self.events.compared(chunk.end());
            return Ok(());
        }
        self.state.refused += u64::from(ack.refused_rows).max(ack.refused.len() as u64);
        self.state.acked_rows = self.state.acked_rows.max(chunk.end());
        self.events.acked(self.state.acked_rows, self.state.refused);
        Ok(())
    }

    /// A stream that ended with an error, which for a chunk that was sent to be compared means: another file.
    fn refused(&self, status: Status) -> Broken {
        let compared = self.window.front().filter(|chunk| chunk.check);
        if let (Some(chunk), Code::FailedPrecondition) = (compared, status.code()) {
            let what = format!(
                "import {} was made from another file, or from this file before it was changed (the first difference is in rows {} to {})",
                self.plan.import_id,
                chunk.chunk.row_offset + 1,
                chunk.end()
            );
            return Failure::from(status)
                .context(what)
                .hint("give the import of this file a name of its own (--import-id NAME), or, if only rows were added at its end, say --no-compare")
                .into();
        }
        status.into()
    }

    fn complete(&self) -> Result<(), Broken> {
        if self.state.acked_rows == self.plan.rows {
            return Ok(());
        }
        let failure = Failure::new(
            Exit::Failed,
            format!(
                "{}: the file had {} rows when it was checked and {} when it was sent; it must not change meanwhile",
                self.plan.file.name, self.plan.rows, self.state.acked_rows
            ),
        );
        Err(failure.into())
    }
}

fn strange(what: &str) -> Broken {
    Failure::new(Exit::Failed, what).into()
}

async fn next(source: &mut Option<mpsc::Receiver<Result<CutChunk, FileError>>>) -> Option<Result<CutChunk, FileError>> {
    match source {
        Some(chunks) => chunks.recv().await,
        None => None,
    }
}

/// The request side is gone only when the stream is, whose answer then says why.
async fn put(to_server: &mpsc::Sender<ImportRecipientsRequest>, part: Part) -> Result<(), Broken> {
    let request = ImportRecipientsRequest { part: Some(part) };
    let _ = to_server.send(request).await;
    Ok(())
}
