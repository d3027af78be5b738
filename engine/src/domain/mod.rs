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
