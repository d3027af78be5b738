//! The server itself.

use std::path::PathBuf;

use super::Control;
use super::error::{Error, Result};
use crate::domain::time::UnixMillis;
use crate::nodes::NodesView;
use crate::store::{StoreError, StoreHealth};

/// A backup that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When its content was true.
    pub as_of: UnixMillis,
}

impl Control {
    /// Writes a copy of the ledger under this name into the configured directory.
    ///
    /// A name and not a path: the caller is a tenant's administrator, not the machine's.
    pub async fn backup(&self, file_name: &str) -> Result<Backup> {
        let word = |b: u8| b.is_ascii_alphanumeric();
        let bytes = file_name.as_bytes();
        let valid = bytes.len() <= 128
            && bytes.first().is_some_and(|b| word(*b))
            && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'_' | b'-'));
        if !valid {
            let problem = "must be 1 to 128 of letters, digits, '.', '_' and '-', beginning with a letter or digit";
            return Err(Error::invalid("file_name", problem));
        }
        let Some(dir) = &self.backup_dir else {
            let problem = "this server keeps no backups: it was built into another program without a folder for them";
            return Err(Error::precondition("BACKUP_DIR", "server".to_owned(), problem));
        };
        tokio::fs::create_dir_all(dir.as_path()).await.map_err(|error| Error::Ledger(error.to_string()))?;
        let path = dir.join(file_name);
        let as_of = self.now();
        let report = self.store.backup(&path).await.map_err(|error| match error {
            StoreError::Conflict(problem) => Error::precondition("BACKUP", format!("file/{file_name}"), problem),
            other => other.into(),
        })?;
        Ok(Backup { path, bytes: report.bytes, as_of })
    }

    /// The nodes that share the ledger, and who has which pool and why; `None`: this server has the ledger for itself. For operators: it
    /// names pools of all tenants.
    pub fn nodes(&self) -> Option<NodesView> {
        self.runtime.nodes()
    }

    /// What the store says of itself.
    pub fn store_health(&self) -> StoreHealth {
        self.store.health()
    }
}
