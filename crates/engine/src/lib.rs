//! What happens: the contracts of sources, sinks and ledgers, and the run loop between them.
//!
//! One batch's way: [`SplitReader::read`](source::SplitReader::read) → transform → claim →
//! [`Writer::write`](sink::Writer::write) → commit of effects and position →
//! [`Durable`](durable::Durable) → [`SplitReader::acknowledge`](source::SplitReader::acknowledge).
//! One direction, nothing goes back. The engine reads no clock and draws no random number of its own:
//! both are arguments, so a seed replays a run.
#![deny(missing_docs)]

pub mod batch;
pub mod canonical;
pub mod clock;
pub mod codes;
pub mod columns;
pub mod crash;
pub mod dead_letter;
pub mod durable;
pub mod exact;
pub mod fault;
pub mod glance;
pub mod history;
pub mod identify;
pub mod ledger;
pub mod message;
pub mod progress;
pub mod run;
pub mod sink;
pub mod source;
pub mod template;
pub mod tls;
pub mod transform;
pub mod wire;

/// What every asynchronous contract method returns: a future that may move between threads.
pub type Fut<'a, T, E> = std::pin::Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;
