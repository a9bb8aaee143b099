//! MySQL and MariaDB as source and sink.
//!
//! The source reads tables by key, or by a cursor below a horizon under which nothing can still commit. The sink
//! keeps records, positions, dead letters and the ledger of identities in one transaction of one database, so that
//! a commit is all of them or none.
#![deny(missing_docs)]

pub mod codes;
pub mod config;
pub mod fault;
pub mod joint;
pub mod scratch;
pub mod sink;
pub mod source;

mod civil;
mod client;
mod declared;
mod server;
mod table;
mod tls;
