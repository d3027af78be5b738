//! The list of refused rows: row, line, column, reason.
//!
//! It is made from the server's list, not from the acknowledgements that one run happened to see: so it is complete after an import
//! in several runs. The server knows rows by number; their lines come from the file, read beside the list, both in ascending order.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use sluice_proto::v1::{FieldViolation, ListRefusedRowsRequest, ListRefusedRowsResponse, RefusedRow};
use tokio::sync::mpsc;

use super::connect::Server;
use super::csv_chunks::CsvFile;
use super::csv_columns::Columns;
use super::csv_source::Record;
use super::failure::{Exit, Failure, Outcome};
use super::import::file_changed;
use super::import_stream::Plan;
use super::output::{Console, Table, collect};

/// Pages of refused rows on their way to the file.
const PAGES: usize = 2;
const PAGE_SIZE: i32 = 1_000;

/// Whether a report may be written to `path` beside the list at `input`: asked before anything is sent, since afterwards rows are stored.
///
/// # Errors
/// The report would replace the list, or cannot lie there: exit code 2.
pub fn check(path: &Path, input: &Path) -> Outcome<()> {
    let wrong = |what: &str| Err(Failure::usage(format!("--refused {}: {what}", path.display())));
    if is_same_file(path, input) {
        return wrong("is the file to import, which the list of refused rows would replace: name another file");
    }
    if path.is_dir() {
        return wrong("is a folder: name a file");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return wrong("lies in a folder that is not there: make it, or name another file");
    }
    Ok(())
}

/// Whether both names lead to one file, by whatever links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) else { return false };
    let id = |of: &std::fs::Metadata| {
        use std::os::unix::fs::MetadataExt as _;
        (of.dev(), of.ino())
    };
    id(&one) == id(&other)
}

/// Writes the refused rows of an import to `path`.
///
/// # Errors
/// The server's list, the CSV file or the report cannot be read or written.
pub async fn write(plan: &Plan, server: &Server, path: &Path) -> Outcome<()> {
    let (pages, refused) = mpsc::channel(PAGES);
    let (file, columns, to) = (plan.file.clone(), plan.columns.clone(), path.to_owned());
    let writing = tokio::task::spawn_blocking(move || merge(&file, &columns, &to, refused));
    let mut page_token = String::new();
    loop {
        let request = ListRefusedRowsRequest {
            campaign_id: plan.campaign_id.clone(),
            import_id: plan.import_id.clone(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = server.imports().list_refused_rows(server.request(request)).await?.into_inner();
        // When the writer has stopped, its own answer below says why.
        if pages.send(page.rows).await.is_err() || page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    drop(pages);
    writing.await.map_err(|error| Failure::new(Exit::Failed, format!("writing the report stopped: {error}")))?
}

fn merge(file: &CsvFile, columns: &Columns, to: &Path, pages: mpsc::Receiver<Vec<RefusedRow>>) -> Outcome<()> {
    let wrong = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {error}", to.display()));
    if std::fs::metadata(to).is_ok_and(|there| !there.is_file()) {
        // A pipe or a device: there is nothing to be replaced.
        let report = OpenOptions::new().write(true).open(to).map_err(|error| wrong(&error))?;
        return lay_down(file, columns, report, pages, wrong);
    }
    // Written beside and renamed: a file of that name is always a whole report, and what was there before stays until then. A link
    // goes on to lead where it led.
    let target = std::fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    let mut part = target.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let report = OpenOptions::new().write(true).create_new(true).open(&part).map_err(|error| wrong(&error))?;
    let written = lay_down(file, columns, report, pages, wrong)
        .and_then(|()| std::fs::rename(&part, &target).map_err(|error| wrong(&error)));
    if written.is_err() {
        // What is left of it helps nobody; that it cannot be removed changes nothing about the failure.
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn lay_down(
    file: &CsvFile,
    columns: &Columns,
    report: File,
    mut pages: mpsc::Receiver<Vec<RefusedRow>>,
    wrong: impl Fn(&dyn std::fmt::Display) -> Failure,
) -> Outcome<()> {
    let mut report = csv::Writer::from_writer(report);
    report.write_record(["row", "line", "column", "reason"]).map_err(|error| wrong(&error))?;

    let mut record = Record::default();
    let mut source = file.open(&mut record).map_err(file_changed)?;
    // The rows of the file that were read so far; the last of them is in `record`.
    let mut read = 0;
    while let Some(rows) = pages.blocking_recv() {
        for refused in rows {
            while read <= refused.row && source.read(&mut record).map_err(|error| file_changed(file.error(error)))? {
                read += 1;
            }
            let found = read == refused.row + 1;
            let line = if found { record.line().to_string() } else { String::new() };
            let row = (refused.row + 1).to_string();
            // What we could not read ourselves went out empty, and the server's word on that would mislead.
            if let Some(own) = found.then(|| columns.row(&record).err()).flatten() {
                report.write_record([&row, &line, &own.column, &own.reason]).map_err(|error| wrong(&error))?;
                continue;
            }
            for (column, reason) in reasons(&refused, columns) {
                report.write_record([&row, &line, &column, &reason]).map_err(|error| wrong(&error))?;
            }
        }
    }
    report.flush().map_err(|error| wrong(&error))
}

/// Each thing that is wrong with a row, by column.
fn reasons(refused: &RefusedRow, columns: &Columns) -> Vec<(String, String)> {
    let all = described(refused);
    all.into_iter().map(|(field, reason)| (columns.column_of(&field), reason)).collect()
}

/// Each thing that is wrong with a row, by field. Rows are counted from 1 for people; so what a row repeats is said in our own words.
fn described(refused: &RefusedRow) -> Vec<(String, String)> {
    let first = refused.duplicate_of.as_ref().map(|first| {
        let same_import = first.import_id == refused.import_id;
        let elsewhere = if same_import { String::new() } else { format!(" of import {}", first.import_id) };
        format!("the same as in row {}{elsewhere}", first.row + 1)
    });
    let reason = |violation: &FieldViolation| {
        (violation.field.clone(), first.clone().unwrap_or_else(|| violation.description.clone()))
    };
    refused.violations.iter().map(reason).collect()
}

/// Runs `refused`: the server's list as it is, without a file beside it.
pub async fn list(campaign: &str, import_id: &str, limit: usize, server: &Server, console: &mut Console) -> Outcome {
    let page = |page_size, page_token| {
        let request = ListRefusedRowsRequest {
            campaign_id: campaign.to_owned(),
            import_id: import_id.to_owned(),
            page_size,
            page_token,
        };
        async move {
            let answer = server.imports().list_refused_rows(server.request(request)).await?.into_inner();
            Ok((answer.rows, answer.next_page_token))
        }
    };
    let (rows, next_page_token) = collect(limit, page).await?;
    let answer = ListRefusedRowsResponse { rows, next_page_token };
    console.list(&answer, &answer.rows, |rows, width| {
        let mut table = Table::new(width, &["IMPORT", "ROW>", "FIELD", "REASON"]);
        for refused in rows {
            for (field, reason) in described(refused) {
                table.row([refused.import_id.clone(), (refused.row + 1).to_string(), field, reason]);
            }
        }
        table.text()
    })?;
    Ok(Exit::Ok)
}
