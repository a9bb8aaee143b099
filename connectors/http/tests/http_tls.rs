//! The sink over TLS, by HTTP/1.1 and by HTTP/2.
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

use hapax_conformance::http::{Api, Failure, Secure, until};
use hapax_conformance::tls::Authority;
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::source::Source;
use hapax_http::codes;
use hapax_http::source::Pages;
use hapax_protocol::position::SplitId;
use scene::{fails, kind, numbered, people, ready, section, send, with};
use serde_json::{Value, json};

/// A folder with the certificates of an authority of the test's own.
fn certified() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    (folder, authority)
}

fn secure(authority: &Authority, protocols: &[&str]) -> Api {
    Api::start_secure(&Secure { authority, protocols, asks_clients: false, streams_max: None })
}

/// A section for an API whose authority it trusts.
fn trusting(api: &Api, authority: &Authority, method: &str, more: &Value) -> Value {
    let path = if method == "POST" { "/orders" } else { "/o/{id}" };
    section(api, path, method, &with(json!({ "tls": { "ca": authority.file("ca.pem") } }), more))
}

#[tokio::test]
async fn http_2_is_taken_where_the_server_offers_it() {
    let (_folder, authority) = certified();
    for (protocols, is_http2) in [
        (&["h2", "http/1.1"][..], true),
        (&["http/1.1"][..], false),
        (&["http/1.1", "h2"][..], false),
        (&[][..], false),
    ] {
        let api = secure(&authority, protocols);
        let more = json!({ "concurrency": 8, "headers": { "X-Name": "{name}" } });
        let (_, mut sender) = ready(trusting(&api, &authority, "PUT", &more)).await;
        send(&mut sender, &numbered(0..200)).await.unwrap();
        let state = api.state();
        assert_eq!(state.resources.len(), 200, "{protocols:?}");
        assert!(state.requests.iter().all(|request| request.is_http2 == is_http2), "{protocols:?}");
        assert!(state.requests.iter().all(|request| request.header("x-name").is_some()));
        match is_http2 {
            true => assert_eq!(state.connections, 1, "one connection carries all"),
            false => assert!((1..=9).contains(&state.connections), "{}", state.connections),
        }
    }
}

#[tokio::test]
async fn over_http_2_requests_of_one_key_keep_their_order_and_others_do_not_wait() {
    let (_folder, authority) = certified();
    let api = secure(&authority, &["h2"]);
    let (_, mut sender) = ready(trusting(&api, &authority, "POST", &json!({ "concurrency": 16 }))).await;
    let rows: Vec<(Option<i64>, String)> = (0..300).map(|n| (Some(n % 7), format!("{n:04}"))).collect();
    let rows: Vec<(Option<i64>, &str)> = rows.iter().map(|(id, name)| (*id, name.as_str())).collect();
    api.fail([Failure::Held]);
    let held = async {
        api.held().await;
        let first: Value = serde_json::from_slice(&api.state().requests[0].body).unwrap();
        let first = api
            .state()
            .requests
            .iter()
            .find(|one| one.path == "/orders")
            .map_or(first, |one| serde_json::from_slice(&one.body).unwrap());
        let others = rows.iter().filter(|(id, _)| *id != first["id"].as_i64()).count();
        until("the others", || api.state().posted.len() == others).await;
        assert!(api.state().posted.iter().all(|(_, one)| one["id"] != first["id"]));
        api.let_go().await;
    };
    let records = people(&rows);
    let (sent, ()) = tokio::join!(send(&mut sender, &records), held);
    assert!(sent.unwrap().refused.is_empty());
    let state = api.state();
    assert_eq!((state.posted.len(), state.connections), (300, 1));
    for key in 0..7 {
        let of_key = state.posted.iter().filter(|(_, one)| one["id"] == key);
        let names: Vec<&str> = of_key.map(|(_, one)| one["name"].as_str().unwrap()).collect();
        assert!(names.len() > 40 && names.is_sorted(), "{key}: {names:?}");
    }
}

#[tokio::test]
async fn never_more_requests_are_under_way_than_asked_for() {
    let (_folder, authority) = certified();
    for (protocol, method, concurrency) in [
        ("http/1.1", "PUT", 1),
        ("http/1.1", "PUT", 5),
        ("http/1.1", "POST", 3),
        ("h2", "PUT", 1),
        ("h2", "PUT", 5),
        ("h2", "POST", 3),
    ] {
        let api = secure(&authority, &[protocol]);
        api.state().gathers = concurrency;
        let more = json!({ "concurrency": concurrency });
        // Two splits, which share what is asked for.
        let (target, mut one) = ready(trusting(&api, &authority, method, &more)).await;
        let mut other = target.sender(&SplitId::new("t")).await.unwrap();
        let (first, second) = (numbered(0..40), numbered(40..80));
        let (first, second) = tokio::join!(send(&mut one, &first), send(&mut other, &second));
        assert!(first.unwrap().refused.is_empty() && second.unwrap().refused.is_empty());
        let state = api.state();
        let there = if method == "PUT" { state.resources.len() } else { state.posted.len() };
        assert_eq!((there, state.peak), (80, concurrency), "{protocol} {method}");
        assert!(state.requests.iter().all(|request| request.is_http2 == (protocol == "h2")));
    }
}

