use hapax_protocol::identity::RecordId;

use super::*;

fn probe(n: u128) -> Probe {
    Probe::of(Key::of(&RecordId(n.to_be_bytes())))
}

fn wrong_maybes(make: impl Fn(u128) -> u128) -> usize {
    let mut filter = Filter::with_capacity(100_000);
    for n in 0..100_000 {
        filter.insert(probe(make(n)));
    }
    for n in 0..100_000 {
        assert!(filter.may_contain(probe(make(n))));
    }
    (100_000..200_000).filter(|n| filter.may_contain(probe(make(*n)))).count()
}

#[test]
fn few_maybes_are_wrong_whatever_the_identities_look_like() {
    type Shape = (&'static str, fn(u128) -> u128);
    let shapes: [Shape; 4] = [
        ("counted", |n| n),
        ("counted in the high half", |n| n << 64),
        ("counted in the middle", |n| n << 52),
        ("a UUID of version 7", |n| (0x0190_0000_0000 + n / 50) << 80 | 7 << 76 | (n * n) << 20),
    ];
    for (name, make) in shapes {
        let wrong = wrong_maybes(make);
        assert!(wrong < 300, "{name}: {wrong} of 100,000");
    }
}
