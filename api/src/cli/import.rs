//! `import`: a CSV file into a campaign.
//!
//! What comes by a pipe (`-`) is laid down in a file first. The file is read up to three times: once to see that it is well-formed throughout, before anything is sent; once to send it; and
//! once more, when rows were refused, to give their lines in the report. Memory stays at a few chunks whatever its size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;
use sluice_proto::v1::{GetCampaignRequest, GetImportRequest, GetPoolRequest, GetTemplateRequest, Import, Provider};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::csv_chunks::{CHUNK_ROWS, CsvFile, FileError, Survey};
use super::csv_columns::{Columns, Slots};
use super::csv_source::{CsvErrorKind, Limits, Record};
use super::failure::{Exit, Failure, Outcome};
use super::import_report;
use super::import_stream::{self, Ended, Events, Plan};
use super::output::Console;
use super::spool::Spool;
use super::values;

/// The file's name that stands for standard input.
const PIPE: &str = "-";
/// How often progress is told where no bar can be drawn.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What to import.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The campaign; a draft that is not sealed
    pub campaign: String,
    /// The file: UTF-8, a header row. Columns: phone (or country_code and phone_number), external_id, header_param_1,
    /// body_param_1 …, button_url_param_1 …, or the names of the template's named parameters (`templates show` lists them).
    /// `-` reads standard input; it needs --import-id
    pub file: PathBuf,
    /// Name of the import: a repeated import of the same name goes on where the last one stopped [default: that of the file]
    #[arg(long, value_name = "ID")]
    pub import_id: Option<String>,
    /// What separates the fields; `tab` for a tab
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
    /// Where to list the refused rows [default: the file's name with .refused.csv]
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,
    /// Go on behind what the server holds without comparing the file with it; otherwise all of it is sent once more and compared
    #[arg(long)]
    pub no_compare: bool,
    /// How long to try again when the server is away or busy
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub retry_for: Duration,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err("one ASCII character that is neither a quote nor a line end".to_owned()),
    }
}

/// The result for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    campaign_id: &'a str,
    import_id: &'a str,
    file: String,
    /// Rows of the file.
    rows: u64,
    /// Rows that the server had already when this run began.
    resumed_from: u64,
    /// Rows of the whole import that became recipients.
    stored: u64,
    /// Rows of the whole import that were refused so far.
    refused: u64,
    /// The list of refused rows; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_file: Option<String>,
    ignored_columns: &'a [String],
    seconds: f64,
    rows_per_second: f64,
}

/// Runs `import`.
pub async fn run(args: &ImportArgs, server: &Server, console: &mut Console, interrupt: &CancellationToken) -> Outcome {
    let spooled = if args.file.as_os_str() == PIPE {
        let Some(spooled) = interrupt.run_until_cancelled(spool(args, console)).await else {
            console.note("stopped before anything was sent");
            return Ok(Exit::Interrupted);
        };
        Some(spooled?)
    } else {
        None
    };
    let file = CsvFile {
        path: spooled.as_ref().map_or(&*args.file, Spool::path).to_owned(),
        name: if spooled.is_some() { "standard input".to_owned() } else { args.file.display().to_string() },
        delimiter: args.delimiter,
        limits: Limits::default(),
    };
    let import_id = args.import_id.clone().unwrap_or_else(|| file.import_id());
    let beside = if spooled.is_some() { PathBuf::from(&import_id) } else { args.file.with_extension("") };
    let report = args.refused.clone().unwrap_or_else(|| beside.with_added_extension("refused.csv"));
    let prepared = async {
        import_report::check(&report, &file.path)?;
        let slots = template_slots(&args.campaign, server).await?;
        let columns = columns(&file, &slots)?;
        let survey = survey(&file).await?;
        Outcome::Ok((columns, survey))
    };
    let Some(prepared) = interrupt.run_until_cancelled(prepared).await else {
        console.note("stopped before anything was sent");
        return Ok(Exit::Interrupted);
    };
    let (columns, survey) = prepared?;
    if !columns.ignored().is_empty() {
        console.note(&format!("ignored columns, which mean nothing to the template: {}", columns.ignored().join(", ")));
    }
    if !columns.missing().is_empty() {
        console.note(&format!("columns of the template that the file lacks: {}", columns.missing().join(", ")));
    }

    let started = Instant::now();
    let mut progress = Progress::new(survey, console);
    let plan = Plan {
        campaign_id: args.campaign.clone(),
        import_id: import_id.clone(),
        file: file.clone(),
        columns: columns.clone(),
        rows: survey.rows,
        chunk_rows: CHUNK_ROWS,
        compare: !args.no_compare,
        retry_for: args.retry_for,
    };
    let ended = import_stream::run(&plan, server, &mut progress, interrupt).await;
    progress.finish();
    let ended = ended?;
    let seconds = started.elapsed().as_secs_f64();
    if let Ended::Interrupted { acked_rows } = ended {
        let name = &args.campaign;
        console.note(&format!(
            "stopped: at least {} of {} rows are stored durably in import {import_id}; nothing is sent before `sluice start {name}`.\n\
             The same command again goes on behind what is stored.",
            values::count(acked_rows),
            values::count(survey.rows),
        ));
        return Ok(Exit::Interrupted);
    }
    let Ended::Complete { resumed_from } = ended else { return Ok(Exit::Interrupted) };

    let Some(result) = interrupt.run_until_cancelled(result(&plan, server, report)).await else {
        console
            .note(&format!("all rows are stored durably; `sluice refused {}` lists the refused ones", args.campaign));
        return Ok(Exit::Interrupted);
    };
    let (import, refused_file) = result?;
    let sent = survey.rows.saturating_sub(resumed_from);
    let summary = Summary {
        campaign_id: &args.campaign,
        import_id: &import_id,
        file: file.name.clone(),
        rows: survey.rows,
        resumed_from,
        stored: import.stored_rows,
        refused: import.refused_rows,
        refused_file: refused_file.as_ref().map(|path| path.display().to_string()),
        ignored_columns: columns.ignored(),
        seconds,
        rows_per_second: if seconds > 0.0 { sent as f64 / seconds } else { 0.0 },
    };
    finish(&summary, &import, refused_file.as_deref(), console)
}

