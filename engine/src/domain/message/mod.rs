//! The state of one message: a register that its owner writes, and facts per attempt that are written once.
//!
//! What is shown is a pure function of both. Reports of the provider join: whatever their order and however often they come,
//! the same set of them leads to the same end ([`MessageState::apply`]; checked exhaustively in `tests.rs`).

mod event;
mod facts;
mod state;

pub use event::{Applied, Decision, Event, Failure, Reported};
pub use facts::{Attempt, Phase, Seen};
pub use state::{Facets, MessageState};
