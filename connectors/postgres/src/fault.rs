//! What can go wrong, by operation, and what a person does about it.

mod read;
mod server;

pub use crate::address::Server;
pub use read::ReadFault;
pub use server::ServerFault;
pub(crate) use server::words;
