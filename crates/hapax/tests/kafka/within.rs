//! From Kafka to Kafka, with the group's offsets in the transaction of the records.

use super::*;

#[test]
fn offsets_of_the_group_are_in_the_transaction_of_the_records() {
    let scene = Scene::new();
    let (from, to) = (scene.topic("from", 2, &[]), scene.topic("to", 2, &[]));
    let (state, group) = (scene.name("state"), scene.name("group"));
    order(&scene, &from, 2, 0..20_000);
    let folder = tempfile::tempdir().unwrap();
    let brokers = &scene.brokers;
    let file = pipeline(
        &folder,
        &format!("within-{}", std::process::id()),
        &format!("kafka: {{ brokers: \"{brokers}\", topic: {from}, schema: {SCHEMA}, group: {group} }}"),
        &format!("kafka: {{ brokers: \"{brokers}\", topic: {to}, state: {state}, key: [id] }}"),
        "identity: position\ncommit: { records: 300 }\ndelivery: exactly-once\n",
    );
    let plan = done(&["plan", &file], &[]);
    assert!(plan.contains(&format!("publish offsets to the group {group}")), "{plan}");
    // Killed before it can say anything: what a group sees and what a reader sees is the same, at each moment.
    let (mut kills, mut seen) = (0, 0);
    for point in ["commit-after:3", "commit-before:2", "acknowledge-before:4", "mid-write:5"] {
        let variables = [("HAPAX_CRASH", point.to_owned())];
        let output = hapax(&["run", &file], &variables).output().unwrap();
        kills += i64::from(output.status.code().is_none());
        // The brokers write the ends of a transaction into its partitions one after the other.
        let until = Instant::now() + PATIENCE;
        let visible = loop {
            let published = [0, 1].map(|partition| scene.published(&group, &from, partition).unwrap_or(0));
            let visible = ids_in(&scene, &to);
            let of = |partition: i64| visible.iter().filter(|id| **id % 2 == partition).count() as i64;
            if published == [of(0), of(1)] {
                break visible;
            }
            let late = Instant::now() > until;
            assert!(!late, "killed at {point}: {published:?}, {:?}", [of(0), of(1)]);
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(visible.len() >= seen);
        seen = visible.len();
    }
    assert!(kills == 4 && seen > 0, "{kills} kills, {seen} messages");
    done(&["run", &file], &[]);
    assert_eq!([0, 1].map(|partition| scene.published(&group, &from, partition)), [Some(10_000); 2]);
    let mut ids = ids(&scene.settled(&to));
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..20_000), "records were lost or doubled");
}
