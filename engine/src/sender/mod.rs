//! Senders: few actors per line, each owning many connections. Requests run in tasks of their own, so that no panic of an
//! actor cuts a request short.
//!
//! A message waits in its sender's queue for the aim, then for the exact gate in the very task that writes it. What may not
//! leave is withdrawn; what is lost on the way, by a panic or a closed connection, reports itself when it is dropped.

mod actor;
mod connection;
mod core;
mod item;
pub(crate) mod outcome;

pub(crate) use actor::{SenderActor, SenderMsg};
pub(crate) use connection::Connector;
pub(crate) use core::{SenderContext, SenderCore};
pub(crate) use item::{Item, OpenAttempt};
