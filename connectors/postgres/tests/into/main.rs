//! The sink, over real tables: what it commits, what it refuses, what it survives.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[path = "../kit/mod.rs"]
#[allow(dead_code)]
mod kit;

mod altered;
mod commit;
mod connect;
mod lost;
mod outage;
mod privilege;
mod refusal;
mod retention;
mod scene;
mod table;
mod types;
mod wire;
