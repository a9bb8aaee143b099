//! SQLite as source and sink.
//!
//! The source reads tables by row id, or by a cursor that the database's one writer lets grow. The sink
//! keeps records, positions, dead letters and the ledger of identities in one transaction of one
//! database file, so that a commit is all of them or none.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod sink;
pub mod source;

mod civil;
mod connection;
mod declared;
mod table;
