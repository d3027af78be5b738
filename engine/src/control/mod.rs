//! The façade that `api` calls: validation, lifecycle, store calls, and notice to the actors.
//!
//! Every call names the tenant first; whatever belongs to another tenant is the same as nothing. Calls that change something
//! are durable before they return. A caller that may go away half-way (a broken connection) runs them in a task of its own
//! ([`detached`]), so that the actors always hear of what was written.

mod accounts;
mod admin;
mod campaigns;
mod counts;
mod creation;
mod error;
mod filter;
mod imports;
mod lifecycle;
mod lines;
mod messages;
mod page;
mod resolve;
mod row;
pub mod runtime;
mod settings;
mod stats;
mod templates;
mod watch;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::campaign::Settings;
use crate::domain::correlation::CorrelationKey;
use crate::domain::ids::TenantId;
use crate::domain::time::{Clock, UnixMillis};
use crate::store::Store;

pub use accounts::{Account, Accounts, Tenants};
pub use admin::Backup;
pub use campaigns::CampaignView;
pub(crate) use counts::differences;
pub use counts::{Difference, Recount, TenantView};
pub use error::{Error, Result, Violation, Violations};
pub use imports::{ChunkAck, ImportOpened, ImportSession, ReadyChunk};
pub use lifecycle::{BatchMove, Halted, Outcome, Selection};
pub use lines::{LineSpec, LineUpdate, LineView, PoolView};
pub use messages::{AttemptView, MessageKeySpec, MessageView, Names};
pub use page::{PAGE_SIZE_MAX, PageOf, PageRequest};
pub use resolve::{ResolveSelection, Resolved, Unresolved};
pub use row::{CHUNK_ROWS_MAX, Row, RowAddress, RowChunk};
pub use runtime::{Binding, LineStatus, Progress, Runtime};
pub use settings::{CampaignSpec, CampaignUpdate, SettingsSpec, WORKERS_MAX};
pub use stats::{Binds, FailureCount, Stats};
pub use templates::{ParametersSpec, TemplateView};
pub use watch::{Update, WatchUntil, Watcher};

use page::PageTokens;

/// Longest `request_id`, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// What the façade works with.
pub struct Parts {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// The running actors.
    pub runtime: Arc<dyn Runtime>,
    /// The configured accounts.
    pub accounts: Accounts,
    /// The clocks.
    pub clock: Clock,
    /// Where backups go; `None`: backups are refused.
    pub backup_dir: Option<PathBuf>,
    /// The installation's secret, from [`Store::installation_secret`].
    pub installation_secret: [u8; 32],
    /// What holds where a caller says nothing.
    pub defaults: Defaults,
}

/// What holds where a caller says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Of a campaign.
    pub settings: Settings,
    /// Grace of *at least once* where only the policy is named, milliseconds.
    pub resend_grace_ms: u64,
    /// Of a line.
    pub line_in_flight_max: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            resend_grace_ms: 60_000,
            line_in_flight_max: crate::domain::line::bounds::IN_FLIGHT_DEFAULT,
        }
    }
}

/// The façade. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    store: Arc<dyn Store>,
    runtime: Arc<dyn Runtime>,
    accounts: Arc<Accounts>,
    clock: Clock,
    backup_dir: Option<Arc<PathBuf>>,
    tokens: PageTokens,
    correlation: Arc<CorrelationKey>,
    defaults: Arc<Defaults>,
}

impl Control {
    /// A façade over these parts.
    pub fn new(parts: Parts) -> Result<Self> {
        Ok(Self {
            store: parts.store,
            runtime: parts.runtime,
            accounts: Arc::new(parts.accounts),
            clock: parts.clock,
            backup_dir: parts.backup_dir.map(Arc::new),
            defaults: Arc::new(parts.defaults),
            tokens: PageTokens::new(&parts.installation_secret),
            correlation: Arc::new(CorrelationKey::new(parts.installation_secret)),
        })
    }

    /// What holds where a caller says nothing.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// The wall clock that stamps answers.
    pub fn now(&self) -> UnixMillis {
        self.clock.wall()
    }

    /// Refuses new work while the engine shuts down.
    fn accepting(&self) -> Result<()> {
        if self.runtime.is_draining() {
            Err(Error::Unavailable("the server is shutting down and takes no new work"))
        } else {
            Ok(())
        }
    }
}

/// Runs `work` to its end even when the caller goes away.
pub async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(crate::trace::carried(crate::trace::caller(), work)).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::Bug("handling the call failed inside the server".to_owned())),
        Err(_) => Err(Error::Unavailable("the server is shutting down")),
    }
}

/// An etag's version must be the stored one.
fn same_version(expected: Option<u64>, stored: u64) -> Result<()> {
    if expected.is_none_or(|expected| expected == stored) { Ok(()) } else { Err(Error::Stale) }
}

/// A `request_id` as the store takes it; the empty one is none.
fn request_id(text: &str) -> Result<Option<&str>> {
    if text.len() > REQUEST_ID_BYTES_MAX || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(Error::invalid(
            "request_id",
            format!("must be at most {REQUEST_ID_BYTES_MAX} printable ASCII characters"),
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// An id of our own choice: `prefix` and 60 random bits, in the alphabet of ids.
fn fresh_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bits: u64 = rand::random();
    let tail = (0..12).map(|place| char::from(ALPHABET[(bits >> (place * 5) & 31) as usize]));
    std::iter::once(prefix.to_owned()).chain(tail.map(String::from)).collect()
}

/// The parts of a page query that are always there.
fn query<'a, const N: usize>(call: &'a str, tenant: &'a TenantId, rest: [&'a str; N]) -> Vec<&'a str> {
    [call, tenant.as_str()].into_iter().chain(rest).collect()
}
