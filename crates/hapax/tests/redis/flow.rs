//! Runs that go on, out of a stream.

use super::*;
use crate::queue_kit::flow::Flow;

fn with(name: &str, test: impl FnOnce(&Flow<'_>)) {
    let case = Case::new();
    let fill = |ids: std::ops::Range<u64>, bytes: usize| {
        let note = "n".repeat(bytes);
        let ids: Vec<u64> = ids.collect();
        for ids in ids.chunks(64) {
            let mut pipe = redis::pipe();
            for id in ids {
                pipe.cmd("XADD").arg(case.key("in")).arg("*").arg("id").arg(id).arg("note").arg(&note);
            }
            let _: Vec<String> = pipe.query(&mut case.connect()).unwrap();
        }
    };
    let source = format!(
        "redis: {{ url: \"${{env:TEST_REDIS}}\", stream: {}, fields: [id, note], schema: {{ id: int64 }} }}",
        case.key("in")
    );
    let variables = vec![("TEST_REDIS", hapax_conformance::server::redis())];
    test(&Flow { name, source: &source, variables, fill: &fill });
}

#[test]
fn a_commit_out_of_a_stream_comes_with_its_bytes_where_they_come_first() {
    with("redis_flow", |flow| flow.commits_by_bytes());
}

#[test]
fn a_slow_destination_keeps_a_stream_from_being_read_into_memory() {
    with("redis_flow", |flow| {
        // 48 MiB.
        let more = flow.waits_for_the_destination(768);
        println!("{} MiB more memory", more >> 20);
        assert!(more < 32 << 20, "{more} bytes more memory");
    });
}
