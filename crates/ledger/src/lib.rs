//! The ledger: which record identities took effect, exact, in bounded memory, inside whatever store a commit has.
#![deny(missing_docs)]

pub mod store;
