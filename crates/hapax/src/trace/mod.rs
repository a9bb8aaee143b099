//! One record, from every arrival to what the destination holds of it.
//!
//! What is said of a decision rests on what the destination remembers: its ledger, its commits, its dead
//! letters. Nothing is claimed, no lease is taken, nothing is changed.

pub mod scan;
pub mod subject;
#[cfg(test)]
mod tests;

use hapax_engine::dead_letter::{DeadLetter, SettledLetter};
use hapax_engine::history::{Committed, Remembered};
use hapax_protocol::identity::Place;

use scan::Passage;

/// What became of one arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stands behind the committed position: the next run comes to it.
    NotReached,
    /// Its effect is at the destination.
    Moved,
    /// Its identity was another's.
    Suppressed {
        /// The place that has it.
        of: Place,
    },
    /// It is set aside.
    SetAside(DeadLetter),
    /// It was set aside, and that was settled.
    Settled(SettledLetter),
    /// The transform left it out.
    LeftOut,
    /// The destination does not say what was done with it.
    Unrecorded,
}

/// What is known of one arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Where it stands.
    pub place: Place,
    /// What became of it.
    pub decision: Decision,
    /// The commit that passed it, if it is remembered.
    pub commit: Option<Committed>,
    /// The commit that settled its dead letter, if it is remembered.
    pub settled_in: Option<Committed>,
    /// The commits that moved it again, in their order.
    pub again: Vec<Committed>,
}

impl Traced {
    /// Its last commit that is remembered.
    pub fn last(&self) -> Option<&Committed> {
        let all = self.commit.iter().chain(&self.settled_in).chain(&self.again);
        all.max_by_key(|commit| commit.commit.epoch)
    }
}

/// On which side of the committed position of its split a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Before it.
    Before,
    /// Behind it.
    Behind,
    /// It cannot be told: the source gives the record at other places each time, or was not read.
    Unknown,
    /// The destination keeps no positions.
    NoPositions,
}

/// What there is to decide by.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Where the arrival stands.
    pub place: Place,
    /// How far it comes today; `None` if the source was not read.
    pub passage: Option<Passage>,
    /// On which side of the committed position it stands.
    pub stands: Stands,
    /// What the destination remembers of the place.
    pub remembered: Remembered,
    /// The place that claimed its identity.
    pub claimant: Option<Place>,
    /// Whether identities are claimed at all.
    pub has_ledger: bool,
}

/// Decides what became of an arrival. What was written down goes before what follows from today's source and
/// transform.
pub fn decide(evidence: Evidence) -> Traced {
    let Evidence { place, passage, stands, remembered, claimant, has_ledger } = evidence;
    let Remembered { commit, letter, settled, settled_in, again } = remembered;
    let decision = match (letter, settled, passage) {
        _ if stands == Stands::Behind => Decision::NotReached,
        (Some(letter), _, _) => Decision::SetAside(letter),
        (None, Some(settled), _) => Decision::Settled(settled),
        (None, None, _) if !again.is_empty() => Decision::Moved,
        (None, None, Some(Passage::LeftOut)) => Decision::LeftOut,
        (None, None, Some(Passage::Refused)) => Decision::Unrecorded,
        _ if stands == Stands::NoPositions => Decision::Unrecorded,
        (None, None, passage) => match claimant {
            Some(of) if of == place => Decision::Moved,
            Some(of) if has_ledger => Decision::Suppressed { of },
            _ if stands == Stands::Before && !has_ledger && passage == Some(Passage::Passes) => {
                Decision::Moved
            }
            _ => Decision::Unrecorded,
        },
    };
    Traced { place, decision, commit, settled_in, again }
}
