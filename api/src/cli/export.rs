//! `export`: all messages of a campaign as CSV or NDJSON, to a file or to standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::HumanDuration;
use sluice_proto::v1::{ExportMessagesRequest, ExportMessagesResponse, Message, MessageStatus, Stage};
use tonic::Status;

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome, is_passing};
use super::json;
use super::output::{Console, Format, shown};
use super::retry::Patience;
use super::select::MessageFilterArgs;
use super::values;

const BUFFER_BYTES: usize = 256 * 1024;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A header row, then one row a message
    Csv,
    /// One message as protobuf JSON a line, with all its attempts
    Ndjson,
}

/// What to export.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The campaign
    pub campaign: String,
    /// How [default: csv, or ndjson when --to or --output says so]
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// The file to write; complete or not there at all [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "to")]
    pub force: bool,
    /// How long to try again when the server is away or busy
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub retry_for: Duration,
    #[command(flatten)]
    pub filter: MessageFilterArgs,
}

impl ExportArgs {
    fn format(&self, console: &Console) -> ExportFormat {
        let extension = self.to.as_ref().and_then(|path| path.extension()).and_then(|extension| extension.to_str());
        match (self.format, extension) {
            (Some(format), _) => format,
            (None, Some("ndjson" | "jsonl")) => ExportFormat::Ndjson,
            (None, None) if console.format != Format::Table => ExportFormat::Ndjson,
            _ => ExportFormat::Csv,
        }
    }
}

/// Runs `export`.
pub async fn run(args: &ExportArgs, server: &Server, console: &mut Console) -> Outcome {
    let format = args.format(console);
    let Some(path) = &args.to else {
        let mut sink = Sink::new(format, BufWriter::with_capacity(BUFFER_BYTES, &mut console.out))?;
        copy(args, server, &mut sink, &mut console.err).await?;
        sink.finish()?;
        return Ok(Exit::Ok);
    };
    refuse_existing(path, args.force)?;
    // Written beside and renamed, so that a file of that name is always a whole export.
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let wrong = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    let file = File::create(&part).map_err(|error| wrong(&error))?;
    let mut sink = Sink::new(format, BufWriter::with_capacity(BUFFER_BYTES, file))?;
    let copied = async {
        copy(args, server, &mut sink, &mut console.err).await?;
        let messages = sink.messages;
        sink.finish()?.into_inner().map_err(|error| wrong(&error))?.sync_all().map_err(|error| wrong(&error))?;
        // Somebody else may have been faster.
        refuse_existing(path, args.force)?;
        std::fs::rename(&part, path).map_err(|error| wrong(&error))?;
        Ok(messages)
    };
    match copied.await {
        Ok(messages) => {
            console.note(&format!("{} messages written to {}", values::count(messages), path.display()));
            Ok(Exit::Ok)
        }
        Err(failure) => {
            // What is left of a failed export helps nobody; that it cannot be removed changes nothing about the failure.
            let _ = std::fs::remove_file(&part);
            Err(failure)
        }
    }
}

/// An earlier export is not lost by a repeated command, and nothing but a plain file is ever replaced.
fn refuse_existing(path: &Path, force: bool) -> Outcome<()> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => Err(Failure::usage(format!(
            "--to {}: is no plain file; leave --to out to write to standard output",
            path.display()
        ))),
        Ok(_) if !force => {
            Err(Failure::usage(format!("--to {}: is there already; --force replaces it", path.display())))
        }
        _ => Ok(()),
    }
}

/// Streams batches into the sink; after a break it goes on behind the last batch that arrived.
async fn copy<W: Write>(args: &ExportArgs, server: &Server, sink: &mut Sink<W>, err: &mut dyn Write) -> Outcome<()> {
    // Where the last break that was told of happened; once is enough for each.
    let mut told = None;
    let mut patience = Patience::new(args.retry_for);
    let mut request = ExportMessagesRequest {
        campaign_id: args.campaign.clone(),
        filter: args.filter.text(),
        resume_token: String::new(),
    };
    loop {
        let broken = match stream(&mut request, server, sink, &mut patience).await? {
            None => return Ok(()),
            Some(status) => status,
        };
        if is_passing(&broken) && told.as_ref() != Some(&request.resume_token) {
            told = Some(request.resume_token.clone());
            let why = shown(broken.message());
            // That nobody reads it is no reason to stop.
            let _ = writeln!(err, "{why}; trying again for {}", HumanDuration(args.retry_for));
        }
        if !is_passing(&broken) || !patience.wait().await {
            return Err(broken.into());
        }
    }
}

