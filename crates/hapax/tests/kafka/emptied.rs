//! A ledger beside the destination whose server loses all it had, under a run.

use super::*;
use crate::queue_kit::Hapax;

/// The run stops with a claimed batch in its hands, the server is emptied, and it goes on.
fn emptied(how: &str, empty: impl Fn(&Own)) {
    let (server, scene) = (Own::start("redis"), Scene::new());
    let (from, to) = (scene.topic("from", 3, &[]), scene.topic("to", 1, &[]));
    let put = |partition, ids: std::ops::Range<i64>| {
        let bodies = ids.map(|id| format!("{{\"id\": {id}}}")).collect::<Vec<_>>();
        scene.write(&from, bodies.iter().map(|body| (partition, None, Some(body.as_bytes()))));
    };
    let (folder, brokers) = (tempfile::tempdir().unwrap(), &scene.brokers);
    let file = pipeline(
        &folder,
        how,
        &format!("kafka: {{ brokers: \"{brokers}\", topic: {from}, schema: {{ id: int64 }} }}"),
        &format!(
            "kafka: {{ brokers: \"{brokers}\", topic: {to}, state: {}, key: [id] }}",
            scene.name("state")
        ),
        "identity: { key: [id] }\ncommit: { records: 100 }\noutage_max: 5m\n\
         ledger: { redis: { url: \"${env:OWN_REDIS}\" } }\n",
    );
    let variables = vec![("OWN_REDIS", server.url())];
    let hapax = Hapax { folder: folder.path().to_owned(), file: file.into(), variables };
    // The first batch is that of one partition, the third one is amid those of another.
    put(1, 0..1);
    put(2, 1..901);
    let run = hapax.stopped_at("claimed:3");
    empty(&server);
    assert_eq!(run.go_on(), 1, "{how}: {}", hapax.log());
    assert!(hapax.log().contains("HX0681"), "{how}: {}", hapax.log());
    let there = scene.settled(&to).len();
    assert!((1..901).contains(&there), "{how}: {there} are there");
    // So does whoever comes next, and it moves nothing.
    let (code, said) = hapax.said(&["run"]);
    let accept = format!("_hapax-ledger:{{{how}}}:marker");
    assert!(
        code == 1 && said.contains("HX0681") && said.contains(&format!("SET {accept} accepted")),
        "{said}"
    );
    assert_eq!(scene.settled(&to).len(), there, "{how}");
    // What the page says; and splits that had nothing to claim come before those that had.
    put(0, 901..902);
    put(1, 902..903);
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let () = redis::cmd("SET").arg(accept).arg("accepted").query(&mut redis).unwrap();
    hapax.moved();
    let mut found = ids(&scene.settled(&to));
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..903), "{how}: {} of 903 are there", found.len());
    // It is a ledger again.
    put(0, 900..903);
    assert_eq!(hapax.moved(), 0, "{how}");
}

#[test]
fn a_ledger_that_is_flushed_under_a_run_stops_it_until_that_is_accepted() {
    emptied("flushed", |server| {
        let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    });
}

#[test]
fn a_ledger_that_is_restarted_empty_under_a_run_stops_it_until_that_is_accepted() {
    emptied("restarted", |server| {
        server.say("stop");
        std::fs::remove_dir_all(server.folder().join("data")).unwrap();
        server.say("start");
    });
}
