//! Runs that go on, out of a topic.

use super::*;
use crate::queue_kit::flow::Flow;

fn with(name: &str, test: impl FnOnce(&Flow<'_>)) {
    let scene = Scene::new();
    let topic = scene.topic("t", 1, &[]);
    let fill = |ids: std::ops::Range<u64>, bytes: usize| {
        let producer = scene.producer(&[]);
        let note = "n".repeat(bytes);
        for id in ids {
            let body = format!("{{\"id\": {id}, \"note\": \"{note}\"}}");
            send(&producer, &topic, 0, None, Some(body.as_bytes()), &[]);
        }
        producer.flush(Duration::from_secs(120)).unwrap();
    };
    let source = format!(
        "kafka: {{ brokers: \"{}\", topic: {topic}, schema: {{ id: int64, note: string }} }}",
        scene.brokers
    );
    test(&Flow { name, source: &source, variables: Vec::new(), fill: &fill });
}

#[test]
fn a_commit_out_of_a_topic_comes_with_its_bytes_where_they_come_first() {
    with("kafka_flow", |flow| flow.commits_by_bytes());
}

#[test]
fn a_slow_destination_keeps_a_topic_from_being_read_into_memory() {
    with("kafka_flow", |flow| {
        // 96 MiB. The client holds 16 of them that nobody has asked for, beside what waits in the run.
        let more = flow.waits_for_the_destination(1_536);
        println!("{} MiB more memory", more >> 20);
        assert!(more < 56 << 20, "{more} bytes more memory");
    });
}
