//! Processes that share a topic through a group.

use super::*;

/// Two processes share a topic. One is stopped for longer than the group waits and wakes up, the other is killed, a third
/// joins: each record arrives once.
fn members_move_each_record_once(
    scene: &Scene,
    sink: &str,
    ids: &dyn Fn() -> Vec<i64>,
    variables: Variables<'_>,
) {
    let topic = scene.topic("t", 4, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = pipeline(
        &folder,
        "group",
        &format!(
            "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {SCHEMA}, group: {topic}, options: {{ session.timeout.ms: \"6000\", heartbeat.interval.ms: \"500\" }} }}",
            scene.brokers
        ),
        sink,
        "identity: position\nduplicates: keep\nfollow: true\ncommit: { interval_ms: 100 }\ndelivery: exactly-once\n",
    );
    let count = || ids().len() as i64;
    let arrived = |wanted: i64| {
        let start = Instant::now();
        while count() < wanted {
            assert!(start.elapsed() < PATIENCE, "{} of {wanted} arrived", count());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let one = started(&["run", &file], variables);
    order(scene, &topic, 4, 0..2_000);
    arrived(2_000);
    let two = started(&["run", &file], variables);
    order(scene, &topic, 4, 2_000..10_000);
    arrived(10_000);
    one.signal(Signal::STOP);
    order(scene, &topic, 4, 10_000..12_000);
    // Its partitions are the other's once the group has missed it.
    arrived(12_000);
    one.signal(Signal::CONT);
    order(scene, &topic, 4, 12_000..14_000);
    arrived(14_000);
    two.kill();
    let three = started(&["run", &file], variables);
    order(scene, &topic, 4, 14_000..20_000);
    arrived(20_000);
    // Whoever is no member yet may not listen to what it is told.
    until("the third joins", || scene.members(&topic) == 2);
    for run in [one, three] {
        run.signal(Signal::TERM);
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    }
    let mut found = ids();
    found.sort_unstable();
    assert_eq!(found.len(), 20_000, "records were lost or doubled");
    assert!(found.into_iter().eq(0..20_000));
}

#[test]
fn members_of_a_group_move_each_record_once_into_a_topic() {
    let scene = Scene::new();
    let (topic, state) = (scene.topic("out", 2, &[]), scene.name("state"));
    let sink =
        format!("kafka: {{ brokers: \"{}\", topic: {topic}, state: {state}, key: [id] }}", scene.brokers);
    members_move_each_record_once(&scene, &sink, &|| ids_in(&scene, &topic), &[]);
}

/// A member that says something within its session, or not.
fn member(file: &str) -> Running {
    started(&["run", file], &[])
}

#[test]
fn processes_of_a_group_share_a_topic_and_each_record_arrives_once() {
    let scene = Scene::new();
    let topic = scene.topic("shared", 4, &[]);
    let database = Database::new("group");
    let folder = tempfile::tempdir().unwrap();
    let name = format!("group-{}", std::process::id());
    let readers = scene.name("readers");
    // A member that says nothing for six seconds is given up.
    let file = pipeline(
        &folder,
        &name,
        &format!(
            "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {SCHEMA}, group: {}, options: {{ session.timeout.ms: \"6000\", heartbeat.interval.ms: \"500\" }} }}",
            scene.brokers, readers,
        ),
        &format!("postgres: {{ url: \"{}\", table: t }}", database.url()),
        "follow: true\ncommit: { interval_ms: 50 }\nidentity: position\ndelivery: exactly-once\n",
    );
    let count = || database.number("SELECT count(*) FROM t").unwrap_or(0);
    let mut written = 0_i64;
    let mut write = |records: i64| {
        order(&scene, &topic, 4, written..written + records);
        written += records;
        written
    };
    let all = write(4_000);
    let first = member(&file);
    until("the first member moves all of it", || count() == all);

    // A second one joins: some partitions are asked back, and move on with it.
    let second = member(&file);
    let sessions = "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name = 'hapax'";
    until("the second member has a partition", || database.number(sessions) >= Some(2));
    let all = write(4_000);
    until("both move on", || count() == all);

    // The second one stalls: its partitions move on with the first. Then it wakes up late.
    second.signal(Signal::STOP);
    let all = write(4_000);
    until("the first has all partitions", || count() == all);
    second.signal(Signal::CONT);
    let all = write(4_000);
    until("both move on again", || count() == all);

    // The first one dies, the second goes on.
    first.kill();
    let all = write(4_000);
    until("the second has all partitions", || count() == all);
    until("the dead one's sessions are gone", || database.number(sessions) == Some(1) || count() == all);
    let third = member(&file);
    let all = write(4_000);
    until("a third member joins", || count() == all && scene.members(&readers) == 2);
    for member in [second, third] {
        member.signal(Signal::TERM);
        let ended = member.end();
        assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    }
    let distinct = "SELECT count(DISTINCT id) FROM t";
    assert_eq!((database.number(distinct), count()), (Some(all), all), "records were lost or doubled");
    let read = "SELECT sum(read)::bigint FROM _hapax_positions";
    assert_eq!(database.number(read), Some(all));
}
