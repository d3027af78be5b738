//! Measuring: what a run reads while it goes on, and what it makes of it.

pub mod histogram;
