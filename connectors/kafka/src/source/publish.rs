//! Offsets on their way to a group, for people's lag tools: the last one of each partition, until the group has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hapax_protocol::position::SplitId;

/// How long it takes until what the group did not take is sent again: it takes nothing while it is being shared anew.
const AGAIN: Duration = Duration::from_millis(500);

/// What is to be published of the partitions that a member has.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    own: BTreeSet<SplitId>,
    wanted: BTreeMap<SplitId, i64>,
    over: bool,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// These partitions are the member's now.
    pub(super) fn given(&self, splits: &[SplitId]) {
        self.state().own.extend(splits.iter().cloned());
    }

    /// An offset is to be published. Of a partition that is another member's it is not: that one publishes its own.
    pub(super) fn publish(&self, split: &SplitId, offset: i64) {
        let mut state = self.state();
        if state.own.contains(split) {
            state.wanted.insert(split.clone(), offset);
            self.changed.notify_all();
        }
    }

    /// These partitions are another member's soon: what is to be published of them has this long for it.
    pub(super) fn give_up(&self, splits: &[SplitId], time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !state.over && splits.iter().any(|split| state.wanted.contains_key(split)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wait(state, left);
        }
        for split in splits {
            state.own.remove(split);
            state.wanted.remove(split);
        }
    }

    /// Nothing more is to be published than what is there.
    pub(super) fn close(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Publishes what is to be published, until the end. `send` says whether the group has taken it.
    pub(super) fn serve(&self, send: impl Fn(&BTreeMap<SplitId, i64>) -> bool) {
        let mut state = self.state();
        loop {
            if state.wanted.is_empty() {
                if state.over {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let sent = state.wanted.clone();
            drop(state);
            let taken = send(&sent);
            state = self.state();
            if taken {
                state.wanted.retain(|split, offset| sent.get(split) != Some(offset));
                self.changed.notify_all();
            } else if state.over {
                return;
            } else {
                state = self.wait(state, AGAIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    use super::*;

    type Sent = BTreeMap<SplitId, i64>;

    /// A group that answers when it is told to, with what it was sent.
    fn group(board: &Arc<Board>) -> (Receiver<Sent>, Sender<bool>, JoinHandle<()>) {
        let (tell, sent) = channel();
        let (answer, answers) = channel();
        let board = Arc::clone(board);
        let serve = move || {
            board.serve(|offsets| {
                tell.send(offsets.clone()).unwrap();
                answers.recv().unwrap()
            });
        };
        (sent, answer, std::thread::spawn(serve))
    }

    fn of(split: &str, offset: i64) -> Sent {
        BTreeMap::from([(SplitId::new(split), offset)])
    }

    #[test]
    fn what_the_group_does_not_take_is_sent_again_and_only_the_last_of_it() {
        let board = Arc::new(Board::default());
        let (sent, answer, serving) = group(&board);
        let split = SplitId::new("a[0]");
        board.given(std::slice::from_ref(&split));
        board.publish(&split, 3);
        assert_eq!(sent.recv().unwrap(), of("a[0]", 3));
        board.publish(&split, 5);
        answer.send(false).unwrap();
        assert_eq!(sent.recv().unwrap(), of("a[0]", 5));
        // What comes while it is on its way is sent behind it.
        board.publish(&split, 7);
        answer.send(true).unwrap();
        assert_eq!(sent.recv().unwrap(), of("a[0]", 7));
        board.close();
        answer.send(false).unwrap();
        serving.join().unwrap();
    }

    #[test]
    fn nothing_is_published_of_partitions_of_another_member() {
        let board = Arc::new(Board::default());
        let (ours, theirs) = (SplitId::new("a[0]"), SplitId::new("a[1]"));
        board.publish(&theirs, 1);
        board.given(&[ours.clone(), theirs.clone()]);
        board.publish(&theirs, 2);
        board.publish(&ours, 2);
        // The group takes nothing in time.
        board.give_up(std::slice::from_ref(&theirs), Duration::ZERO);
        board.publish(&theirs, 3);
        let (sent, answer, serving) = group(&board);
        assert_eq!(sent.recv().unwrap(), of("a[0]", 2));
        board.close();
        answer.send(true).unwrap();
        serving.join().unwrap();
        assert!(sent.try_recv().is_err());
    }

    #[test]
    fn whoever_gives_a_partition_up_waits_until_its_offset_is_taken() {
        let board = Arc::new(Board::default());
        let split = SplitId::new("a[0]");
        board.given(std::slice::from_ref(&split));
        board.publish(&split, 3);
        let (sent, answer, serving) = group(&board);
        assert_eq!(sent.recv().unwrap(), of("a[0]", 3));
        answer.send(true).unwrap();
        board.give_up(std::slice::from_ref(&split), Duration::from_secs(60));
        board.close();
        serving.join().unwrap();
    }
}
