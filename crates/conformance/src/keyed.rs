//! The keyed contract: what every destination must do that puts a record in the place of the one before of its key.
//!
//! Redis (strings, hashes), HTTP (a URL per record) and vector databases share it. Some keep positions themselves, and
//! some are sent records only; the suite writes to both as the engine does.

#[cfg(test)]
mod memory;
mod pen;

use std::collections::BTreeMap;

use hapax_engine::sink::Sink;
use hapax_protocol::guarantee::{Effect, Guard, Mechanism};

use pen::{Pen, Record, records};

/// One destination under test.
///
/// Records have the columns `id` (the key, 64-bit) and `text`; one that refuses older values has `version` (64-bit)
/// between them.
pub trait Scene {
    /// Opens an empty destination under a name of its own; the same name opens the same destination, as another
    /// process would.
    fn open(&self, name: &str) -> impl Future<Output = Sink>;

    /// Every record that a reader of the destination sees now, as id and text, read by other means than Hapax. A key
    /// that is there twice is listed twice. It is called before anything exists, too.
    fn state(&self, name: &str) -> impl Future<Output = Vec<(i64, String)>>;

    /// Whether it refuses a value older than the one that it holds, by the column `version`.
    fn guard(&self) -> Guard {
        Guard::None
    }

    /// A text that the destination refuses for what it is, if there is one.
    fn unfit(&self) -> Option<String> {
        None
    }

    /// Opens the same destination to remove the records of the keys that it is given, if it can.
    fn removing(&self, _name: &str) -> impl Future<Output = Option<Sink>> {
        std::future::ready(None)
    }

    /// Holds the next request back, on its way, until it is [let go](Self::let_go), also if nobody waits for its answer
    /// any more. False if the scene cannot: then it is no part of the suite what a late request does, and the connector has
    /// a test of its own for that.
    fn hold_back(&self, name: &str) -> impl Future<Output = bool>;

    /// Waits until a request is held back.
    fn held(&self, _name: &str) -> impl Future<Output = ()> {
        std::future::pending()
    }

    /// Lets the request arrive that was held back, and waits until the destination has dealt with it.
    fn let_go(&self, _name: &str) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}

/// Runs every check.
pub async fn suite(scene: &impl Scene) {
    Case { scene, name: "declared" }.it_says_what_it_is().await;
    Case { scene, name: "last" }.the_last_version_of_a_batch_stays().await;
    Case { scene, name: "repeat" }.a_repeat_changes_nothing().await;
    Case { scene, name: "later" }.a_later_value_replaces().await;
    Case { scene, name: "order" }.each_key_keeps_its_order_over_batches().await;
    Case { scene, name: "older" }.an_older_value_is_refused_where_there_is_a_guard().await;
    Case { scene, name: "late" }.a_late_retry_of_an_old_value_never_wins().await;
    Case { scene, name: "refused" }.a_refused_record_leaves_the_others().await;
    Case { scene, name: "absent" }.a_replay_takes_no_place().await;
    Case { scene, name: "removed" }.what_is_removed_is_gone_and_no_other().await;
}

struct Case<'a, S> {
    scene: &'a S,
    name: &'static str,
}

