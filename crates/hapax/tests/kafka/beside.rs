//! Topics with a ledger beside the destination.

use super::*;

/// A pipeline into a topic, with a ledger in Redis: a topic keeps no identities.
fn file(folder: &TempDir, scene: &Scene, name: &str, from: &str, to: &str) -> String {
    let ledger = format!("redis: {{ url: \"{}\" }}", hapax_conformance::server::redis());
    with_ledger(folder, scene, name, (from, to), &ledger)
}

fn with_ledger(
    folder: &TempDir,
    scene: &Scene,
    name: &str,
    (from, to): (&str, &str),
    ledger: &str,
) -> String {
    let brokers = &scene.brokers;
    pipeline(
        folder,
        name,
        &format!("kafka: {{ brokers: \"{brokers}\", topic: {from}, schema: {SCHEMA} }}"),
        &format!(
            "kafka: {{ brokers: \"{brokers}\", topic: {to}, state: {}, key: [id] }}",
            scene.name("state")
        ),
        &format!("identity: {{ key: [id] }}\ncommit: {{ records: 400 }}\nledger: {{ {ledger} }}\n"),
    )
}

/// Removes what a pipeline has claimed.
fn forget(name: &str) {
    let client = redis::Client::open(hapax_conformance::server::redis()).unwrap();
    let mut redis = client.get_connection().unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(format!("*{name}*")).query(&mut redis).unwrap();
    for key in keys {
        let () = redis::cmd("DEL").arg(key).query(&mut redis).unwrap();
    }
}

#[test]
fn a_topic_goes_into_another_killed_and_twins_are_dropped_by_a_ledger_in_redis() {
    let scene = Scene::new();
    let (from, to) = (scene.topic("from", 3, &[]), scene.topic("to", 2, &[]));
    // The twin of a message is in another partition.
    order(&scene, &from, 3, 0..10_000);
    let twins = scene.producer(&[]);
    for id in 0..10_000_i64 {
        let body = format!(
            "{{\"id\": {id}, \"customer\": \"twin\", \"amount\": 1.50, \"placed_at\": \"2026-11-28T12:00:00Z\"}}"
        );
        send(&twins, &from, ((id + 1) % 3) as i32, None, Some(body.as_bytes()), &[]);
    }
    twins.flush(PATIENCE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let name = format!("ledger-beside-{}", std::process::id());
    let file = file(&folder, &scene, &name, &from, &to);
    let mut kills = 0;
    for round in 0..6 {
        let before = scene.messages(&to).len();
        let mut child = started(&["run", &file], &[]);
        until("records arrive", || scene.messages(&to).len() > before || child.is_over());
        kills += i64::from(!child.is_over());
        child.kill();
        // And where it hurts most, whatever the machine does meanwhile.
        let point = ["claimed:2", "mid-write:2", "commit-before:2", "commit-after:2"][round % 4];
        let died = hapax(&["run", &file], &[("HAPAX_CRASH", point.to_owned())]).output().unwrap();
        kills += i64::from(died.status.code().is_none());
    }
    done(&["run", &file], &[]);
    let mut ids = ids(&scene.settled(&to));
    ids.sort_unstable();
    forget(&name);
    assert!(ids.iter().copied().eq(0..10_000), "{} messages after {kills} kills", ids.len());
    assert!(kills > 0, "no run was killed before its end");
}

#[test]
fn a_ledger_beside_a_compacted_topic_is_refused() {
    let scene = Scene::new();
    let from = scene.topic("from", 1, &[("cleanup.policy", "compact")]);
    let to = scene.topic("to", 1, &[]);
    order(&scene, &from, 1, 0..5);
    let folder = tempfile::tempdir().unwrap();
    let name = format!("ledger-compacted-{}", std::process::id());
    let file = file(&folder, &scene, &name, &from, &to);
    for command in ["plan", "run"] {
        let output = hapax(&[command, &file], &[]).output().unwrap();
        assert!(output.status.code() != Some(0) && said(&output).contains("HX0618"), "{}", said(&output));
    }
    assert!(scene.messages(&to).is_empty());
    // Where no identity is asked for, nothing is claimed.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("ledger:", "duplicates: keep\nledger:")).unwrap();
    done(&["run", &file], &[]);
    assert_eq!(scene.messages(&to).len(), 5);
    forget(&name);
}

#[test]
fn status_says_how_much_a_ledger_holds_and_since_when() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = format!("embedded: {{ path: \"{}\" }}", folder.path().join("remembered").display());
    let redis = format!("redis: {{ url: \"{}\" }}", hapax_conformance::server::redis());
    for (kind, ledger) in [("embedded", embedded), ("redis", redis)] {
        let scene = Scene::new();
        let (from, to) = (scene.topic("from", 1, &[]), scene.topic("to", 1, &[]));
        let name = format!("ledger-{kind}-{}", std::process::id());
        let file = with_ledger(&folder, &scene, &name, (&from, &to), &ledger);
        let now_ms = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let holds = || {
            let output = hapax(&["status", &file, "--json"], &[]).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let number = |key: &str| status["ledger"][key].as_u64();
            (number("identities"), number("bytes"), number("oldest_unix_ms"))
        };
        let begun = now_ms();
        order(&scene, &from, 1, 0..1_000);
        done(&["run", &file], &[]);
        let (identities, bytes, oldest) = holds();
        let ended = now_ms();
        assert_eq!(identities, Some(1_000), "{kind}");
        // 128 bits of each, at least.
        assert!(bytes.unwrap() >= 16_000, "{kind}: {bytes:?}");
        assert!((begun..=ended).contains(&oldest.unwrap()), "{kind}: {oldest:?} is not in {begun}..{ended}");
        // What comes later is more, and not older; a twin is neither.
        order(&scene, &from, 1, 500..3_000);
        done(&["run", &file], &[]);
        let (more, more_bytes, same) = holds();
        assert_eq!((more, same), (Some(3_000), oldest), "{kind}");
        assert!(more_bytes > bytes, "{kind}: {more_bytes:?} after {bytes:?}");
        let said = done(&["status", &file], &[]);
        assert!(said.contains("ledger: 3,000 identities, ") && said.contains("the oldest of "), "{said}");
        forget(&name);
    }
}
