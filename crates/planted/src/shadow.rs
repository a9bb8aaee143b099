//! A shadow of what is durable: what a power loss would leave of a directory.
//!
//! A killed process loses nothing that the kernel holds, so no kill can show that an fsync is missing. Whoever
//! makes bytes or names durable notes it here, and [`Shadow::wreck`] tells afterwards what had to survive and
//! what need not. Without the feature `plant` a note is nothing and costs nothing; with it the environment
//! variable `HAPAX_SHADOW` names the directory of the shadow, and a build for release listens to nobody.
//!
//! What it models and what it does not is in `docs/adr/0009-power-loss.md`.

#[cfg(not(feature = "plant"))]
mod absent;
#[cfg(feature = "plant")]
mod notes;
#[cfg(feature = "plant")]
mod store;
#[cfg(feature = "plant")]
mod wreck;

#[cfg(not(feature = "plant"))]
pub use absent::{content, names, rename};
#[cfg(feature = "plant")]
pub use notes::{content, names, rename};
#[cfg(feature = "plant")]
pub use store::Shadow;
#[cfg(feature = "plant")]
pub use wreck::{Luck, Wreck};
