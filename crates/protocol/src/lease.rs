//! The exclusive right to write, and the number that tells its holder from an earlier one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a pipeline, as its file gives it. Positions, leases and ledgers are kept under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PipelineName(String);

/// Why a text cannot name a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pipeline name has 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', and starts with a letter or digit")]
pub struct PipelineNameError;

impl PipelineName {
    /// Checks and wraps a name: 1 to 64 of `a-zA-Z0-9-_.`, a letter or digit first. It is safe as a
    /// file name.
    pub fn new(name: impl Into<String>) -> Result<Self, PipelineNameError> {
        let name = name.into();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if starts && name.len() <= 64 && name.chars().all(plain) {
            Ok(Self(name))
        } else {
            Err(PipelineNameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PipelineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells the present holder of a lease from every earlier one. It only grows; 0 is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Before the first holder.
    pub const NOBODY: Self = Self(0);

    /// A token as stored.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next holder's token.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The exclusive right to write the splits of one pipeline, until a later holder takes it.
///
/// It has no expiry: time is never what protects a sink. Each take-over and each commit is
/// conditional on the token, so a holder that wakes up late is refused whenever it wakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose splits.
    pub pipeline: PipelineName,
    /// Which holder.
    pub token: FencingToken,
}

/// What a run shows to a sink to be given the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Whose splits it wants to write.
    pub pipeline: PipelineName,
    /// Who it is, for people: host name and process id.
    pub holder: String,
    /// Digest of what the pipeline means (source, transform, identity, destination). A sink that holds
    /// positions made under another definition refuses.
    pub definition: String,
}
