//! Mistakes planted on purpose, one at a time, so that it can be seen that the proof catches them.
//!
//! Each is a mistake that movers of data really make. Without the feature `plant` a question is the constant
//! `false` and the mistake is not compiled. With it, which only tests ask for, [`with`] plants one for this
//! thread, and the environment variable `HAPAX_PLANT` one for a process built for tests.
//!
//! [`shadow`] is the other half: what a kill can never show, because it does not lose what the kernel holds.
#![deny(missing_docs)]

pub mod shadow;

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mistake {
    /// The source is told before the effect is durable.
    AcknowledgeBeforeCommit,
    /// The cursor of a table is compared with `>` alone, without the key beside it.
    BareCursor,
    /// A commit does not ask whether its holder still has the lease.
    NoFence,
    /// The position is read once and not again when a split is taken over again.
    CachedPosition,
    /// A commit whose answer was lost is sent again without looking.
    BlindRetry,
    /// The ledger's filter says "maybe", and that is taken for "yes".
    FilterAlone,
    /// A renamed file is not followed by an fsync of its directory.
    NoDirectorySync,
    /// Identities are claimed in a commit of their own, before the effect.
    ClaimOutsideCommit,
    /// What must not be sent twice is sent without being announced.
    Unannounced,
    /// A refused record that a queue gives back is set aside again.
    SetAsideAgain,
    /// What an earlier run announced is taken for done without asking for it.
    FoundUnasked,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AcknowledgeBeforeCommit,
        Self::BareCursor,
        Self::NoFence,
        Self::CachedPosition,
        Self::BlindRetry,
        Self::FilterAlone,
        Self::NoDirectorySync,
        Self::ClaimOutsideCommit,
        Self::Unannounced,
        Self::SetAsideAgain,
        Self::FoundUnasked,
    ];

    /// The name that `HAPAX_PLANT` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeCommit => "acknowledge-before-commit",
            Self::BareCursor => "bare-cursor",
            Self::NoFence => "no-fence",
            Self::CachedPosition => "cached-position",
            Self::BlindRetry => "blind-retry",
            Self::FilterAlone => "filter-alone",
            Self::NoDirectorySync => "no-directory-sync",
            Self::ClaimOutsideCommit => "claim-outside-commit",
            Self::Unannounced => "unannounced",
            Self::SetAsideAgain => "set-aside-again",
            Self::FoundUnasked => "found-unasked",
        }
    }
}

/// Whether this mistake is to be made here and now.
#[cfg(not(feature = "plant"))]
#[inline(always)]
pub const fn planted(_: Mistake) -> bool {
    false
}

#[cfg(feature = "plant")]
pub use plant::{planted, with};

#[cfg(feature = "plant")]
mod plant {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Mistake;

    thread_local! {
        static HERE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// Whether this mistake is to be made here and now.
    pub fn planted(mistake: Mistake) -> bool {
        HERE.get() == Some(mistake) || everywhere() == Some(mistake)
    }

    /// What the process was started with. A release build listens to nobody.
    fn everywhere() -> Option<Mistake> {
        static EVERYWHERE: OnceLock<Option<Mistake>> = OnceLock::new();
        *EVERYWHERE.get_or_init(|| {
            let wanted = cfg!(debug_assertions).then(|| std::env::var("HAPAX_PLANT").ok())??;
            Mistake::ALL.into_iter().find(|mistake| mistake.name() == wanted)
        })
    }

    /// Does work on this thread with a mistake planted, or with none.
    pub fn with<T>(mistake: Option<Mistake>, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Mistake>);
        impl Drop for Restore {
            fn drop(&mut self) {
                HERE.set(self.0);
            }
        }
        let _restore = Restore(HERE.replace(mistake));
        work()
    }
}

#[cfg(all(test, feature = "plant"))]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_planted_only_where_and_while_it_was_asked_for() {
        assert!(!planted(Mistake::NoFence));
        with(Some(Mistake::NoFence), || {
            assert!(planted(Mistake::NoFence) && !planted(Mistake::BlindRetry));
            let elsewhere = std::thread::spawn(|| planted(Mistake::NoFence));
            assert!(matches!(elsewhere.join(), Ok(false)));
        });
        assert!(!planted(Mistake::NoFence));
    }
}
