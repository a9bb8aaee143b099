//! What can go wrong, by operation, and what a person does about it. No text here contains a URL or a password.

mod read;
mod server;
mod write;

pub use read::ReadFault;
pub use server::ServerFault;
pub use write::WriteFault;