/// Lays down what comes by the pipe. It is read to its end before anything is sent.
async fn spool(args: &ImportArgs, console: &mut Console) -> Outcome<Spool> {
    if args.import_id.is_none() {
        return Err(Failure::new(Exit::Usage, "an import from standard input needs a name")
            .hint("--import-id NAME; the same name with the same rows goes on where the last import stopped"));
    }
    let input = std::mem::replace(&mut console.input, Box::new(std::io::empty()));
    tokio::task::spawn_blocking(move || Spool::of(input))
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("reading standard input stopped: {error}")))?
        .map_err(|error| Failure::new(Exit::Failed, format!("standard input could not be laid down: {error}")))
}

/// The import as the server has it, and the list of refused rows if there are any.
async fn result(plan: &Plan, server: &Server, report: PathBuf) -> Outcome<(Import, Option<PathBuf>)> {
    let request = GetImportRequest { campaign_id: plan.campaign_id.clone(), import_id: plan.import_id.clone() };
    let import = server.imports().get_import(server.request(request)).await?.into_inner().import.unwrap_or_default();
    if import.refused_rows == 0 {
        return Ok((import, None));
    }
    import_report::write(plan, server, &report).await?;
    Ok((import, Some(report)))
}

fn finish(summary: &Summary<'_>, import: &Import, refused_file: Option<&Path>, console: &mut Console) -> Outcome {
    if console.for_people() {
        let resumed = match summary.resumed_from {
            0 => String::new(),
            rows => format!(", {} of them before", values::count(rows)),
        };
        console.say(&format!(
            "import {}: {} rows{resumed}, {} stored, {} refused, in {:.1} s ({})",
            summary.import_id,
            values::count(summary.rows),
            values::count(import.stored_rows),
            values::count(import.refused_rows),
            summary.seconds,
            values::per_second(summary.rows_per_second),
        ))?;
        if let Some(path) = refused_file {
            console.say(&format!("the refused rows are listed in {}", path.display()))?;
        }
    } else {
        console.value(summary)?;
    }
    Ok(if import.refused_rows > 0 { Exit::Partial } else { Exit::Ok })
}

/// What the campaign's template wants filled.
async fn template_slots(campaign: &str, server: &Server) -> Outcome<Slots> {
    let request = server.request(GetCampaignRequest { campaign_id: campaign.to_owned() });
    let found = server.campaigns().get_campaign(request).await?.into_inner().campaign.unwrap_or_default();
    let settings = found.settings.unwrap_or_default();
    let request = server.request(GetTemplateRequest { template_id: settings.template_id });
    let template = server.templates().get_template(request).await?.into_inner().template.unwrap_or_default();
    let request = server.request(GetPoolRequest { pool_id: settings.pool_id });
    let pool = server.lines().get_pool(request).await?.into_inner().pool.unwrap_or_default();
    Ok(Slots { columns: template.columns, optional: pool.provider() == Provider::TwilioSms })
}

