//! Outbound: how a message is put into a provider's words, and what the provider's answer means.
//!
//! Nothing here opens a socket. A [`RequestPlan`] is prepared once per (line, template) and then renders each body by
//! concatenation; [`classify`] reads an answer into a [`Verdict`]; the error codes stand as data in
//! [`meta::codes`](meta::CODES) and [`twilio::codes`](twilio::CODES), with what each acts on and whether it proves that the
//! message was not processed.
//!
//! What may be sent again under *at most once* is decided here and nowhere else: [`Verdict::NotProcessed`] and nothing more.

mod account;
mod class;
mod classify;
mod fragments;
mod line;
mod loose;
mod plan;
mod verdict;

pub mod meta;
pub mod twilio;

pub use crate::domain::message::Failure;
pub use crate::domain::provider_kind::ProviderKind;
pub use account::Account;
pub use class::{Action, Class, CodeRow, Proof, Scope};
pub use classify::{EventVerdict, classify, classify_event, code_row};
pub use fragments::RenderError;
pub use line::{Credentials, Endpoint, LineError, LineIdentity, Secret, SenderIdentity};
pub use plan::{PlanError, RequestPlan};
pub use verdict::{Act, Answer, Effects, Transport, Verdict};
