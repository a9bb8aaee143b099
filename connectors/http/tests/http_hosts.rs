//! Whom the sink speaks to, and as whom.
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

use hapax_conformance::http::{Api, Failure};
use hapax_engine::batch::ReadLimit;
use hapax_engine::fault::SinkErrorKind;
use hapax_engine::source::Source;
use hapax_http::codes;
use hapax_http::source::Pages;
use hapax_protocol::position::SplitId;
use scene::{Small, answered, fails, kind, numbered, ready, section, send, with};
use serde_json::{Value, json};

#[tokio::test]
async fn nothing_goes_to_a_private_address_unless_the_file_says_so() {
    let api = Api::start();
    let port = api.port();
    for host in ["127.0.0.1", "[::1]", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let section =
            json!({ "url": format!("http://{host}:{port}/o/{{id}}"), "method": "PUT", "timeout": "20s" });
        let error = fails(section, &["id"]).await.unwrap();
        assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::PRIVATE_ADDRESS), "{host}: {error}");
    }
    let oauth = json!({ "oauth2": { "token_url": format!("{}/token", api.url()), "client_id": "c", "client_secret": "s" } });
    let section = json!({ "url": "http://example.com/o/{id}", "method": "PUT", "auth": oauth });
    let error = scene::open(section).await.err().unwrap();
    assert_eq!(kind(&error).1, codes::PRIVATE_ADDRESS);
    assert_eq!(api.state().requests.len(), 0);
}

#[tokio::test]
async fn not_even_a_connection_is_made_to_a_private_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://localhost:{port}/o/{{id}}");
    let target = scene::open(json!({ "url": url, "method": "PUT", "timeout": "20s" })).await.unwrap();
    let error = target.sender(&SplitId::new("s")).await.err().unwrap();
    assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::PRIVATE_ADDRESS), "{error}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let target = scene::open(json!({ "url": url, "method": "PUT", "allow_private": true })).await.unwrap();
    target.sender(&SplitId::new("s")).await.unwrap();
    listener.accept().unwrap();
}

#[tokio::test]
async fn a_redirect_is_followed_to_the_same_host_only() {
    let (api, other) = (Api::start(), Api::start());
    let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &json!({}))).await;
    for (status, to, expected) in [
        (307, "/moved/0".to_owned(), None),
        (308, format!("{}/moved/0", api.url()), None),
        (307, format!("{}/o/0", other.url()), Some(codes::REDIRECT)),
        (308, format!("http://localhost:{}/o/0", api.port()), Some(codes::REDIRECT)),
        (301, "/moved/0".to_owned(), Some(codes::REDIRECT)),
        (303, "/moved/0".to_owned(), Some(codes::REDIRECT)),
        (307, "/o/0".to_owned(), Some(codes::REDIRECT)),
        (302, String::new(), Some(codes::REDIRECT)),
    ] {
        api.state().redirects.clear();
        api.state().resources.clear();
        api.state().redirects.insert("/o/0".to_owned(), (status, to.clone()));
        match (send(&mut sender, &numbered(0..1)).await, expected) {
            (Ok(_), None) => assert_eq!(api.state().resources["/moved/0"]["id"], 0),
            (Err(error), Some(code)) => {
                assert_eq!(kind(&error), (SinkErrorKind::Stop, code), "{status} {to}: {error}");
            }
            (other, _) => panic!("{status} {to}: {other:?}"),
        }
    }
    assert_eq!(other.state().requests.len(), 0, "a request went to another host");
}

#[tokio::test]
async fn what_a_redirect_leads_to_is_asked_for_in_its_turn() {
    let api = Api::start();
    let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &json!({ "rate": 20 }))).await;
    let moved = (0..5).map(|id| (format!("/o/{id}"), (307, format!("/moved/{id}"))));
    api.state().redirects.extend(moved);
    let began = std::time::Instant::now();
    send(&mut sender, &numbered(0..5)).await.unwrap();
    assert!(began.elapsed() >= std::time::Duration::from_millis(50) * 9, "{:?}", began.elapsed());
    let state = api.state();
    assert_eq!((state.requests.len(), state.resources.len()), (10, 5));
}

#[tokio::test]
async fn a_host_that_is_away_or_speaks_no_tls_is_an_error_of_its_own() {
    let api = Api::start();
    let port = api.port();
    let more = json!({ "url": format!("https://127.0.0.1:{port}/o/{{id}}") });
    let error = fails(with(section(&api, "/", "PUT", &json!({})), &more), &["id"]).await.unwrap();
    assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::TLS), "{error}");
    let gone = section(&api, "/o/{id}", "PUT", &json!({}));
    let (_, mut sender) = ready(gone.clone()).await;
    drop(api);
    let error = send(&mut sender, &numbered(0..1)).await.unwrap_err();
    assert_eq!(kind(&error), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
    let error = fails(gone, &["id"]).await.unwrap();
    assert_eq!(kind(&error), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
    let nowhere = json!({ "url": "http://no-such-host.invalid/o/{id}", "method": "PUT", "timeout": "20s" });
    let error = fails(nowhere, &["id"]).await.unwrap();
    assert_eq!(kind(&error), (SinkErrorKind::Unavailable, codes::GONE), "{error}");
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let api = Api::start();
    for (auth, wanted, secret) in [
        (json!({ "basic": { "user": "me", "password": "s3cret" } }), "Basic bWU6czNjcmV0", "s3cret"),
        (json!({ "bearer": "t0ken" }), "Bearer t0ken", "t0ken"),
    ] {
        api.state().authorization = Some(wanted.to_owned());
        let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &json!({ "auth": auth }))).await;
        send(&mut sender, &numbered(0..1)).await.unwrap();
        // An API that sends back what it was sent.
        api.state().refuses = vec![(400, "name".to_owned())];
        let sent = send(&mut sender, &numbered(0..1)).await.unwrap();
        assert!(!format!("{sent:?}").contains(secret));
        api.state().refuses.clear();
        api.state().authorization = Some("Bearer other".to_owned());
        let error = send(&mut sender, &numbered(0..1)).await.unwrap_err();
        assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::WRONG_CREDENTIALS));
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}

