//! What every target must do to which records are sent one by one, each under a token that tells a repeat: the target
//! itself drops or refuses one, or adds another that its readers can tell.
//!
//! Queues, streams of messages, and APIs with idempotency keys share it. A target that replaces by key has
//! [`keyed`](crate::keyed).

#[cfg(test)]
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::FutureExt;
use hapax_engine::identify::digest;
use hapax_engine::sink::{Repeat, Sender, Sending, Sent, Shape, Target};
use hapax_protocol::identity::Token;
use hapax_protocol::position::SplitId;

/// One destination under test. Records have the columns `id` (the identity, 64-bit, which may be NULL) and `text`.
pub trait Scene {
    /// Opens an empty destination under a name of its own; the same name opens the same destination, as another process
    /// would.
    fn open(&self, name: &str) -> impl Future<Output = Arc<dyn Target>>;

    /// Every record that a reader sees now, in its order, read by other means than Hapax. Nothing is taken away.
    fn state(&self, name: &str) -> impl Future<Output = Vec<Arrived>>;

    /// Whether a record is named by its columns, so that one without an identity is refused; elsewhere by its token alone.
    fn is_named_by_columns(&self) -> bool {
        true
    }

    /// A text that the destination refuses for what it is, if there is one.
    fn unfit(&self) -> Option<String> {
        None
    }
}

/// A record that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrived {
    /// Its identity.
    pub id: i64,
    /// What else it holds.
    pub text: String,
    /// What tells a repeat of it, for whoever reads it.
    pub token: String,
}

/// Runs every check.
pub async fn suite(scene: &impl Scene) {
    Case { scene, name: "declared" }.it_says_what_it_is().await;
    Case { scene, name: "order" }.all_arrive_in_their_order().await;
    Case { scene, name: "empty" }.nothing_sent_is_nothing_there().await;
    Case { scene, name: "repeat" }.a_repeat_does_what_it_says_and_can_be_told().await;
    Case { scene, name: "other" }.another_record_of_an_identity_takes_no_place_unseen().await;
    Case { scene, name: "refused" }.a_refused_record_leaves_the_others().await;
    Case { scene, name: "given-up" }.what_was_given_up_can_be_sent_again().await;
    Case { scene, name: "absent" }.a_replay_takes_no_place().await;
}

/// No row.
const NONE: [usize; 0] = [];

type Record<'a> = (Option<i64>, &'a str);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]))
}

