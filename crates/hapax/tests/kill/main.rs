//! The real binary, killed: at every named crash point and at random moments, then run to its end and
//! checked by a program that shares no code with the engine (`checker.rs` reads SQLite, Parquet and JSON
//! by itself and knows only what was generated).
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

mod checker;
mod data;
mod incremental;
mod kafka;
mod mysql;
mod planted;
mod postgres;
mod power;
mod process;
mod redis;
#[path = "../../../../connectors/kafka/tests/scene/mod.rs"]
mod scene;
mod stopped;

use checker::Verdict;
use data::{Data, Noise, USUAL};
use process::{Ended, Pipeline};

/// Every crash point of the engine, by the name `HAPAX_CRASH` takes.
const POINTS: [&str; 18] = [
    "prepared",
    "lease-acquired",
    "position-read",
    "batch-read",
    "announced",
    "claimed",
    "mid-write",
    "stage-done",
    "commit-before",
    "commit-decided",
    "commit-after",
    "acknowledge-before",
    "acknowledge-after",
    "split-done",
    "finish-before",
    "finish-staged",
    "finish-after",
    "recovery",
];

/// Points that a pair cannot pass, because its mechanism has no such step.
fn has_no(pair: &str, point: &str) -> bool {
    let staged_only = ["stage-done", "commit-decided", "finish-staged", "recovery"];
    let whole_file_only = ["finish-staged"];
    match pair {
        // Nothing is announced to a destination that keeps its own positions.
        _ if point == "announced" => true,
        "csv-to-sqlite" | "growing-to-sqlite" | "csv-to-postgres" | "csv-to-mysql" | "csv-to-redis"
        | "redis-to-redis" | "redis-to-sqlite" | "csv-to-kafka" | "kafka-to-kafka" | "kafka-to-postgres" => {
            staged_only.contains(&point)
        }
        "csv-to-parquet" => whole_file_only.contains(&point),
        _ => false,
    }
}

#[test]
fn the_points_are_those_of_the_engine() {
    let engine: Vec<&str> = hapax_engine::crash::Point::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(engine, POINTS);
}

#[test]
fn csv_to_sqlite_survives_every_crash_point() {
    every_point("csv-to-sqlite");
}

#[test]
fn csv_to_parquet_survives_every_crash_point() {
    every_point("csv-to-parquet");
}

#[test]
fn sqlite_to_jsonl_survives_every_crash_point() {
    every_point("sqlite-to-jsonl");
}

#[test]
fn csv_to_mysql_survives_every_crash_point() {
    every_point("csv-to-mysql");
}

#[test]
fn csv_to_mysql_survives_random_kills() {
    random_moments("csv-to-mysql");
}

#[test]
fn csv_to_redis_survives_every_crash_point() {
    every_point("csv-to-redis");
}

#[test]
fn csv_to_redis_survives_random_kills() {
    random_moments("csv-to-redis");
}

#[test]
fn redis_to_redis_survives_every_crash_point() {
    every_point("redis-to-redis");
}

#[test]
fn redis_to_redis_survives_random_kills() {
    random_moments("redis-to-redis");
}

#[test]
fn redis_to_sqlite_survives_every_crash_point() {
    every_point("redis-to-sqlite");
}

#[test]
fn redis_to_sqlite_survives_random_kills() {
    random_moments("redis-to-sqlite");
}

#[test]
fn csv_to_postgres_survives_every_crash_point() {
    every_point("csv-to-postgres");
}

#[test]
fn csv_to_postgres_survives_random_kills() {
    random_moments("csv-to-postgres");
}

#[test]
fn csv_to_kafka_survives_every_crash_point() {
    every_point("csv-to-kafka");
}

#[test]
fn csv_to_kafka_survives_random_kills() {
    random_moments("csv-to-kafka");
}

#[test]
fn kafka_to_postgres_survives_every_crash_point() {
    every_point("kafka-to-postgres");
}

#[test]
fn kafka_to_postgres_survives_random_kills() {
    random_moments("kafka-to-postgres");
}

#[test]
fn kafka_to_kafka_survives_every_crash_point() {
    every_point("kafka-to-kafka");
}

#[test]
fn kafka_to_kafka_survives_random_kills() {
    random_moments("kafka-to-kafka");
}

#[test]
fn csv_to_sqlite_survives_random_kills() {
    random_moments("csv-to-sqlite");
}

#[test]
fn csv_to_parquet_survives_random_kills() {
    random_moments("csv-to-parquet");
}

#[test]
fn sqlite_to_jsonl_survives_random_kills() {
    random_moments("sqlite-to-jsonl");
}

