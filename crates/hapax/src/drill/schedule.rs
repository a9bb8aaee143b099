//! What is done to the workers of a round: a function of seed and number, so that a round can be repeated.

use std::fmt;

use hapax_engine::crash::{Lost, Point};

/// A small generator of random numbers (SplitMix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed and the number of what it is for.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed);
        Self(random.draw() ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw().checked_rem(end).unwrap_or(0)
    }

    fn point(&mut self) -> Point {
        let count = u64::try_from(Point::ALL.len()).unwrap_or(1);
        let at = usize::try_from(self.below(count)).unwrap_or(0);
        Point::ALL.get(at).copied().unwrap_or(Point::CommitAfter)
    }
}

/// A point, and which passing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passing {
    /// The point.
    pub point: Point,
    /// The how many-th passing in the life of one worker, from 1.
    pub nth: u64,
}

impl Passing {
    /// A passing of a point, of which a worker that moves `commits` commits makes one.
    fn draw(point: Point, commits: u64, random: &mut Random) -> Self {
        let nth = 1 + random.below(commits);
        match point {
            Point::BatchRead
            | Point::Announced
            | Point::Claimed
            | Point::MidWrite
            | Point::StageDone
            | Point::CommitBefore
            | Point::CommitDecided
            | Point::CommitAfter
            | Point::AcknowledgeBefore
            | Point::AcknowledgeAfter => Self { point, nth },
            // Most workers pass these once.
            Point::Prepared
            | Point::LeaseAcquired
            | Point::PositionRead
            | Point::SplitDone
            | Point::FinishBefore
            | Point::FinishStaged
            | Point::FinishAfter
            | Point::Recovery => Self { point, nth: 1 },
        }
    }
}

/// A moment in the life of a worker, in thousandths of what a calm run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub u64);

/// One thing that is done to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// SIGKILL at a point.
    Kill(Passing),
    /// SIGKILL at a moment.
    KillAt(Moment),
    /// SIGTERM at a moment.
    Terminate(Moment),
    /// The answer to the `nth` commit is lost.
    Lose(Lost, u64),
    /// The answer to the `nth` commit is lost, and SIGKILL falls while it is looked up.
    LoseAndKill(Lost, u64),
    /// SIGSTOP at a point, another worker runs to the end, then SIGCONT.
    Stall(Passing),
    /// Another worker is started at a moment, and both race.
    Twice(Moment),
}

/// What is done before the last worker of a round is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 1.
    pub number: u64,
    /// In this order. A worker that got to the end ends the list.
    pub steps: Vec<Step>,
}

impl Round {
    /// The round of this number: 0 is calm, then comes each fault by itself in an order drawn from the seed, then
    /// mixtures.
    pub fn draw(seed: u64, number: u64) -> Self {
        if number == 0 {
            return Self { number, steps: Vec::new() };
        }
        let mut singles = singles(seed);
        shuffle(&mut singles, &mut Random::new(seed, 0));
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let steps = match singles.into_iter().nth(index) {
            Some(steps) => steps,
            None => mixture(&mut Random::new(seed, number)),
        };
        Self { number, steps }
    }

    /// How many rounds it takes until each fault had its turn.
    pub fn singles() -> u64 {
        u64::try_from(singles(0).len()).unwrap_or(u64::MAX)
    }
}

fn singles(seed: u64) -> Vec<Vec<Step>> {
    let mut random = Random::new(seed, u64::MAX);
    let mut all = Vec::new();
    for point in Point::ALL {
        let (first, later) = (Passing { point, nth: 1 }, Passing::draw(point, 9, &mut random));
        // There must be something to recover: a worker that died between decision and visibility.
        let before = Passing { point: Point::CommitDecided, nth: 1 };
        let prelude = (point == Point::Recovery).then_some(Step::Kill(before));
        all.push(prelude.into_iter().chain([Step::Kill(first), Step::Kill(later)]).collect());
        let stalled = if random.below(2) == 0 { first } else { later };
        all.push(prelude.into_iter().chain([Step::Stall(stalled)]).collect());
    }
    for lost in Lost::ALL {
        all.push(vec![Step::Lose(lost, 1)]);
        all.push(vec![Step::Lose(lost, 2 + random.below(8))]);
        all.push(vec![Step::LoseAndKill(lost, 1 + random.below(5)), Step::Lose(lost, 1)]);
    }
    all.push(vec![Step::Twice(Moment(0))]);
    all.push(vec![Step::Twice(Moment(random.below(900)))]);
    all.push(vec![
        Step::Terminate(Moment(200 + random.below(700))),
        Step::Terminate(Moment(random.below(900))),
    ]);
    all
}