/// What an API that answers like this is said to have said.
async fn said(port: u16, more: &Value) -> String {
    let section = json!({
        "url": format!("http://127.0.0.1:{port}/list"), "allow_private": true, "schema": { "id": "int64" },
    });
    let source = Pages::open(serde_json::from_value(with(section, more)).unwrap()).await.unwrap();
    let mut reader = source.open(&SplitId::new("pages"), None).await.unwrap();
    let error = reader.read(ReadLimit { records_max: 1, bytes_max: 1 << 20 }).await.unwrap_err();
    assert_eq!(error.fault.code(), codes::PAGE_REFUSED, "{error}");
    error.to_string()
}

#[tokio::test]
async fn no_form_of_a_secret_is_shown_that_an_api_sends_back() {
    for (more, secrets) in [
        (
            json!({ "auth": { "basic": { "user": "me", "password": "s3c\"ret" } } }),
            vec!["s3c", "bWU6czNjInJldA"],
        ),
        (json!({ "auth": { "bearer": "t0ken" } }), vec!["t0k"]),
        (json!({ "headers": { "X-Api-Key": "k3y-of-mine" } }), vec!["k3y-"]),
        (json!({ "headers": { "Authorization": "Key k3y-of-mine" } }), vec!["k3y-"]),
    ] {
        // The last byte of the first kilobyte lies in the first secret, and in the next, and so on.
        for cut in 0..secrets.len() {
            let secret = secrets[cut].to_owned();
            let small = Small::start(move |head| {
                let all = format!("{head} s3c\"ret s3c\\\"ret");
                let at = all.find(&secret).unwrap();
                let before = "x".repeat(1_020_usize.saturating_sub(at));
                answered(404, "", &format!("{before}{all}"))
            });
            let said = said(small.port, &more).await;
            assert!(said.contains("***") && said.len() < 1_200, "{said}");
            for secret in &secrets {
                assert!(!said.contains(secret), "{secret} in {said}");
            }
        }
    }
}

#[tokio::test]
async fn neither_an_old_token_nor_a_new_one_is_shown() {
    let mut given = 0;
    let small = Small::start(move |head| {
        if head.starts_with("POST /token") {
            given += 1;
            return answered(200, "", &format!("{{\"access_token\": \"tok-number-{given}\"}}"));
        }
        let status = if head.contains("tok-number-1") { 401 } else { 404 };
        answered(status, "", "tok-number-1, tok-number-2, Y2xpZW50OnMzY3JldA==, s3cret")
    });
    let token_url = format!("http://127.0.0.1:{}/token", small.port);
    let oauth = json!({ "token_url": token_url, "client_id": "client", "client_secret": "s3cret" });
    let said = said(small.port, &json!({ "auth": { "oauth2": oauth } })).await;
    assert!(said.ends_with("***, ***, ***, ***"), "{said}");
}

#[tokio::test]
async fn tokens_are_asked_for_and_renewed() {
    let api = Api::start();
    api.state().client = Some(("Basic Yzpz".to_owned(), 3600));
    let oauth = |secret: &str| {
        let token_url = format!("{}/token", api.url());
        json!({ "auth": { "oauth2": { "token_url": token_url, "client_id": "c", "client_secret": secret, "scope": "w" } } })
    };
    let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &oauth("s"))).await;
    send(&mut sender, &numbered(0..10)).await.unwrap();
    assert_eq!(had(&api), (1, 10));
    // The API takes the token no more: another one is asked for, once.
    api.fail([Failure::Status(401, None)]);
    send(&mut sender, &numbered(10..11)).await.unwrap();
    assert_eq!(had(&api), (2, 11));
    // One that ends at once is asked for each time.
    api.state().client = Some(("Basic Yzpz".to_owned(), 1));
    let (_, mut sender) = ready(section(&api, "/o/{id}", "PUT", &oauth("s"))).await;
    for _ in 0..3 {
        send(&mut sender, &numbered(0..1)).await.unwrap();
    }
    assert_eq!(api.state().given, 5);
    let error = fails(section(&api, "/o/{id}", "PUT", &oauth("wrong-one")), &["id"]).await.unwrap();
    assert_eq!(kind(&error), (SinkErrorKind::Stop, codes::WRONG_CREDENTIALS), "{error}");
    assert!(!format!("{error}").contains("wrong-one"));
}

/// How many tokens were given out, and how many records are there.
fn had(api: &Api) -> (u64, usize) {
    let state = api.state();
    (state.given, state.resources.len())
}
