//! What becomes of a record by the answer that its request got.
// A test fails by panicking; its numbers are small.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod scene;


use hapax_conformance::http::Api;
use scene::{people, ready, section, send};
use serde_json::json;

#[tokio::test]
async fn of_a_key_whose_newest_is_refused_the_one_before_is_sent() {
    let records = people(&[
        (Some(1), "a"),
        (Some(2), "only"),
        (Some(1), "b"),
        (Some(1), "bad c"),
        (Some(3), "bad x"),
        (Some(1), "bad d"),
        (Some(3), "bad y"),
    ]);
    for (path, method, more) in [
        ("/orders/{id}", "PUT", json!({})),
        ("/orders", "POST", json!({ "idempotent": true })),
        ("/orders", "POST", json!({ "idempotent": true, "batch": { "records": 5 } })),
    ] {
        let api = Api::start();
        api.state().unfit = Some("bad".to_owned());
        api.state().upserts = true;
        let (_, mut sender) = ready(section(&api, path, method, &more)).await;
        let sent = send(&mut sender, &records).await.unwrap();
        let refused: Vec<usize> = sent.refused.iter().map(|refused| refused.row).collect();
        assert_eq!(refused, [3, 4, 5, 6], "{method} {more}");
        let state = api.state();
        let mut there: Vec<String> = match method {
            "PUT" => state.resources.values().map(ToString::to_string).collect(),
            _ if state.posted.is_empty() => state.resources.values().map(ToString::to_string).collect(),
            _ => state.posted.iter().map(|(_, one)| one.to_string()).collect(),
        };
        there.sort();
        assert_eq!(there, [r#"{"id":1,"name":"b"}"#, r#"{"id":2,"name":"only"}"#], "{method} {more}");
    }
}
