//! The source, before a server that lists in pages, changes, and fails.
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
use hapax_conformance::source;
use hapax_engine::batch::{Batch, ReadLimit};
use hapax_engine::fault::{SourceError, SourceErrorKind};
use hapax_engine::source::{Source, SplitReader};
use hapax_http::codes;
use hapax_http::config::SourceConfig;
use hapax_http::source::Pages;
use hapax_protocol::code::Code;
use hapax_protocol::guarantee::{Completeness, Order, Replay, Window};
use hapax_protocol::position::{Position, SplitId};
use scene::{Small, answered, with};
use serde_json::{Value, json};

const WIDE: ReadLimit = ReadLimit { records_max: 1 << 20, bytes_max: 1 << 26 };

fn config(api: &Api, query: &str, more: &Value) -> SourceConfig {
    let section = json!({
        "url": format!("{}/list{query}", api.url()), "records": "/data", "allow_private": true, "timeout": "20s",
        "schema": { "id": "int64", "text": "string" },
    });
    serde_json::from_value(with(section, more)).unwrap()
}

async fn open(config: SourceConfig) -> Arc<dyn Source> {
    Arc::new(Pages::open(config).await.unwrap())
}

fn record(id: u64) -> String {
    format!("{{\"id\": {id}, \"text\": \"text {id}\"}}")
}

/// A list of records, of which some are none.
fn listed(api: &Api, records: u64) {
    let one = |id: u64| match id % 10 {
        3 => format!("{{\"id\": \"seven\", \"text\": \"{id}\"}}"),
        5 => format!("[{id}]"),
        7 => format!("{{\"id\": {id}, \"unknown\": 1}}"),
        _ => record(id),
    };
    let list = (0..records).map(|id| (id * 1_000, one(id))).collect();
    api.state().lists.insert("/list".to_owned(), list);
}

fn pagings() -> Vec<(&'static str, Value)> {
    vec![
        ("?per=7&key=secret", json!({ "paging": { "cursor": { "param": "cursor", "from": "/meta/next" } } })),
        ("?per=7", json!({ "paging": { "page": { "param": "page" } } })),
        ("", json!({ "paging": { "offset": { "param": "offset", "limit_param": "limit", "limit": 7 } } })),
        ("?per=7&links=1&key=secret", json!({ "paging": { "link": true } })),
        ("?per=1000&style=bare", json!({ "records": "" })),
    ]
}

#[tokio::test]
async fn pages_conform_as_a_source() {
    let api = Api::start();
    for records in [0, 1, 7, 100] {
        listed(&api, records);
        for (query, paging) in pagings() {
            let config = config(&api, query, &with(paging, &json!({ "immutable": true })));
            source::suite(records, async || open(config.clone()).await).await;
        }
    }
}

/// Reads to the end: the ids, and the position behind them.
async fn rest(
    source: &dyn Source,
    after: Option<&Position>,
) -> Result<(Vec<i64>, Option<Position>), SourceError> {
    let mut reader = source.open(&SplitId::new("pages"), after).await?;
    let (mut ids, mut through) = (Vec::new(), after.cloned());
    while let Some(batch) = reader.read(WIDE).await? {
        ids.extend(ids_of(&batch));
        through = Some(batch.through);
    }
    Ok((ids, through))
}

fn ids_of(batch: &Batch) -> Vec<i64> {
    use arrow::array::AsArray;
    batch.records.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}

#[tokio::test]
async fn what_is_added_behind_the_end_is_read_by_the_next_run() {
    for (query, paging) in pagings() {
        let api = Api::start();
        let list = |records: u64| (0..records).map(|id| (0, record(id))).collect::<Vec<_>>();
        api.state().lists.insert("/list".to_owned(), list(20));
        let source = open(config(&api, query, &with(paging, &json!({ "immutable": true })))).await;
        let (ids, through) = rest(source.as_ref(), None).await.unwrap();
        assert_eq!(ids, (0..20).collect::<Vec<_>>(), "{query}");
        assert_eq!(rest(source.as_ref(), through.as_ref()).await.unwrap().0, Vec::<i64>::new(), "{query}");
        api.state().lists.insert("/list".to_owned(), list(31));
        let (ids, through) = rest(source.as_ref(), through.as_ref()).await.unwrap();
        assert_eq!(ids, (20..31).collect::<Vec<_>>(), "{query}");
        let position = String::from_utf8_lossy(through.as_ref().unwrap().as_bytes()).into_owned();
        assert!(!position.contains("secret"), "{query}: a position holds what may be a secret");
        assert!(!source.describe(&through.unwrap()).contains("secret"));
    }
}