fn shuffle(all: &mut [Vec<Step>], random: &mut Random) {
    for end in (1..all.len()).rev() {
        let other = random.below(u64::try_from(end).unwrap_or(0).saturating_add(1));
        all.swap(end, usize::try_from(other).unwrap_or(0));
    }
}

/// Kills at points and at moments, and now and then another fault.
fn mixture(random: &mut Random) -> Vec<Step> {
    let length = 6 + random.below(10);
    (0..length)
        .map(|_| {
            // The further a destination has come, the shorter its workers live.
            let latest = if random.below(3) == 0 { 1_100 } else { 500 };
            let moment = Moment(random.below(latest));
            let passing = Passing::draw(random.point(), 4, random);
            let lost = if random.below(2) == 0 { Lost::Before } else { Lost::After };
            match random.below(40) {
                0 => Step::Terminate(moment),
                1 => Step::Lose(lost, passing.nth),
                2 => Step::LoseAndKill(lost, passing.nth),
                3 => Step::Stall(passing),
                4 => Step::Twice(moment),
                5..14 => Step::Kill(passing),
                _ => Step::KillAt(moment),
            }
        })
        .collect()
}

impl Step {
    /// The point it is about, if it is about one.
    pub fn point(self) -> Option<Point> {
        match self {
            Self::Kill(passing) | Self::Stall(passing) => Some(passing.point),
            Self::LoseAndKill(..) => Some(Point::Recovery),
            Self::KillAt(_) | Self::Terminate(_) | Self::Lose(..) | Self::Twice(_) => None,
        }
    }

    /// What `HAPAX_CRASH` is to say.
    pub fn crash(self) -> Option<String> {
        match self {
            Self::Kill(Passing { point, nth }) => Some(format!("{}:{nth}", point.name())),
            Self::Stall(Passing { point, nth }) => Some(format!("{}:{nth}=stop", point.name())),
            Self::Lose(lost, nth) => Some(format!("{}:{nth}", lost.name())),
            Self::LoseAndKill(lost, nth) => Some(format!("{}:{nth},{}", lost.name(), Point::Recovery.name())),
            Self::KillAt(_) | Self::Terminate(_) | Self::Twice(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |moment: &Moment| moment.0 / 10;
        match self {
            Self::Kill(at) => write!(f, "killed at {}:{}", at.point.name(), at.nth),
            Self::KillAt(at) => write!(f, "killed at {} % of a run", percent(at)),
            Self::Terminate(at) => write!(f, "SIGTERM at {} % of a run", percent(at)),
            Self::Lose(lost, nth) => write!(f, "{}:{nth}", lost.name()),
            Self::LoseAndKill(lost, nth) => write!(f, "{}:{nth} and killed while looking it up", lost.name()),
            Self::Stall(at) => write!(f, "stalled at {}:{} while another ran", at.point.name(), at.nth),
            Self::Twice(at) => write!(f, "another started at {} % of a run", percent(at)),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(f, "round {}, to which nothing is done", self.number);
        }
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        write!(f, "round {}: {}", self.number, steps.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_a_function_of_seed_and_number() {
        for number in [1, 7, Round::singles(), Round::singles() + 5] {
            assert_eq!(Round::draw(3, number), Round::draw(3, number));
            assert_ne!(Round::draw(3, number), Round::draw(4, number));
        }
        let far = Round::singles() + 1;
        assert_ne!(Round::draw(3, far).steps, Round::draw(3, far + 1).steps);
    }

    #[test]
    fn every_point_is_killed_at_and_stalled_at_before_mixtures_begin() {
        let steps: Vec<Step> = (1..=Round::singles()).flat_map(|n| Round::draw(9, n).steps).collect();
        for point in Point::ALL {
            let first = Passing { point, nth: 1 };
            assert!(steps.contains(&Step::Kill(first)), "{point:?}");
            let kills = steps.iter().filter(|s| matches!(s, Step::Kill(p) if p.point == point));
            assert!(kills.count() >= 2, "{point:?}");
            assert!(steps.iter().any(|s| matches!(s, Step::Stall(p) if p.point == point)), "{point:?}");
        }
        for lost in Lost::ALL {
            assert!(steps.contains(&Step::Lose(lost, 1)));
        }
    }
}
