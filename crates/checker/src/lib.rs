//! What arrived, counted against what was written.
//!
//! The checker knows records (writer, sequence, hash) and a log of what happened, and nothing of how Hapax
//! works: it shares no code with it. Whoever makes the log says what was seen from outside; the checker
//! draws the conclusions.
#![deny(missing_docs)]

mod counts;
pub mod log;

pub use counts::{Counts, Kept};
pub use log::{Event, Expected, Log, Record, State, Twins};
