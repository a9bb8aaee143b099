//! What is true, whoever runs it: identities, positions, leases, the delivery calculus and the
//! recovery decisions.
//!
//! This crate is pure. It reads no clock, draws no random number, opens no file and waits for
//! nothing: every function is a value computed from its arguments, so each can be tested over all of
//! its cases, and the simulation runs the same code that production runs.
#![deny(missing_docs)]

pub mod code;
pub mod guarantee;
pub mod identity;
pub mod lease;
pub mod ledger;
pub mod position;
pub mod recovery;
