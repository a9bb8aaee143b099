//! From Kafka to Kafka, with the group's offsets in the transaction of the records.

use super::*;
use crate::queue_kit::Hapax;

/// Topics of two partitions with records in the first one, and a pipeline between them.
struct Way {
    scene: Scene,
    from: String,
    to: String,
    group: String,
    hapax: Hapax,
    _folder: TempDir,
}

impl Way {
    fn new(records: i64, commit: i64) -> Self {
        let scene = Scene::new();
        let (from, to) = (scene.topic("from", 2, &[]), scene.topic("to", 2, &[]));
        let (state, group) = (scene.name("state"), scene.name("group"));
        order(&scene, &from, 2, 0..records);
        let folder = tempfile::tempdir().unwrap();
        let brokers = &scene.brokers;
        // One partition after the other: no transaction that was left open hides what another one has committed.
        let file = pipeline(
            &folder,
            &format!("within-{}", scene.name("p")),
            &format!("kafka: {{ brokers: \"{brokers}\", topic: {from}, schema: {SCHEMA}, group: {group} }}"),
            &format!("kafka: {{ brokers: \"{brokers}\", topic: {to}, state: {state}, key: [id] }}"),
            &format!(
                "identity: position\ncommit: {{ records: {commit} }}\nparallel: 1\ndelivery: exactly-once\n"
            ),
        );
        let hapax = Hapax { folder: folder.path().to_owned(), file: file.into(), variables: Vec::new() };
        Self { scene, from, to, group, hapax, _folder: folder }
    }

    fn published(&self) -> [i64; 2] {
        [0, 1].map(|partition| self.scene.published_so_far(&self.group, &self.from, partition).unwrap_or(0))
    }

    /// How many records are visible. What a group sees and what a reader sees is the same.
    fn agrees(&self, when: &str) -> usize {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let published = self.published();
            let visible = ids_in(&self.scene, &self.to);
            let of = |partition: i64| visible.iter().filter(|id| **id % 2 == partition).count() as i64;
            if published == [of(0), of(1)] {
                return visible.len();
            }
            // The brokers write the ends of a transaction into its partitions one after the other.
            let late = Instant::now() > until;
            assert!(!late, "{when}: {published:?}, {:?}", [of(0), of(1)]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs to the end: each record is there once, and the group knows.
    fn completes(&self, records: i64) {
        self.hapax.moved();
        assert_eq!(self.agrees("at the end") as i64, records);
        let mut ids = ids_in(&self.scene, &self.to);
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..records), "records were lost or doubled");
    }
}

#[test]
fn offsets_of_the_group_are_in_the_transaction_of_the_records() {
    let way = Way::new(20_000, 300);
    let (_, plan) = way.hapax.said(&["plan"]);
    assert!(plan.contains(&format!("publish offsets to the group {}", way.group)), "{plan}");
    // Killed before it can say anything.
    let mut seen = 0;
    for point in ["commit-after:3", "commit-before:2", "acknowledge-before:4", "mid-write:5"] {
        assert!(way.hapax.crash(point), "{point}");
        let visible = way.agrees(point);
        assert!(visible >= seen);
        seen = visible;
    }
    assert!(seen > 0);
    way.completes(20_000);
}

/// Six kills at moments of a seed, or as many as `HAPAX_KILLS` says; `HAPAX_SEED` draws other ones.
#[test]
fn offsets_of_the_group_and_records_agree_after_kills_at_any_moment() {
    const RECORDS: i64 = 4_000;
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("HAPAX_KILLS").unwrap_or(6);
    let mut seed = number("HAPAX_SEED").unwrap_or(0x5EED) | 1;
    let mut below = |limit: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % limit
    };
    let way = Way::new(RECORDS, 50);
    let begun = Instant::now();
    way.completes(RECORDS);
    let mut usual_ms = begun.elapsed().as_millis() as u64;
    let (mut kills, mut in_the_middle) = (0, 0);
    while kills < wanted {
        let way = Way::new(RECORDS, 50);
        while kills < wanted {
            let begun = Instant::now();
            if !way.hapax.start().kill_after(below(usual_ms)) {
                // The machine has less to do than it had.
                usual_ms = usual_ms.min(begun.elapsed().as_millis() as u64);
                break;
            }
            kills += 1;
            let visible = way.agrees(&format!("kill {kills}")) as i64;
            in_the_middle += u64::from(visible > 0 && visible < RECORDS);
        }
        way.completes(RECORDS);
    }
    println!(
        "{kills} kills, {in_the_middle} of them with some of the records there; a whole run took {usual_ms} ms"
    );
}
