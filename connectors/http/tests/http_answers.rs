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

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use hapax_conformance::http::{Api, Failure};
use hapax_engine::clock::Clock;
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::sink::{Deadline, Sending};
use hapax_http::codes;
use hapax_protocol::position::SplitId;
use scene::{fails, kind, numbered, open, people, ready, section, send, shape, tokens};
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
        api.state().refuses.push((400, "bad".to_owned()));
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

#[tokio::test]
async fn a_conflict_is_looked_up_only_where_sending_again_adds() {
    let api = Api::start();
    let probe = json!({ "probe": format!("{}/orders/{{id}}", api.url()) });
    // What stands in the way is an older value of the key.
    api.state().resources.insert("/orders/0".to_owned(), json!({ "id": 0, "name": "old" }));
    // Unchecked: a section that is checked has no such probe.
    let target = open(section(&api, "/orders/{id}", "PUT", &probe)).await.unwrap();
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    api.fail([Failure::Status(409, None)]);
    let sent = send(&mut sender, &numbered(0..1)).await.unwrap();
    assert_eq!(sent.refused.iter().map(|row| row.code).collect::<Vec<_>>(), [codes::REFUSED]);
    assert_eq!(api.state().count("GET"), 0);
    let (_, mut sender) = ready(section(&api, "/orders", "POST", &probe)).await;
    api.fail([Failure::Status(409, None)]);
    let sent = send(&mut sender, &numbered(0..1)).await.unwrap();
    assert_eq!((sent.refused.len(), api.state().count("GET")), (0, 1));
}

