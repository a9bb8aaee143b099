//! What can go wrong, by operation, and what a person does about it. No text here contains a URL or a password.

mod database;
mod read;
mod write;

pub use database::DatabaseFault;
pub use read::ReadFault;
pub use write::WriteFault;
