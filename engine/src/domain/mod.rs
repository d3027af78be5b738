//! The pure core: rules on plain data, with time passed in. No input, no output, no clock of its own.

pub mod adapt;
pub mod breaker;
pub mod campaign;
pub mod ceiling;
pub mod ids;
pub mod line;
pub mod message;
pub mod pacer;
pub mod share;
pub mod stage;
pub mod tally;
pub mod time;
//! Pure rules: no I/O, no clock; time and randomness are passed in.

pub mod backoff;
pub mod correlation;
pub mod escape;
pub mod phone;
pub mod provider_kind;
pub mod sms_parts;
pub mod template;
