//! Two nodes in one process, with real sockets between them and a directory that the test moves.

mod apart;
mod calls;
mod house;
mod lost;
mod overheard;
mod secrets;
mod streams;
mod webhooks;
