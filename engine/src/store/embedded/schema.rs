//! The ledger's tables, for programs and for people with the `sqlite3` shell; and opening a file safely.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::OpenError;
use super::error::store_error;
use super::{backup, views};
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// Version of the tables; a file with a higher one is refused.
pub const SCHEMA_VERSION: u32 = 2;

/// From version 1 to 2: failures are counted by segment, like everything else. What was kept by campaign cannot be divided; the messages
/// say how many each segment has.
const TO_2: &str = "
DROP TABLE failure;
CREATE TABLE failure (
    campaign INTEGER NOT NULL, segment INTEGER NOT NULL, code INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (campaign, segment, code)
) STRICT, WITHOUT ROWID;
INSERT INTO failure (campaign, segment, code, count)
    SELECT campaign, seq / 8192, coalesce(failure_code, 0), count(*) FROM message WHERE phase = 6 GROUP BY 1, 2, 3;
PRAGMA user_version = 2;
";

/// `SLUC`: says that a file is a ledger of ours (`PRAGMA application_id`, shown by `file`).
const APPLICATION_ID: u32 = 0x534C_5543;

/// Largest file that is checked page by page at every start: it costs about 0.3 s. In a larger one damage shows when the page is read.
const CHECKED_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a page.
pub(super) const PAGE_BYTES: u32 = 4_096;

