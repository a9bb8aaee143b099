//! What can go wrong, by what the engine does about it.
//!
//! A connector describes each of its own failures in its own error enum and says, through [`Fault`],
//! which stable code it has and what a person should do. The engine looks only at the kind.

use std::fmt;

use hapax_protocol::code::Code;

/// One described failure of one system.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// Its stable code, with a page in `docs/errors/`.
    fn code(&self) -> Code;
    /// What to do now, in one or two sentences.
    fn help(&self) -> String;
}

/// A source could not do what it was asked.
#[derive(Debug)]
pub struct SourceError {
    /// What the engine does about it.
    pub kind: SourceErrorKind,
    /// What it was.
    pub fault: Box<dyn Fault>,
}

/// What the engine does about a source's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// It may pass: tried again a bounded number of times, from the last committed position.
    Unavailable,
    /// It will not pass: the run stops, positions stay.
    Stop,
}

impl SourceError {
    /// A failure that stops the run.
    pub fn stop(fault: impl Fault) -> Self {
        Self { kind: SourceErrorKind::Stop, fault: Box::new(fault) }
    }

    /// A failure that may pass.
    pub fn unavailable(fault: impl Fault) -> Self {
        Self { kind: SourceErrorKind::Unavailable, fault: Box::new(fault) }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// A sink could not do what it was asked. Nothing of the open commit took effect.
#[derive(Debug)]
pub struct SinkError {
    /// What the engine does about it.
    pub kind: SinkErrorKind,
    /// What it was.
    pub fault: Box<dyn Fault>,
}

/// What the engine does about a sink's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkErrorKind {
    /// It may pass: tried again a bounded number of times, from the last committed position.
    Unavailable,
    /// It will not pass: the run stops, positions stay.
    Stop,
    /// A later run has the lease: this one stops and writes nothing more.
    Fenced,
}

impl SinkError {
    /// A failure that stops the run.
    pub fn stop(fault: impl Fault) -> Self {
        Self { kind: SinkErrorKind::Stop, fault: Box::new(fault) }
    }

    /// A failure that may pass.
    pub fn unavailable(fault: impl Fault) -> Self {
        Self { kind: SinkErrorKind::Unavailable, fault: Box::new(fault) }
    }

    /// A later run has the lease.
    pub fn fenced(fault: impl Fault) -> Self {
        Self { kind: SinkErrorKind::Fenced, fault: Box::new(fault) }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// How a commit can fail. A lost answer is `Unknown`, never a failure.
#[derive(Debug)]
pub enum CommitError {
    /// It did not take effect.
    Refused(SinkError),
    /// It may or may not have taken effect: the engine looks, it does not resend.
    Unknown(SinkError),
}
