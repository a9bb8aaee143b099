//! The suites that every source, sink and ledger must pass, on the real system.
//!
//! A connector's tests call [`source::suite`], [`sink::suite`], [`keyed::suite`], [`sent::suite`],
//! [`queue::suite`] and [`ledger::suite`]. A suite panics at the first check that fails and names it.
#![deny(missing_docs)]
// This crate is test code that other crates' tests call: a failed check is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod http;
pub mod keyed;
pub mod late;
pub mod ledger;
pub mod memory;
pub mod milvus;
pub mod proxy;
pub mod queue;
pub mod sent;
pub mod server;
pub mod sink;
pub mod source;
pub mod tls;
pub mod types;
