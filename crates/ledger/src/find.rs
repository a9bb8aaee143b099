//! Looking one identity up, without a ledger: nothing is claimed, and no filter is built.

use hapax_protocol::identity::{Place, RecordId};

use crate::entry::{Entry, Key, Spot};
use crate::error::{Broken, Damage, Error};
use crate::ledger::Settings;
use crate::page;
use crate::store::{SegmentInfo, Segments};

/// The place that claimed an identity. It reads about log₂(pages) pages of each segment.
pub fn find<S: Segments>(store: &mut S, id: &RecordId) -> Result<Option<Place>, Error<S::Error>> {
    let key = Key::of(id);
    for info in store.segments().map_err(Error::Store)? {
        if let Some(spot) = find_in(store, info, key)? {
            let split = store.split(spot.split).map_err(Error::Store)?;
            return Ok(Some(Place { split, ordinal: spot.ordinal }));
        }
    }
    Ok(None)
}

/// How many identities sealed segments hold, and the bytes of their pages. No page is read.
pub fn size<S: Segments>(store: &mut S) -> Result<(u64, u64), Error<S::Error>> {
    let page_bytes = u64::try_from(Settings::default().page_bytes).unwrap_or(u64::MAX);
    let sealed = store.segments().map_err(Error::Store)?;
    Ok(sealed.iter().fold((0_u64, 0_u64), |(identities, bytes), info| {
        let size = u64::from(info.pages).saturating_mul(page_bytes);
        (identities.saturating_add(info.entries), bytes.saturating_add(size))
    }))
}

fn find_in<S: Segments>(store: &mut S, info: SegmentInfo, key: Key) -> Result<Option<Spot>, Error<S::Error>> {
    let mut bytes = Vec::new();
    let (mut from, mut to) = (0, info.pages);
    while from < to {
        let middle = from.midpoint(to);
        store.read_page(info.id, middle, &mut bytes).map_err(Error::Store)?;
        let entries = page::entries(info.id, middle, &bytes)?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(Broken::Page { segment: info.id, page: middle, what: Damage::Count }.into());
        };
        if key < Entry::from_bytes(first).key {
            to = middle;
        } else if key > Entry::from_bytes(last).key {
            from = middle.saturating_add(1);
        } else {
            return Ok(page::find(entries, key));
        }
    }
    Ok(None)
}
