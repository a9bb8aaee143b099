//! What can go wrong.

mod cluster;
mod read;
mod write;

pub use cluster::ClusterFault;
pub use read::ReadFault;
pub use write::WriteFault;
