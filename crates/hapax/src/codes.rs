//! The codes of commands, 30 to 59, 433 and 434, of the drill, 440 to 448, and of `trace`, 450 to 459. Those of the file are in
//! [`hapax_config::codes`].

use hapax_protocol::code::Code;

/// The pair cannot give the guarantee that is asked for.
pub const GUARANTEE: Code = Code(32);
/// The source may forget records before the pipeline reads them.
pub const RETENTION: Code = Code(33);
/// An address that names no source or sink.
pub const ADDRESS: Code = Code(34);
/// A file that would be overwritten.
pub const EXISTS: Code = Code(35);
/// Something could not be written where the command was to put it.
pub const CANNOT_WRITE: Code = Code(36);
/// No dead letter stands at a place.
pub const NO_LETTER: Code = Code(37);
/// The process could not be set up.
pub const PROCESS: Code = Code(38);
/// Scratch files in the temporary directory failed.
pub const SCRATCH: Code = Code(39);
/// So many records are set aside that a repair cannot leave them all out.
pub const MANY_LETTERS: Code = Code(433);
/// A pipeline of which nothing says what should be at the destination.
pub const NOT_COMPARABLE: Code = Code(434);
/// The source takes away what it reads: a drill would.
pub const CONSUMES: Code = Code(440);
/// A scratch destination could not be made or removed.
pub const NO_SCRATCH: Code = Code(441);
/// A scratch destination promises something else than the real one.
pub const OTHER_PROMISE: Code = Code(442);
/// There is nothing to kill a run over.
pub const NOTHING_TO_DRILL: Code = Code(443);
/// A worker was given a place that no drill made.
pub const NOT_SCRATCH: Code = Code(444);
/// The pipeline fails without being killed.
pub const CALM_RUN: Code = Code(445);
/// The source changed during a drill.
pub const SOURCE_CHANGED: Code = Code(446);
/// A drill was interrupted.
pub const INTERRUPTED: Code = Code(447);
/// A worker could not be started or watched.
pub const WORKER: Code = Code(448);

/// A text that names no record.
pub const RECORD_UNNAMED: Code = Code(450);
/// A record that nothing knows.
pub const RECORD_UNKNOWN: Code = Code(451);

/// Every code of the commands.
#[cfg(test)]
pub const ALL: &[Code] = &[
    GUARANTEE,
    RETENTION,
    ADDRESS,
    EXISTS,
    CANNOT_WRITE,
    NO_LETTER,
    PROCESS,
    SCRATCH,
    MANY_LETTERS,
    NOT_COMPARABLE,
    CONSUMES,
    NO_SCRATCH,
    OTHER_PROMISE,
    NOTHING_TO_DRILL,
    NOT_SCRATCH,
    CALM_RUN,
    SOURCE_CHANGED,
    INTERRUPTED,
    WORKER,
    RECORD_UNNAMED,
    RECORD_UNKNOWN,
];

#[cfg(test)]
mod tests;
