//! A broker that goes away under runs that write to it, and comes back.

use super::*;
use crate::queue_kit::{Hapax, Own};

#[test]
fn runs_into_a_broker_that_is_restarted_in_the_middle_of_a_commit_go_on() {
    let own = Own::start("kafka");
    let scene = Scene::at(own.url());
    let (from, group) = (scene.topic("from", 1, &[]), scene.name("group"));
    order(&scene, &from, 1, 0..1_000);
    let run = |name: &str, source: &str| {
        let folder = tempfile::tempdir().unwrap();
        let sink = format!(
            "kafka: {{ brokers: \"{}\", topic: {}, state: {}, key: [id], create: {{ partitions: 2 }} }}",
            own.url(),
            scene.name(name),
            scene.name(&format!("{name}-state"))
        );
        let rest = "identity: position\ncommit: { records: 100 }\noutage_max: 5m\ndelivery: exactly-once\n";
        let file = pipeline(&folder, name, source, &sink, rest).into();
        (Hapax { folder: folder.path().to_owned(), file, variables: Vec::new() }, folder)
    };
    let lines: String = (0..1_000).map(|id| format!("{id},c{}\n", id % 97)).collect();
    let csv = tempfile::tempdir().unwrap();
    std::fs::write(csv.path().join("in.csv"), format!("id,customer\n{lines}")).unwrap();
    let path = csv.path().join("in.csv");
    let (file, _one) = run(
        "file",
        &format!("files: {{ path: \"{}\", schema: {{ id: int64, customer: string }} }}", path.display()),
    );
    let (topic, _two) = run(
        "topic",
        &format!("kafka: {{ brokers: \"{}\", topic: {from}, schema: {SCHEMA}, group: {group} }}", own.url()),
    );
    let names = ["file", "topic"].map(|name| scene.name(name));
    let stopped = [file.stopped_at("commit-before:3"), topic.stopped_at("mid-write:5")];
    for name in &names {
        assert!(scene.messages(name).len() < 1_000);
    }
    own.say("stop");
    // They go on while it is away.
    stopped.iter().for_each(queue_kit::Running::wake);
    own.say("start");
    for (run, hapax) in stopped.into_iter().zip([&file, &topic]) {
        assert_eq!(run.go_on(), 0, "{}", hapax.log());
    }
    for name in &names {
        let mut ids = ids_in(&scene, name);
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..1_000), "{name}: {} are there", ids.len());
    }
    until("offsets as records", || scene.published(&group, &from, 0) == Some(1_000));
}
