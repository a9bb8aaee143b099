//! The decision a ledger makes about one arrival.
//!
//! A ledger stores, for each identity, the place that first claimed it. That makes the ledger itself
//! safe to replay: the same place coming back is a replay and passes, another place is a twin.

/// What a ledger says of one arrival. `P` is the ledger's encoding of a [`Place`](crate::identity::Place).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<P> {
    /// The identity was never seen: it is this arrival's now.
    New,
    /// This very arrival claimed the identity before: it is being replayed, and passes.
    Replay,
    /// Another arrival claimed the identity first.
    Twin {
        /// Where that one stands.
        of: P,
    },
}

impl<P> Claim<P> {
    /// Whether the record goes on to the sink.
    pub fn passes(&self) -> bool {
        !matches!(self, Self::Twin { .. })
    }
}

/// Decides about the arrival `at` of an identity whose first claim is `first`.
pub fn decide<P: PartialEq>(first: Option<P>, at: &P) -> Claim<P> {
    match first {
        None => Claim::New,
        Some(first) if first == *at => Claim::Replay,
        Some(of) => Claim::Twin { of },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_passes_its_own_replay_and_no_other() {
        assert_eq!(decide(None, &7), Claim::New);
        assert_eq!(decide(Some(7), &7), Claim::Replay);
        assert_eq!(decide(Some(3), &7), Claim::Twin { of: 3 });
        assert!(Claim::<u8>::New.passes() && Claim::<u8>::Replay.passes() && !Claim::Twin { of: 1 }.passes());
    }
}
