//! The files sink, seen from outside: by its contract and by what lies on the disk.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod faults;
mod fencing;
mod kills;
mod letters;
mod parts;
mod stdout;
mod twins;
mod whole;
mod world;