impl<S: Scene> Case<'_, S> {
    async fn pen(&self) -> Pen {
        Pen::begin(self.scene.open(self.name).await, self.scene.guard()).await
    }

    /// What is there, with the name of the check before what is wrong with it.
    async fn holds(&self, expected: &[(i64, &str)], what: &str) {
        let mut state = self.scene.state(self.name).await;
        state.sort();
        let state: Vec<(i64, &str)> = state.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(state, expected, "{}: {what}", self.name);
    }

    fn is_guarded(&self) -> bool {
        self.scene.guard() == Guard::Version
    }

    async fn it_says_what_it_is(&self) {
        let sink = self.scene.open(self.name).await;
        let facts = sink.facts();
        assert_eq!(facts.effect, Effect::ByKey, "a destination by key does not say so");
        assert!(sink.destination().traits().replaces, "a record replaces, and it does not say so");
        if let Mechanism::Keyed { guard } = facts.mechanism {
            assert_eq!(guard, self.scene.guard(), "it declares another guard than it has");
        }
        self.holds(&[], "something is there before anything was written").await;
    }

    async fn the_last_version_of_a_batch_stays(&self) {
        let mut pen = self.pen().await;
        pen.takes(&[(1, 1, "a"), (2, 1, "b"), (1, 2, "c"), (3, 1, "d"), (1, 3, "e"), (2, 2, "f")]).await;
        self.holds(&[(1, "e"), (2, "f"), (3, "d")], "not the last version of each key, once").await;
        // Many keys, each many times.
        let versions = (0..7_i64).flat_map(|version| (0..150_i64).map(move |id| (id, version)));
        let many: Vec<(i64, i64, String)> =
            versions.map(|(id, version)| (id, 10 + version, format!("{id} at {version}"))).collect();
        pen.takes(&many.iter().map(|(id, version, text)| (*id, *version, text.as_str())).collect::<Vec<_>>())
            .await;
        let last: Vec<(i64, String)> = (0..150).map(|id| (id, format!("{id} at 6"))).collect();
        let last: Vec<(i64, &str)> = last.iter().map(|(id, text)| (*id, text.as_str())).collect();
        self.holds(&last, "of many keys not the last version of each, once").await;
        drop(pen);
        self.pen().await.takes(&[(1, 20, "again")]).await;
        let reopened: Vec<(i64, &str)> =
            last.iter().map(|(id, text)| if *id == 1 { (1, "again") } else { (*id, *text) }).collect();
        self.holds(&reopened, "after it was opened again").await;
    }

    async fn a_repeat_changes_nothing(&self) {
        let batch = [(1, 1, "a"), (2, 1, "b"), (1, 2, "c")];
        let mut pen = self.pen().await;
        for _ in 0..3 {
            pen.takes(&batch).await;
            self.holds(&[(1, "c"), (2, "b")], "a repeat of a batch left something else").await;
        }
        // As a run that starts again, and cuts its batches otherwise.
        let mut pen = self.pen().await;
        for record in batch {
            pen.takes(&[record]).await;
        }
        self.holds(&[(1, "c"), (2, "b")], "a repeat in other batches left something else").await;
    }

    async fn a_later_value_replaces(&self) {
        let mut pen = self.pen().await;
        pen.takes(&[(1, 1, "first"), (2, 1, "stays")]).await;
        pen.takes(&[(1, 2, "second")]).await;
        self.holds(&[(1, "second"), (2, "stays")], "a later value did not replace").await;
        drop(pen);
        self.pen().await.takes(&[(1, 3, "third")]).await;
        self.holds(&[(1, "third"), (2, "stays")], "a later run's value did not replace").await;
    }

    async fn each_key_keeps_its_order_over_batches(&self) {
        let mut pen = self.pen().await;
        let mut last = BTreeMap::new();
        for batch in 0..12_i64 {
            let records: Vec<(i64, i64, String)> = (0..60)
                .map(|n| {
                    let (id, version) = ((n * 7 + batch) % 17, batch * 60 + n);
                    (id, version, format!("version {version}"))
                })
                .collect();
            last.extend(records.iter().map(|(id, _, text)| (*id, text.clone())));
            pen.takes(&records.iter().map(|(id, v, text)| (*id, *v, text.as_str())).collect::<Vec<_>>())
                .await;
        }
        let last: Vec<(i64, &str)> = last.iter().map(|(id, text)| (*id, text.as_str())).collect();
        self.holds(&last, "an earlier value of a key stands over a later one").await;
    }

    async fn an_older_value_is_refused_where_there_is_a_guard(&self) {
        if !self.is_guarded() {
            return;
        }
        let mut pen = self.pen().await;
        pen.takes(&[(1, 5, "new"), (2, 5, "new")]).await;
        // No error, and no letter: it was overtaken.
        pen.takes(&[(1, 4, "old")]).await;
        pen.takes(&[(2, 3, "old"), (2, 4, "older than what is there"), (3, 1, "other")]).await;
        self.holds(&[(1, "new"), (2, "new"), (3, "other")], "an older value replaced a newer one").await;
        pen.takes(&[(1, 7, "newest"), (1, 6, "between")]).await;
        self.holds(&[(1, "newest"), (2, "new"), (3, "other")], "an older value of one batch stayed").await;
    }

    async fn a_late_retry_of_an_old_value_never_wins(&self) {
        let mut pen = self.pen().await;
        pen.takes(&[(1, 1, "first"), (2, 1, "other")]).await;
        if !self.scene.hold_back(self.name).await {
            return;
        }
        let old = records(&[(1, 2, "old")], self.scene.guard());
        tokio::select! {
            biased;
            () = self.scene.held(self.name) => {}
            ended = pen.apply(&old) => panic!("{}: nothing was held back: {ended:?}", self.name),
        }
        // The attempt is given up, and the next one goes further.
        drop(pen);
        let mut pen = self.pen().await;
        pen.takes(&[(1, 2, "old"), (1, 3, "new")]).await;
        self.scene.let_go(self.name).await;
        let mechanism = self.scene.open(self.name).await.facts().mechanism;
        if mechanism == (Mechanism::Keyed { guard: Guard::None }) {
            // Nobody can refuse it: `NoLateRequest` is among the assumptions that the plan prints. The next value
            // mends it.
            pen.takes(&[(1, 4, "newer")]).await;
            self.holds(&[(1, "newer"), (2, "other")], "a late request left something that stays").await;
        } else {
            self.holds(&[(1, "new"), (2, "other")], "a late request brought an old value back").await;
        }
    }

    async fn a_refused_record_leaves_the_others(&self) {
        let mut pen = self.pen().await;
        let batch: [Record<'_>; 3] = [(Some(1), 1, "a"), (None, 1, "no key"), (Some(2), 1, "b")];
        let refused = pen.applied(&batch).await;
        assert_eq!(refused, [1], "{}: a record without a key was not refused alone", self.name);
        self.holds(&[(1, "a"), (2, "b")], "a record without a key took others with it").await;
        let Some(unfit) = self.scene.unfit() else { return };
        let batch: [Record<'_>; 4] =
            [(Some(1), 2, "c"), (Some(2), 2, &unfit), (Some(3), 2, &unfit), (Some(4), 2, "d")];
        let refused = pen.applied(&batch).await;
        assert_eq!(refused, [1, 2], "{}: not the records that do not fit were refused", self.name);
        self.holds(&[(1, "c"), (2, "b"), (4, "d")], "a refused record left something").await;
        pen.takes(&[(3, 3, "mended")]).await;
        self.holds(&[(1, "c"), (2, "b"), (3, "mended"), (4, "d")], "after a refused record").await;
    }

    async fn a_replay_takes_no_place(&self) {
        let mut pen = self.pen().await;
        pen.takes(&[(1, 5, "newer")]).await;
        let refused = pen.apply_absent(&records(&[(1, 1, "old"), (2, 1, "alone")], self.scene.guard())).await;
        assert_eq!(refused.first(), Some(&0), "{}: a replay may take the place of a newer value", self.name);
        let expected: &[(i64, &str)] =
            if refused.len() == 1 { &[(1, "newer"), (2, "alone")] } else { &[(1, "newer")] };
        self.holds(expected, "a replay wrote something else than it said").await;
    }

    async fn what_is_removed_is_gone_and_no_other(&self) {
        let Some(sink) = self.scene.removing(self.name).await else { return };
        let mut pen = self.pen().await;
        pen.takes(&[(1, 1, "a"), (2, 1, "b"), (3, 1, "c")]).await;
        let mut remover = Pen::begin(sink, self.scene.guard()).await;
        for _ in 0..2 {
            remover.takes(&[(1, 2, ""), (3, 2, ""), (4, 2, "")]).await;
            self.holds(&[(2, "b")], "not what was removed is gone").await;
        }
        let mut pen = self.pen().await;
        pen.takes(&[(1, 3, "again")]).await;
        self.holds(&[(1, "again"), (2, "b")], "what was removed cannot come again").await;
    }
}
