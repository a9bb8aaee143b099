//! Tokens that the API may have forgotten.

use std::path::Path;
use std::time::{Duration, Instant};

use hapax_conformance::http::Api;

use super::queue_kit::{Database, Hapax};
use super::{pipeline, shop};

/// What the API documents: a request may be under way for 6 seconds, and twice that is needed.
const WINDOW: Duration = Duration::from_secs(13);

/// How old an announcement may be: the window, less the time that a request may be under way.
const SENDS_FOR: Duration = Duration::from_secs(7);

const ROWS: usize = 60;

fn posts(folder: &Path, api: &Api, database: &Database, more: &str) -> Hapax {
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders\", method: POST, idempotency: {{ window: 13s{more} }}", api.url());
    let file = pipeline(folder, source, &sink, "commit: { records: 20 }\n");
    let text = std::fs::read_to_string(&file).unwrap().replace("timeout: 2s", "timeout: 1s");
    std::fs::write(&file, text).unwrap();
    Hapax { folder: folder.to_owned(), file, variables: vec![("DATABASE_URL", database.url())] }
}

/// Whether no record took effect twice, and how many did.
fn once(api: &Api) -> usize {
    let mut ids: Vec<i64> = api.state().posted.iter().map(|(_, one)| one["id"].as_i64().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an effect twice");
    all
}

#[test]
fn behind_the_window_nothing_is_sent() {
    let database = shop("http_window", ROWS);
    let (killed, stalled) = (Api::start(), Api::start());
    for api in [&killed, &stalled] {
        api.state().window = Some(WINDOW);
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let hapax = posts(folders[0].path(), &killed, &database, "");
    let other = posts(folders[1].path(), &stalled, &database, "");
    // One dies with its second commit sent and not made; the other sleeps with its second commit announced and not sent.
    assert!(hapax.crash("commit-before:2"));
    assert_eq!((once(&killed), killed.state().requests.len()), (40, 40));
    let sleeping = other.stopped_at("announced:2");
    assert_eq!(stalled.state().requests.len(), 20);
    let announced = Instant::now();
    while announced.elapsed() <= SENDS_FOR {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, said) = hapax.said(&["run"]);
    assert!(code != 0 && said.contains("HX0116"), "{said}");
    assert_ne!(sleeping.go_on(), 0);
    let (code, said) = other.said(&["run"]);
    assert!(code != 0 && said.contains("HX0116"), "{said}");
    assert_eq!(
        (killed.state().requests.len(), stalled.state().requests.len()),
        (40, 20),
        "something was sent"
    );
    // Held, they are listed, and the run goes on behind them.
    for (hapax, api, folder, there) in
        [(&hapax, &killed, &folders[0], 60), (&other, &stalled, &folders[1], 40)]
    {
        posts(folder.path(), api, &database, ", past_window: hold");
        assert_eq!(hapax.moved(), 20);
        let (_, said) = hapax.said(&["dead-letters", "list"]);
        assert!(said.contains("HX0118") && said.contains("20 records"), "{said}");
        assert_eq!(once(api), there);
        assert_eq!(hapax.moved(), 0);
    }
}