fn records(rows: &[Record<'_>]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(schema(), vec![ids, texts]).unwrap()
}

fn tokens(rows: &[Record<'_>]) -> Vec<Token> {
    rows.iter().map(|(id, _)| Token(digest(&id.unwrap_or(-1).to_le_bytes()))).collect()
}

fn numbered(ids: Range<i64>) -> Vec<(i64, String)> {
    ids.map(|id| (id, format!("record {id}"))).collect()
}

fn borrowed(rows: &[(i64, String)]) -> Vec<Record<'_>> {
    rows.iter().map(|(id, text)| (Some(*id), text.as_str())).collect()
}

/// Opens it as a run does.
async fn begun(target: &Arc<dyn Target>) -> Box<dyn Sender> {
    let shape = Shape { schema: schema(), key: vec!["id".to_owned()] };
    assert!(!target.check(&shape).await.unwrap().is_empty(), "a plan says nothing");
    target.prepare(&shape).await.unwrap();
    target.sender(&SplitId::new("sent")).await.unwrap()
}

/// Sends, to a server that is well. Returns the rows that were refused.
async fn send(sender: &mut dyn Sender, rows: &[Record<'_>]) -> Vec<usize> {
    let sending = Sending { records: &records(rows), tokens: &tokens(rows), deadline: None };
    refused(&sender.send(sending).await.unwrap())
}

/// Each refused row once, in order, with a reason.
fn refused(sent: &Sent) -> Vec<usize> {
    assert_eq!(sent.unknown, NONE, "a server that is well left ends unknown");
    assert!(sent.refused.iter().all(|row| !row.reason.is_empty()), "refused for no reason: {sent:?}");
    let rows: Vec<usize> = sent.refused.iter().map(|refused| refused.row).collect();
    assert!(rows.is_sorted_by(|one, two| one < two), "refused rows come in order, each once: {rows:?}");
    rows
}

struct Case<'a, S> {
    scene: &'a S,
    name: &'static str,
}

impl<S: Scene> Case<'_, S> {
    async fn target(&self) -> Arc<dyn Target> {
        self.scene.open(self.name).await
    }

    /// The records that are there, without their tokens.
    async fn there(&self) -> Vec<(i64, String)> {
        self.scene.state(self.name).await.into_iter().map(|arrived| (arrived.id, arrived.text)).collect()
    }

    /// How often each identity is there.
    async fn times(&self) -> BTreeMap<i64, usize> {
        let mut times = BTreeMap::new();
        for (id, _) in self.there().await {
            *times.entry(id).or_insert(0) += 1;
        }
        times
    }

    async fn it_says_what_it_is(&self) {
        let (target, again) = (self.target().await, self.target().await);
        assert_eq!(target.repeat(), again.repeat(), "it says another thing when it is opened again");
        assert_eq!(target.durability(), again.durability());
        let size = target.commit_size();
        assert!(size.records_max > 0 && size.bytes_max > 0 && size.interval_ms > 0, "a commit takes nothing");
        match target.repeat() {
            Repeat::Replaces { .. } => panic!("a target that replaces has another suite"),
            Repeat::Adds { .. } => {
                assert!(target.readers().is_some(), "readers have to drop repeats, and nobody tells them");
            }
            Repeat::Refused { .. } | Repeat::Dropped { .. } => {}
        }
        drop(begun(&target).await);
        assert_eq!(self.there().await, [], "something is there before anything was sent");
    }

    async fn all_arrive_in_their_order(&self) {
        let target = self.target().await;
        let (one, two) = (numbered(0..700), numbered(700..710));
        let mut sender = begun(&target).await;
        assert_eq!(send(sender.as_mut(), &borrowed(&one)).await, NONE);
        assert_eq!(send(sender.as_mut(), &borrowed(&two)).await, NONE);
        assert_eq!(self.there().await, [one, two].concat(), "{}: not all, once, in their order", self.name);
        let state = self.scene.state(self.name).await;
        let tokens: BTreeSet<&str> = state.iter().map(|arrived| arrived.token.as_str()).collect();
        assert_eq!(tokens.len(), state.len(), "{}: two identities have one token", self.name);
    }

    async fn nothing_sent_is_nothing_there(&self) {
        let mut sender = begun(&self.target().await).await;
        assert_eq!(send(sender.as_mut(), &[]).await, NONE);
        assert_eq!(self.there().await, []);
    }

    async fn a_repeat_does_what_it_says_and_can_be_told(&self) {
        let rows = numbered(0..60);
        let rows = borrowed(&rows);
        let target = self.target().await;
        let mut sender = begun(&target).await;
        // By the same sender, as a retry does; by another one; and by another process that cuts its batches otherwise.
        for _ in 0..2 {
            assert_eq!(send(sender.as_mut(), &rows).await, NONE, "a repeat was refused");
        }
        assert_eq!(send(begun(&target).await.as_mut(), &rows).await, NONE);
        let mut other = begun(&self.target().await).await;
        for rows in rows.chunks(7) {
            assert_eq!(send(other.as_mut(), rows).await, NONE, "a repeat was refused");
        }
        let expected = if matches!(target.repeat(), Repeat::Adds { .. }) { 4 } else { 1 };
        let times = self.times().await;
        assert_eq!(times.len(), 60);
        assert!(
            times.values().all(|times| *times == expected),
            "{}: not {expected} of each: {times:?}",
            self.name
        );
        let state = self.scene.state(self.name).await;
        let told: BTreeSet<(i64, &str)> = state.iter().map(|one| (one.id, one.token.as_str())).collect();
        assert_eq!(told.len(), 60, "{}: a repeat has another token, and no reader can tell it", self.name);
    }

    async fn another_record_of_an_identity_takes_no_place_unseen(&self) {
        let target = self.target().await;
        let mut sender = begun(&target).await;
        assert_eq!(send(sender.as_mut(), &[(Some(1), "first")]).await, NONE);
        let refused = send(sender.as_mut(), &[(Some(1), "second"), (Some(2), "other")]).await;
        let mut expected = vec![(1, "first".to_owned()), (2, "other".to_owned())];
        match target.repeat() {
            Repeat::Refused { .. } => {
                assert_eq!(refused, [0], "{}: it was dropped, and nobody is told", self.name)
            }
            Repeat::Adds { .. } => expected.insert(1, (1, "second".to_owned())),
            Repeat::Dropped { .. } | Repeat::Replaces { .. } => assert_eq!(refused, NONE),
        }
        assert_eq!(self.there().await, expected, "{}: what was there is not as it was", self.name);
    }

    async fn a_refused_record_leaves_the_others(&self) {
        let mut sender = begun(&self.target().await).await;
        let mut expected = Vec::new();
        if self.scene.is_named_by_columns() {
            let batch = [(Some(1), "a"), (None, "no identity"), (Some(2), "b")];
            let refused = send(sender.as_mut(), &batch).await;
            assert_eq!(refused, [1], "{}: a record that cannot be named was not refused alone", self.name);
            expected.extend([(1, "a".to_owned()), (2, "b".to_owned())]);
            assert_eq!(self.there().await, expected, "{}: it took others with it", self.name);
        }
        let Some(unfit) = self.scene.unfit() else { return };
        let batch = [(Some(3), "c"), (Some(4), unfit.as_str()), (Some(5), unfit.as_str()), (Some(6), "d")];
        assert_eq!(send(sender.as_mut(), &batch).await, [1, 2], "{}: not what does not fit", self.name);
        expected.extend([(3, "c".to_owned()), (6, "d".to_owned())]);
        assert_eq!(self.there().await, expected, "{}: a refused record left something", self.name);
        assert_eq!(send(sender.as_mut(), &[(Some(4), "mended")]).await, NONE);
        expected.push((4, "mended".to_owned()));
        assert_eq!(self.there().await, expected, "{}: after a refused record", self.name);
    }

    /// A run that is stopped gives up what it awaits, wherever it is.
    async fn what_was_given_up_can_be_sent_again(&self) {
        let rows = numbered(0..400);
        let rows = borrowed(&rows);
        let target = self.target().await;
        let mut sender = begun(&target).await;
        let (records, tokens) = (records(&rows), tokens(&rows));
        for polls in 0..6 {
            let mut sending = sender.send(Sending { records: &records, tokens: &tokens, deadline: None });
            for _ in 0..=polls * 3 {
                if (&mut sending).now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // The same sender goes on, as if nothing had been.
        assert_eq!(send(sender.as_mut(), &rows).await, NONE);
        let times = self.times().await;
        assert_eq!(
            times.keys().copied().collect::<Vec<_>>(),
            (0..400).collect::<Vec<_>>(),
            "{}: lost",
            self.name
        );
        let adds = matches!(target.repeat(), Repeat::Adds { .. });
        assert!(adds || times.values().all(|times| *times == 1), "{}: doubled: {times:?}", self.name);
    }

    async fn a_replay_takes_no_place(&self) {
        let target = self.target().await;
        let mut sender = begun(&target).await;
        assert_eq!(send(sender.as_mut(), &[(Some(1), "newer")]).await, NONE);
        let rows = [(Some(1), "old"), (Some(2), "alone")];
        let sending = Sending { records: &records(&rows), tokens: &tokens(&rows), deadline: None };
        let refused = refused(&sender.send_absent(sending).await.unwrap());
        let mut expected = vec![(1, "newer".to_owned())];
        if !refused.contains(&1) {
            expected.push((2, "alone".to_owned()));
        }
        assert_eq!(self.there().await, expected, "{}: a replay did something else than it said", self.name);
        if matches!(target.repeat(), Repeat::Refused { .. } | Repeat::Adds { .. }) {
            assert_eq!(refused.first(), Some(&0), "{}: a replay of what is there passed", self.name);
        }
    }
}
