//! Pages read lately, checked, so that near questions do not read them again.

use std::collections::HashMap;

use crate::store::SegmentId;

/// Which page.
pub type PageName = (SegmentId, u32);

/// A bounded number of pages. The one to give way is found by a clock hand that passes over pages used
/// since its last round.
#[derive(Debug)]
pub struct Cache {
    slots: Vec<Slot>,
    places: HashMap<PageName, usize>,
    hand: usize,
    pages_max: usize,
}

#[derive(Debug)]
struct Slot {
    name: Option<PageName>,
    used: bool,
    bytes: Vec<u8>,
}

impl Cache {
    pub fn new(pages_max: usize) -> Self {
        Self { slots: Vec::new(), places: HashMap::new(), hand: 0, pages_max: pages_max.max(1) }
    }

    /// The bytes of a page; `fill` reads and checks them if they are not here.
    pub fn get<E>(
        &mut self,
        name: PageName,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<&[u8], E> {
        let place = match self.places.get(&name) {
            Some(place) => *place,
            None => self.make_room(),
        };
        // `make_room` returns a place that exists, and `places` holds no other.
        let Some(slot) = self.slots.get_mut(place) else { return Ok(&[]) };
        if slot.name != Some(name) {
            fill(&mut slot.bytes)?;
            slot.name = Some(name);
            self.places.insert(name, place);
        }
        slot.used = true;
        Ok(&slot.bytes)
    }

    /// Finds the place for a page that is not here, and forgets what was there.
    fn make_room(&mut self) -> usize {
        if self.slots.len() < self.pages_max {
            self.slots.push(Slot { name: None, used: false, bytes: Vec::new() });
            return self.slots.len().saturating_sub(1);
        }
        loop {
            let place = self.hand;
            self.hand = if place.saturating_add(1) < self.slots.len() { place.saturating_add(1) } else { 0 };
            match self.slots.get_mut(place) {
                Some(slot) if slot.used => slot.used = false,
                Some(slot) => {
                    if let Some(name) = slot.name.take() {
                        self.places.remove(&name);
                    }
                    return place;
                }
                None => self.hand = 0,
            }
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        let bytes = self.slots.iter().map(|slot| u64::try_from(slot.bytes.capacity()).unwrap_or(u64::MAX));
        bytes.fold(0, u64::saturating_add)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.places.clear();
        self.hand = 0;
    }
}

#[cfg(test)]
mod tests;
