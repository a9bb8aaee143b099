//! Redis as source, sink and ledger.
//!
//! The source reads streams by id, never by consumer group. The sink applies effects, position, claims and dead letters
//! in one script, which is all of them or none. The ledger keeps claims for a sink that cannot.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod ledger;
pub mod scratch;
pub mod sink;
pub mod source;

mod client;
mod columns;
mod server;
mod template;
