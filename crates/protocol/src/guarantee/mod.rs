//! The delivery calculus: what Hapax may promise for one pipeline, decided before it moves a record.
//!
//! [`derive`] is a pure, total function of declared [`Facts`]. A [`Verdict`] carries the level, the
//! rule that gave it, every assumption it rests on and, below exactly-once, the weakest link and the
//! one fact that would raise it. A pipeline that asks for more than the calculus gives does not start.

mod facts;
mod level;
mod rules;
#[cfg(test)]
mod tests;
mod words;

pub use facts::{
    Completeness, Durability, Effect, Facts, Fencing, Guard, IdentityKind, InDoubt, LedgerFacts, LedgerPlace,
    LookUp, Mechanism, Memory, Order, Replay, Retention, Settle, SinkFacts, SourceFacts,
};
pub use level::{Level, Window};
pub use rules::{Assumption, Refusal, Rule, Verdict, WeakestLink, derive};
