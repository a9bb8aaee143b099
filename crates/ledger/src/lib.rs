//! The ledger: which record identities took effect, exact, in bounded memory, inside whatever store a
//! commit has.
//!
//! [`Ledger`] answers claims and keeps them as sorted segments in a [`store::SegmentStore`]. A sink that
//! commits effects and position together implements the store on its own transaction; a sink that cannot
//! uses the embedded [`directory::DirectoryStore`]. The design and its figures are in
//! `docs/adr/0004-ledger.md`.
#![deny(missing_docs)]

mod cache;
pub mod codes;
pub mod directory;
pub mod embedded;
mod entry;
mod error;
mod filter;
mod find;
mod ledger;
pub mod memory;
mod merge;
mod page;
mod segment;
pub mod store;

pub use error::{Broken, Damage, Error};
pub use find::{find, size};
pub use ledger::{Ledger, Settings, Stats};
