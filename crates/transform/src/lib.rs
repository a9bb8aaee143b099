//! One SQL `SELECT … FROM input` over each batch: projection, filter, casts, expressions.
//!
//! [`Select::plan`](select::Select::plan) reads the SQL once, before anything moves, and refuses whatever
//! cannot be computed from one record alone or would give another answer on a replay. What it returns is a
//! [`Transform`](hapax_engine::transform::Transform): a record whose values do not fit the expressions is
//! refused by row and reason, never turned into NULL, never wrapped around.
#![deny(missing_docs)]

pub mod codes;
mod computation;
pub mod error;
mod function;
mod plan;
mod scope;
pub mod select;
mod select_list;
mod statement;
mod vocabulary;

pub use error::{Place, SelectError};
pub use select::Select;

/// Every function that a transform may call, by name and alias, in small letters, sorted.
pub fn functions() -> Vec<String> {
    function::names()
}
