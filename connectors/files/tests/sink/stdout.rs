//! Standard output: whole lines, one header, no dead letters.

use std::process::Command;

use futures::executor::block_on;
use hapax_engine::dead_letter::DeadLetter;
use hapax_engine::sink::Sink;
use hapax_files::sink_config::{SinkConfig, SinkFormat};
use hapax_protocol::code::Code;
use hapax_protocol::identity::Place;
use hapax_protocol::position::SplitId;

use crate::world::*;

#[test]
#[ignore = "started by the test below, in a process of its own"]
fn child() {
    let config =
        SinkConfig { path: "-".to_owned(), format: Some(SinkFormat::Csv), compression: None, header: None };
    let Sink::Append(sink) = hapax_files::sink::open(config, &name()).unwrap() else {
        panic!("it only appends")
    };
    block_on(sink.prepare(&shape())).unwrap();
    for (split, from) in [("a", 4), ("b", 6)] {
        let split = SplitId::new(split);
        let mut writer = block_on(sink.writer(&split)).unwrap();
        block_on(writer.write(&records(from, from + 2))).unwrap();
        block_on(writer.flush()).unwrap();
        let letter = DeadLetter {
            place: Place { split, ordinal: 1 },
            code: Code(1),
            reason: "wrong".to_owned(),
            raw: String::new(),
            set_aside_unix_ms: 0,
        };
        assert_eq!(code(&block_on(writer.set_aside(&[letter])).unwrap_err()), 264);
    }
}

#[test]
fn lines_come_whole_under_one_header() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", "stdout::child", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let expected = "id,text\n4,\"text, \"\"4\"\"\"\n5,\"\"\n6,\"text, \"\"6\"\"\"\n7,\n";
    assert!(text.contains(expected), "{text}");
}
