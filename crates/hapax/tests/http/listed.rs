//! Pages of each kind, read by runs that die.

use std::path::Path;

use hapax_conformance::http::Api;

use super::queue_kit::Hapax;

/// Records that are listed first, and then.
const BEFORE: i64 = 150;
const AFTER: i64 = 300;

fn listed(api: &Api, records: i64) {
    let list = (0..records).map(|n| (0, format!("{{\"id\": {n}, \"status\": \"status {n}\"}}"))).collect();
    api.state().lists.insert("/orders".to_owned(), list);
}

fn reading(folder: &Path, api: &Api, query: &str, paging: &str) -> Hapax {
    let file = folder.join("p.yaml");
    let text = format!(
        "version: 1\nname: listed\nsource:\n  http:\n    url: \"{}/orders{query}\"\n    records: /data\n    \
         paging: {{ {paging} }}\n    immutable: true\n    schema: {{ id: int64, status: string }}\n    \
         allow_private: true\nidentity: {{ key: [id] }}\nduplicates: keep\n\
         sink:\n  sqlite: {{ path: out.db, table: orders }}\n\
         commit: {{ records: 10 }}\ndelivery: exactly-once\n",
        api.url()
    );
    std::fs::write(&file, text).unwrap();
    Hapax { folder: folder.to_owned(), file, variables: Vec::new() }
}

fn arrived(folder: &Path) -> Vec<(i64, String)> {
    let db = rusqlite::Connection::open(folder.join("out.db")).unwrap();
    let mut all = db.prepare("SELECT id, status FROM orders ORDER BY id").unwrap();
    let all = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    all.map(Result::unwrap).collect()
}

#[test]
fn each_way_to_page_brings_each_record_once_through_kills() {
    for (query, paging) in [
        // Pages and commits end at other records.
        ("?per=7", "cursor: { param: cursor, from: /meta/next }"),
        ("?per=7", "page: { param: page }"),
        ("", "offset: { param: offset, limit_param: limit, limit: 7 }"),
        ("?per=7&links=1", "link: true"),
    ] {
        let (api, folder) = (Api::start(), tempfile::tempdir().unwrap());
        let hapax = reading(folder.path(), &api, query, paging);
        for records in [BEFORE, AFTER] {
            listed(&api, records);
            for point in ["commit-after:3", "batch-read:2", "mid-write:2", "commit-before:2"] {
                assert!(hapax.crash(point), "{paging}: a run came to its end before {point}");
            }
            hapax.moved();
            assert_eq!(hapax.moved(), 0, "{paging}");
            let wanted: Vec<(i64, String)> = (0..records).map(|n| (n, format!("status {n}"))).collect();
            assert_eq!(arrived(folder.path()), wanted, "{paging}");
        }
        let (_, said) = hapax.said(&["dead-letters", "list", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(document["letters"].as_array().map(Vec::len), Some(0), "{paging}: {said}");
    }
}
