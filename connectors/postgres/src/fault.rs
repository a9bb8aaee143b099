//! What can go wrong, by operation, and what a person does about it.

mod server;

pub use crate::address::Server;
pub use server::ServerFault;
