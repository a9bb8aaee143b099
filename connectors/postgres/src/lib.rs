//! PostgreSQL as source and sink.
//!
//! The sink keeps records, positions, dead letters and the ledger of identities in one transaction of one
//! database, so that a commit is all of them or none.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod joint;
pub mod scratch;
pub mod sink;
pub mod source;
pub mod source_config;

mod address;
mod client;
mod column;
mod name;
mod table;
mod tls;
