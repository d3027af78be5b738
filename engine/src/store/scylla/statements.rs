//! Every statement that this store sends, in one list. A test reads the list and holds it to the rules: what is on the way of the
//! messages is absolute, carries a client timestamp, decides nothing on the server and deletes nothing.
//!
//! Everything stands within what ScyllaDB and Cassandra accept alike.

use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

/// Where a statement is used, which says what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Writes on the way of the messages, reports and imports: absolute, repeatable with the same timestamp.
    Hot,
    /// Writes of people's pace, absolute and repeatable too.
    Plain,
    /// Decided by the server (lightweight transactions): records with versions, the owner of the keyspace.
    Decided,
    /// Removes what somebody asked to remove.
    Removal,
    /// Reads.
    Read,
}

/// One statement.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) way: Way,
    pub(super) cql: &'static str,
}

macro_rules! statements {
    ($($way:ident $name:ident = $cql:expr;)*) => {
        /// All statements.
        #[cfg(test)]
        pub(super) const ALL: &[Spec] = &[$(Spec { name: stringify!($name), way: Way::$way, cql: $cql },)*];

        /// All statements, prepared.
        #[derive(Debug)]
        pub(super) struct Statements {
            $(pub(super) $name: PreparedStatement,)*
        }

        impl Statements {
            /// Prepares them all. Reads and writes have one consistency, so that they cannot miss each other.
            pub(super) async fn prepare(
                session: &Session,
                keyspace: &str,
                level: Consistency,
                serial: SerialConsistency,
            ) -> Result<Self, PrepareError> {
                Ok(Self {
                    $($name: {
                        let mut prepared = session.prepare(within(keyspace, $cql)).await?;
                        prepared.set_consistency(level);
                        prepared.set_serial_consistency(Some(serial));
                        // A decision that is repeated blindly would answer "no" to its own success.
                        prepared.set_is_idempotent(Way::$way != Way::Decided);
                        prepared
                    },)*
                })
            }
        }
    };
}

/// A statement with its table's keyspace.
///
/// The session uses none: the driver would say `USE` on each new connection and waits without end for the answer (scylla 1.9,
/// `start_setting_keyspace_for_connection`), so that one answer that is lost would leave a node without connections for good. And a
/// server that has started again could not prepare these statements by itself.
pub(super) fn within(keyspace: &str, cql: &str) -> String {
    let word = ["UPDATE ", "INSERT INTO ", " FROM "].into_iter().find(|word| cql.contains(word)).unwrap_or_default();
    cql.replacen(word, &format!("{word}\"{keyspace}\"."), 1)
}

