//! SQLite as source and sink, against real database files.
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

mod codes;
mod commit;
mod refusal;
mod scene;
mod snapshot;
mod tail;
mod types;
