//! A disk that is full, a disk that is read-only.

use std::path::Path;
use std::process::Command;

use futures::executor::block_on;
use hapax_engine::fault::SinkErrorKind;

use crate::world::*;

/// A file system in memory, mounted for one test.
struct Mount {
    directory: tempfile::TempDir,
}

impl Mount {
    fn new(options: &str) -> Self {
        let mount = Self { directory: tempfile::tempdir().unwrap() };
        mount.run(options);
        mount
    }

    fn run(&self, options: &str) {
        let words = ["-t", "tmpfs", "-o", options, "hapax-test"];
        let status = Command::new("mount").args(words).arg(self.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "this test mounts a small file system; run it where that is allowed, for instance with \
             `sudo -E unshare --mount --propagation private cargo test -p hapax-files`"
        );
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_run_and_a_rerun_completes() {
    for name in ["out.jsonl", "out.csv", "out.parquet"] {
        let mount = Mount::new("size=1m");
        let out = mount.path().join(name);
        let run = Run::start(&config(&out));
        let mut split = run.split("s");
        let error = loop {
            let from = split.stands_at();
            let written = block_on(split.writer.write(&records(from, from + 2_000)));
            let checkpoint = split.checkpoint(from + 2_000);
            let staged = match written {
                Ok(_) => block_on(split.writer.stage(&checkpoint)),
                Err(error) => Err(error),
            };
            match staged {
                Ok(commit) => match split.publish(&commit) {
                    Ok(()) => split.standing = checkpoint.standing(),
                    Err(error) => break refused(error),
                },
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind, code(&error)), (SinkErrorKind::Stop, 254), "{name}: {error}");
        assert_eq!(names(&state_of(&out).join("tmp")), Vec::<String>::new(), "{name}");
        assert!(!out.exists());
        mount.run("remount,size=32m");
        let run = Run::start(&config(&out));
        let mut split = run.split("s");
        let from = split.stands_at();
        split.commit_as(from, from + 10, from + 10);
        run.finish();
        assert!(out.exists());
        if name == "out.csv" {
            assert_eq!(ids(&read_csv(&std::fs::read(&out).unwrap())), (0..from + 10).collect::<Vec<u64>>());
        }
    }
}

fn refused(error: hapax_engine::fault::CommitError) -> hapax_engine::fault::SinkError {
    match error {
        hapax_engine::fault::CommitError::Refused(error) => error,
        hapax_engine::fault::CommitError::Unknown(error) => panic!("not certain: {error}"),
    }
}

#[test]
fn a_full_disk_at_the_end_leaves_the_former_file() {
    let mount = Mount::new("size=2m");
    let out = mount.path().join("out.csv");
    let run = Run::start(&config(&out));
    let mut split = run.split("s");
    split.commit_as(0, 30_000, 30_000);
    run.finish();
    let before = std::fs::read(&out).unwrap();
    assert!(before.len() > 512 * 1024, "{}", before.len());
    let filler = mount.path().join("filler");
    split.commit_as(30_000, 30_100, 30_100);
    let _ = std::fs::write(&filler, vec![0_u8; 2 * 1024 * 1024]);
    let error = run.try_finish().unwrap_err();
    assert_eq!(code(&error), 254, "{error}");
    assert_eq!(std::fs::read(&out).unwrap(), before);
    mount.run("remount,size=16m");
    run.finish();
    assert_eq!(ids(&read_csv(&std::fs::read(&out).unwrap())), (0..30_100).collect::<Vec<u64>>());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mount = Mount::new("ro,size=1m");
    for path in ["out.csv", "new/out.csv"] {
        let out = mount.path().join(path);
        let sink = open(&config(&out)).unwrap();
        let error = block_on(sink.check(&shape())).unwrap_err();
        assert_eq!((error.kind, code(&error)), (SinkErrorKind::Stop, 253), "{error}");
        assert!(error.to_string().contains(mount.path().to_str().unwrap()));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let sink = open(&config(&file.path().join("out.csv"))).unwrap();
    assert_eq!(code(&block_on(sink.check(&shape())).unwrap_err()), 255);
}
