//! What the sink does, before a server that really keeps, counts, refuses and fails.
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
use std::time::{Duration, Instant};

use hapax_conformance::http::{Api, Failure};
use hapax_conformance::keyed;
use hapax_conformance::memory::Memory;
use hapax_engine::clock::{Clock, SystemClock};
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::sink::{Deadline, Kept, Repeat, Sending, Sink};
use hapax_http::codes;
use hapax_protocol::guarantee::{Guard, InDoubt, Window};
use scene::{fails, kind, numbered, open, people, ready, section, send, tokens};
use serde_json::{Value, json};

/// One way to write by key.
struct ByKey {
    api: Api,
    guard: Guard,
    bulk: bool,
}

impl ByKey {
    async fn sink(&self, section: Value) -> Sink {
        let target = open(section).await.unwrap();
        Sink::Kept(Kept { target, keeper: Arc::new(Memory::default()) })
    }
}

impl keyed::Scene for ByKey {
    async fn open(&self, name: &str) -> Sink {
        self.api.state().guarded = self.guard == Guard::Version;
        self.api.state().refuses = vec![(400, "unfit".to_owned())];
        self.api.state().upserts = true;
        let section = match (self.bulk, self.guard) {
            (true, _) => {
                let more = json!({ "idempotent": true, "batch": { "records": 40 } });
                section(&self.api, &format!("/{name}"), "POST", &more)
            }
            (false, Guard::None) => section(&self.api, &format!("/{name}/{{id}}"), "PUT", &json!({})),
            (false, Guard::Version) => {
                let more = json!({ "version": { "column": "version" } });
                section(&self.api, &format!("/{name}/{{id}}"), "PUT", &more)
            }
        };
        self.sink(section).await
    }

