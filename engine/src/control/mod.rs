//! The façade that `api` calls: validation, lifecycle, store calls, and notice to the actors.

pub mod runtime;

pub use runtime::{Binding, LineStatus, Progress, Runtime};