statements! {
    // --- the way of the messages ---
    Hot write_message = "UPDATE message SET register = ?, fact = fact + ? WHERE tenant = ? AND campaign = ? AND segment = ? AND seq = ?";
    Hot write_segment = "UPDATE message SET tally = ?, failures = ? WHERE tenant = ? AND campaign = ? AND segment = ?";
    Hot write_recipient = "UPDATE message SET address = ?, external_id = ?, params = ?, import_no = ?, row_no = ?, refused = ?
        WHERE tenant = ? AND campaign = ? AND segment = ? AND seq = ?";
    Hot refuse_recipient = "UPDATE message SET refused = ? WHERE tenant = ? AND campaign = ? AND segment = ? AND seq = ?";
    Read segment_states = "SELECT seq, address, refused, register, fact FROM message WHERE tenant = ? AND campaign = ? AND segment = ?";
    Read segment_tally = "SELECT DISTINCT segment, tally, failures FROM message WHERE tenant = ? AND campaign = ? AND segment = ?";
    Read segment_tallies = "SELECT DISTINCT segment, tally, failures FROM message WHERE tenant = ? AND campaign = ? AND segment IN ?";
    Read messages = "SELECT seq, address, external_id, params, import_no, row_no, refused, register, fact FROM message
        WHERE tenant = ? AND campaign = ? AND segment = ? AND seq >= ? AND seq <= ?";
    Read recipients = "SELECT seq, address, external_id, params, import_no, row_no, refused FROM message
        WHERE tenant = ? AND campaign = ? AND segment = ? AND seq >= ? AND seq <= ?";
    Removal remove_segment = "DELETE FROM message WHERE tenant = ? AND campaign = ? AND segment = ?";

    // --- campaigns and their imports ---
    Decided insert_campaign = "INSERT INTO campaign (key, tenant, id, version, body) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    Decided insert_ended = "INSERT INTO campaign (key, tenant, id, version, body, ended_as, end_version) VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    Decided update_campaign = "UPDATE campaign SET version = ?, body = ? WHERE key = ? IF version = ?";
    Decided end_campaign = "UPDATE campaign SET version = ?, body = ?, ended_as = ?, end_version = ? WHERE key = ? IF version = ?";
    Hot write_list = "UPDATE campaign SET recipients = ?, refused = ?, next_seq = ?, sealed_at = ? WHERE key = ?";
    Hot write_import = "UPDATE campaign SET import_id = ?, next_row = ?, stored = ?, refused_rows = ?, created_at = ?, updated_at = ?
        WHERE key = ? AND import_no = -1 AND row_no = ?";
    Hot write_chunk = "UPDATE campaign SET rows = ?, digest = ?, stored = ?, refused_rows = ? WHERE key = ? AND import_no = ? AND row_no = ?";
    Hot write_seal = "UPDATE campaign SET sealed_digest = ?, duplicates = ? WHERE key = ?";
    Hot write_import_duplicates = "UPDATE campaign SET duplicate_rows = ? WHERE key = ? AND import_no = -1 AND row_no = ?";
    Read campaign = "SELECT DISTINCT key, tenant, id, version, body, ended_as, end_version, recipients, refused, next_seq, sealed_at, sealed_digest, duplicates
        FROM campaign WHERE key = ?";
    Read campaigns = "SELECT DISTINCT key, tenant, id, version, body, ended_as, end_version, recipients, refused, next_seq, sealed_at, sealed_digest, duplicates
        FROM campaign WHERE key IN ?";
    Read imports = "SELECT row_no, import_id, next_row, stored, refused_rows, duplicate_rows, created_at, updated_at, recipients, refused, next_seq
        FROM campaign WHERE key = ? AND import_no = -1";
    Read chunk = "SELECT rows, digest, stored, refused_rows FROM campaign WHERE key = ? AND import_no = ? AND row_no = ?";
    Read chunks = "SELECT row_no, rows, digest, stored, refused_rows FROM campaign WHERE key = ? AND import_no = ? AND row_no > ? LIMIT ?";
    Removal remove_campaign = "DELETE FROM campaign WHERE key = ?";
    Hot write_refused = "UPDATE refused SET import_id = ?, row_no = ?, field = ?, reason = ?, first_import = ?, first_row = ?
        WHERE campaign = ? AND bucket = ? AND number = ?";
    Read refused = "SELECT number, import_id, row_no, field, reason, first_import, first_row FROM refused
        WHERE campaign = ? AND bucket = ? AND number >= ? LIMIT ?";
    Removal remove_refused = "DELETE FROM refused WHERE campaign = ? AND bucket = ?";

    // --- small records ---
    Plain write_record = "UPDATE record SET version = ?, number = ?, body = ? WHERE home = ? AND slot = ?";
    Plain write_passing = "UPDATE record USING TTL ? SET version = ?, number = ?, body = ? WHERE home = ? AND slot = ?";
    Decided claim = "INSERT INTO record (home, slot, version, number, body) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    Decided replace = "UPDATE record SET version = ?, number = ?, body = ? WHERE home = ? AND slot = ? IF version = ?";
    Decided renew = "UPDATE record SET version = ?, number = ?, body = ? WHERE home = ? AND slot = ? IF version = ? AND number = ?";
    Decided unclaim = "DELETE FROM record WHERE home = ? AND slot = ? IF number = ?";
    Read record = "SELECT slot, version, number, body FROM record WHERE home = ? AND slot = ?";
    Read records = "SELECT slot, version, number, body FROM record WHERE home = ?";
    Read records_from = "SELECT slot, version, number, body FROM record WHERE home = ? AND slot > ? LIMIT ?";
    Read homes = "SELECT DISTINCT home, token(home) FROM record WHERE token(home) > ? LIMIT ?";
    Removal remove_record = "DELETE FROM record WHERE home = ? AND slot = ?";

    // --- events nobody can place yet, and events for later features ---
    Hot write_parked = "UPDATE parked USING TTL ? SET account = ?, sender = ?, provider_id = ?, campaign = ?, seq = ?, attempt = ?, report = ?,
        at = ?, look_at = ?, deadline = ?, mark = ?, orphan = ? WHERE bucket = ? AND id = ?";
    Hot mark_parked = "UPDATE parked USING TTL ? SET look_at = ?, mark = ?, orphan = ? WHERE bucket = ? AND id = ?";
    Read parked_index = "SELECT id, at, look_at, mark, orphan FROM parked WHERE bucket = ?";
    Read parked = "SELECT id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline FROM parked WHERE bucket = ? AND id = ?";
    Read parked_written = "SELECT WRITETIME(mark) FROM parked WHERE bucket = ? AND id = ?";
    Hot write_orphan = "UPDATE orphan USING TTL ? SET sender = ?, provider_id = ?, campaign = ?, seq = ?, attempt = ?, report = ?,
        at = ?, look_at = ?, deadline = ? WHERE account = ? AND id = ?";
    Read orphans = "SELECT id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline FROM orphan
        WHERE account = ? AND id < ? LIMIT ?";
    Read orphan_accounts = "SELECT DISTINCT account FROM orphan";
    Hot write_inbound = "UPDATE inbound USING TTL ? SET account = ?, kind = ?, provider_id = ?, body = ?, at = ? WHERE bucket = ? AND id = ?";
    Read inbound = "SELECT account, kind, provider_id, body, at FROM inbound WHERE bucket = ? AND id = ?";
    Read inbound_index = "SELECT id, at FROM inbound WHERE bucket = ?";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(cql: &str) -> Vec<String> {
        let letters = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { ' ' };
        cql.chars().map(letters).collect::<String>().split_whitespace().map(str::to_owned).collect()
    }

    /// What a repetition could count twice, what the server would have to decide, and what leaves tombstones.
    #[test]
    fn what_is_on_the_way_of_the_messages_is_absolute() {
        assert!(ALL.iter().filter(|spec| spec.way == Way::Hot).count() >= 10);
        let tables = super::super::schema::tables();
        for spec in ALL {
            let words = words(spec.cql);
            let has = |word: &str| words.iter().any(|w| w == word);
            let name = spec.name;
            assert!(!has("TIMESTAMP"), "{name}: the timestamp is the driver's field, so that a repetition keeps it");
            assert!(!has("NULL") && !has("NOW") && !has("UUID"), "{name}: values are bound and say the same twice");
            assert!(!has("ALLOW"), "{name}: no filtering on the server");
            match spec.way {
                Way::Hot | Way::Plain => {
                    assert_eq!(words[0], "UPDATE", "{name}: an INSERT leaves row markers, a DELETE tombstones");
                    assert!(!has("IF") && !has("DELETE") && !has("BATCH"), "{name}");
                    // The one sum is of a map with entries that are written once; a counter would be `x = x + 1`.
                    let sums = spec.cql.matches(" + ").count();
                    assert_eq!(sums, spec.cql.matches("fact = fact + ?").count(), "{name}: counts are absolute");
                    assert!(!spec.cql.contains(" - "), "{name}");
                }
                Way::Decided => assert!(has("IF"), "{name}"),
                Way::Removal => assert_eq!(words[0], "DELETE", "{name}"),
                Way::Read => assert_eq!(words[0], "SELECT", "{name}"),
            }
            let (before, after) = (spec.cql.split_whitespace().count(), within("Ours", spec.cql));
            assert_eq!((after.matches("\"Ours\".").count(), after.split_whitespace().count()), (1, before), "{after}");
            let table =
                after.split("\"Ours\".").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
            assert!(tables.iter().any(|made| made.contains(&format!(" {table} "))), "{name}: {table:?} is no table");
            let bound: Vec<_> =
                spec.cql.split(" WHERE ").nth(1).map_or_else(Vec::new, |keys| keys.split(" AND ").collect());
            let partition = bound.iter().all(|part| part.contains('?') || part.contains("import_no = -1"));
            assert!(partition, "{name}: keys are bound, or the driver cannot route it");
        }
    }

    /// A statement elsewhere would escape the rules above.
    #[test]
    fn no_other_file_of_the_store_holds_statements() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/scylla");
        let files = |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut seen = 0;
        for file in files(folder).chain(files(&format!("{folder}/parked"))) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                file.is_file() || ["parked", "tests"].contains(&name.as_str()),
                "{name}: a folder that is not looked into"
            );
            if !name.ends_with(".rs") || ["statements.rs", "schema.rs", "connect.rs"].contains(&name.as_str()) {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            for word in ["SELECT ", "UPDATE ", "INSERT INTO", "DELETE FROM", "BEGIN BATCH"] {
                assert!(!text.contains(word), "{name} holds {word:?}");
            }
        }
        assert!(seen > 10);
    }
}
