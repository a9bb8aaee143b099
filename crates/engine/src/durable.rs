//! The proof that something is persisted.

/// `T` is persisted. Only the engine can make one, and only from a commit that took effect, so that
/// acknowledging before committing does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    pub(crate) fn mint(value: T) -> Self {
        Self(value)
    }

    /// What is persisted.
    pub fn get(&self) -> &T {
        &self.0
    }
}
