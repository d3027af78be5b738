//! Where a command reads and writes: tables for people, JSON for programs, questions on a terminal.

use std::borrow::Cow;
use std::future::Future;
use std::io::{BufRead, IsTerminal as _, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use sluice_engine::domain::escape::is_shown;
use tonic::Status;

use super::failure::{Failure, Outcome};
use super::json::{self, Named};

/// The most items that a page of a list can hold.
const PAGE_SIZE_MAX: usize = 1_000;
/// Below this nothing is readable; a terminal that says so is not believed.
const WIDTH_MIN: u16 = 60;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Tables for people; may change between versions
    #[default]
    Table,
    /// The server's answer as protobuf JSON, indented; stable
    Json,
    /// The same, one item of a list or step of a stream per line
    Ndjson,
}

/// What a command sees of the world around it; tests put buffers here.
pub struct Console {
    /// Answers.
    pub out: Box<dyn Write + Send>,
    /// Progress, warnings, questions and errors.
    pub err: Box<dyn Write + Send>,
    /// Answers to questions.
    pub input: Box<dyn BufRead + Send>,
    /// How answers are written.
    pub format: Format,
    /// Columns of the terminal that answers go to; absent when they go elsewhere.
    pub width: Option<u16>,
    /// Whether somebody sits there and sees `err`.
    pub interactive: bool,
}

impl Console {
    /// The process's own streams.
    #[must_use]
    pub fn of_process(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal.then(|| comfy_table::Table::new().width()).flatten().map(|width| width.max(WIDTH_MIN));
        Self {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            input: Box::new(std::io::BufReader::new(std::io::stdin())),
            format,
            width,
            interactive: std::io::stderr().is_terminal() && std::io::stdin().is_terminal(),
        }
    }

    /// Whether answers are for people.
    #[must_use]
    pub fn for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Writes an answer: as a text for people, or as the message that it is.
    ///
    /// # Errors
    /// The output's.
    pub fn answer<M: Named>(&mut self, message: &M, text: impl FnOnce(&M, Option<u16>) -> String) -> Outcome<()> {
        match self.format {
            Format::Table => self.out.write_all(text(message, self.width).as_bytes())?,
            Format::Json => json::write_pretty(&mut self.out, message)?,
            Format::Ndjson => json::write_line(&mut self.out, message)?,
        }
        Ok(self.out.flush()?)
    }

    /// Writes a list: as a table, as the answer that holds it, or item by item.
    ///
    /// # Errors
    /// The output's.
    pub fn list<M: Named, T: Named>(
        &mut self,
        answer: &M,
        items: &[T],
        text: impl FnOnce(&[T], Option<u16>) -> String,
    ) -> Outcome<()> {
        match self.format {
            Format::Table => self.out.write_all(text(items, self.width).as_bytes())?,
            Format::Json => json::write_pretty(&mut self.out, answer)?,
            Format::Ndjson => items.iter().try_for_each(|item| json::write_line(&mut self.out, item))?,
        }
        Ok(self.out.flush()?)
    }

    /// Writes something of our own as JSON.
    ///
    /// # Errors
    /// The output's.
    pub fn value(&mut self, value: &impl serde::Serialize) -> Outcome<()> {
        let text = match self.format {
            Format::Ndjson => serde_json::to_string(value),
            Format::Table | Format::Json => serde_json::to_string_pretty(value),
        };
        let text = text.map_err(|error| Failure::from(anyhow::Error::from(error)))?;
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Writes a line for people to where answers go, and nothing for programs.
    ///
    /// # Errors
    /// The output's.
    pub fn say(&mut self, text: &str) -> Outcome<()> {
        if self.for_people() {
            writeln!(self.out, "{}", shown(text))?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Writes a line beside the answers. That nobody reads it is no reason to stop.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", shown(text)).and_then(|()| self.err.flush());
    }

    /// Asks for a yes where somebody can give one.
    ///
    /// # Errors
    /// Nobody is there, or the answer is no: exit code 2.
    pub fn confirm(&mut self, question: &str) -> Outcome<()> {
        if !self.interactive {
            return Err(Failure::usage(question.to_owned()).hint("say --yes to go ahead without being asked"));
        }
        let _ = write!(self.err, "{question} [y/N] ").and_then(|()| self.err.flush());
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::usage("not confirmed; nothing was done")),
        }
    }
}

