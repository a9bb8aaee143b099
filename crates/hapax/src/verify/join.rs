//! The records of both ends, side by side in the order of identity and content.
//!
//! Nothing here grows with the number of records, nor with how many have one identity.

use std::io;

use super::line::{Line, Spot};
use super::prints::Print;
use super::scratch::{Merged, Sorter};
use super::{EXAMPLES_MAX, Winner};

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Identities that the source has more than once and of which one record is expected.
    pub twins: u64,
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
/// which one record is expected, every place, because only the ledger knows which of them takes effect.
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
        group.add(&wanted, &held, winner);
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
    first: Option<Spot>,
    last: Option<Spot>,
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
        wanted.first.get_or_insert(line.spot);
        wanted.last = Some(line.spot);
        if let Some(places) = &mut places
            && (winner != Winner::All || wanted.required > held)
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
    /// Where one is expected: where that one stands, and how many records at the destination are like it.
    best: Option<(Spot, u64)>,
    /// Where one is expected: records at the destination that are like an optional one.
    passable: u64,
    /// Whether the expected one is among those.
    best_is_passable: bool,
}

impl Group {
    /// Adds the records of one content.
    fn add(&mut self, wanted: &Wanted, held: &Held, winner: Winner) {
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
        let is_passable = wanted.optional > 0;
        if is_passable {
            self.passable = self.passable.saturating_add(held.records);
        }
        let (this, better): (_, fn(&Spot, &Spot) -> bool) = match winner {
            Winner::Last => (wanted.last, Spot::gt),
            Winner::First | Winner::All => (wanted.first, Spot::lt),
        };
        if let Some(this) = this
            && self.best.is_none_or(|(best, _)| better(&this, &best))
        {
            self.best = Some((this, held.records));
            self.best_is_passable = is_passable;
        }
    }

    /// How many records at the destination may be what the source says, where one is expected.
    fn right(&self, winner: Winner) -> u64 {
        match (self.best, winner) {
            (None, _) => self.passable,
            // Nothing that came later takes the place of the first.
            (Some((_, like)), Winner::First | Winner::All) => like,
            (Some((_, like)), Winner::Last) if self.best_is_passable => self.passable.max(like),
            (Some((_, like)), Winner::Last) => self.passable.saturating_add(like),
        }
    }
}

impl Joining<'_> {
    /// Says what is wrong with the records of one identity, which are complete.
    fn settle(&mut self, places: Option<&mut Sorter<Spot>>) -> io::Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let (missing, different, duplicated) = match self.winner {
            Winner::All => {
                let different = group.lacking.0.min(group.surplus.0);
                (group.lacking.0 - different, different, group.surplus.0 - different)
            }
            Winner::First | Winner::Last => {
                self.found.twins += u64::from(group.required > 1);
                let missing = u64::from(group.required > 0 && group.held == 0);
                let different = u64::from(group.held > 0 && group.right(self.winner) == 0);
                (missing, different, group.held.saturating_sub(1))
            }
        };
        let at = |spot: Option<Spot>| spot.map(|spot| (spot, group.id));
        let source = at(group.best.map(|(spot, _)| spot).or(group.lacking.1));
        let destination = at(group.surplus.1.or(group.any_held));
        if group.known {
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
                (_, Winner::First | Winner::Last) => places.give(all, u64::MAX)?,
            }
        }
        Ok(())
    }
}