fn columns(file: &CsvFile, slots: &Slots) -> Outcome<Columns> {
    let mut header = Record::default();
    file.open(&mut header).map_err(file_failure)?;
    Columns::resolve(&header, slots).map_err(|error| {
        let mut failure = Failure::new(Exit::Refused, format!("{}:1:1: the header row does not fit", file.name));
        failure.violations = error
            .0
            .into_iter()
            .map(|description| super::failure::Violation { field: "header".to_owned(), description })
            .collect();
        let only = header.get(0).filter(|_| header.len() == 1).unwrap_or_default();
        match only.chars().find(|c| matches!(c, ';' | '\t' | '|')) {
            Some('\t') => failure.hint("the fields seem to be separated by tabs: --delimiter tab"),
            Some(other) => failure.hint(format!("the fields seem to be separated by `{other}`: --delimiter '{other}'")),
            None => failure,
        }
    })
}

async fn survey(file: &CsvFile) -> Outcome<Survey> {
    let reading = file.clone();
    let survey = tokio::task::spawn_blocking(move || reading.survey())
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("reading the file stopped: {error}")))?
        .map_err(file_failure)?;
    if survey.rows == 0 {
        return Err(Failure::new(Exit::Refused, format!("{}:1:1: there is no row after the header", file.name)));
    }
    Ok(survey)
}

/// A file that cannot be opened is a mistake on the command line; one with wrong content is refused.
pub(super) fn file_failure(error: FileError) -> Failure {
    let exit = if matches!(error.error.kind, CsvErrorKind::Io(_)) { Exit::Usage } else { Exit::Refused };
    Failure::new(exit, error.to_string())
}

/// A file that was read to its end before and cannot be read now: rows of it may be stored already, so it is not "nothing was done".
pub(super) fn file_changed(error: FileError) -> Failure {
    Failure { exit: Exit::Failed, ..file_failure(error) }.hint("the file must stay as it is until the import has ended")
}

/// Shows how far it is: a bar on a terminal, a line now and then elsewhere.
struct Progress<'a> {
    bar: ProgressBar,
    rows: u64,
    console: &'a mut Console,
    told: Instant,
    started: Instant,
    from: u64,
}

impl<'a> Progress<'a> {
    fn new(survey: Survey, console: &'a mut Console) -> Self {
        let target = if console.interactive { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(survey.rows), target);
        let template = "{wide_bar} {human_pos}/{human_len} rows  {percent}%  {pace}  {eta} left{msg}";
        // A wrong template would be a mistake in the line above; the plain bar does as well.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("pace", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // What cannot be written into a line in memory is no trouble of the import.
            let _ = out.write_str(&values::per_second(state.per_sec()));
        }));
        let now = Instant::now();
        Self { bar, rows: survey.rows, console, told: now, started: now, from: 0 }
    }

    fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Events for Progress<'_> {
    fn ready(&mut self, acked_rows: u64) {
        self.from = acked_rows;
        self.bar.set_position(acked_rows);
        self.bar.reset_eta();
    }

    fn acked(&mut self, acked_rows: u64, refused: u64) {
        self.bar.set_position(acked_rows);
        if refused > 0 {
            self.bar.set_message(format!("  {} refused", values::count(refused)));
        }
        if self.told.elapsed() >= PLAIN_EVERY && self.bar.is_hidden() {
            self.told = Instant::now();
            let rate = acked_rows.saturating_sub(self.from) as f64 / self.started.elapsed().as_secs_f64();
            self.console.note(&format!(
                "{} of {} rows, {}",
                values::count(acked_rows),
                values::count(self.rows),
                values::per_second(rate)
            ));
        }
    }

    fn compared(&mut self, rows: u64) {
        let (compared, held) = (values::count(rows), values::count(self.from));
        if rows < self.from {
            self.bar.set_message(format!("  {compared} of the {held} that are stored are compared"));
        } else {
            self.bar.set_message("");
        }
        if self.told.elapsed() >= PLAIN_EVERY && self.bar.is_hidden() {
            self.told = Instant::now();
            self.console.note(&format!("{compared} of the {held} rows that are stored are compared"));
        }
    }

    fn broken(&mut self, why: &str, retry_for: Duration) {
        let text = format!("the connection broke ({why}); trying again for {}", HumanDuration(retry_for));
        if self.bar.is_hidden() {
            self.console.note(&text);
        } else {
            self.bar.println(text);
        }
    }
}
