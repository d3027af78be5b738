//! The little of HTTP/1.1 that the witness needs, on both sides.
//!
//! The simulator shares its cores with the server it measures, so its hot paths read and write plain
//! buffers (one `recv`, one `send` per message) instead of going through a general HTTP stack; a
//! hand-written exchange costs about a quarter less CPU. What is left out answers clearly rather than wrongly:
//! chunked request bodies get 411, oversized heads 431, oversized bodies 413.

pub mod client;
pub mod request;