    async fn state(&self, name: &str) -> Vec<(i64, String)> {
        let state = self.api.state();
        let at = format!("/{name}/");
        let there = state.resources.iter().filter(|(path, _)| path.starts_with(&at));
        there
            .map(|(path, one)| {
                assert_eq!(path[at.len()..], one["id"].to_string());
                (one["id"].as_i64().unwrap(), one["text"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    fn unfit(&self) -> Option<String> {
        Some("unfit".to_owned())
    }

    async fn removing(&self, name: &str) -> Option<Sink> {
        let section = section(&self.api, &format!("/{name}/{{id}}"), "DELETE", &json!({}));
        Some(self.sink(section).await)
    }

    async fn hold_back(&self, _: &str) -> bool {
        self.api.fail([Failure::Held]);
        true
    }

    async fn held(&self, _: &str) {
        self.api.held().await;
    }

    async fn let_go(&self, _: &str) {
        self.api.let_go().await;
    }
}

#[tokio::test]
async fn put_keeps_the_keyed_contract() {
    keyed::suite(&ByKey { api: Api::start(), guard: Guard::None, bulk: false }).await;
}

#[tokio::test]
async fn put_with_a_version_keeps_the_keyed_contract() {
    keyed::suite(&ByKey { api: Api::start(), guard: Guard::Version, bulk: false }).await;
}

#[tokio::test]
async fn arrays_keep_the_keyed_contract() {
    keyed::suite(&ByKey { api: Api::start(), guard: Guard::None, bulk: true }).await;
}

/// Every failure that may pass.
fn passing() -> Vec<Failure> {
    vec![
        Failure::AnswerLost,
        Failure::Reset,
        Failure::Status(429, Some("0".to_owned())),
        Failure::Status(429, None),
        Failure::Status(503, Some("0".to_owned())),
        Failure::Status(503, None),
        Failure::Status(500, None),
        Failure::Status(408, None),
        Failure::StatusAfter(500),
        Failure::StatusAfter(504),
        Failure::SlowBody,
        Failure::Twice,
    ]
}

#[tokio::test]
async fn what_may_pass_is_sent_again_by_key_and_by_token() {
    for (path, method, more) in [
        ("/orders/{id}", "PUT", json!({})),
        ("/orders/{id}", "PATCH", json!({ "idempotent": true })),
        ("/orders", "POST", json!({ "idempotency": { "window": "1h" } })),
    ] {
        let api = Api::start();
        api.state().window = Some(Duration::from_secs(3600));
        if method == "PATCH" {
            let there = (0..3).map(|id| (format!("/orders/{id}"), json!({ "kept": true })));
            api.state().resources.extend(there);
        }
        let more = scene::with(more, &json!({ "concurrency": 1, "timeout": "1s" }));
        let (_, mut sender) = ready(section(&api, path, method, &more)).await;
        for failure in passing() {
            api.fail([failure.clone(), failure.clone()]);
            let sent = send(&mut sender, &numbered(0..3)).await.unwrap();
            assert!(sent.refused.is_empty() && sent.unknown.is_empty(), "{method} {failure:?}: {sent:?}");
            assert_eq!(api.planned(), 0);
            let state = api.state();
            let there = if method == "POST" { state.posted.len() } else { state.resources.len() };
            assert_eq!(there, 3, "{method} {failure:?}");
        }
        if method == "PATCH" {
            // What stood beside it stays.
            let state = api.state();
            let patched = |one: &Value| one["kept"] == true && one["id"].is_number();
            assert!(state.resources.values().all(patched), "{:?}", state.resources);
        }
    }
}

#[tokio::test]
async fn a_wait_that_the_api_asks_for_is_kept() {
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/orders/{id}", "PUT", &json!({}))).await;
    api.fail([Failure::Status(429, Some("1".to_owned()))]);
    let began = Instant::now();
    send(&mut sender, &numbered(0..20)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    // The wait is for all requests, so that no other was refused meanwhile.
    assert!(api.state().requests.len() <= 28);
}

#[tokio::test]
async fn what_never_will_be_taken_is_refused_alone() {
    for status in [400, 404, 409, 410, 412, 413, 414, 422] {
        let api = Api::start();
        let (_, mut sender) = ready(section(&api, "/orders/{id}", "PUT", &json!({ "concurrency": 1 }))).await;
        api.fail([Failure::Status(status, None)]);
        let sent = send(&mut sender, &numbered(0..3)).await.unwrap();
        let refused: Vec<_> = sent.refused.iter().map(|row| (row.row, row.code)).collect();
        assert_eq!(refused, [(0, codes::REFUSED)], "{status}");
        assert!(sent.refused[0].reason.contains(&format!("{status}: as the test asked")), "{sent:?}");
        assert_eq!(api.state().resources.len(), 2);
    }
}

#[tokio::test]
async fn what_cannot_be_a_request_is_refused_alone() {
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/names/{name}/{id}", "POST", &json!({}))).await;
    let records = people(&[(Some(1), "a/b ü"), (None, "x"), (Some(3), ""), (Some(4), ".."), (Some(5), "c")]);
    let sent = send(&mut sender, &records).await.unwrap();
    assert_eq!(sent.refused.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(sent.refused.iter().all(|row| row.code == codes::UNHELD && !row.reason.is_empty()));
    let mut paths: Vec<String> = api.state().requests.iter().map(|request| request.path.clone()).collect();
    paths.sort();
    assert_eq!(paths, ["/names/a%2Fb%20%C3%BC/1", "/names/c/5"]);
}

#[tokio::test]
async fn some_answers_stop_the_run() {
    let token = json!({ "idempotency": { "window": "1h" } });
    for (method, more, failures, expected) in [
        ("PUT", json!({}), vec![Failure::Status(401, None)], (SinkErrorKind::Stop, codes::WRONG_CREDENTIALS)),
        ("PUT", json!({}), vec![Failure::Status(403, None)], (SinkErrorKind::Stop, codes::WRONG_CREDENTIALS)),
        ("PUT", json!({}), vec![Failure::Status(207, None)], (SinkErrorKind::Stop, codes::UNCLEAR)),
        ("POST", token.clone(), vec![Failure::Status(422, None)], (SinkErrorKind::Stop, codes::KEY_REUSED)),
        (
            "PUT",
            json!({}),
            vec![Failure::Status(503, Some("0".into())); 6],
            (SinkErrorKind::Unavailable, codes::BUSY),
        ),
        ("POST", token, vec![Failure::Status(409, None); 6], (SinkErrorKind::Unavailable, codes::BUSY)),
        (
            "PUT",
            json!({}),
            vec![Failure::Status(500, None); 6],
            (SinkErrorKind::Unavailable, codes::SERVER_FAILED),
        ),
        ("PUT", json!({}), vec![Failure::Reset; 6], (SinkErrorKind::Unavailable, codes::GONE)),
    ] {
        let api = Api::start();
        let path = if method == "PUT" { "/orders/{id}" } else { "/orders" };
        let (_, mut sender) = ready(section(&api, path, method, &more)).await;
        let tried = failures.len();
        api.fail(failures);
        let error = send(&mut sender, &numbered(0..1)).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{error}");
        assert_eq!((api.state().requests.len(), api.planned()), (tried, 0));
    }
}

#[tokio::test]
async fn a_token_that_was_used_is_dropped_and_one_that_is_under_way_is_waited_for() {
    let api = Api::start();
    api.state().window = Some(Duration::from_secs(3600));
    let more = json!({ "idempotency": { "window": "1h" } });
    let (target, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    let expected = Window(3_600_000);
    assert!(
        matches!(target.repeat(), Repeat::Dropped { window, under_way: Window(25_000), .. } if window == expected)
    );
    for _ in 0..3 {
        send(&mut sender, &numbered(0..5)).await.unwrap();
    }
    assert_eq!(api.state().posted.len(), 5);
    let token = api.state().requests[0].header("idempotency-key").unwrap().to_owned();
    assert!(token.len() == 32 && token.chars().all(|c| c.is_ascii_hexdigit()), "{token}");
    api.fail([Failure::Status(409, None), Failure::Status(409, None)]);
    send(&mut sender, &numbered(0..5)).await.unwrap();
    assert_eq!((api.state().posted.len(), api.planned()), (5, 0));
    // The same tokens with other content.
    let error = send(&mut sender, &numbered(7..8)).await.unwrap_err();
    assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::KEY_REUSED), "{error}");
    assert_eq!(api.state().posted.len(), 5);
}

#[tokio::test]
async fn behind_the_deadline_nothing_leaves() {
    let api = Api::start();
    let more = json!({ "idempotency": { "window": "1h" } });
    let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let now = clock.unix_ms();
    let records = numbered(0..3);
    for (since, until) in [(now - 1_000, now - 1), (now + 60_000, now + 120_000)] {
        let deadline = Deadline { clock: Arc::clone(&clock), since_unix_ms: since, until_unix_ms: until };
        let tokens = tokens(&records, 0);
        let sending = Sending { records: &records, tokens: &tokens, deadline: Some(&deadline) };
        let error = sender.send(sending).await.unwrap_err();
        assert_eq!(kind(&error), (SinkErrorKind::Unavailable, codes::LATE), "{error}");
    }
    assert_eq!(api.state().requests.len(), 0);
}

#[tokio::test]
async fn what_is_in_doubt_is_held_resent_or_looked_up() {
    let doubtful = [Failure::AnswerLost, Failure::StatusAfter(500)];
    let undone = [Failure::Reset, Failure::Status(500, None)];
    for (in_doubt, probe, failures, unknown, posted) in [
        ("hold", false, doubtful.clone(), true, 1),
        ("hold", false, undone.clone(), true, 0),
        ("hold", true, doubtful.clone(), false, 1),
        // It may be on its way still.
        ("hold", true, undone.clone(), true, 0),
        ("resend", false, doubtful.clone(), false, 2),
        ("resend", false, undone.clone(), false, 1),
        ("resend", true, doubtful.clone(), false, 1),
        ("resend", true, undone.clone(), false, 1),
    ] {
        for failure in failures {
            let api = Api::start();
            let probe_url = format!("{}/probe/{{id}}", api.url());
            let more = match probe {
                true => json!({ "in_doubt": in_doubt, "probe": probe_url }),
                false => json!({ "in_doubt": in_doubt }),
            };
            let (target, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
            let expected = if in_doubt == "hold" { InDoubt::Hold } else { InDoubt::Resend };
            assert_eq!(target.repeat(), Repeat::Adds { in_doubt: expected });
            if posted == 1 && failure != Failure::Reset && failure != Failure::Status(500, None) {
                api.state().resources.insert("/probe/0".to_owned(), json!({}));
            }
            api.fail([failure.clone()]);
            let sent = send(&mut sender, &numbered(0..1)).await.unwrap();
            let said = format!("{in_doubt} {probe} {failure:?}: {sent:?}");
            assert_eq!(sent.unknown, if unknown { vec![0] } else { vec![] }, "{said}");
            assert_eq!(api.state().posted.len(), posted, "{said}");
            // It is asked for only where there is a doubt.
            let asked = api.state().count("GET");
            send(&mut sender, &numbered(5..6)).await.unwrap();
            assert_eq!((asked > 0, api.state().count("GET")), (probe, asked), "{said}");
        }
    }
}

#[tokio::test]
async fn what_an_earlier_run_sent_is_asked_for_and_nobody_guesses() {
    let api = Api::start();
    let more = json!({ "in_doubt": "hold", "probe": format!("{}/probe/{{id}}", api.url()) });
    let (target, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    assert!(target.looks());
    api.state().resources.insert("/probe/1".to_owned(), json!({}));
    api.state().fails_reads = true;
    let records = numbered(0..3);
    for (failures, expected) in [
        (vec![], Ok(vec![false, true, false])),
        (vec![423, 429, 500], Ok(vec![false, true, false])),
        // It says nothing of one of them.
        (vec![405; 3], Ok(vec![false; 3])),
        (vec![401; 3], Err((SinkErrorKind::Stop, codes::WRONG_CREDENTIALS))),
        (vec![503; 18], Err((SinkErrorKind::Unavailable, codes::GONE))),
    ] {
        api.fail(failures.iter().map(|status| Failure::Status(*status, None)));
        let sending = Sending { records: &records, tokens: &[], deadline: None };
        let found = sender.look(sending).await.map_err(|error| kind(&error));
        assert_eq!(found, expected, "{failures:?}");
        while api.planned() > 0 {
            let _ = sender.look(Sending { records: &records, tokens: &[], deadline: None }).await;
        }
    }
    assert_eq!(api.state().posted.len(), 0);
}

#[tokio::test]
async fn what_is_refused_after_an_answer_was_lost_is_in_doubt() {
    for (probe, found, unknown) in [(false, false, true), (true, false, true), (true, true, false)] {
        let api = Api::start();
        let more = match probe {
            true => json!({ "in_doubt": "resend", "probe": format!("{}/probe/{{id}}", api.url()) }),
            false => json!({ "in_doubt": "resend" }),
        };
        let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
        api.fail([Failure::AnswerLost, Failure::Status(409, None)]);
        if found {
            api.state().resources.insert("/probe/0".to_owned(), json!({}));
        }
        let sent = send(&mut sender, &numbered(0..1)).await.unwrap();
        assert_eq!(
            (sent.unknown.len(), sent.refused.len()),
            (usize::from(unknown), 0),
            "{probe} {found}: {sent:?}"
        );
        assert_eq!(api.state().posted.len(), 1);
    }
}

#[tokio::test]
async fn requests_of_one_key_keep_their_order_and_others_do_not_wait() {
    let api = Api::start();
    let more = json!({ "concurrency": 16 });
    let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    let rows: Vec<(Option<i64>, String)> = (0..300).map(|n| (Some(n % 7), format!("{n:04}"))).collect();
    let rows: Vec<(Option<i64>, &str)> = rows.iter().map(|(id, name)| (*id, name.as_str())).collect();
    let records = people(&rows);
    api.fail([Failure::Held]);
    let held = async {
        api.held().await;
        // All others arrive, and none of the key whose first request is on its way.
        let first = api.state().requests.iter().position(|request| request.path == "/orders").unwrap();
        let first: Value = serde_json::from_slice(&api.state().requests[first].body).unwrap();
        let others = rows.iter().filter(|(id, _)| *id != first["id"].as_i64()).count();
        hapax_conformance::http::until("the others", || api.state().posted.len() == others).await;
        assert!(api.state().posted.iter().all(|(_, one)| one["id"] != first["id"]));
        api.let_go().await;
    };
    let (sent, ()) = tokio::join!(send(&mut sender, &records), held);
    assert!(sent.unwrap().refused.is_empty());
    let state = api.state();
    assert_eq!(state.posted.len(), 300);
    for key in 0..7 {
        let of_key = state.posted.iter().filter(|(_, one)| one["id"] == key);
        let names: Vec<&str> = of_key.map(|(_, one)| one["name"].as_str().unwrap()).collect();
        assert!(names.len() > 40 && names.is_sorted(), "{key}: {names:?}");
    }
}

#[tokio::test]
async fn the_last_version_of_a_key_is_sent_alone() {
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/orders/{id}", "PUT", &json!({}))).await;
    send(&mut sender, &people(&[(Some(1), "a"), (Some(2), "b"), (Some(1), "c")])).await.unwrap();
    assert_eq!(api.state().requests.len(), 2);
    assert_eq!(api.state().resources["/orders/1"], json!({ "id": 1, "name": "c" }));
}

#[tokio::test]
async fn bodies_headers_rates_and_compression_are_as_asked() {
    let api = Api::start();
    let more = json!({
        "headers": { "X-Name": "{name}", "X-Fixed": "yes" }, "compress": "gzip", "rate": 20,
        "body": { "order": "{id}", "by": { "name": "it is {name}" }, "kind": "test" },
    });
    let (_, mut sender) = ready(section(&api, "/orders/{id}?v=1", "PUT", &more)).await;
    let began = Instant::now();
    send(&mut sender, &numbered(0..5)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let state = api.state();
    let expected = json!({ "order": 3, "by": { "name": "it is name 3" }, "kind": "test" });
    assert_eq!(state.resources["/orders/3"], expected);
    let one = state.requests.iter().find(|request| request.path == "/orders/3?v=1").unwrap();
    assert_eq!((one.header("x-name"), one.header("x-fixed")), (Some("name 3"), Some("yes")));
    assert_eq!(
        (one.header("content-type"), one.header("content-encoding")),
        (Some("application/json"), Some("gzip"))
    );
}

#[tokio::test]
async fn of_a_refused_array_each_record_is_tried_alone() {
    let api = Api::start();
    api.state().refuses.push((400, "name 7".to_owned()));
    let more = json!({ "batch": { "records": 5 } });
    let (_, mut sender) = ready(section(&api, "/orders", "POST", &more)).await;
    let sent = send(&mut sender, &numbered(0..12)).await.unwrap();
    assert_eq!(sent.refused.iter().map(|row| row.row).collect::<Vec<_>>(), [7]);
    let state = api.state();
    let ids: Vec<i64> = state.posted.iter().map(|(_, one)| one["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]);
    assert_eq!(state.requests.len(), 3 + 5);
}

#[tokio::test]
async fn what_is_gone_already_is_removed() {
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/orders/{id}", "DELETE", &json!({}))).await;
    api.state().resources.insert("/orders/1".to_owned(), json!({}));
    let sent = send(&mut sender, &numbered(0..3)).await.unwrap();
    assert_eq!((sent.refused.len(), api.state().resources.len()), (0, 0));
    assert!(api.state().requests.iter().all(|request| request.body.is_empty()));
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let api = Api::start();
    let none = || json!({});
    let token = || json!({ "idempotency": { "window": "1h" } });
    for (path, method, more, key, expected) in [
        ("/o/{id}", "PUT", none(), &["id"][..], None),
        ("/o/{id}/{name}", "PUT", none(), &["name", "id"], None),
        ("/o", "PUT", none(), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", none(), &[], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", none(), &["id", "name"], Some(codes::TEMPLATE)),
        ("/o/{id}-{name}", "PUT", none(), &["id", "name"], Some(codes::TEMPLATE)),
        ("/o/{none}", "PUT", none(), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id", "PUT", none(), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", json!({ "headers": { "x": "{none}" } }), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", json!({ "body": { "x": "{none}" } }), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", json!({ "version": { "column": "none" } }), &["id"], Some(codes::TEMPLATE)),
        ("/o/{id}", "PUT", json!({ "idempotent": true }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", token(), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "concurrency": 0 }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "rate": 0 }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "timeout": "soon" }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "batch": { "records": 3 } }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "headers": { "Host": "x" } }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "auth": {} }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "PUT", json!({ "scratch": { "url": "http://h/x/{id}" } }), &["id"], Some(codes::CONFIG)),
        ("/o/{id}", "DELETE", json!({ "body": {} }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "idempotent": true }), &[], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "version": { "column": "id" } }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "idempotency": { "window": "soon" } }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "idempotency": { "window": "14s" } }), &["id"], Some(codes::NO_WINDOW)),
        (
            "/o",
            "POST",
            json!({ "idempotency": { "window": "1h" }, "batch": { "records": 3 } }),
            &["id"],
            Some(codes::CONFIG),
        ),
        ("/o/{id}", "POST", json!({ "batch": { "records": 3 } }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "batch": { "records": 0 } }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", json!({ "probe": "http://elsewhere/{id}" }), &["id"], Some(codes::CONFIG)),
        ("/o", "POST", token(), &["id"], None),
        ("/o", "POST", none(), &[], None),
    ] {
        let error = fails(section(&api, path, method, &more), key).await;
        let said = format!("{path} {method} {more} {key:?}: {error:?}");
        assert_eq!(error.map(|error| kind(&error).1), expected, "{said}");
    }
}
