//! The real engine in a simulated world, decided by a seed.
//!
//! The engine, its recovery decisions and the ledger are the real ones; source, destination, network, clock
//! and the processes themselves are simulated, on one thread, in virtual time. A [`plan`] says what a seed
//! decides beforehand, [`schedule::run`] lets it happen, and the checker, which knows nothing of all this,
//! counts what it comes to. What must be kept is what the delivery calculus promises for the very pipeline.
//! Why it is built on tokio's paused clock stands in `docs/adr/0010-simulation.md`.
#![deny(missing_docs)]

pub mod fault;
pub mod plan;
mod process;
mod random;
pub mod schedule;
mod sink;
mod source;
mod world;
