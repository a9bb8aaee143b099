// Small numbers of the test itself.
#![allow(clippy::as_conversions)]

use super::*;

fn scattered(count: u64) -> Vec<u64> {
    (0..count).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7).collect()
}

fn sorted(entries: &[u64], bytes_max: usize, sorters: usize) -> Vec<u64> {
    let mut all: Vec<Sorter<u64>> = (0..sorters).map(|_| Sorter::new(bytes_max)).collect();
    for (n, entry) in entries.iter().enumerate() {
        all[n % sorters].push(*entry).unwrap();
    }
    assert!(all.iter().all(|sorter| sorter.entries.capacity() * 8 <= bytes_max.max(8)));
    merge(all).unwrap().map(Result::unwrap).collect()
}

#[test]
fn everything_comes_back_in_order_whatever_the_memory() {
    let entries = scattered(20_000);
    let mut expected = entries.clone();
    expected.sort_unstable();
    for (bytes_max, sorters) in [(1 << 20, 1), (1 << 20, 3), (64 * 1024, 2), (4_000, 1), (256, 3)] {
        // The last one makes more runs than are merged at once.
        assert_eq!(sorted(&entries, bytes_max, sorters), expected, "{bytes_max} bytes, {sorters} sorters");
    }
    assert_eq!(sorted(&[], 8, 2), Vec::<u64>::new());
}

#[test]
fn what_is_given_is_the_beginning_and_the_rest_is_forgotten() {
    for bytes_max in [8, 1 << 20] {
        let (mut from, mut to) = (Sorter::new(bytes_max), Sorter::new(bytes_max));
        (0..100_u64).rev().for_each(|entry| from.push(entry).unwrap());
        from.give(&mut to, 10).unwrap();
        from.push(1_000).unwrap();
        from.give(&mut to, 10).unwrap();
        let given: Vec<u64> = merge(vec![to]).unwrap().map(Result::unwrap).collect();
        assert_eq!(given, (0..10).chain([1_000]).collect::<Vec<_>>());
        assert_eq!(merge(vec![from]).unwrap().count(), 0);
    }
}