#[tokio::test]
async fn a_probe_is_proof_only_of_what_a_post_added() {
    let api = Api::start();
    let probe = |path: &str| json!({ "probe": format!("{}{path}", api.url()) });
    for (path, method, more, key, expected) in [
        ("/o", "POST", probe("/o/{id}"), &["id"][..], None),
        ("/o", "POST", probe("/o?id={id}"), &["id"], None),
        ("/o", "POST", probe("/o/{name}"), &["id"], Some(codes::TEMPLATE)),
        ("/o", "POST", probe("/o/{id}"), &["id", "name"], Some(codes::TEMPLATE)),
        ("/o", "POST", probe("/o"), &["id"], Some(codes::TEMPLATE)),
        ("/o", "POST", probe("/o/{id}"), &[], Some(codes::TEMPLATE)),
        ("/o", "PATCH", probe("/o/{id}"), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", probe("/o/{id}"), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "DELETE", probe("/o/{id}"), &["id"], Some(codes::CONFIG)),
        (
            "/o",
            "POST",
            scene::with(probe("/o/{id}"), &json!({ "idempotent": true })),
            &["id"],
            Some(codes::CONFIG),
        ),
        (
            "/o",
            "POST",
            scene::with(probe("/o/{id}"), &json!({ "idempotency": { "window": "1h" } })),
            &["id"],
            Some(codes::CONFIG),
        ),
    ] {
        let error = fails(section(&api, path, method, &more), key).await;
        let said = format!("{path} {method} {more} {key:?}: {error:?}");
        assert_eq!(error.map(|error| kind(&error).1), expected, "{said}");
    }
    let target = open(section(&api, "/o", "POST", &probe("/o/{id}"))).await.unwrap();
    assert!(target.readers().unwrap().contains("each identity is sent once"));
    let bare = open(section(&api, "/o", "POST", &json!({}))).await.unwrap();
    assert!(!bare.readers().unwrap().contains("each identity"));
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_says_that_an_effect_may_be_there() {
    let refused = || Failure::Status(400, None);
    for (path, method, more, lost, rows) in [
        ("/orders/{id}", "PUT", json!({}), vec![Failure::AnswerLost, refused()], vec![0]),
        ("/orders/{id}", "PUT", json!({}), vec![Failure::StatusAfter(502), refused()], vec![0]),
        (
            "/orders",
            "POST",
            json!({ "idempotency": { "window": "1h" } }),
            vec![Failure::AnswerLost, refused()],
            vec![0],
        ),
        // An array, and then its second record by itself.
        (
            "/orders",
            "POST",
            json!({ "idempotent": true, "batch": { "records": 3 } }),
            vec![Failure::AnswerLost, refused(), Failure::Twice, refused()],
            vec![1],
        ),
    ] {
        let api = Api::start();
        let said = format!("{method} {more}");
        let (_, mut sender) =
            ready(section(&api, path, method, &scene::with(more, &json!({ "concurrency": 1 })))).await;
        api.fail(lost);
        let sent = send(&mut sender, &numbered(0..3)).await.unwrap();
        assert_eq!(sent.refused.iter().map(|one| one.row).collect::<Vec<_>>(), rows, "{said}");
        assert!(sent.refused[0].reason.contains("as the test asked"), "{said}: {sent:?}");
        assert!(sent.refused[0].reason.contains("may have taken effect"), "{said}: {sent:?}");
        // Where nothing was lost nothing is said of it.
        api.fail([refused(), refused()].into_iter().take(if rows == [1] { 2 } else { 1 }));
        let sent = send(&mut sender, &numbered(5..6)).await.unwrap();
        assert!(!sent.refused[0].reason.contains("may have taken effect"), "{said}: {sent:?}");
    }
}

#[tokio::test]
async fn what_is_no_fault_of_a_record_stops_the_run() {
    let stops = (SinkErrorKind::Stop, codes::NOT_THE_RECORD);
    for (path, method, more, status, expected) in [
        ("/o/{id}", "PUT", json!({}), 402, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 405, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 411, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 415, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 421, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 426, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 428, Some(stops)),
        ("/o/{id}", "PUT", json!({}), 431, Some(stops)),
        ("/o/{id}", "PUT", json!({ "headers": { "x-name": "{name}" } }), 431, None),
        ("/o/{id}", "PUT", json!({}), 404, None),
        ("/o/{id}", "PUT", json!({}), 410, None),
        ("/o", "POST", json!({}), 404, Some(stops)),
        ("/o", "POST", json!({}), 410, Some(stops)),
        ("/o?id={id}", "POST", json!({}), 404, Some(stops)),
        ("/o", "POST", json!({ "batch": { "records": 3 } }), 404, Some(stops)),
        ("/o", "POST", json!({}), 400, None),
    ] {
        let api = Api::start();
        let (_, mut sender) = ready(section(&api, path, method, &more)).await;
        api.fail([Failure::Status(status, None)]);
        let sent = send(&mut sender, &numbered(0..1)).await;
        let said = format!("{method} {path} {status}: {sent:?}");
        match (sent, expected) {
            (Err(error), Some(expected)) => {
                assert_eq!(kind(&error), expected, "{said}");
                assert!(error.to_string().contains(&status.to_string()), "{said}");
            }
            (Ok(sent), None) => assert_eq!(sent.refused.len(), 1, "{said}"),
            _ => panic!("{said}"),
        }
    }
    // Somebody else holds it: it is waited for.
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &json!({}))).await;
    api.fail([Failure::Status(423, None), Failure::Status(423, Some("0".to_owned()))]);
    assert!(send(&mut sender, &numbered(0..1)).await.unwrap().refused.is_empty());
    assert_eq!((api.state().resources.len(), api.planned()), (1, 0));
}

#[tokio::test]
async fn tokens_come_in_the_header_that_is_asked_for() {
    let api = Api::start();
    api.state().window = Some(Duration::from_secs(3600));
    api.state().token_header = Some("x-request-token".to_owned());
    let more = json!({ "idempotency": { "header": "X-Request-Token", "window": "1h" } });
    let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    api.fail([Failure::AnswerLost]);
    for _ in 0..2 {
        send(&mut sender, &numbered(0..5)).await.unwrap();
    }
    let state = api.state();
    assert_eq!((state.posted.len(), state.requests.len()), (5, 11));
    let mut tokens: Vec<_> = state.requests.iter().map(|one| one.header("x-request-token")).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert!(tokens.len() == 5 && !tokens.contains(&None), "{tokens:?}");
    assert!(state.requests.iter().all(|one| one.header("idempotency-key").is_none()));
}

/// A clock by which it is too late once the API had a request that it is asked about.
struct Until {
    api: Arc<Api>,
    is_late: fn(&Api) -> bool,
}

