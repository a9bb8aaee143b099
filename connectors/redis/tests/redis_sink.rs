//! What the sink does with rows that are refused, keys that are taken, holders that stall, and answers that get lost.
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

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use hapax_conformance::http::until;
use hapax_conformance::proxy::{Failure, Proxy};
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::fault::{CommitError, SinkErrorKind};
use hapax_engine::sink::{Arrival, Shape};
use hapax_engine::transform::RefusedRow;
use hapax_protocol::code::Code;
use hapax_protocol::identity::{Place, RecordId};
use hapax_protocol::lease::Applicant;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, Position, SplitId};
use hapax_redis::codes;
use redis::Value;
use scene::pen::{self, next, numbered, people, ready, shape, taken};
use scene::{Own, Scene};

/// What the script begins with: a commit's call holds it.
const COMMIT: &[u8] = b"One commit: looks first";

fn rows(refused: &[RefusedRow]) -> Vec<usize> {
    refused.iter().map(|refused| refused.row).collect()
}

fn config(scene: &Scene, url: &str, key: &str, more: serde_json::Value) -> serde_json::Value {
    let mut config = serde_json::json!({ "url": url, "key": scene.key(key), "state": scene.state() });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn plain(scene: &Scene) -> serde_json::Value {
    config(scene, &scene.url(), "t:{id}", serde_json::json!({}))
}

fn stream(scene: &Scene, url: &str) -> serde_json::Value {
    config(scene, url, "log", serde_json::json!({ "write": "stream" }))
}

fn length(scene: &Scene) -> i64 {
    redis::cmd("XLEN").arg(scene.key("log")).query(&mut scene.connect()).unwrap()
}

async fn refused_as(config: serde_json::Value, key: &[&str]) -> Option<Code> {
    let sink = match pen::open(config).await {
        Ok(sink) => sink,
        Err(error) => return Some(error.fault.code()),
    };
    let checked = sink.check(&shape(key)).await.map(|_| ());
    let prepared = sink.prepare(&shape(key)).await;
    assert_eq!(checked.is_ok(), prepared.is_ok(), "a plan and a run disagree");
    prepared.err().map(|error| {
        assert_ne!(error.fault.help(), "");
        error.fault.code()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_version_of_a_key_stays_and_null_takes_a_field_away() {
    let scene = Scene::new();
    let (_, _, mut writer, stood) = ready(plain(&scene)).await;
    let first =
        people(&[(Some(1), Some("a")), (Some(2), Some("b")), (Some(1), Some("c")), (None, Some("d"))]);
    let refused = writer.write(&first).await.unwrap();
    assert_eq!((rows(&refused), refused[0].code), (vec![3], codes::NO_KEY), "{refused:?}");
    scene.run(&["HSET", &scene.key("t:2"), "other", "stays"]);
    let commit = next(&stood, 1);
    writer.commit(&commit).await.unwrap();
    assert_eq!(scene.run(&["HGET", &scene.key("t:1"), "name"]), Value::BulkString(b"c".to_vec()));
    writer.write(&people(&[(Some(2), None)])).await.unwrap();
    writer.commit(&next(&commit.standing(), 2)).await.unwrap();
    assert_eq!(scene.run(&["HGET", &scene.key("t:2"), "name"]), Value::Nil);
    assert_eq!(scene.run(&["HGET", &scene.key("t:2"), "other"]), Value::BulkString(b"stays".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_set_aside() {
    let scene = Scene::new();
    let columns: [(&str, ArrayRef); 3] = [
        ("region", Arc::new(StringArray::from(vec!["eu", "eu:x", "us"]))),
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("price", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
    ];
    let records = RecordBatch::try_from_iter(columns).unwrap();
    let shape = Shape { schema: records.schema(), key: vec!["id".into(), "region".into()] };
    for (more, expected) in [
        (serde_json::json!({ "write": "json" }), vec![(1, codes::NO_KEY)]),
        (serde_json::json!({ "write": "hash" }), vec![(1, codes::NO_KEY)]),
        (
            serde_json::json!({ "write": "string", "value": "price" }),
            vec![(1, codes::NO_KEY), (2, codes::VALUE_UNHELD)],
        ),
    ] {
        let sink = pen::open(config(&scene, &scene.url(), "t:{region}:{id}", more)).await.unwrap();
        sink.prepare(&shape).await.unwrap();
        let lease = pen::lease(&sink).await;
        let (mut writer, _) = taken(&sink, &lease, "s").await;
        let refused = writer.write(&records).await.unwrap();
        assert_eq!(
            refused.iter().map(|row| (row.row, row.code)).collect::<Vec<_>>(),
            expected,
            "{refused:?}"
        );
    }
    // By one column, a colon is a colon; a number that JSON cannot say is refused.
    let shape = Shape { schema: records.schema(), key: vec!["region".into()] };
    let json = serde_json::json!({ "write": "json" });
    let sink = pen::open(config(&scene, &scene.url(), "u:{region}", json)).await.unwrap();
    sink.prepare(&shape).await.unwrap();
    let lease = pen::lease(&sink).await;
    let (mut writer, stood) = taken(&sink, &lease, "s").await;
    let refused = writer.write(&records).await.unwrap();
    assert_eq!(refused.iter().map(|row| (row.row, row.code)).collect::<Vec<_>>(), [(1, codes::VALUE_UNHELD)]);
    writer.commit(&next(&stood, 1)).await.unwrap();
    let object = scene.run(&["GET", &scene.key("u:eu")]);
    assert_eq!(object, Value::BulkString(br#"{"region":"eu","id":1,"price":1.5}"#.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_something_else_is_left_as_it_is() {
    let scene = Scene::new();
    scene.run(&["RPUSH", &scene.key("t:5"), "a list"]);
    let (sink, lease, mut writer, stood) = ready(plain(&scene)).await;
    writer.write(&numbered(0..10)).await.unwrap();
    // Nothing is looked at before there is a reason to; the commit refuses all of it.
    match writer.commit(&next(&stood, 1)).await {
        Err(CommitError::Refused(error)) => {
            assert_eq!(
                (error.kind, error.fault.code()),
                (SinkErrorKind::Unavailable, codes::OVERTAKEN),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.keys(&scene.key("t:*")), [scene.key("t:5")], "a refused commit left something");
    // Then the engine tries again, and the record is refused by itself.
    let (mut writer, found) = taken(&sink, &lease, "s").await;
    assert_eq!(found, stood);
    let refused = writer.write(&numbered(0..10)).await.unwrap();
    assert_eq!((rows(&refused), refused[0].code), (vec![5], codes::WRONG_TYPE), "{refused:?}");
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(scene.keys(&scene.key("t:*")).len(), 10);
    // A stream has one key: that is refused before anything moves.
    scene.run(&["SET", &scene.key("log"), "text"]);
    assert_eq!(refused_as(stream(&scene, &scene.url()), &["id"]).await, Some(codes::WRONG_TYPE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_puts_nothing_older_over_a_key_that_is_there() {
    let scene = Scene::new();
    scene.run(&["HSET", &scene.key("t:1"), "name", "newer"]);
    let (_, _, mut writer, stood) = ready(plain(&scene)).await;
    let records = people(&[
        (Some(1), Some("old")),
        (Some(2), Some("first")),
        (Some(2), Some("second")),
        (Some(3), None),
    ]);
    let refused = writer.write_absent(&records).await.unwrap();
    assert_eq!(rows(&refused), [0, 2], "{refused:?}");
    // Somebody is faster than the commit.
    scene.run(&["HSET", &scene.key("t:3"), "name", "faster"]);
    let overtaken = writer.commit(&next(&stood, 1)).await;
    assert!(
        matches!(&overtaken, Err(CommitError::Refused(error)) if error.fault.code() == codes::OVERTAKEN),
        "{overtaken:?}"
    );
    assert_eq!(scene.keys(&scene.key("t:*")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_looked_up() {
    let scene = Scene::new();
    let proxy = Proxy::before(scene.host()).await;
    for (failure, took_effect) in
        [(Failure::Unanswered(COMMIT.to_vec()), true), (Failure::Unsent(COMMIT.to_vec()), false)]
    {
        let before = length(&scene);
        let (sink, lease, mut writer, stood) = ready(stream(&scene, &scene.through(proxy.port()))).await;
        writer.write(&numbered(0..10)).await.unwrap();
        proxy.fail(failure);
        let through = stood.epoch.next().get() as u8;
        let unknown = writer.commit(&next(&stood, through)).await;
        assert!(
            matches!(&unknown, Err(CommitError::Unknown(e)) if e.fault.code() == codes::COMMIT_UNKNOWN),
            "{unknown:?}"
        );
        // Nothing goes on with this writer.
        assert!(matches!(writer.commit(&next(&stood, through)).await, Err(CommitError::Refused(_))));
        let (_, found) = taken(&sink, &lease, "s").await;
        assert_eq!(found == next(&stood, through).standing(), took_effect);
        assert_eq!(length(&scene) - before, if took_effect { 10 } else { 0 });
    }
    assert_eq!(proxy.happened(), 2);
}

/// The names of all records that are there.
fn names(scene: &Scene, write: &str) -> Vec<String> {
    let mut connection = scene.connect();
    if write == "stream" {
        let entries: Vec<(String, Vec<String>)> =
            redis::cmd("XRANGE").arg(scene.key("log")).arg("-").arg("+").query(&mut connection).unwrap();
        return entries.iter().map(|(_, fields)| fields[3].clone()).collect();
    }
    let name = |key: &String| match write {
        "hash" => redis::cmd("HGET").arg(key).arg("name").query(&mut connection).unwrap(),
        "string" => redis::cmd("GET").arg(key).query(&mut connection).unwrap(),
        _ => {
            let object: String = redis::cmd("GET").arg(key).query(&mut connection).unwrap();
            let object: serde_json::Value = serde_json::from_str(&object).unwrap();
            object["name"].as_str().unwrap().to_owned()
        }
    };
    scene.keys(&scene.key("t:*")).iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_arrives_late_does_nothing() {
    for (write, key, more) in [
        ("stream", "log", serde_json::json!({ "write": "stream" })),
        ("hash", "t:{id}", serde_json::json!({ "write": "hash" })),
        ("string", "t:{id}", serde_json::json!({ "write": "string", "value": "name" })),
        ("json", "t:{id}", serde_json::json!({ "write": "json" })),
    ] {
        // Of an earlier run, and of the same run that gave up waiting and took over again.
        for again in [false, true] {
            let scene = Scene::new();
            let proxy = Proxy::before(scene.host()).await;
            let section = |url: &str| config(&scene, url, key, more.clone());
            let (old, old_lease, mut stalled, stood) = ready(section(&scene.through(proxy.port()))).await;
            stalled.write(&people(&[(Some(1), Some("old")), (Some(2), Some("alone"))])).await.unwrap();
            proxy.fail(Failure::BlackHole);
            let commit = next(&stood, 1);
            let late = tokio::spawn({
                let commit = commit.clone();
                async move { stalled.commit(&commit).await }
            });
            until("the call", || proxy.swallowed() > 0).await;
            let beside = pen::open(section(&scene.url())).await.unwrap();
            beside.prepare(&shape(&["id"])).await.unwrap();
            let lease = if again { old_lease } else { pen::lease(&beside).await };
            let (mut writer, found) = taken(&beside, &lease, "s").await;
            assert_eq!(found, stood);
            writer.write(&people(&[(Some(1), Some("new"))])).await.unwrap();
            writer.commit(&commit).await.unwrap();
            proxy.heal();
            match late.await.unwrap() {
                Err(CommitError::Refused(error)) => {
                    assert_eq!(error.fault.code(), codes::FENCED, "{write}: {error}");
                }
                other => panic!("{write}: {other:?}"),
            }
            assert_eq!(names(&scene, write), ["new"], "{write}, again: {again}");
            drop(old);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_the_lease_and_no_split() {
    let scene = Scene::new();
    let (sink, alone, mut before, stood) = ready(stream(&scene, &scene.url())).await;
    let applicant = |holder: &str| Applicant {
        pipeline: alone.pipeline.clone(),
        holder: holder.into(),
        definition: "d".into(),
    };
    let one = sink.join(&applicant("group")).await.unwrap();
    let two = sink.join(&applicant("group")).await.unwrap();
    assert!(one == two && one.token > alone.token);
    before.write(&numbered(0..1)).await.unwrap();
    assert!(
        matches!(before.commit(&next(&stood, 1)).await, Err(CommitError::Refused(e)) if e.kind == SinkErrorKind::Fenced)
    );
    // A member that stalls, while another one has its split.
    let (mut stalled, _) = taken(&sink, &one, "s").await;
    let (mut writer, _) = taken(&sink, &two, "s").await;
    stalled.write(&numbered(0..5)).await.unwrap();
    assert!(
        matches!(stalled.commit(&next(&stood, 1)).await, Err(CommitError::Refused(e)) if e.kind == SinkErrorKind::Fenced)
    );
    writer.write(&numbered(0..5)).await.unwrap();
    writer.commit(&next(&stood, 1)).await.unwrap();
    assert_eq!(length(&scene), 5);
    // Another group takes the lease, and so does whoever runs alone.
    let other = sink.join(&applicant("another")).await.unwrap();
    assert!(other.token > two.token && pen::lease(&sink).await.token > other.token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_forgets_its_beginning_and_nothing_else() {
    let server = Own::start(&["--appendfsync", "no"]);
    let scene = Scene::on(&server.url());
    let (sink, lease, mut writer, mut stood) = ready(stream(&scene, &scene.url())).await;
    for n in 0..10_050_u64 {
        let checkpoint = Checkpoint { through: Position::new(n.to_be_bytes().as_slice()), ..next(&stood, 0) };
        writer.commit(&checkpoint).await.unwrap();
        stood = checkpoint.standing();
    }
    let places = [0, 49, 50, 10_049].map(|ordinal| Place { split: SplitId::new("s"), ordinal });
    let known = sink.remembered(&lease.pipeline, &places).await.unwrap();
    let epochs: Vec<Option<u64>> =
        known.iter().map(|known| known.commit.as_ref().map(|c| c.commit.epoch.get())).collect();
    assert_eq!(epochs, [None, None, Some(51), Some(10_050)]);
    assert_eq!(scene.keys("*commits*").len(), 1);
    assert_eq!(
        redis::cmd("HLEN").arg(&scene.keys("*commits*")[0]).query::<u64>(&mut scene.connect()).unwrap(),
        10_000
    );
    // Positions that move without a record are forgotten too.
    for n in 10_050..20_100_u64 {
        let mut checkpoint =
            Checkpoint { through: Position::new(n.to_be_bytes().as_slice()), ..next(&stood, 0) };
        checkpoint.totals = stood.totals;
        writer.commit(&checkpoint).await.unwrap();
        stood = checkpoint.standing();
    }
    assert_eq!(
        redis::cmd("HLEN").arg(&scene.keys("*commits*")[0]).query::<u64>(&mut scene.connect()).unwrap(),
        20_000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_splits_that_claim_an_identity_one_is_first() {
    let scene = Scene::new();
    let (sink, lease, mut one, stood) = ready(stream(&scene, &scene.url())).await;
    let (mut two, _) = taken(&sink, &lease, "t").await;
    let arrival = |ordinal| [Arrival { id: RecordId([7; 16]), ordinal }];
    for (writer, ordinal) in [(&mut one, 1), (&mut two, 2)] {
        assert_eq!(writer.claim(&arrival(ordinal)).await.unwrap(), [Claim::New]);
        writer.write(&numbered(0..1)).await.unwrap();
    }
    one.commit(&next(&stood, 1)).await.unwrap();
    let overtaken = two.commit(&next(&stood, 1)).await;
    assert!(
        matches!(&overtaken, Err(CommitError::Refused(error)) if error.kind == SinkErrorKind::Unavailable),
        "{overtaken:?}"
    );
    assert_eq!(length(&scene), 1);
    let (mut two, _) = taken(&sink, &lease, "t").await;
    let of = Place { split: SplitId::new("s"), ordinal: 1 };
    assert_eq!(two.claim(&arrival(2)).await.unwrap(), [Claim::Twin { of }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_time_to_live_ends() {
    let scene = Scene::new();
    let times = serde_json::json!({ "ttl": "150ms", "ledger_retention": "150ms" });
    let (_, _, mut writer, stood) = ready(config(&scene, &scene.url(), "t:{id}", times)).await;
    let arrival = [Arrival { id: RecordId([7; 16]), ordinal: 1 }];
    writer.claim(&arrival).await.unwrap();
    writer.write(&numbered(0..10)).await.unwrap();
    let commit = next(&stood, 1);
    writer.commit(&commit).await.unwrap();
    let later = [Arrival { id: RecordId([7; 16]), ordinal: 2 }];
    let until = Instant::now() + Duration::from_secs(120);
    while !scene.keys(&scene.key("t:*")).is_empty() || !writer.claim(&later).await.unwrap()[0].passes() {
        assert!(Instant::now() < until, "nothing ends");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_takes_nothing_and_a_killed_one_keeps_what_it_took() {
    let server = Own::start(&[]);
    let scene = Scene::on(&server.url());
    let (sink, lease, mut writer, stood) = ready(stream(&scene, &scene.url())).await;
    writer.set_aside(&[letter()]).await.unwrap();
    writer.write(&numbered(0..100)).await.unwrap();
    let first = next(&stood, 1);
    writer.commit(&first).await.unwrap();
    server.kill();
    writer.write(&numbered(100..200)).await.unwrap();
    let gone = writer.commit(&next(&first.standing(), 2)).await;
    assert!(matches!(gone, Err(CommitError::Unknown(_))), "{gone:?}");
    server.resume();
    let (mut writer, found) = taken(&sink, &lease, "s").await;
    assert_eq!((found, length(&scene)), (first.standing(), 100));
    assert_eq!(sink.dead_letters(&lease.pipeline, 10).await.unwrap(), [letter()]);
    scene.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    writer.write(&numbered(100..200)).await.unwrap();
    match writer.commit(&next(&first.standing(), 2)).await {
        Err(CommitError::Refused(error)) => assert_eq!(error.fault.code(), codes::FULL, "{error}"),
        other => panic!("{other:?}"),
    }
    scene.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let (_, found) = taken(&sink, &lease, "s").await;
    assert_eq!((found, length(&scene)), (first.standing(), 100));
}

fn letter() -> DeadLetter {
    DeadLetter {
        place: Place { split: SplitId::new("s"), ordinal: 3 },
        code: Code(666),
        reason: "a reason".into(),
        raw: "raw\0\n".into(),
        set_aside_unix_ms: 5,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_themselves_are_refused() {
    let scene = Scene::new();
    let with = |key: &str, more: serde_json::Value| config(&scene, &scene.url(), key, more);
    let none = || serde_json::json!({});
    for (config, key, expected) in [
        (with("t:{id}", none()), &["id"][..], None),
        (with("t:{id}", none()), &[], None),
        (with("t", none()), &["id"], Some(codes::TEMPLATE)),
        (with("t:{id", none()), &["id"], Some(codes::TEMPLATE)),
        (with("t:{none}", none()), &["id"], Some(codes::TEMPLATE)),
        (with("t:{id}:{name}", none()), &["id"], Some(codes::TEMPLATE)),
        (with("t:{id}", none()), &["id", "name"], Some(codes::TEMPLATE)),
        (with("t:{id}", serde_json::json!({ "write": "stream" })), &["id"], Some(codes::TEMPLATE)),
        (with("state:{id}", none()), &["id"], Some(codes::TEMPLATE)),
        (with("t", serde_json::json!({ "write": "stream", "ttl": "1d" })), &["id"], Some(codes::CONFIG)),
        (with("t:{id}", serde_json::json!({ "ttl": "soon" })), &["id"], Some(codes::CONFIG)),
        (with("t:{id}", serde_json::json!({ "ledger_retention": "soon" })), &["id"], Some(codes::CONFIG)),
        (with("t:{id}", serde_json::json!({ "write": "string" })), &["id"], Some(codes::CONFIG)),
        (with("t:{id}", serde_json::json!({ "value": "name" })), &["id"], Some(codes::CONFIG)),
        (
            with("t:{id}", serde_json::json!({ "write": "string", "value": "none" })),
            &["id"],
            Some(codes::CONFIG),
        ),
        (
            with("t:{id}", serde_json::json!({ "write": "string", "value": "id" })),
            &["id"],
            Some(codes::COLUMN_LOST),
        ),
        (with("t:{id}", serde_json::json!({ "write": "string", "value": "name" })), &["id"], None),
        (serde_json::json!({ "url": "redis://h:x/0", "key": "t:{id}" }), &["id"], Some(codes::BAD_URL)),
    ] {
        assert_eq!(refused_as(config.clone(), key).await, expected, "{config}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_cannot_be_used_are_refused() {
    let scene = Scene::new();
    let wrong = scene.url().replace("redis://:", "redis://:wrong");
    let opened = pen::open(config(&scene, &wrong, "t:{id}", serde_json::json!({}))).await;
    let error = opened.err().expect("it opens with a wrong password");
    assert_eq!(error.fault.code(), codes::WRONG_PASSWORD, "{error:?}");
    let secret = scene.url().split(['@', ':']).nth(2).unwrap().to_owned();
    assert!(secret.len() > 4 && !format!("{error} {error:?} {}", error.fault.help()).contains(&secret));
    let at = |url: &str| serde_json::json!({ "url": url, "key": "t:{id}" });
    assert_eq!(refused_as(at("redis://127.0.0.1:1/0"), &["id"]).await, Some(codes::GONE));

    let server = Own::start(&["--maxmemory-policy", "allkeys-lru"]);
    assert_eq!(refused_as(at(&server.url()), &["id"]).await, Some(codes::EVICTS));
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let run = |words: &[&str], connection: &mut redis::Connection| {
        let mut command = redis::cmd(words[0]);
        let _: Value = command.arg(&words[1..]).query(connection).unwrap();
    };
    run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"], &mut connection);
    assert_eq!(refused_as(at(&server.url()), &["id"]).await, None);
    // A user with what docs/connectors/redis.md lists, and one without.
    run(
        &[
            "ACL",
            "SETUSER",
            "mover",
            "on",
            ">secret",
            "~t:*",
            "~_hapax:*",
            "+info",
            "+eval",
            "+exists",
            "+get",
            "+set",
            "+mget",
            "+hget",
            "+hset",
            "+hsetnx",
            "+hdel",
            "+hmget",
            "+hincrby",
            "+hlen",
            "+sadd",
            "+smembers",
            "+zadd",
            "+zrem",
            "+zcard",
            "+zrange",
            "+zrangebylex",
            "+zrevrangebylex",
            "+type",
            "+pexpire",
            "+xadd",
            "+multi",
            "+exec",
            "+scan",
        ],
        &mut connection,
    );
    run(&["ACL", "SETUSER", "nobody", "on", ">secret", "~t:*", "+info"], &mut connection);
    let as_user = |user: &str| server.url().replacen("redis://:", &format!("redis://{user}:secret@"), 1);
    let as_user = |user: &str| {
        let url = as_user(user);
        format!("redis://{user}:secret@{}", url.rsplit('@').next().unwrap())
    };
    assert_eq!(refused_as(at(&as_user("mover")), &["id"]).await, None);
    let (_, _, mut writer, stood) = ready(at(&as_user("mover"))).await;
    writer.claim(&[Arrival { id: RecordId([7; 16]), ordinal: 1 }]).await.unwrap();
    writer.write(&numbered(0..10)).await.unwrap();
    writer.set_aside(&[letter()]).await.unwrap();
    writer.commit(&next(&stood, 1)).await.unwrap();
    let sink = pen::open(at(&as_user("nobody"))).await.unwrap();
    sink.prepare(&shape(&["id"])).await.unwrap();
    let applied = sink.standings(&hapax_protocol::lease::PipelineName::new("p").unwrap()).await.unwrap_err();
    assert_eq!(applied.fault.code(), codes::DENIED, "{applied}");
    run(&["REPLICAOF", "127.0.0.1", "1"], &mut connection);
    assert_eq!(refused_as(at(&server.url()), &["id"]).await, Some(codes::READ_ONLY));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_all_keys_share_a_tag() {
    let server = Own::start(&["--cluster-enabled", "yes"]);
    let client = redis::Client::open(server.url()).unwrap();
    let mut slots = redis::cmd("CLUSTER");
    let _: Value =
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16383).query(&mut client.get_connection().unwrap()).unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let info: String =
            redis::cmd("CLUSTER").arg("INFO").query(&mut client.get_connection().unwrap()).unwrap();
        if info.contains("cluster_state:ok") {
            break;
        }
        assert!(Instant::now() < until, "{info}");
    }
    let at = |key: &str| serde_json::json!({ "url": server.url(), "key": key });
    assert_eq!(refused_as(at("orders:{id}"), &["id"]).await, Some(codes::NO_SHARED_SLOT));
    let (sink, lease, mut writer, stood) = ready(at("{{orders}}:{id}")).await;
    writer.claim(&[Arrival { id: RecordId([7; 16]), ordinal: 1 }]).await.unwrap();
    writer.write(&numbered(0..100)).await.unwrap();
    let commit = next(&stood, 1);
    writer.commit(&commit).await.unwrap();
    assert_eq!(taken(&sink, &lease, "s").await.1, commit.standing());
    let back = sink.read_back(pen::schema()).await.unwrap();
    let whole = hapax_conformance::source::everything(
        back.as_ref(),
        hapax_engine::batch::ReadLimit { records_max: 1000, bytes_max: 1 << 20 },
    );
    assert_eq!(whole.await.values().map(|content| content.len()).sum::<usize>(), 100);
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client.get_connection().unwrap()).unwrap();
    assert!(keys.iter().all(|key| key.contains("{orders}")), "{keys:?}");
}
