//! POSTs that nothing tells apart: what a run that died may have sent is sent again, or set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hapax_conformance::http::{Api, Failure};
use serde_json::Value;

use super::faults::effects;
use super::queue_kit::{Database, Hapax};
use super::{pipeline, shop};

const ROWS: i64 = 80;

fn posts(folder: &Path, api: &Api, database: &Database, in_doubt: &str, level: &str) -> Hapax {
    let source = "postgres: { url: \"${env:DATABASE_URL}\", table: orders }";
    let sink = format!("url: \"{}/orders\", method: POST, in_doubt: {in_doubt}", api.url());
    let sink = sink.replace("PROBE", &format!("probe: \"{}/sent/{{id}}\"", api.url()));
    let file = pipeline(folder, source, &sink, &format!("commit: {{ records: 20 }}\ndelivery: {level}\n"));
    Hapax { folder: folder.to_owned(), file, variables: vec![("DATABASE_URL", database.url())] }
}

/// The records that are set aside as in doubt, and no other is.
fn in_doubt(hapax: &Hapax) -> BTreeSet<i64> {
    let (code, said) = hapax.said(&["dead-letters", "list", "--json", "--limit", "1000"]);
    assert_eq!(code, 0, "{said}");
    let document: Value = serde_json::from_str(&said).unwrap();
    let letters = document["letters"].as_array().unwrap();
    let ids: BTreeSet<i64> = letters
        .iter()
        .map(|letter| {
            assert_eq!(letter["code"], "HX0118", "{letter}");
            let record: Value = serde_json::from_str(letter["raw"].as_str().unwrap()).unwrap();
            record["id"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(ids.len(), letters.len(), "one is listed twice");
    ids
}

#[test]
fn bare_posts_that_are_held_take_effect_at_most_once_and_are_listed() {
    let (api, database) = (Api::start(), shop("http_hold", ROWS as usize));
    let folder = tempfile::tempdir().unwrap();
    let hapax = posts(folder.path(), &api, &database, "hold", "at-most-once");
    // One dies with its second commit sent and not made, the next with its commit announced and not sent: nobody knows.
    assert!(hapax.crash("commit-before:2"));
    assert_eq!(api.state().posted.len(), 40);
    assert!(hapax.crash("announced"));
    assert_eq!(api.state().posted.len(), 40, "what was in doubt was sent again");
    assert_eq!(hapax.moved(), 20);
    let listed = in_doubt(&hapax);
    let effects = effects(&api);
    assert!(effects.values().all(|times| *times == 1), "an effect twice");
    assert_eq!((effects.len(), listed.len()), (60, 40));
    let all: BTreeSet<i64> = effects.keys().chain(&listed).copied().collect();
    assert_eq!(all, (0..ROWS).collect(), "one has no effect and is on no list");
    assert_eq!(hapax.moved(), 0);
    let (code, said) = hapax.said(&["in-doubt", "list"]);
    assert!(code == 0 && said.contains("may have been sent"), "{said}");
}

#[test]
fn bare_posts_that_are_sent_again_lose_nothing() {
    let (api, database) = (Api::start(), shop("http_resend", ROWS as usize));
    let folder = tempfile::tempdir().unwrap();
    let hapax = posts(folder.path(), &api, &database, "resend", "at-least-once");
    assert!(hapax.crash("commit-before:2"));
    assert_eq!(api.state().posted.len(), 40);
    // One more, of which the answer gets lost.
    api.fail([Failure::AnswerLost]);
    hapax.moved();
    assert_eq!((hapax.moved(), api.planned()), (0, 0));
    let effects: BTreeMap<i64, usize> = effects(&api);
    assert!(effects.keys().copied().eq(0..ROWS), "something is lost");
    let (doubled, most) = (effects.values().filter(|times| **times > 1).count(), effects.values().max());
    // The commit that was sent and not made, one of which was sent once more.
    assert_eq!((doubled, most), (20, Some(&3)));
    println!("bare POST, resend: {ROWS} records, 0 lost, {doubled} more than once");
    let (_, said) = hapax.said(&["dead-letters", "list", "--json"]);
    assert!(!said.contains("HX0118"), "{said}");
}

#[test]
fn what_a_probe_finds_of_a_run_that_was_killed_is_neither_sent_again_nor_held() {
    for (in_doubt, level) in [("hold", "at-most-once"), ("resend", "at-least-once")] {
        let (api, database) = (Api::start(), shop("http_probe", ROWS as usize));
        let folder = tempfile::tempdir().unwrap();
        let hapax = posts(folder.path(), &api, &database, &format!("{in_doubt}, PROBE"), level);
        assert!(hapax.crash("commit-before:2"));
        // Of what was sent and not committed the API shows a part.
        let shown = effects(&api).into_keys().filter(|id| id % 4 > 0).map(|id| format!("/sent/{id}"));
        let shown: Vec<String> = shown.collect();
        api.state().resources.extend(shown.into_iter().map(|path| (path, serde_json::json!({}))));
        // While it does not answer nobody knows anything.
        api.state().fails_reads = true;
        api.fail(vec![Failure::Status(503, None); 6]);
        assert_eq!(hapax.moved(), if in_doubt == "hold" { 55 } else { 60 });
        let (effects, listed) = (effects(&api), doubtful(&hapax, in_doubt));
        let twice: BTreeSet<i64> =
            effects.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect();
        let hidden: BTreeSet<i64> = (20..40).filter(|id| id % 4 == 0).collect();
        let expected = match in_doubt {
            "hold" => (BTreeSet::new(), hidden),
            _ => (hidden, BTreeSet::new()),
        };
        assert_eq!((twice, listed), expected, "{in_doubt}");
        assert!(effects.keys().copied().eq(0..ROWS), "something is lost");
        assert_eq!((hapax.moved(), api.planned()), (0, 0));
        // The batch that was in doubt, and no other.
        let asked = api.state().count("GET");
        assert!((20..=40).contains(&asked), "{asked} records were asked for");
    }
}

fn doubtful(hapax: &Hapax, in_doubt: &str) -> BTreeSet<i64> {
    if in_doubt == "hold" { self::in_doubt(hapax) } else { BTreeSet::new() }
}