impl Clock for Until {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_ms(&self) -> u64 {
        if (self.is_late)(&self.api) { 1_000 } else { 500 }
    }
}

#[tokio::test]
async fn nothing_leaves_behind_the_deadline_for_a_token_or_a_redirect() {
    let given: fn(&Api) -> bool = |api| api.state().given > 0;
    let posted: fn(&Api) -> bool =
        |api| api.state().requests.iter().any(|one| one.path.starts_with("/orders"));
    for (why, is_late, expected) in [("a token", given, 0), ("401", posted, 1), ("a redirect", posted, 1)] {
        let api = Arc::new(Api::start());
        api.state().client = Some(("Basic Yzpz".to_owned(), 3600));
        let oauth =
            json!({ "token_url": format!("{}/token", api.url()), "client_id": "c", "client_secret": "s" });
        let more = json!({ "idempotency": { "window": "1h" }, "auth": { "oauth2": oauth } });
        let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
        if why != "a token" {
            send(&mut sender, &numbered(5..6)).await.unwrap();
            api.state().requests.clear();
            api.state().posted.clear();
        }
        match why {
            "401" => api.fail([Failure::Status(401, None)]),
            "a redirect" => {
                let to = (307, "/orders/there".to_owned());
                api.state().redirects.insert("/orders".to_owned(), to);
            }
            _ => {}
        }
        let clock: Arc<dyn Clock> = Arc::new(Until { api: Arc::clone(&api), is_late });
        let deadline = Deadline { clock, since_unix_ms: 0, until_unix_ms: 600 };
        let records = numbered(0..1);
        let tokens = tokens(&records, 0);
        let sending = Sending { records: &records, tokens: &tokens, deadline: Some(&deadline) };
        let error = sender.send(sending).await.expect_err(why);
        assert_eq!(kind(&error), (SinkErrorKind::Unavailable, codes::LATE), "{why}: {error}");
        let left = api.state().requests.iter().filter(|one| one.path.starts_with("/orders")).count();
        assert_eq!((left, api.state().posted.len()), (expected, 0), "{why}");
    }
}

#[tokio::test]
async fn a_version_is_sent_with_every_record() {
    let api = Api::start();
    let version = |more| scene::with(json!({ "version": { "column": "name" } }), &more);
    for (path, method, more, expected) in [
        ("/o/{id}", "PUT", json!({}), None),
        ("/o/{id}", "PUT", json!({ "body": { "id": "{id}" } }), Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "body": { "v": "{name}" } }), None),
        ("/o/{id}", "PUT", json!({ "body": { "v": { "in": ["v {name}"] } } }), None),
        ("/o/{id}", "PUT", json!({ "body": { "id": "{id}" }, "headers": { "x-v": "{name}" } }), None),
        ("/o/{id}", "DELETE", json!({}), Some(codes::CONFIG)),
        ("/o/{id}", "DELETE", json!({ "headers": { "x-v": "{name}" } }), None),
        ("/o?v={name}", "POST", json!({ "idempotent": true, "body": { "id": "{id}" } }), None),
        ("/o", "POST", json!({ "idempotent": true, "body": { "id": "{id}" } }), Some(codes::CONFIG)),
    ] {
        let error = fails(section(&api, path, method, &version(more.clone())), &["id"]).await;
        let said = format!("{path} {method} {more}: {error:?}");
        assert_eq!(error.map(|error| kind(&error).1), expected, "{said}");
    }
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let versions: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let records =
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("v", versions, true)]).unwrap();
    let section = section(&api, "/o/{id}", "PUT", &json!({ "version": { "column": "v" } }));
    let target = open(section).await.unwrap();
    target.prepare(&shape(&records.schema(), &["id"])).await.unwrap();
    let mut sender = target.sender(&SplitId::new("s")).await.unwrap();
    api.state().resources.clear();
    let sent = send(&mut sender, &records).await.unwrap();
    let refused: Vec<_> = sent.refused.iter().map(|one| (one.row, one.code)).collect();
    assert_eq!(refused, [(1, codes::UNHELD)], "{sent:?}");
    assert_eq!(api.state().resources.len(), 2);
}