/// One stream until its end (`None`) or until it breaks.
async fn stream<W: Write>(
    request: &mut ExportMessagesRequest,
    server: &Server,
    sink: &mut Sink<W>,
    patience: &mut Patience,
) -> Outcome<Option<Status>> {
    let mut batches = match server.messages().export_messages(request.clone()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Some(status)),
    };
    loop {
        match batches.message().await {
            Ok(Some(ExportMessagesResponse { messages, resume_token, .. })) => {
                for message in &messages {
                    sink.put(message)?;
                }
                patience.renew();
                if resume_token.is_empty() {
                    return Ok(None);
                }
                request.resume_token = resume_token;
            }
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        }
    }
}

/// The columns of the CSV form.
const COLUMNS: [&str; 21] = [
    "seq",
    "external_id",
    "address",
    "status",
    "stage_reached",
    "attempts",
    "retries",
    "line_id",
    "correlation_id",
    "provider_message_id",
    "accepted_time",
    "sent_time",
    "delivered_time",
    "read_time",
    "failure_code",
    "failure_class",
    "failure_title",
    "conflict",
    "double",
    "import_id",
    "import_row",
];

enum Writer<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(W),
}

/// Where messages go.
struct Sink<W: Write> {
    writer: Writer<W>,
    messages: u64,
}

impl<W: Write> Sink<W> {
    fn new(format: ExportFormat, out: W) -> Outcome<Self> {
        let writer = match format {
            ExportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(COLUMNS).map_err(csv_failure)?;
                Writer::Csv(Box::new(writer))
            }
            ExportFormat::Ndjson => Writer::Ndjson(out),
        };
        Ok(Self { writer, messages: 0 })
    }

    fn put(&mut self, message: &Message) -> Outcome<()> {
        self.messages += 1;
        match &mut self.writer {
            Writer::Csv(writer) => writer.write_record(cells(message)).map_err(csv_failure),
            Writer::Ndjson(out) => Ok(json::write_line(out, message)?),
        }
    }

    fn finish(self) -> Outcome<W> {
        match self.writer {
            Writer::Csv(writer) => writer.into_inner().map_err(|error| Failure::from(error.into_error())),
            Writer::Ndjson(mut out) => {
                out.flush()?;
                Ok(out)
            }
        }
    }
}

fn csv_failure(error: csv::Error) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => Failure::new(Exit::Failed, format!("cannot write the output: {other:?}")),
    }
}

/// One message as a row: of its attempts the newest, and of each stage the first time that any attempt reached it.
fn cells(message: &Message) -> [String; COLUMNS.len()] {
    let newest = message.attempts.last();
    let failure = newest.and_then(|attempt| attempt.failure.as_ref());
    let stage_time = |stage: Stage| {
        let times = message.attempts.iter().flat_map(|attempt| &attempt.stages).filter(|time| time.stage() == stage);
        values::rfc3339(
            times.filter_map(|time| time.first_seen_time.as_ref()).min_by_key(|time| (time.seconds, time.nanos)),
        )
    };
    // The failure belongs to the attempt that shows; one that was retried and went out failed in an older attempt only.
    let failure = failure.filter(|_| message.status() == MessageStatus::Failed || message.conflict);
    [
        message.seq.to_string(),
        message.external_id.clone(),
        message.address.clone(),
        values::status(message.status()),
        values::stage(message.stage_reached()),
        message.attempts.len().to_string(),
        message.retries.to_string(),
        newest.map_or_else(String::new, |attempt| attempt.line_id.clone()),
        newest.map_or_else(String::new, |attempt| attempt.correlation_id.clone()),
        newest.map_or_else(String::new, |attempt| attempt.provider_message_id.clone()),
        values::rfc3339(newest.and_then(|attempt| attempt.accepted_time.as_ref())),
        stage_time(Stage::Sent),
        stage_time(Stage::Delivered),
        stage_time(Stage::Read),
        failure.map_or_else(String::new, |failure| failure.code.clone()),
        failure.map_or_else(String::new, |failure| values::failure_class(failure.class())),
        failure.map_or_else(String::new, |failure| failure.title.clone()),
        message.conflict.to_string(),
        message.double.to_string(),
        message.origin.as_ref().map_or_else(String::new, |origin| origin.import_id.clone()),
        // Counted from 1, as in the list of refused rows.
        message.origin.as_ref().map_or_else(String::new, |origin| (origin.row + 1).to_string()),
    ]
}