/// How long a statement waits for a lock that somebody with a shell holds.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// `id` of recipients and messages is `campaign << 32 | seq`: an integer key costs a third less than a composite one, and both
/// parts can be read as columns of their own.
const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE campaign (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
    state TEXT NOT NULL, pool TEXT NOT NULL, created_at INTEGER NOT NULL, settled_at INTEGER,
    recipients INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, next_seq INTEGER NOT NULL DEFAULT 0,
    sealed_at INTEGER, sealed_digest TEXT, ended_as TEXT,
    body TEXT NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX campaign_unsettled ON campaign (key) WHERE settled_at IS NULL;

CREATE TABLE pool (
    tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE line (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
    pool TEXT NOT NULL, account TEXT NOT NULL, kind TEXT NOT NULL, sender TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (tenant, id), UNIQUE (kind, sender)
) STRICT;

CREATE TABLE template (
    tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, definition TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE request (
    tenant TEXT NOT NULL, request_id TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, key INTEGER,
    PRIMARY KEY (tenant, request_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE import (
    campaign INTEGER NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL,
    next_row INTEGER NOT NULL, stored INTEGER NOT NULL, refused INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    PRIMARY KEY (campaign, number), UNIQUE (campaign, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE import_chunk (
    campaign INTEGER NOT NULL, import INTEGER NOT NULL, offset INTEGER NOT NULL, rows INTEGER NOT NULL,
    digest BLOB NOT NULL, stored_after INTEGER NOT NULL, refused_after INTEGER NOT NULL,
    PRIMARY KEY (campaign, import, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE refused (
    campaign INTEGER NOT NULL, number INTEGER NOT NULL, import TEXT NOT NULL, row INTEGER NOT NULL,
    field TEXT NOT NULL, reason TEXT NOT NULL, duplicate_import TEXT, duplicate_row INTEGER,
    PRIMARY KEY (campaign, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,
    campaign INTEGER AS (id >> 32) VIRTUAL, seq INTEGER AS (id & 0xffffffff) VIRTUAL,
    address TEXT NOT NULL, external_id TEXT, params TEXT NOT NULL,
    import INTEGER NOT NULL, row INTEGER NOT NULL
) STRICT;

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    campaign INTEGER AS (id >> 32) VIRTUAL, seq INTEGER AS (id & 0xffffffff) VIRTUAL,
    phase INTEGER NOT NULL, reached INTEGER NOT NULL, retries INTEGER NOT NULL, again INTEGER NOT NULL,
    ever_accepted INTEGER NOT NULL, conflict INTEGER NOT NULL, doubled INTEGER NOT NULL, older_sent INTEGER NOT NULL,
    due_at INTEGER,
    attempt INTEGER NOT NULL, line INTEGER NOT NULL, intent_at INTEGER NOT NULL,
    withdrawn_at INTEGER, accepted_at INTEGER, doubt_at INTEGER, provider_id TEXT,
    sent_at INTEGER, sent_provider_at INTEGER, delivered_at INTEGER, delivered_provider_at INTEGER,
    read_at INTEGER, read_provider_at INTEGER, failed_at INTEGER, failed_provider_at INTEGER,
    failure_code INTEGER, failure TEXT
) STRICT;
CREATE INDEX message_due ON message (campaign, phase, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE attempt (
    message INTEGER NOT NULL,
    attempt INTEGER NOT NULL, line INTEGER NOT NULL, intent_at INTEGER NOT NULL,
    withdrawn_at INTEGER, accepted_at INTEGER, doubt_at INTEGER, provider_id TEXT,
    sent_at INTEGER, sent_provider_at INTEGER, delivered_at INTEGER, delivered_provider_at INTEGER,
    read_at INTEGER, read_provider_at INTEGER, failed_at INTEGER, failed_provider_at INTEGER,
    failure_code INTEGER, failure TEXT,
    PRIMARY KEY (message, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE segment (
    campaign INTEGER NOT NULL, segment INTEGER NOT NULL,
    pending INTEGER NOT NULL, queued INTEGER NOT NULL, in_doubt INTEGER NOT NULL, unconfirmed INTEGER NOT NULL,
    sent INTEGER NOT NULL, delivered INTEGER NOT NULL, read INTEGER NOT NULL, failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL, expired INTEGER NOT NULL,
    reached_sent INTEGER NOT NULL, reached_delivered INTEGER NOT NULL, reached_read INTEGER NOT NULL,
    accepted INTEGER NOT NULL, conflicts INTEGER NOT NULL, doubles INTEGER NOT NULL, open INTEGER NOT NULL,
    again INTEGER NOT NULL, untried INTEGER NOT NULL,
    PRIMARY KEY (campaign, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE failure (
    campaign INTEGER NOT NULL, segment INTEGER NOT NULL, code INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (campaign, segment, code)
) STRICT, WITHOUT ROWID;

CREATE TABLE line_use (
    line INTEGER NOT NULL, campaign INTEGER NOT NULL,
    PRIMARY KEY (line, campaign)
) STRICT, WITHOUT ROWID;

CREATE TABLE removal (campaign INTEGER PRIMARY KEY) STRICT;

CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL, sender TEXT, provider_id TEXT NOT NULL, what TEXT NOT NULL,
    campaign INTEGER, seq INTEGER, attempt INTEGER, report TEXT NOT NULL,
    at INTEGER NOT NULL, look_at INTEGER NOT NULL, deadline INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX parked_once ON parked (account, provider_id, what, coalesce(campaign, -1), coalesce(seq, -1), coalesce(attempt, -1));
CREATE INDEX parked_look_at ON parked (look_at);

CREATE TABLE orphan (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL, sender TEXT, provider_id TEXT NOT NULL, what TEXT NOT NULL,
    campaign INTEGER, seq INTEGER, attempt INTEGER, report TEXT NOT NULL,
    at INTEGER NOT NULL, look_at INTEGER NOT NULL, deadline INTEGER NOT NULL
) STRICT;
CREATE INDEX orphan_account ON orphan (account, id);

CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL, kind TEXT NOT NULL, provider_id TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbound_once ON inbound (account, kind, provider_id) WHERE provider_id <> '';
";

/// How one connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The one that writes.
    Write {
        /// Page cache in MiB.
        cache_mib: u32,
        /// Whether a commit waits for the disk.
        synced: bool,
        /// Most pages of the file; 0: no limit but the disk's.
        pages_max: u32,
    },
    /// Short reads.
    Read,
    /// Checkpoints beside the writer.
    Checkpoint,
}

/// Opens one more connection to an existing ledger.
pub(super) fn connect(path: &Path, usage: Use) -> rusqlite::Result<Connection> {
    let access = if usage == Use::Read { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    match usage {
        Use::Write { cache_mib, synced, pages_max } => {
            conn.pragma_update(None, "cache_size", -i64::from(cache_mib) * 1_024)?;
            conn.pragma_update(None, "synchronous", if synced { "FULL" } else { "NORMAL" })?;
            conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
            if pages_max > 0 {
                conn.pragma_update(None, "max_page_count", pages_max)?;
            }
        }
        Use::Read => {
            conn.pragma_update(None, "cache_size", -2 * 1_024)?;
            conn.pragma_update(None, "query_only", true)?;
        }
        // What it copies must be on the disk before the log is used anew.
        Use::Checkpoint => conn.pragma_update(None, "synchronous", "FULL")?,
    }
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Makes the ledger if there is none and none was made here before (`made`), or checks that the one found can be used.
pub(super) fn prepare(path: &Path, made: bool, now: UnixMillis) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let lost = |what| Err(OpenError::Lost { path: path.to_owned(), what });
    let log = beside(path, "-wal");
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return if made || log.exists() { lost("is gone") } else { create_at(path) };
        }
        Err(error) => return Err(io(error)),
        Ok(file) if file.len() == 0 => return lost("is empty"),
        Ok(_) => {}
    }
    if !is_log(&log).map_err(io)? {
        let reason = format!("{} is not its write-ahead log: what was committed last is not known", log.display());
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    let refuse = refusal(path);
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refuse)?;
    conn.busy_timeout(BUSY_WAIT).map_err(refuse)?;
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).map_err(refuse);
    if number("application_id")? != APPLICATION_ID {
        let reason = "it is an SQLite file, but not a ledger of sluice".to_owned();
        return Err(OpenError::Refused { path: path.to_owned(), reason });
    }
    let found = number("user_version")?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    if let Some(reason) = check(&conn, path).map_err(refuse)? {
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    upgrade(&conn, found).map_err(refuse)?;
    backup::take_over(&conn, now).map_err(|error| {
        let reason = format!("it is a copy, and its campaigns cannot be held: {}", StoreError::from(error));
        OpenError::Refused { path: path.to_owned(), reason }
    })
}

/// Another file of the same name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn refusal(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError + Copy {
    |error: rusqlite::Error| match store_error(&error) {
        StoreError::Damaged(reason) => OpenError::Damaged { path: path.to_owned(), reason },
        other => OpenError::Refused { path: path.to_owned(), reason: other.to_string() },
    }
}

/// Whether the file can be a write-ahead log, or is none (missing, empty, or only claimed from the disk and not yet written). SQLite takes a
/// log whose header is not one for an empty one, and forgets what was committed in it. Format: <https://sqlite.org/fileformat.html#walformat>.
fn is_log(path: &Path) -> std::io::Result<bool> {
    const MAGIC: [[u8; 4]; 2] = [0x377f_0682_u32.to_be_bytes(), 0x377f_0683_u32.to_be_bytes()];
    let mut header = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(32).read_to_end(&mut header)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    Ok(header.len() < 32 || header.iter().all(|byte| *byte == 0) || MAGIC.iter().any(|magic| header.starts_with(magic)))
}

/// Brings the tables of an older version up to date, in one step: a crash leaves the old ones.
fn upgrade(conn: &Connection, found: u32) -> rusqlite::Result<()> {
    if found < 2 {
        tracing::info!(from = found, to = SCHEMA_VERSION, "the ledger's tables are brought up to date");
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {TO_2} COMMIT;"))?;
    }
    Ok(())
}

/// The file holds phone numbers: only its owner may read it. SQLite gives its log the same rights.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

/// Makes the ledger under another name and gives it its own when it is whole: a file of that name is a ledger.
fn create_at(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let new = beside(path, ".new");
    for left in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(beside(&new, left)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    create_private(&new).map_err(io)?;
    let refuse = refusal(path);
    let conn = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refuse)?;
    create(&conn).map_err(refuse)?;
    // The last to close it takes the log in.
    conn.close().map_err(|(_, error)| refuse(error))?;
    std::fs::File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&new, path).map_err(io)?;
    sync_folder(path).map_err(io)
}

#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps))] // only there can a directory be opened and synced
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn create(conn: &Connection) -> rusqlite::Result<()> {
    // All three hold only when they come before the first table. Small pages: a small commit writes half as much as with 8 KiB
    // (measured: 220 against 360 MB at 20,000 transitions a second), a large one no more, and the file is a sixth smaller.
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    let secret: [u8; 32] = rand::random();
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute_batch(TABLES)?;
    conn.execute_batch(&views::create())?;
    conn.execute("INSERT INTO meta (name, value) VALUES ('installation_secret', ?1)", [secret])?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    conn.execute_batch("COMMIT")
}

/// What is wrong with the file, if anything.
fn check(conn: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    // Every table must be there with its columns; a statement that does not compile says which is not.
    let known: i64 = conn.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('meta', 'campaign', 'line', 'pool', 'template',
         'request', 'import', 'import_chunk', 'refused', 'recipient', 'message', 'attempt', 'segment', 'failure', 'line_use',
         'removal', 'parked', 'orphan', 'inbound')",
        [],
        |row| row.get(0),
    )?;
    if known != 19 {
        return Ok(Some(format!("{} of its 19 tables are missing", 19 - known)));
    }
    let secret: Option<Vec<u8>> =
        conn.query_row("SELECT value FROM meta WHERE name = 'installation_secret'", [], |row| row.get(0)).optional()?;
    if secret.is_none_or(|secret| secret.len() != 32) {
        return Ok(Some("its installation secret is missing".to_owned()));
    }
    if std::fs::metadata(path).map_or(0, |file| file.len()) <= CHECKED_BYTES_MAX {
        let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}
