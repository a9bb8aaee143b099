//! A group that is shared anew while one of its members stands still in open transactions.

use std::collections::BTreeSet;

use super::*;
use crate::queue_kit::Hapax;

const PARTITIONS: i64 = 4;

/// When the member that stands still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wakes {
    /// While the group waits for it, to share its partitions with one that joins.
    InTime,
    /// Once it was given up, and another member has moved everything.
    Late,
}

/// A destination, looked into by other means than Hapax.
struct End<'a> {
    sink: &'a str,
    variables: Vec<(&'static str, String)>,
    /// Whether a transaction of each split is open there, with something in it.
    is_open: &'a dyn Fn() -> bool,
    /// How many records it has, also those that readers do not see because a transaction is open before them.
    written: &'a dyn Fn() -> i64,
    /// The ids of what is visible.
    ids: &'a dyn Fn() -> Vec<i64>,
}

impl End<'_> {
    fn count(&self) -> i64 {
        (self.ids)().len() as i64
    }

    /// How many records of each partition are visible.
    fn of_each(&self) -> Vec<Option<i64>> {
        let ids = (self.ids)();
        let of = |partition| ids.iter().filter(|id| **id % PARTITIONS == partition).count() as i64;
        (0..PARTITIONS).map(|partition| Some(of(partition)).filter(|count| *count > 0)).collect()
    }
}

/// A member with transactions open stands still while another one joins.
fn shared_anew(scene: &Scene, wakes: Wakes, end: &End<'_>) {
    let (from, group) = (scene.topic("amid", PARTITIONS as i32, &[]), scene.name("group"));
    let session_ms = if wakes == Wakes::Late { 6_000 } else { 120_000 };
    let name = format!("amid-{}", scene.name("p"));
    // The member that will stand still commits each three records of a partition, and never because of the time.
    let member = |commit: &str| {
        let folder = tempfile::tempdir().unwrap();
        let source = format!(
            "kafka: {{ brokers: \"{}\", topic: {from}, schema: {SCHEMA}, group: {group}, options: {{ session.timeout.ms: \"{session_ms}\", heartbeat.interval.ms: \"500\" }} }}",
            scene.brokers
        );
        let rest = format!(
            "identity: position\nduplicates: keep\nfollow: true\ncommit: {commit}\ndelivery: exactly-once\n"
        );
        let file = pipeline(&folder, &name, &source, end.sink, &rest).into();
        let hapax = Hapax { folder: folder.path().to_owned(), file, variables: end.variables.clone() };
        (hapax, folder)
    };
    let (sleeping, _one) = member("{ records: 3, interval_ms: 3600000 }");
    let (awake, _two) = member("{ interval_ms: 50 }");
    let published = || -> Vec<Option<i64>> {
        (0..PARTITIONS).map(|partition| scene.published(&group, &from, partition as i32)).collect()
    };
    let agree = |when: &str| {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let (published, visible) = (published(), end.of_each());
            if published == visible {
                return;
            }
            assert!(Instant::now() < until, "{when}: {published:?} published, {visible:?} visible");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let order = |ids| order(scene, &from, PARTITIONS as i32, ids);

    // A record of each partition, which is one batch of each: the next one stops it.
    order(0..PARTITIONS);
    let mut sleeper = sleeping.start_with(&[("HAPAX_CRASH", "mid-write:5=stop")]);
    sleeper.wait_for("transactions", end.is_open);
    order(PARTITIONS..400);
    sleeper.stands_still();
    // The others may have been in the middle of their first commit, of four records.
    let committed = end.count();
    assert!(committed <= 4 * (PARTITIONS - 1), "{committed} records are committed");

    let mut other = awake.start();
    if wakes == Wakes::Late {
        other.wait_for("all records", || end.count() >= 400);
        agree("moved by the other");
    } else {
        other.wait_for("a group that is shared anew", || scene.group_state(&group) != "Stable");
    }
    sleeper.wake();
    order(400..800);
    // Of each partition two records may wait in a transaction of the one that was woken.
    sleeper.wait_for("nearly all records", || (end.written)() >= 800 - 2 * PARTITIONS);
    assert_eq!(sleeper.stop(), 0, "{}", sleeping.log());
    other.wait_for("the others", || end.count() >= 800);
    order(800..1_200);
    other.wait_for("the last ones", || end.count() >= 1_200);
    agree("at the end");
    assert_eq!(other.stop(), 0, "{}", awake.log());
    let mut ids = (end.ids)();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..1_200), "lost or doubled: {} are there", ids.len());
}

fn into_a_topic(wakes: Wakes) {
    let scene = Scene::new();
    let (to, state) = (scene.topic("to", 2, &[]), scene.name("state"));
    let end = End {
        sink: &format!("kafka: {{ brokers: \"{}\", topic: {to}, state: {state}, key: [id] }}", scene.brokers),
        variables: Vec::new(),
        is_open: &|| scene.messages_as(&to, "read_uncommitted").len() == 4,
        written: &|| {
            let keys = scene.messages_as(&to, "read_uncommitted");
            keys.iter().map(|message| message.key().unwrap().to_vec()).collect::<BTreeSet<_>>().len() as i64
        },
        ids: &|| ids_in(&scene, &to),
    };
    shared_anew(&scene, wakes, &end);
}

fn into_a_database(wakes: Wakes) {
    let (scene, database) = (Scene::new(), Database::new(&format!("amid_{wakes:?}").to_lowercase()));
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'hapax' AND state LIKE 'idle in transaction' AND backend_xid IS NOT NULL";
    let end = End {
        sink: "postgres: { url: \"${env:TARGET_URL}\", table: t }",
        variables: vec![("TARGET_URL", database.url())],
        is_open: &|| database.number(open) == Some(4),
        written: &|| database.number("SELECT count(*) FROM t").unwrap(),
        ids: &|| sql(&database.url(), "SELECT id FROM t"),
    };
    shared_anew(&scene, wakes, &end);
}

#[test]
fn a_member_in_open_transactions_into_a_topic_shares_its_partitions() {
    into_a_topic(Wakes::InTime);
}

#[test]
fn a_member_that_wakes_up_late_in_open_transactions_into_a_topic_doubles_nothing() {
    into_a_topic(Wakes::Late);
}

#[test]
fn a_member_in_open_transactions_into_a_database_shares_its_partitions() {
    into_a_database(Wakes::InTime);
}

#[test]
fn a_member_that_wakes_up_late_in_open_transactions_into_a_database_doubles_nothing() {
    into_a_database(Wakes::Late);
}
