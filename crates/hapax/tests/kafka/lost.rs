//! From Kafka to Kafka where the brokers end a transaction, or its end gets lost on the way.

use super::*;
use crate::queue_kit::Hapax;
use crate::scene::relay::{Lost, Relay};

/// A topic of one partition, and a pipeline from it into another topic.
struct Way {
    scene: Scene,
    from: String,
    to: String,
    state: String,
    hapax: Hapax,
    _folder: TempDir,
}

impl Way {
    /// Reaches the brokers under this address at its end.
    fn new(brokers: Option<&str>, options: &str, rest: &str) -> Self {
        let scene = Scene::new();
        let (from, to, state) = (scene.topic("from", 1, &[]), scene.topic("to", 2, &[]), scene.name("state"));
        let folder = tempfile::tempdir().unwrap();
        let at = brokers.unwrap_or(&scene.brokers);
        let file = pipeline(
            &folder,
            &format!("lost-{}", scene.name("p")),
            &format!("kafka: {{ brokers: \"{}\", topic: {from}, schema: {SCHEMA} }}", scene.brokers),
            &format!("kafka: {{ brokers: \"{at}\", topic: {to}, state: {state}, key: [id]{options} }}"),
            &format!("identity: position\ndelivery: exactly-once\n{rest}"),
        );
        let hapax = Hapax { folder: folder.path().to_owned(), file: file.into(), variables: Vec::new() };
        Self { scene, from, to, state, hapax, _folder: folder }
    }

    fn order(&self, ids: std::ops::Range<i64>) {
        order(&self.scene, &self.from, 1, ids);
    }

    /// How many messages are there, also those that nobody has committed or that were taken back.
    fn messages(&self) -> usize {
        self.scene.messages_as(&self.to, "read_uncommitted").len()
    }

    fn holds(&self, ids: std::ops::Range<i64>) {
        let mut found = ids_in(&self.scene, &self.to);
        found.sort_unstable();
        assert!(found.iter().copied().eq(ids.clone()), "{ids:?}: {} are there", found.len());
    }
}

#[test]
fn a_transaction_that_takes_longer_than_its_time_is_read_and_written_again() {
    let options = ", options: { transaction.timeout.ms: \"5000\" }";
    let way = Way::new(None, options, "follow: true\ncommit: { records: 20, interval_ms: 3600000 }\n");
    // One message is one batch: a transaction is open when the next batch stops the run.
    way.order(0..1);
    let mut run = way.hapax.start_with(&[("HAPAX_CRASH", "mid-write:2=stop")]);
    run.wait_for("a transaction", || way.messages() == 1);
    way.order(1..200);
    run.stands_still();
    until("the brokers end it", || way.scene.is_decided(&way.to));
    assert!(way.scene.messages(&way.to).is_empty());
    run.wake();
    run.wait_for("all but the last ones", || way.scene.messages(&way.to).len() >= 180);
    assert_eq!(run.stop(), 0, "{}", way.hapax.log());
    way.holds(0..200);

    // A run that ends with one says so, and the next one goes on.
    let before = way.messages();
    way.order(200..201);
    let mut run = way.hapax.start();
    run.wait_for("a transaction", || way.messages() > before);
    run.wait_for("the end of it", || way.scene.is_decided(&way.to));
    assert_eq!(run.stop(), 1, "{}", way.hapax.log());
    assert!(way.hapax.log().contains("HX0634"), "{}", way.hapax.log());
    way.holds(0..200);
    let mut run = way.hapax.start();
    run.wait_for("a transaction", || way.messages() > before + 1);
    assert_eq!(run.stop(), 0, "{}", way.hapax.log());
    way.holds(0..201);
}

/// The end of the second commit gets lost, and before it can be repeated another producer has taken the name.
fn looked_up(what: Lost) {
    let relay = Relay::before(&hapax_conformance::server::kafka());
    let way = Way::new(Some(&relay.address()), "", "commit: { records: 50 }\n");
    way.order(0..500);
    let run = way.hapax.stopped_at("commit-before:2");
    relay.lose(what);
    run.wake();
    until("the end gets lost", || relay.has_lost());
    let name = format!("{}/{}[0]", way.state, way.from);
    let other = way.scene.producer(&[("transactional.id", &name)]);
    other.init_transactions(PATIENCE).unwrap();
    relay.heal();
    assert_eq!(run.go_on(), 0, "{}", way.hapax.log());
    way.holds(0..500);
    let said = way.hapax.output();
    assert!(said.contains("1 commits whose answer was lost, looked up"), "{said}");
}

#[test]
fn a_commit_that_gets_lost_on_its_way_is_looked_up_and_made_again() {
    looked_up(Lost::Request);
}

#[test]
fn a_commit_whose_answer_gets_lost_is_looked_up_and_not_made_again() {
    looked_up(Lost::Answer);
}
