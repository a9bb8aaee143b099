//! Source and sink in one database: mark, effect and position in one transaction, through the real engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../kit/mod.rs"]
mod kit;

mod follow;
mod lost;
mod scene;
mod together;
