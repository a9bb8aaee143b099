//! What a sink remembers beside the records: dead letters, claims, and what was done.

use std::ops::Range;

use hapax_engine::dead_letter::{DeadLetter, Ending, SettledLetter, Settlement};
use hapax_engine::history::{Committed, Remembered};
use hapax_engine::sink::{CommitId, Sink};
use hapax_protocol::guarantee::LedgerPlace;
use hapax_protocol::identity::Place;
use hapax_protocol::ledger::Claim;
use hapax_protocol::position::{Checkpoint, Epoch, SplitId, Standing, Totals};

use super::{Case, Pen, Subject, arrival, at, checkpoint, letter, records, split};

impl<S: Subject> Case<'_, S> {
    pub(super) async fn dead_letters_share_the_commit(&self) {
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().set_aside(&[letter(1), letter(2)]).await.unwrap();
        pen.effects().set_aside(&[letter(2)]).await.unwrap();
        pen.effects().abort().await.unwrap();
        let list = async |sink: &Sink| sink.destination().dead_letters(&lease.pipeline, 100).await.unwrap();
        assert!(list(&sink).await.is_empty(), "an aborted dead letter is listed");

        pen.effects().set_aside(&[letter(1), letter(2)]).await.unwrap();
        pen.effects().set_aside(&[letter(2)]).await.unwrap();
        let first = checkpoint(&standing, 1, 2);
        pen.commit(&first).await.unwrap();
        assert_eq!(list(&sink).await, [letter(1), letter(2)], "a commit of dead letters alone");

        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records([7])).await.unwrap();
        let settlement =
            Settlement { ending: Ending::Dropped, epoch: standing.epoch.next(), settled_unix_ms: 77 };
        pen.effects().settle(&[letter(1).place, letter(9).place], &settlement).await.unwrap();
        let same = Checkpoint { through: at(1), ..checkpoint(&standing, 1, 1) };
        pen.commit(&same).await.unwrap();
        assert_eq!(list(&sink).await, [letter(2)], "a settled letter is still listed");
        let settled = sink.destination().settled_letters(&lease.pipeline, 100).await.unwrap();
        let was = DeadLetter { raw: String::new(), ..letter(1) };
        assert_eq!(settled, [SettledLetter { letter: was, settlement }], "what became of it is forgotten");
        assert_eq!(self.ids(&sink, &lease).await, [7]);
        let (_, found) = self.pen(&self.subject.open(self.name).await, &lease).await;
        assert_eq!(found.epoch, Epoch::new(2), "a settlement is a commit of its own");
    }

    pub(super) async fn claims_share_the_commit_or_are_safe_to_replay(&self) {
        let (sink, lease) = self.run().await;
        let Some(ledger) = sink.destination().traits().ledger else { return };
        if ledger.place == LedgerPlace::InsideCommit {
            // A run that dies after it claimed, and even staged, has claimed nothing: the record may come back
            // at another place of a source that cannot be read again.
            let (mut pen, standing) = self.pen(&sink, &lease).await;
            assert_eq!(pen.effects().claim(&[arrival(9, 10)]).await.unwrap(), [Claim::New]);
            pen.effects().write(&records([9])).await.unwrap();
            if let Pen::Staged(pen) = &mut pen {
                pen.stage(&checkpoint(&standing, 1, 1)).await.unwrap();
            }
            drop(pen);
            let (sink, lease) = self.run().await;
            let (mut pen, _) = self.pen(&sink, &lease).await;
            let claims = pen.effects().claim(&[arrival(9, 77)]).await.unwrap();
            assert_eq!(claims, [Claim::New], "a claim outlived the commit it belonged to");
            pen.effects().abort().await.unwrap();
        }
        drop(sink);
        let (sink, lease) = self.run().await;
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        let first = Place { split: split(), ordinal: 10 };
        let claims = pen.effects().claim(&[arrival(1, 10), arrival(2, 11), arrival(1, 12)]).await.unwrap();
        assert_eq!(claims, [Claim::New, Claim::New, Claim::Twin { of: first.clone() }]);
        pen.effects().abort().await.unwrap();
        // The same arrivals come again: whether the claims were rolled back or kept, they pass.
        let claims = pen.effects().claim(&[arrival(1, 10), arrival(2, 11), arrival(1, 12)]).await.unwrap();
        assert_eq!(claims.iter().map(Claim::passes).collect::<Vec<_>>(), [true, true, false]);
        pen.effects().write(&records([1, 2])).await.unwrap();
        pen.commit(&checkpoint(&standing, 1, 3)).await.unwrap();
        drop((pen, sink));

        let (sink, lease) = self.run().await;
        let (mut pen, _) = self.pen(&sink, &lease).await;
        let claims = pen.effects().claim(&[arrival(1, 10), arrival(1, 99), arrival(3, 13)]).await.unwrap();
        assert_eq!(
            claims,
            [Claim::Replay, Claim::Twin { of: first }, Claim::New],
            "a committed claim was forgotten"
        );
        pen.effects().abort().await.unwrap();
    }

    pub(super) async fn a_withdrawn_claim_leaves_the_identity_free(&self) {
        let (sink, lease) = self.run().await;
        if sink.destination().traits().ledger.is_none() {
            return;
        }
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        let at = |ordinal| Place { split: split(), ordinal };
        pen.effects().claim(&[arrival(1, 10), arrival(2, 11)]).await.unwrap();
        // Another place than the one that claimed takes nothing back.
        pen.effects().withdraw(&[arrival(1, 10), arrival(2, 99)]).await.unwrap();
        let claims = pen.effects().claim(&[arrival(1, 12), arrival(1, 13), arrival(2, 14)]).await.unwrap();
        assert_eq!(
            claims,
            [Claim::New, Claim::Twin { of: at(12) }, Claim::Twin { of: at(11) }],
            "a withdrawn claim was kept, or one that was not withdrawn was lost"
        );
        pen.effects().write(&records([1, 2])).await.unwrap();
        pen.commit(&checkpoint(&standing, 1, 5)).await.unwrap();
        drop((pen, sink));

        let (sink, lease) = self.run().await;
        let (mut pen, _) = self.pen(&sink, &lease).await;
        let claims = pen.effects().claim(&[arrival(1, 10), arrival(1, 12), arrival(2, 11)]).await.unwrap();
        assert_eq!(claims, [Claim::Twin { of: at(12) }, Claim::Replay, Claim::Replay]);
        // What is committed is not taken back.
        pen.effects().withdraw(&[arrival(1, 12), arrival(2, 11)]).await.unwrap();
        let claims = pen.effects().claim(&[arrival(1, 20), arrival(2, 21)]).await.unwrap();
        assert_eq!(claims, [Claim::Twin { of: at(12) }, Claim::Twin { of: at(11) }]);
        pen.effects().abort().await.unwrap();
    }

    pub(super) async fn what_was_done_is_remembered_with_the_commit(&self) {
        let (sink, lease) = self.run().await;
        let has_ledger = sink.destination().traits().ledger.is_some();
        let at_place = |ordinal| Place { split: split(), ordinal };
        let ask = async |sink: &Sink, ordinal| {
            let asked = [Place { split: SplitId::new("another"), ordinal }, at_place(ordinal)];
            let mut answers = sink.destination().remembered(&lease.pipeline, &asked).await.unwrap();
            assert_eq!(answers.len(), 2, "one answer per place");
            assert_eq!(answers[0], Remembered::default(), "a split remembers what another did");
            answers.remove(1)
        };
        let claimant = async |sink: &Sink, id| {
            let id = arrival(id, 0).id;
            sink.destination().claimant(&lease.pipeline, &id).await.unwrap()
        };
        let (mut pen, mut standing) = self.pen(&sink, &lease).await;
        // Many more commits than a destination may keep in one place, of ten records each.
        let commits: u8 = 40;
        for n in 0..commits {
            if has_ledger {
                pen.effects().claim(&[arrival(n, u64::from(n) * 10)]).await.unwrap();
                assert_eq!(claimant(&sink, n).await, None, "a claim without a commit is said to be one");
            }
            pen.effects().write(&records([i64::from(n)])).await.unwrap();
            if n == 3 {
                pen.effects().set_aside(&[letter(35)]).await.unwrap();
            }
            assert_eq!(ask(&sink, u64::from(n) * 10).await, Remembered::default(), "remembered too early");
            let checkpoint = checkpoint(&standing, n + 1, 10);
            pen.commit(&checkpoint).await.unwrap();
            standing = checkpoint.standing();
        }
        let settlement =
            Settlement { ending: Ending::Moved, epoch: standing.epoch.next(), settled_unix_ms: 88 };
        let before = ask(&sink, 35).await;
        assert_eq!((before.letter, before.settled), (Some(letter(35)), None));
        pen.effects().settle(&[at_place(35)], &settlement).await.unwrap();
        pen.commit(&Checkpoint { through: at(commits), ..checkpoint(&standing, 0, 0) }).await.unwrap();
        drop((pen, sink));

        let sink = self.subject.open(self.name).await;
        for n in 0..commits {
            for ordinal in [u64::from(n) * 10, u64::from(n) * 10 + 9] {
                let found =
                    ask(&sink, ordinal).await.commit.unwrap_or_else(|| panic!("{ordinal} is forgotten"));
                assert_eq!(
                    found,
                    Committed {
                        commit: CommitId { split: split(), epoch: Epoch::new(u64::from(n) + 1) },
                        token: lease.token,
                        holder: "conformance".to_owned(),
                        records: u64::from(n) * 10..u64::from(n) * 10 + 10,
                        through: at(n + 1),
                        totals: Totals { read: 10, moved: 10, ..Totals::default() },
                        made_unix_ms: 1_700_000_000_000,
                    }
                );
            }
            if has_ledger {
                assert_eq!(claimant(&sink, n).await, Some(at_place(u64::from(n) * 10)));
            }
        }
        assert_eq!(ask(&sink, u64::from(commits) * 10).await, Remembered::default());
        assert_eq!(claimant(&sink, commits).await, None);
        let mut after = ask(&sink, 35).await;
        let settled_in = after.settled_in.take().expect("which commit settled it is forgotten");
        assert_eq!(settled_in.commit.epoch, settlement.epoch);
        assert_eq!((settled_in.holder.as_str(), settled_in.token), ("conformance", lease.token));
        let was = DeadLetter { raw: String::new(), ..letter(35) };
        assert_eq!((after.letter, after.settled), (None, Some(SettledLetter { letter: was, settlement })));
        assert_eq!(sink.destination().unfinished(&lease.pipeline).await.unwrap(), []);
        // Whoever only asked has fenced nobody and changed nothing.
        let (_, found) = self.pen(&sink, &lease).await;
        assert_eq!(found.epoch, standing.epoch.next());
    }

    pub(super) async fn what_is_moved_again_is_remembered(&self) {
        let (sink, lease) = self.run().await;
        let again = async |sink: &Sink, ordinals: [u64; 6]| {
            let asked = ordinals.map(|ordinal| Place { split: split(), ordinal });
            let answers = sink.destination().remembered(&lease.pipeline, &asked).await.unwrap();
            let epochs = answers.iter().map(|answer| {
                assert_eq!(answer.commit.as_ref().map(|commit| commit.commit.epoch), Some(Epoch::new(1)));
                assert!(answer.again.iter().all(|commit| commit.token == lease.token
                    && commit.holder == "conformance"
                    && commit.made_unix_ms == 1_700_000_000_000));
                answer.again.iter().map(|commit| commit.commit.epoch.get()).collect()
            });
            epochs.collect::<Vec<Vec<u64>>>()
        };
        let asked = [0, 2, 3, 4, 19, 3];
        let (mut pen, standing) = self.pen(&sink, &lease).await;
        pen.effects().write(&records(0..20)).await.unwrap();
        let first = checkpoint(&standing, 1, 20);
        pen.commit(&first).await.unwrap();
        let mut stands = first.standing();
        let in_place = |stands: &Standing, again: &[Range<u64>]| Checkpoint {
            again: again.to_vec(),
            ..checkpoint(stands, 1, 0)
        };
        // A repair that dies before its commit has moved nothing.
        pen.effects().write(&records([3])).await.unwrap();
        if let Pen::Staged(pen) = &mut pen {
            pen.stage(&in_place(&stands, &[3..4, 5..6])).await.unwrap();
        }
        pen.effects().abort().await.unwrap();
        assert_eq!(again(&sink, asked).await, vec![Vec::<u64>::new(); 6], "remembered without a commit");
        for ranges in [[2..4, 19..20].as_slice(), &[3..4, 6..7]] {
            pen.effects().write(&records([3])).await.unwrap();
            let checkpoint = in_place(&stands, ranges);
            pen.commit(&checkpoint).await.unwrap();
            stands = checkpoint.standing();
        }
        let expected = [vec![], vec![2], vec![2, 3], vec![], vec![2], vec![2, 3]];
        assert_eq!(again(&sink, asked).await, expected);
        // Many more commits than a destination may keep in one place.
        for n in 2..40 {
            let checkpoint = checkpoint(&stands, n, 1);
            pen.commit(&checkpoint).await.unwrap();
            stands = checkpoint.standing();
        }
        drop((pen, sink));
        let sink = self.subject.open(self.name).await;
        assert_eq!(again(&sink, asked).await, expected, "what was moved again is forgotten");
    }
}