async fn reader(source: &dyn Source) -> Box<dyn SplitReader> {
    source.open(&SplitId::new("pages"), None).await.unwrap()
}

#[tokio::test]
async fn a_page_that_changed_stops_the_run() {
    let api = Api::start();
    let list = |first: u64| (first..first + 20).map(|id| (0, record(id))).collect::<Vec<_>>();
    for (query, paging) in pagings() {
        api.state().lists.insert("/list".to_owned(), list(0));
        let source = open(config(&api, query, &paging)).await;
        assert_eq!(source.facts().completeness, Completeness::Incomplete);
        let mut reader = reader(source.as_ref()).await;
        let batch = reader.read(ReadLimit { records_max: 3, bytes_max: 1 << 20 }).await.unwrap().unwrap();
        assert_eq!(ids_of(&batch), [0, 1, 2]);
        // Something was put before what was read; and there is less than was read.
        for changed in [list(100), Vec::new()] {
            api.state().lists.insert("/list".to_owned(), changed);
            let error = rest(source.as_ref(), Some(&batch.through)).await.unwrap_err();
            assert_eq!((error.kind, error.fault.code()), (SourceErrorKind::Stop, codes::CHANGED), "{error}");
            assert!(!error.fault.help().is_empty() && !error.to_string().contains("secret"));
        }
    }
}

#[tokio::test]
async fn a_listing_by_time_looks_back_and_begins_again() {
    let api = Api::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let old = (0..20).map(|id| (now - 3_600_000, record(id))).collect::<Vec<_>>();
    api.state().lists.insert("/list".to_owned(), old.clone());
    let more = json!({
        "paging": { "page": { "param": "page" } }, "updated_since": { "param": "since", "lateness": "1m" },
    });
    let source = open(config(&api, "?per=7", &more)).await;
    let facts = source.facts();
    let minute = Window(60_000);
    assert_eq!(facts.completeness, Completeness::Late { lateness: minute, lookback: minute });
    assert_eq!((facts.replay, facts.order), (Replay::Unidentified, Order::PerKey));
    let (ids, through) = rest(source.as_ref(), None).await.unwrap();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
    assert!(!api.state().requests[0].path.contains("since"), "the first pass asks for everything");
    let (ids, quiet) = rest(source.as_ref(), through.as_ref()).await.unwrap();
    assert_eq!((ids.len(), &quiet), (0, &through), "a pass without records moves nothing");
    // One that came late, and one that is too old for the bound.
    let late = [(now - 30_000, record(50)), (now - 90_000, record(51))];
    api.state().lists.insert("/list".to_owned(), old.iter().cloned().chain(late.clone()).collect());
    let (ids, after_late) = rest(source.as_ref(), through.as_ref()).await.unwrap();
    assert_eq!(ids, [50]);
    assert!(after_late > through);
    // In the middle of a pass its pages change: it begins again, and nothing is lost.
    let many = |shift: u64| (0..30).map(|id| (now, record(id + shift))).collect::<Vec<_>>();
    api.state().lists.insert("/list".to_owned(), many(100));
    let mut reader = source.open(&SplitId::new("pages"), after_late.as_ref()).await.unwrap();
    let batch = reader.read(ReadLimit { records_max: 3, bytes_max: 1 << 20 }).await.unwrap().unwrap();
    api.state().lists.insert("/list".to_owned(), many(200));
    let (ids, end) = rest(source.as_ref(), Some(&batch.through)).await.unwrap();
    assert_eq!(ids, (200..230).collect::<Vec<_>>());
    assert!(end.as_ref() > Some(&batch.through));
}

#[tokio::test]
async fn an_end_that_shows_only_behind_the_last_page_is_remembered() {
    let api = Api::start();
    let list = (0..14).map(|id| (0, record(id))).collect();
    api.state().lists.insert("/list".to_owned(), list);
    let more = json!({
        "paging": { "page": { "param": "page" } }, "updated_since": { "param": "since", "lateness": "1m" },
    });
    let source = open(config(&api, "?per=7", &more)).await;
    let (ids, through) = rest(source.as_ref(), None).await.unwrap();
    assert_eq!(ids.len(), 14);
    assert_eq!(rest(source.as_ref(), through.as_ref()).await.unwrap().0, Vec::<i64>::new());
    let last = api.state().requests.last().unwrap().path.clone();
    assert!(last.contains("since="), "the next pass did not begin: {last}");
}

