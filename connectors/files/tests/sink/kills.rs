//! A real process, really killed at every point that only the sink passes.

use std::path::Path;
use std::process::Command;

use hapax_engine::crash;

use crate::world::*;

const DESTINATION: &str = "HAPAX_TEST_DESTINATION";

/// The run that is killed: three splits, four commits of ten records each.
#[test]
#[ignore = "started by the test below, in a process of its own"]
fn child() {
    let Ok(destination) = std::env::var(DESTINATION) else { return };
    let run = Run::start(&config(Path::new(&destination)));
    for number in 0..3_u64 {
        let mut split = run.split(&format!("in.csv#{number}"));
        while split.stands_at() < 40 {
            let (from, to) = (split.stands_at(), split.stands_at() + 10);
            split.write(number * 40 + from, number * 40 + to);
            let checkpoint = split.checkpoint(to);
            let commit = split.stage(to);
            crash::point(crash::Point::StageDone);
            split.publish(&commit).unwrap();
            crash::point(crash::Point::CommitAfter);
            split.standing = checkpoint.standing();
        }
    }
    run.finish();
}

fn run(destination: &Path, crash: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kills::child", "--ignored"])
        .env(DESTINATION, destination)
        .env_remove("HAPAX_CRASH");
    if let Some(crash) = crash {
        command.env("HAPAX_CRASH", crash);
    }
    command.output().unwrap().status.success()
}

#[test]
fn a_kill_anywhere_loses_nothing_and_repeats_nothing() {
    let mut points: Vec<String> = Vec::new();
    for point in ["stage-done", "commit-decided", "commit-after"] {
        points.extend([1, 2, 5, 12].into_iter().map(|nth| format!("{point}:{nth}")));
    }
    points.extend(["finish-staged:1", "finish-staged:2", "finish-after:1"].map(str::to_owned));
    for point in points {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out.csv");
        assert!(!run(&out, Some(&point)), "{point} was not passed");
        // The recovery may be killed, too: where there is something to recover it is.
        run(&out, Some("recovery"));
        assert!(run(&out, None), "{point}: the rerun failed");
        let rows = read_csv(&std::fs::read(&out).unwrap());
        assert_eq!(ids(&rows), (0..120).collect::<Vec<u64>>(), "{point}");
        let state = state_of(&out);
        assert_eq!(names(&state.join("parts")), Vec::<String>::new(), "{point}");
        assert_eq!(names(&state.join("tmp")), Vec::<String>::new(), "{point}");
        let stamp = std::fs::metadata(&out).unwrap().modified().unwrap();
        assert!(run(&out, None));
        assert_eq!(std::fs::metadata(&out).unwrap().modified().unwrap(), stamp, "{point}: a rerun wrote");
    }
}
