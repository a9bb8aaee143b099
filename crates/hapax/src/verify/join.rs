//! The records of both ends, side by side in the order of identity and content.
//!
//! Nothing here grows with the number of records, nor with how many have one identity. Of one identity at a time, a
//! record is held for each split that has it.

use std::collections::BTreeMap;
use std::io;

use super::line::{Line, Spot};
use super::prints::{GONE, Print};
use super::scratch::{Merged, Sorter};
use super::{EXAMPLES_MAX, Winner};

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Identities that the source has more than once and of which one record is expected.
    pub twins: u64,
    /// Identities whose records in several splits differ: which of them is expected is not known.
    pub undecided: u64,
    /// Those of them that are missing, and that nothing can tell a repair.
    pub missing_undecided: u64,
    /// Identities that the expected record removes, and that are not at the destination.
    pub deleted: u64,
    pub missing: Finds,
    pub duplicated: Finds,
    pub unexpected: Finds,
    pub different: Finds,
}

/// How many, and where some of them stand.
#[derive(Debug, Default)]
pub(super) struct Finds {
    pub records: u64,
    pub examples: Vec<Find>,
}

/// One record that was found, where it stands at each end that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Find {
    pub source: Option<(Spot, Print)>,
    pub destination: Option<(Spot, Print)>,
}

impl Finds {
    fn add(&mut self, records: u64, find: Find) {
        self.records = self.records.saturating_add(records);
        if records > 0 && self.examples.len() < EXAMPLES_MAX {
            self.examples.push(find);
        }
    }
}

/// Compares what both ends have. Collects, if asked, where records stand that are missing: of an identity of
/// which one record is expected, that one's place; every place if only the ledger knows which of them takes
/// effect; none if nobody knows.
pub(super) fn join(
    mut source: Merged<Line>,
    mut destination: Merged<Line>,
    winner: Winner,
    missing: Option<&mut Sorter<Spot>>,
) -> io::Result<Findings> {
    let mut joining = Joining { winner, missing, found: Findings::default(), group: None };
    // What one identity may hold back in memory until it is known how many of its records are missing.
    let mut places = joining.missing.is_some().then(|| Sorter::new(1 << 20));
    while let Some((id, content)) = first(&source, &destination) {
        if joining.group.as_ref().is_some_and(|group| group.id != id) {
            joining.settle(places.as_mut())?;
        }
        let held = held(&mut destination, id, content)?;
        let wanted = wanted(&mut source, id, content, winner, held.records, places.as_mut())?;
        let group = joining.group.get_or_insert_with(|| Group { id, ..Group::default() });
        group.add(wanted, &held, content, winner);
    }
    joining.settle(places.as_mut())?;
    Ok(joining.found)
}

/// The identity and content that come next.
fn first(source: &Merged<Line>, destination: &Merged<Line>) -> Option<(Print, Print)> {
    let of = |line: &Line| (line.id, line.content);
    match (source.peek().map(of), destination.peek().map(of)) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The records of one identity and content at the destination.
#[derive(Default)]
struct Held {
    records: u64,
    last: Option<Spot>,
}

/// The records of one identity and content in the source.
#[derive(Default)]
struct Wanted {
    required: u64,
    optional: u64,
    last: Option<Spot>,
    /// Where one is expected: the one of each split that may be it.
    by_split: Vec<Spot>,
}

fn next_of(lines: &mut Merged<Line>, id: Print, content: Print) -> io::Result<Option<Line>> {
    match lines.peek() {
        Some(line) if line.id == id && line.content == content => lines.next().transpose(),
        _ => Ok(None),
    }
}

fn held(lines: &mut Merged<Line>, id: Print, content: Print) -> io::Result<Held> {
    let mut held = Held::default();
    while let Some(line) = next_of(lines, id, content)? {
        held.records = held.records.saturating_add(1);
        held.last = Some(line.spot);
    }
    Ok(held)
}

fn wanted(
    lines: &mut Merged<Line>,
    id: Print,
    content: Print,
    winner: Winner,
    held: u64,
    mut places: Option<&mut Sorter<Spot>>,
) -> io::Result<Wanted> {
    let mut wanted = Wanted::default();
    while let Some(line) = next_of(lines, id, content)? {
        if line.optional {
            wanted.optional = wanted.optional.saturating_add(1);
            continue;
        }
        wanted.required = wanted.required.saturating_add(1);
        wanted.last = Some(line.spot);
        // They come in the order of splits, and of places in each.
        match (winner, wanted.by_split.last_mut()) {
            (Winner::All, _) => {}
            (_, Some(known)) if known.split == line.spot.split => {
                if winner == Winner::Last {
                    *known = line.spot;
                }
            }
            _ => wanted.by_split.push(line.spot),
        }
        if let Some(places) = &mut places
            && (winner == Winner::Claimed || (winner == Winner::All && wanted.required > held))
        {
            places.push(line.spot)?;
        }
    }
    Ok(wanted)
}

struct Joining<'a> {
    winner: Winner,
    missing: Option<&'a mut Sorter<Spot>>,
    found: Findings,
    group: Option<Group>,
}

