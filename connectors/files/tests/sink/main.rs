//! The files sink, seen from outside: by its contract and by what lies on the disk.
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

mod faults;
mod fencing;
mod history;
mod kills;
mod letters;
mod parts;
mod stdout;
mod twins;
mod whole;
mod world;