/// A listing by time of a small server.
fn by_time(port: u16) -> SourceConfig {
    let section = json!({
        "url": format!("http://127.0.0.1:{port}/list"), "records": "/data", "allow_private": true,
        "paging": { "cursor": { "param": "cursor", "from": "/next" } },
        "updated_since": { "param": "since", "lateness": "1s" }, "schema": { "id": "int64", "text": "string" },
    });
    serde_json::from_value(section).unwrap()
}

#[tokio::test]
async fn a_pass_begins_before_its_listing_was_asked_for() {
    let (say, asked) = std::sync::mpsc::channel();
    let mut answers = 0;
    let small = Small::start(move |head| {
        say.send(head.split(' ').nth(1).unwrap().to_owned()).unwrap();
        answers += 1;
        // An API that lists first, takes its time, and writes the date last.
        if answers == 1 {
            std::thread::sleep(std::time::Duration::from_millis(1_200));
        }
        let body = format!("{{\"data\": [{}]}}", record(1));
        answered(200, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", &body)
    });
    let source = open(by_time(small.port)).await;
    let (ids, through) = rest(source.as_ref(), None).await.unwrap();
    assert_eq!(ids, [1]);
    rest(source.as_ref(), through.as_ref()).await.unwrap();
    assert_eq!(asked.recv().unwrap(), "/list");
    // 1.2 seconds of waiting, one of the date's own, and one of lateness before 08:49:37.
    let second = asked.recv().unwrap();
    let since = second.split("since=").nth(1).unwrap().replace("%3A", ":");
    assert!(("1994-11-06T08:49:00Z"..="1994-11-06T08:49:33Z").contains(&since.as_str()), "{since}");
}

#[tokio::test]
async fn a_page_that_never_comes_stops_the_run_and_one_that_is_forgotten_once_does_not() {
    for (other_cursors, forgotten, status) in
        [(false, u32::MAX, 404), (true, u32::MAX, 400), (false, u32::MAX, 410), (true, 1, 410)]
    {
        let (mut asked, mut left) = (0, forgotten);
        let small = Small::start(move |head| {
            asked += 1;
            let cursor = if other_cursors { asked } else { 0 };
            if !head.contains("cursor=") {
                let body = format!("{{\"data\": [{}], \"next\": \"c{cursor}\"}}", record(1));
                return answered(200, "", &body);
            }
            if left > 0 {
                left -= 1;
                return answered(status, "", "no such cursor");
            }
            answered(200, "", &format!("{{\"data\": [{}]}}", record(2)))
        });
        let source = open(by_time(small.port)).await;
        let read = rest(source.as_ref(), None);
        let read = tokio::time::timeout(std::time::Duration::from_secs(120), read).await;
        match (read.expect("it begins again for ever"), forgotten) {
            (Ok((ids, _)), 1) => assert_eq!(ids, [1, 1, 2]),
            (Err(error), u32::MAX) => {
                let found = (error.kind, error.fault.code());
                assert_eq!(found, (SourceErrorKind::Stop, codes::PAGE_REFUSED), "{error}");
            }
            (other, _) => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_list_that_never_stays_as_it_is_comes_to_its_end() {
    let lengths = [3, 2, 4, 1];
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let small = Small::start(move |head| {
        let asked = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let page = head.split("page=").nth(1).unwrap().split([' ', '&']).next().unwrap();
        let page: usize = page.parse().unwrap();
        // Each time something else is said of each record; and pages are not equally long.
        let length = lengths.get(page - 1).copied().unwrap_or(0);
        let one = |at: usize| format!("{{\"id\": {}, \"text\": \"{asked}\"}}", page * 10 + at);
        let records: Vec<String> = (0..length).map(one).collect();
        answered(200, "", &format!("{{\"data\": [{}]}}", records.join(",")))
    });
    let config = SourceConfig {
        paging: Some(serde_json::from_value(json!({ "page": { "param": "page" } })).unwrap()),
        ..by_time(small.port)
    };
    let source = open(config).await;
    let every: Vec<i64> =
        (1..=4).flat_map(|page| (0..lengths[page - 1]).map(move |at| (page * 10 + at) as i64)).collect();
    let mut after = None;
    for _ in 0..2 {
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(120), rest(source.as_ref(), after.as_ref()));
        let (mut ids, through) = read.await.expect("it begins again for ever").unwrap();
        // Begun again twice, and then each page at most twice.
        assert!(ids.len() <= 4 * every.len(), "{ids:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids, every);
        assert!(through > after);
        after = through;
    }
    // In the middle of a page, too.
    let mut reader = reader(source.as_ref()).await;
    let batch = reader.read(ReadLimit { records_max: 2, bytes_max: 1 << 20 }).await.unwrap().unwrap();
    let read = rest(source.as_ref(), Some(&batch.through));
    let read = tokio::time::timeout(std::time::Duration::from_secs(120), read);
    let (mut ids, _) = read.await.expect("it begins again for ever").unwrap();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, every);
}

#[tokio::test]
async fn what_may_pass_is_asked_again() {
    let api = Api::start();
    listed(&api, 20);
    api.state().fails_reads = true;
    for failure in [
        Failure::Reset,
        Failure::AnswerLost,
        Failure::Status(503, None),
        Failure::Status(500, None),
        Failure::Status(429, Some("0".to_owned())),
        Failure::SlowBody,
        Failure::Silent,
    ] {
        let more = with(pagings()[1].1.clone(), &json!({ "immutable": true, "timeout": "300ms" }));
        let source = open(config(&api, "?per=7", &more)).await;
        api.fail([failure.clone()]);
        assert_eq!(rest(source.as_ref(), None).await.unwrap().0.len(), 14, "{failure:?}");
        assert_eq!(api.planned(), 0);
    }
}

#[tokio::test]
async fn a_rate_and_a_wait_that_is_asked_for_are_kept() {
    let api = Api::start();
    let list = (0..20).map(|id| (0, record(id))).collect();
    api.state().lists.insert("/list".to_owned(), list);
    api.state().fails_reads = true;
    let paging = pagings()[0].1.clone();
    // Ten pages, one every 40 milliseconds.
    let began = Instant::now();
    let source = open(config(&api, "?per=2", &with(paging.clone(), &json!({ "rate": 25 })))).await;
    assert_eq!(rest(source.as_ref(), None).await.unwrap().0, (0..20).collect::<Vec<_>>());
    let asked = api.state().requests.len();
    assert_eq!(asked, 10);
    assert!(began.elapsed() >= Duration::from_millis(40) * 9, "{:?}", began.elapsed());
    for (status, rate) in [(429, json!({})), (503, json!({ "rate": 1_000 }))] {
        api.state().requests.clear();
        let source = open(config(&api, "?per=10", &with(paging.clone(), &rate))).await;
        api.fail([Failure::Status(status, Some("1".to_owned()))]);
        assert_eq!(rest(source.as_ref(), None).await.unwrap().0, (0..20).collect::<Vec<_>>(), "{status}");
        let state = api.state();
        let [first, again, last] = state.requests.as_slice() else {
            panic!("{status}: {:?}", state.requests);
        };
        assert!(first.path == again.path && again.path != last.path, "{status}");
        let after = again.at.duration_since(first.at);
        assert!(after >= Duration::from_secs(1), "{status}: it was asked again after {after:?}");
    }
}

#[tokio::test]
async fn pages_that_come_compressed_are_read_as_they_are() {
    let api = Api::start();
    listed(&api, 100);
    for (query, paging) in pagings() {
        let source = open(config(&api, query, &with(paging, &json!({ "immutable": true })))).await;
        api.state().gzips = false;
        let plain = rest(source.as_ref(), None).await.unwrap();
        assert_eq!(plain.0.len(), 70, "{query}");
        api.state().gzips = true;
        assert_eq!(rest(source.as_ref(), None).await.unwrap(), plain, "{query}");
        // What was read of a page that came compressed is found in one that does not, and the other way round.
        let mut half = reader(source.as_ref()).await;
        let few = ReadLimit { records_max: 12, ..WIDE };
        let first = half.read(few).await.unwrap().unwrap();
        api.state().gzips = false;
        let (ids, _) = rest(source.as_ref(), Some(&first.through)).await.unwrap();
        assert_eq!([ids_of(&first), ids].concat(), plain.0, "{query}");
    }
    let asked = |one: &hapax_conformance::http::Recorded| one.header("accept-encoding") == Some("gzip");
    assert!(api.state().requests.iter().all(asked), "who takes gzip says so");
    // One that cannot be unpacked is no page.
    let damaged = Small::start(|_| answered(200, "Content-Encoding: gzip\r\n", "{\"data\": []}"));
    let mut broken = config(&api, "", &json!({}));
    broken.url = format!("http://127.0.0.1:{}/list", damaged.port);
    let error = rest(open(broken).await.as_ref(), None).await.unwrap_err();
    assert_eq!((error.kind, error.fault.code()), (SourceErrorKind::Unavailable, codes::GONE), "{error}");
    assert!(error.to_string().contains("gzip"), "{error}");
}

#[tokio::test]
async fn bad_pages_are_errors_of_their_own() {
    let api = Api::start();
    listed(&api, 20);
    let cursor = |from: &str| json!({ "paging": { "cursor": { "param": "cursor", "from": from } } });
    api.state().resources.insert("/list/text".to_owned(), json!({ "data": "text", "next": {} }));
    api.state().resources.insert("/list/loop".to_owned(), json!({ "data": [], "next": "same" }));
    api.state().fails_reads = true;
    let stop = SourceErrorKind::Stop;
    for (query, more, failures, expected) in [
        ("", json!({ "records": "/none" }), vec![], (stop, codes::NO_RECORDS)),
        ("/text", json!({}), vec![], (stop, codes::NO_RECORDS)),
        ("/text", with(cursor("/next"), &json!({ "records": "/data" })), vec![], (stop, codes::NO_RECORDS)),
        ("?per=3", cursor("/meta"), vec![], (stop, codes::NO_NEXT)),
        ("/loop", cursor("/next"), vec![], (stop, codes::NO_NEXT)),
        ("/nothing/x", json!({}), vec![], (stop, codes::PAGE_REFUSED)),
        ("", json!({}), vec![Failure::Status(200, None)], (stop, codes::PAGE_UNREAD)),
        ("", json!({}), vec![Failure::Status(404, None)], (stop, codes::PAGE_REFUSED)),
        ("", json!({}), vec![Failure::Status(401, None)], (stop, codes::WRONG_CREDENTIALS)),
        ("", json!({}), vec![Failure::Status(500, None); 6], (SourceErrorKind::Unavailable, codes::GONE)),
        ("", json!({}), vec![Failure::Reset; 6], (SourceErrorKind::Unavailable, codes::GONE)),
    ] {
        api.fail(failures);
        let source = open(config(&api, query, &more)).await;
        let error = rest(source.as_ref(), None).await.unwrap_err();
        assert_eq!((error.kind, error.fault.code()), expected, "{query} {more}: {error}");
        assert_eq!(api.planned(), 0);
    }
    let source = open(config(&api, "", &json!({}))).await;
    let foreign = Position::new([1, 2, 3].as_slice());
    let error = source.open(&SplitId::new("pages"), Some(&foreign)).await.err().unwrap();
    assert_eq!(error.fault.code(), codes::FOREIGN_POSITION);
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused() {
    let api = Api::start();
    let refused = async |more: Value| -> Option<Code> {
        Pages::open(config(&api, "", &more)).await.err().map(|error| error.fault.code())
    };
    let since = json!({ "param": "since", "lateness": "1m" });
    let page = json!({ "param": "page" });
    for (more, expected) in [
        (json!({ "records": "data" }), codes::CONFIG),
        (json!({ "paging": {} }), codes::CONFIG),
        (json!({ "paging": { "link": true, "page": page } }), codes::CONFIG),
        (json!({ "paging": { "cursor": { "param": "c", "from": "next" } } }), codes::CONFIG),
        (json!({ "paging": { "offset": { "param": "o", "limit_param": "l", "limit": 0 } } }), codes::CONFIG),
        (json!({ "updated_since": since, "immutable": true }), codes::CONFIG),
        (json!({ "updated_since": { "param": "since", "lateness": "soon" } }), codes::CONFIG),
        (json!({ "headers": { "no header": "x" } }), codes::CONFIG),
        (json!({ "schema": { "_id": "int64" } }), codes::CONFIG),
        (json!({ "rate": 0 }), codes::CONFIG),
        (json!({ "timeout": "2h" }), codes::CONFIG),
        (json!({ "url": "ftp://h/" }), codes::BAD_URL),
        (json!({ "url": "http://u:p@h/" }), codes::BAD_URL),
        (json!({ "allow_private": false }), codes::PRIVATE_ADDRESS),
    ] {
        assert_eq!(refused(more.clone()).await, Some(expected), "{more}");
    }
}
