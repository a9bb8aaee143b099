//! The source on the real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../kit/mod.rs"]
mod kit;

mod columns;
mod faults;
mod incremental;
mod late_commit;
mod marked;
mod reading;
mod refusal;
mod replica;
mod snapshot;
