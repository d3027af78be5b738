//! The pure core: rules on plain data, with time and randomness passed in. No input, no output, no clock of its own.

pub mod adapt;
pub mod backoff;
pub mod breaker;
pub mod campaign;
pub mod ceiling;
pub mod correlation;
pub mod escape;
pub mod ids;
pub mod line;
pub mod message;
pub mod pacer;
pub mod phone;
pub mod provider_kind;
pub mod share;
pub mod sms_parts;
pub mod spread;
pub mod stage;
pub mod tally;
pub mod template;
pub mod time;
pub mod trace;