/// The records of one identity.
#[derive(Default)]
struct Group {
    id: Print,
    /// Records of the source that were committed before the ends were read.
    required: u64,
    /// Whether the source has the identity at all.
    known: bool,
    held: u64,
    any_held: Option<Spot>,
    /// Where all are expected: records of the source without a counterpart, and the last of them.
    lacking: (u64, Option<Spot>),
    /// Where all are expected: records of the destination without a counterpart, and the last of them.
    surplus: (u64, Option<Spot>),
    /// Where one is expected: the one of the split that was seen first, and those of all others. The order in a
    /// split is the order in which its records took effect; that of splits is only today's.
    candidate: Option<Candidate>,
    others: BTreeMap<u32, Candidate>,
    /// Where one is expected: records at the destination that are like an optional one.
    passable: u64,
    /// Where one is expected: whether an optional record removes it.
    may_be_gone: bool,
}

/// A record of the source that is the expected one as far as its split tells.
#[derive(Clone, Copy)]
struct Candidate {
    spot: Spot,
    content: Print,
    /// How many records at the destination are like it.
    like: u64,
}

impl Group {
    /// Adds the records of one content.
    fn add(&mut self, wanted: Wanted, held: &Held, content: Print, winner: Winner) {
        self.required = self.required.saturating_add(wanted.required);
        self.known |= wanted.required > 0 || wanted.optional > 0;
        self.held = self.held.saturating_add(held.records);
        self.any_held = held.last.or(self.any_held);
        if winner == Winner::All {
            let lacking = wanted.required.saturating_sub(held.records);
            let surplus = held.records.saturating_sub(wanted.required).saturating_sub(wanted.optional);
            if lacking > 0 {
                self.lacking = (self.lacking.0.saturating_add(lacking), wanted.last);
            }
            if surplus > 0 {
                self.surplus = (self.surplus.0.saturating_add(surplus), held.last);
            }
            return;
        }
        if wanted.optional > 0 {
            self.may_be_gone |= content == GONE;
            self.passable = self.passable.saturating_add(held.records);
        }
        for spot in wanted.by_split {
            self.offer(Candidate { spot, content, like: held.records }, winner);
        }
    }

    /// Takes a record for its split if it comes later there, or earlier if the first is expected.
    fn offer(&mut self, new: Candidate, winner: Winner) {
        let known = match &mut self.candidate {
            Some(known) if known.spot.split != new.spot.split => {
                self.others.entry(new.spot.split).or_insert(new)
            }
            first => first.get_or_insert(new),
        };
        let is_better = match winner {
            Winner::Last => new.spot > known.spot,
            Winner::First | Winner::Claimed | Winner::All => new.spot < known.spot,
        };
        if is_better {
            *known = new;
        }
    }

    fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidate.iter().chain(self.others.values())
    }

    /// The expected record as far as the order of splits is to be trusted: an example where it is not.
    fn best(&self, winner: Winner) -> Option<Spot> {
        let spots = self.candidates().map(|candidate| candidate.spot);
        if winner == Winner::Last { spots.max() } else { spots.min() }
    }

    /// Whether several splits have the identity, with contents that differ.
    fn is_undecided(&self) -> bool {
        let Some(one) = self.candidate else { return false };
        self.others.values().any(|other| other.content != one.content)
    }

    /// Whether a record at the destination may be what the source says, where one is expected.
    fn has_right(&self, winner: Winner) -> bool {
        let has_candidate = self.candidates().any(|candidate| candidate.like > 0);
        has_candidate || (self.takes_optional(winner) && self.passable > 0)
    }

    /// Nothing that came later takes the place of the first.
    fn takes_optional(&self, winner: Winner) -> bool {
        winner == Winner::Last || self.candidate.is_none()
    }

    /// Whether the source may say that the record is removed.
    fn may_be_gone(&self, winner: Winner) -> bool {
        self.is_removed() || (self.takes_optional(winner) && self.may_be_gone)
    }

    fn is_removed(&self) -> bool {
        self.candidates().any(|candidate| candidate.content == GONE)
    }

    /// Whether the source has no record that should be there.
    fn is_removed_for_sure(&self) -> bool {
        let says_so = self.candidate.is_some() || self.may_be_gone;
        says_so && self.passable == 0 && self.candidates().all(|candidate| candidate.content == GONE)
    }
}

impl Joining<'_> {
    /// Says what is wrong with the records of one identity, which are complete.
    fn settle(&mut self, places: Option<&mut Sorter<Spot>>) -> io::Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let is_undecided = group.is_undecided();
        let (missing, different, duplicated) = match self.winner {
            Winner::All => {
                let different = group.lacking.0.min(group.surplus.0);
                (group.lacking.0 - different, different, group.surplus.0 - different)
            }
            Winner::First | Winner::Claimed | Winner::Last => {
                self.found.twins += u64::from(group.required > 1);
                self.found.undecided += u64::from(is_undecided);
                self.found.deleted += u64::from(group.is_removed() && group.held == 0);
                let is_absent = group.required > 0 && group.held == 0;
                let missing = u64::from(is_absent && !group.may_be_gone(self.winner));
                if is_undecided && self.winner != Winner::Claimed {
                    self.found.missing_undecided += missing;
                }
                let different = u64::from(group.held > 0 && !group.has_right(self.winner));
                (missing, different, group.held.saturating_sub(1))
            }
        };
        let at = |spot: Option<Spot>| spot.map(|spot| (spot, group.id));
        let best = group.best(self.winner);
        let source = at(best.or(group.lacking.1));
        let destination = at(group.surplus.1.or(group.any_held));
        if group.is_removed_for_sure() && group.held > 0 && self.winner != Winner::All {
            // That it was removed and is there is no difference between two records.
            self.found.unexpected.add(group.held, Find { source: None, destination });
        } else if group.known {
            self.found.missing.add(missing, Find { source, destination: None });
            self.found.different.add(different, Find { source, destination });
            self.found.duplicated.add(duplicated, Find { source, destination });
        } else {
            self.found.unexpected.add(group.held, Find { source: None, destination });
        }
        if let (Some(places), Some(all)) = (places, &mut self.missing) {
            match (missing, self.winner) {
                (0, _) => places.clear(),
                (_, Winner::All) => places.give(all, missing)?,
                (_, Winner::Claimed) => places.give(all, u64::MAX)?,
                // Several would take effect in the order of their commits, and a killed repair leaves some out.
                (_, Winner::First | Winner::Last) if is_undecided => {}
                (_, Winner::First | Winner::Last) => best.into_iter().try_for_each(|spot| all.push(spot))?,
            }
        }
        Ok(())
    }
}