#[tokio::test]
async fn a_server_that_carries_few_requests_at_once_gets_all_of_them_once() {
    let (_folder, authority) = certified();
    for streams in [1, 2, 5] {
        let secure = Secure {
            authority: &authority,
            protocols: &["h2"],
            asks_clients: false,
            streams_max: Some(streams),
        };
        let api = Api::start_secure(&secure);
        // What a bare POST may have done is not done again: one that the server refused to begin would be missing.
        let more = json!({ "concurrency": 16, "in_doubt": "hold" });
        let (_, mut sender) = ready(trusting(&api, &authority, "POST", &more)).await;
        let sent = send(&mut sender, &numbered(0..300)).await.unwrap();
        assert!(sent.unknown.is_empty() && sent.refused.is_empty(), "{streams}: {sent:?}");
        let state = api.state();
        let mut ids: Vec<i64> = state.posted.iter().map(|(_, one)| one["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..300).collect::<Vec<_>>(), "{streams}");
        assert!(state.requests.iter().all(|request| request.is_http2));
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_is_in_doubt_and_harms_no_other() {
    let (_folder, authority) = certified();
    let api = secure(&authority, &["h2"]);
    let (_, mut sender) = ready(trusting(&api, &authority, "PUT", &json!({ "timeout": "2s" }))).await;
    for failure in [
        Failure::Reset,
        Failure::AnswerLost,
        Failure::StatusAfter(502),
        Failure::Status(503, None),
        Failure::Status(429, Some("0".to_owned())),
        Failure::SlowBody,
    ] {
        api.state().resources.clear();
        api.fail([failure.clone()]);
        let sent = send(&mut sender, &numbered(0..20)).await.unwrap();
        assert!(sent.refused.is_empty() && sent.unknown.is_empty(), "{failure:?}");
        assert_eq!((api.state().resources.len(), api.planned()), (20, 0), "{failure:?}");
    }
    // A bare POST is not sent again: what was reset may have been added, and was in one of the two.
    for (failure, added) in [(Failure::Reset, 9), (Failure::AnswerLost, 10)] {
        api.state().posted.clear();
        let (_, mut sender) = ready(trusting(&api, &authority, "POST", &json!({ "in_doubt": "hold" }))).await;
        api.fail([failure]);
        let sent = send(&mut sender, &numbered(0..10)).await.unwrap();
        assert_eq!((sent.unknown.len(), api.state().posted.len()), (1, added));
    }
}

#[tokio::test]
async fn pages_are_read_over_http_2() {
    let (_folder, authority) = certified();
    let api = secure(&authority, &["h2"]);
    let list = (0..30).map(|id| (0, format!("{{\"id\": {id}}}"))).collect();
    api.state().lists.insert("/list".to_owned(), list);
    let config = json!({
        "url": format!("{}/list?per=7", api.url()), "records": "/data", "allow_private": true, "immutable": true,
        "tls": { "ca": authority.file("ca.pem") }, "schema": { "id": "int64" },
        "paging": { "cursor": { "param": "cursor", "from": "/meta/next" } },
    });
    let source = Pages::open(serde_json::from_value(config).unwrap()).await.unwrap();
    let mut reader = source.open(&SplitId::new("pages"), None).await.unwrap();
    let mut records = 0;
    while let Some(batch) = reader.read(ReadLimit { records_max: 100, bytes_max: 1 << 20 }).await.unwrap() {
        records += batch.records.num_rows();
    }
    assert_eq!(records, 30);
    assert!(api.state().requests.iter().all(|request| request.is_http2));
}

#[tokio::test]
async fn nothing_is_sent_to_a_host_that_cannot_show_who_it_is() {
    let ((_folder, authority), (_elsewhere, other)) = (certified(), certified());
    let api = secure(&authority, &["h2"]);
    // An authority that nobody knows, and one that has not signed it.
    for section in [section(&api, "/o/{id}", "PUT", &json!({})), trusting(&api, &other, "PUT", &json!({}))] {
        let error = fails(section, &["id"]).await.unwrap();
        assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::TLS), "{error}");
        assert!(error.to_string().contains("localhost:"), "{error}");
    }
    let plain = Api::start();
    for (api, tls) in [
        (&api, json!({ "ca": authority.file("server.key") })),
        (&api, json!({ "ca": authority.file("missing.pem") })),
        (&api, json!({ "certificate": authority.file("client.pem") })),
        (&api, json!({ "certificate": authority.file("client.pem"), "key": authority.file("server.key") })),
        (&plain, json!({ "ca": authority.file("ca.pem") })),
    ] {
        let section = section(api, "/o/{id}", "PUT", &json!({ "tls": tls }));
        let error = scene::open(section).await.err().unwrap_or_else(|| panic!("{tls} is taken"));
        assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::CONFIG), "{error}");
    }
    assert_eq!(api.state().requests.len() + plain.state().requests.len(), 0);
}

#[tokio::test]
async fn a_certificate_of_its_own_is_shown_to_whoever_asks() {
    let ((_folder, authority), (_elsewhere, other)) = (certified(), certified());
    let api = Api::start_secure(&Secure {
        authority: &authority,
        protocols: &["h2"],
        asks_clients: true,
        streams_max: None,
    });
    let of = |client: Option<&Authority>| {
        let mut tls = json!({ "ca": authority.file("ca.pem") });
        if let Some(client) = client {
            tls = with(
                tls,
                &json!({ "certificate": client.file("client.pem"), "key": client.file("client.key") }),
            );
        }
        section(&api, "/o/{id}", "PUT", &json!({ "tls": tls }))
    };
    assert!(fails(of(Some(&authority)), &["id"]).await.is_none());
    assert_eq!(api.state().resources.len(), 1);
    // None, and one of another authority.
    for client in [None, Some(&other)] {
        let error = fails(of(client), &["id"]).await.unwrap();
        // With TLS 1.3 the server says so once the connection stands, and a write may meet its end before the words are read.
        assert!([codes::TLS, codes::GONE].contains(&kind(&error).1), "{error}");
    }
    let state = api.state();
    assert_eq!((state.resources.len(), state.requests.len()), (1, 1));
}
