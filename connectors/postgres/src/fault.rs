//! What can go wrong, by operation, and what a person does about it.

mod read;
mod server;
mod write;

pub use server::ServerFault;
pub(crate) use server::words;
pub use write::WriteFault;

pub use crate::address::Server;
pub use read::ReadFault;
