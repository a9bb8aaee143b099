//! SQLite as source and sink, against real database files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions
)]

mod codes;
mod commit;
mod refusal;
mod scene;
mod snapshot;
mod tail;
mod types;
