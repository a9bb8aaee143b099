//! Where missing records stand.

use std::io;

use hapax_protocol::identity::Place;

use super::line::Spot;
use super::pass::Splits;
use super::reading::End;
use super::scratch::{Merged, Sorter, merge};

/// The places of records that are missing at the destination, split by split and in their order.
pub struct Missing {
    spots: Merged<Spot>,
    splits: Splits,
}

impl Missing {
    pub(super) fn new(places: Sorter<Spot>, splits: &mut Splits) -> io::Result<Self> {
        Ok(Self { spots: merge(vec![places])?, splits: std::mem::take(splits) })
    }
}

impl Iterator for Missing {
    type Item = io::Result<Place>;

    fn next(&mut self) -> Option<Self::Item> {
        let spot = match self.spots.next()? {
            Ok(spot) => spot,
            Err(error) => return Some(Err(error)),
        };
        let split = self.splits.get(End::Source, spot.split).cloned();
        Some(match split {
            Some(split) => Ok(Place { split, ordinal: spot.ordinal }),
            None => Err(io::Error::other("a scratch file holds a split that there is not")),
        })
    }
}