#[test]
fn of_two_runs_started_at_once_one_is_fenced() {
    for pair in ["csv-to-sqlite", "csv-to-parquet", "csv-to-postgres", "csv-to-mysql", "csv-to-redis"] {
        let data = Data::generate(60_000, 11);
        let pipeline = Pipeline::new(pair, &data);
        // Each stops itself once it has committed, so that both are at work at the same time however busy the
        // machine is; then they race to the end.
        let mut first = pipeline.start(&[("HAPAX_CRASH", "commit-after:2=stop")]);
        first.stopped();
        let mut second = pipeline.start(&[("HAPAX_CRASH", "commit-after:1=stop")]);
        second.stopped();
        first.go_on();
        second.go_on();
        let (first, second) = (first.wait(), second.wait());
        assert_eq!((&first, &second), (&Ended::Code(5), &Ended::Code(0)), "{pair}");
        assert_eq!(pipeline.check(), Verdict::default(), "{pair}");
    }
}

/// A reader polls all the while: it never sees a part of a file or of a commit, nor a record twice.
#[test]
fn a_reader_never_sees_a_part_or_a_repeat() {
    for pair in [
        "csv-to-sqlite",
        "csv-to-parquet",
        "sqlite-to-jsonl",
        "csv-to-postgres",
        "csv-to-mysql",
        "csv-to-redis",
    ] {
        let data = Data::generate(6_000, 31);
        let pipeline = Pipeline::new(pair, &data);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let looks = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut looks = 0;
                while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    if let Some(seen) = pipeline.glance() {
                        assert_eq!(seen, Verdict::default(), "{pair}, as a reader sees it");
                        looks += 1;
                    }
                }
                looks
            });
            for nth in 1..8 {
                let crash = [("HAPAX_CRASH", format!("commit-before:{nth}"))];
                let crash = crash.each_ref().map(|(name, value)| (*name, value.as_str()));
                let ended = pipeline.start(&crash).wait();
                assert!(matches!(ended, Ended::Signal(9) | Ended::Code(0)), "{pair}: {ended:?}");
            }
            pipeline.complete();
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            reader.join().unwrap()
        });
        assert!(looks > 0, "{pair}: nobody looked");
        assert_eq!(pipeline.check(), Verdict::default(), "{pair}");
    }
}

/// A topic keeps no identities, so twins would arrive.
fn noise(pair: &str) -> Noise {
    if pair.ends_with("-to-kafka") { Noise { twins: 0, ..USUAL } } else { USUAL }
}

/// Kills at one point the first, the third and the second time it is passed, then runs to the end.
fn every_point(pair: &str) {
    let data = Data::generate_with(4_000, 7, noise(pair));
    for point in POINTS {
        let pipeline = Pipeline::new(pair, &data);
        let mut kills = 0;
        for nth in [1, 3, 2] {
            if point == "recovery" {
                // There must be something to recover: a run that died between decision and visibility.
                pipeline.start(&[("HAPAX_CRASH", "commit-decided")]).wait();
            }
            match pipeline.start(&[("HAPAX_CRASH", &format!("{point}:{nth}"))]).wait() {
                Ended::Signal(9) => kills += 1,
                Ended::Code(0) => {}
                other => panic!("{pair} at {point}:{nth} ended as {other:?}"),
            }
        }
        assert_eq!(kills == 0, has_no(pair, point), "{pair} at {point}: {kills} kills");
        pipeline.complete();
        assert_eq!(pipeline.check(), Verdict::default(), "{pair} killed at {point}");
    }
}

/// Kills fifty times, at servers twenty, or as often as `HAPAX_KILLS` says, at moments drawn from a seed.
fn random_moments(pair: &str) {
    let data = Data::generate_with(20_000, 23, noise(pair));
    let calm = Pipeline::new(pair, &data);
    let started = std::time::Instant::now();
    calm.complete();
    let mut usual = started.elapsed();
    assert_eq!(calm.check(), Verdict::default(), "{pair} without any kill");

    let mut random = data::Random::new(0x5EED ^ pair.len() as u64);
    let on_server = ["kafka", "mysql", "postgres", "redis"].iter().any(|system| pair.contains(system));
    let usually = if on_server { 20 } else { 50 };
    let wanted = std::env::var("HAPAX_KILLS").map_or(usually, |kills| kills.parse().unwrap());
    let mut kills = 0;
    while kills < wanted {
        let pipeline = Pipeline::new(pair, &data);
        for begun in 0..10 {
            let moment = usual.mul_f64(random.unit() * 1.1);
            if pipeline.start(&[]).kill_after(moment) == Ended::Signal(9) {
                kills += 1;
            } else {
                // The calm run may have been a slow one: then nearly every kill would come too late.
                usual = if begun == 0 { usual.min(moment) } else { usual };
                break;
            }
        }
        pipeline.complete();
        assert_eq!(pipeline.check(), Verdict::default(), "{pair} after {kills} kills in all");
    }
}
