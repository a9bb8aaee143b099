//! The decisions that keep a promise across crashes: observe facts, decide here, act at the edge.

use crate::lease::FencingToken;
use crate::position::{Position, Standing};

/// What a take-over finds at the sink for one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The token that last took the split, or [`FencingToken::NOBODY`].
    pub token: FencingToken,
    /// Where the split stands.
    pub standing: Standing,
}

/// How a split begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Nothing of it was ever committed.
    Fresh,
    /// Go on behind this position.
    Resume(Position),
    /// A later holder has it: stop, write nothing.
    Fenced {
        /// The later holder's token.
        by: FencingToken,
    },
}

/// Decides how the holder of `token` begins a split that it found as `found`.
pub fn start(token: FencingToken, found: &Found) -> Start {
    if found.token > token {
        return Start::Fenced { by: found.token };
    }
    match &found.standing.position {
        None => Start::Fresh,
        Some(position) => Start::Resume(position.clone()),
    }
}

/// What became of a commit whose answer was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It took effect: acknowledge and go on.
    TookEffect,
    /// It did not: its records are read and written again from the position before it.
    DidNot,
    /// The sink stands somewhere this run never brought it: stop, do not guess.
    Diverged {
        /// What the sink holds.
        found: Option<Position>,
    },
}

/// Decides what became of the commit `after → through`, given the position that the sink holds now.
///
/// The holder must have taken the split over again before it looked: only then can the lost commit no
/// longer arrive.
pub fn resolve(after: Option<&Position>, through: &Position, found: Option<&Position>) -> Resolution {
    if found == Some(through) {
        Resolution::TookEffect
    } else if found == after {
        Resolution::DidNot
    } else {
        Resolution::Diverged { found: found.cloned() }
    }
}

/// Why a batch may not follow the position its reader stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misstep {
    /// The batch starts somewhere else than the last one ended: records would be lost or repeated.
    Gap {
        /// Where the reader stood.
        stood: Option<Position>,
        /// Where the batch says it starts.
        starts: Option<Position>,
    },
    /// The batch ends where it started or before: the position would not move forward.
    Backwards {
        /// Where the batch says it starts.
        starts: Option<Position>,
        /// Where it says it ends.
        ends: Position,
    },
}

/// Checks one step of a reader that stood at `stood` and delivers the batch `after → through`.
pub fn step(stood: Option<&Position>, after: Option<&Position>, through: &Position) -> Result<(), Misstep> {
    if stood != after {
        return Err(Misstep::Gap { stood: stood.cloned(), starts: after.cloned() });
    }
    if after.is_some_and(|after| through <= after) {
        return Err(Misstep::Backwards { starts: after.cloned(), ends: through.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> Position {
        Position::new([n].as_slice())
    }

    #[test]
    fn a_later_token_fences_whatever_the_position() {
        let found = |token, position| Found {
            token: FencingToken::new(token),
            standing: Standing { position, ..Standing::default() },
        };
        let me = FencingToken::new(4);
        assert_eq!(start(me, &found(5, Some(at(9)))), Start::Fenced { by: FencingToken::new(5) });
        assert_eq!(start(me, &found(4, None)), Start::Fresh);
        assert_eq!(start(me, &found(0, None)), Start::Fresh);
        assert_eq!(start(me, &found(3, Some(at(9)))), Start::Resume(at(9)));
    }

    #[test]
    fn an_unknown_commit_is_resolved_by_what_the_sink_holds() {
        let (after, through, other) = (at(1), at(2), at(3));
        assert_eq!(resolve(Some(&after), &through, Some(&through)), Resolution::TookEffect);
        assert_eq!(resolve(Some(&after), &through, Some(&after)), Resolution::DidNot);
        assert_eq!(resolve(None, &through, None), Resolution::DidNot);
        assert_eq!(
            resolve(Some(&after), &through, Some(&other)),
            Resolution::Diverged { found: Some(other) }
        );
        assert_eq!(resolve(Some(&after), &through, None), Resolution::Diverged { found: None });
    }

    #[test]
    fn a_reader_steps_forward_without_a_gap() {
        let (a, b) = (at(1), at(2));
        assert_eq!(step(None, None, &a), Ok(()));
        assert_eq!(step(Some(&a), Some(&a), &b), Ok(()));
        assert!(matches!(step(Some(&a), None, &b), Err(Misstep::Gap { .. })));
        assert!(matches!(step(None, Some(&a), &b), Err(Misstep::Gap { .. })));
        assert!(matches!(step(Some(&b), Some(&b), &b), Err(Misstep::Backwards { .. })));
        assert!(matches!(step(Some(&b), Some(&b), &a), Err(Misstep::Backwards { .. })));
    }
}