/// Collects the pages of a list up to `limit` items (0: all). Answers the items and the token of what was left out.
///
/// # Errors
/// The server's.
pub async fn collect<T, F, Fut>(limit: usize, mut page: F) -> Result<(Vec<T>, String), Status>
where
    F: FnMut(i32, String) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let wanted = if limit == 0 { PAGE_SIZE_MAX } else { (limit - items.len()).min(PAGE_SIZE_MAX) };
        let (more, next) = page(i32::try_from(wanted).unwrap_or(i32::MAX), token).await?;
        items.extend(more);
        if next.is_empty() || (limit > 0 && items.len() >= limit) {
            return Ok((items, next));
        }
        token = next;
    }
}

/// A table under construction: plain columns without frames, so that it can be read, copied and cut.
pub struct Table {
    table: comfy_table::Table,
}

impl Table {
    /// A table with a header; a name that ends in `>` makes its column flush right.
    #[must_use]
    pub fn new(width: Option<u16>, header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if !header.is_empty() {
            table.set_header(header.iter().map(|name| name.trim_end_matches('>')));
        }
        for (index, name) in header.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, if index + 1 == header.len() { 0 } else { 2 }));
                if name.ends_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { table }
    }

    /// Names and values, one pair a line.
    #[must_use]
    pub fn pairs<'a>(width: Option<u16>, pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
        let mut table = Self::new(width, &[]);
        for (name, value) in pairs {
            table.table.add_row([name.to_owned(), shown(&value).into_owned()]);
        }
        if let Some(column) = table.table.column_mut(0) {
            column.set_padding((0, 2));
            column.set_constraint(comfy_table::ColumnConstraint::ContentWidth);
        }
        if let Some(column) = table.table.column_mut(1) {
            column.set_padding((0, 0));
        }
        table.text()
    }

    /// Adds a row.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) -> &mut Self {
        self.table.add_row(cells.into_iter().map(|cell| shown(&cell).into_owned()).collect::<Vec<_>>());
        self
    }

    /// The table as text with a line end after each line and no space before it.
    #[must_use]
    pub fn text(&self) -> String {
        self.table.lines().fold(String::new(), |mut text, line| {
            text.push_str(line.trim_end());
            text.push('\n');
            text
        })
    }
}

/// The text with everything written out that a terminal would obey instead of showing: what servers say may hold words of anybody. Line
/// ends stay.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == '\n' || is_shown(c);
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    Cow::Owned(out)
}

/// A dash for nothing.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(shown("Grüße\nan 東京 שלום"), "Grüße\nan 東京 שלום");
        let mut table = Table::new(None, &["NAME"]);
        table.row(["a\x1b[2Jb\0\u{202e}c\u{9b}".to_owned()]);
        assert_eq!(table.text(), "NAME\na\\u{1b}[2Jb\\u{0}\\u{202e}c\\u{9b}\n");
        assert_eq!(Table::pairs(None, [("name", "\r".to_owned())]), "name  \\u{d}\n");
    }

    #[test]
    fn tables_have_no_frames_and_no_trailing_spaces() {
        let mut table = Table::new(None, &["NAME", "COUNT>"]);
        table.row(["a".into(), "1".into()]).row(["long name".into(), "1,000".into()]);
        assert_eq!(table.text(), "NAME       COUNT\na              1\nlong name  1,000\n");
        assert_eq!(Table::pairs(None, [("state", "running".into()), ("id", "x".into())]), "state  running\nid     x\n");
    }

    #[test]
    fn tables_fit_the_terminal() {
        let mut table = Table::new(Some(80), &["A", "B"]);
        table.row(["word ".repeat(30), "other ".repeat(30)]);
        assert!(table.text().lines().all(|line| line.chars().count() <= 80), "{}", table.text());
    }

    #[tokio::test]
    async fn pages_are_collected_up_to_the_limit() {
        let page = |size: i32, token: String| async move {
            let from: usize = token.parse().unwrap_or(0);
            let to = (from + (size as usize).min(400)).min(1_000);
            let next = if to < 1_000 { to.to_string() } else { String::new() };
            Ok::<_, Status>(((from..to).collect::<Vec<_>>(), next))
        };
        assert_eq!(collect(0, page).await.expect("pages").0.len(), 1_000);
        let (items, next) = collect(450, page).await.expect("pages");
        assert_eq!((items.len(), next.as_str()), (450, "450"));
    }
}
