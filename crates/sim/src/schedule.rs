//! One schedule: processes started, killed, stalled and started again, until the world is mended; then the
//! count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hapax_checker::{Counts, Event, Kept};
use hapax_engine::Fut;
use hapax_engine::clock::Clock;
use hapax_engine::codes;
use hapax_engine::fault::Fault as _;
use hapax_engine::progress::Progress;
use hapax_engine::run::{CommitLimit, Limits, OnError, Run, RunError, Stop, Summary, Until, replay_letters};
use hapax_engine::source::Source;
use hapax_protocol::guarantee::{Facts, IdentityKind, Level, derive};
use hapax_protocol::identity::Identity;
use hapax_protocol::lease::{Applicant, PipelineName};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::fault::Faults;
use crate::plan::Plan;
use crate::process::Process;
use crate::sink::sink;
use crate::source::SimSource;
use crate::world::{Signal, World};

/// At most this many processes before the world is mended.
const PROCESSES_MAX: usize = 12;

/// How a schedule went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What decided it.
    pub seed: u64,
    /// What the calculus promises for the pipeline.
    pub promised: Level,
    /// What the checker counted.
    pub counts: Counts,
    /// What went wrong, by fault.
    pub faults: Faults,
    /// Ends of runs that no fault explains.
    pub unexplained: Vec<String>,
    /// Whether a run stopped because what may have been sent was too old to be sent again, as it should.
    pub is_stopped: bool,
    /// Everything that was seen.
    pub log: hapax_checker::Log,
}

impl Outcome {
    /// By which checks the schedule fails, if it does: what was promised was not kept.
    pub fn violations(&self) -> Vec<String> {
        let mut violations: Vec<String> =
            self.unexplained.iter().map(|words| format!("unexplained: {words}")).collect();
        // A pipeline that stopped for good has not moved the rest, or does so split by split.
        let counts = match self.is_stopped {
            true => Counts { lost: 0, stuck: 0, restless: 0, ..self.counts },
            false => self.counts,
        };
        let kept = counts.kept();
        let wanted = match self.promised {
            Level::ExactlyOnce => Kept::ExactlyOnce,
            Level::EffectivelyOnce | Level::ExactlyOnceWithin(_) => Kept::EffectivelyOnce,
            Level::AtLeastOnce => Kept::AtLeastOnce,
            // What is listed as in doubt is not counted as lost.
            Level::AtMostOnce => Kept::EffectivelyOnce,
            Level::Lossy => Kept::Nothing,
        };
        if kept < wanted {
            let counts = counts.each().into_iter().filter(|(_, number)| *number > 0);
            violations.extend(counts.map(|(what, number)| format!("{what} {number}")));
        }
        violations
    }
}

/// Runs the schedule of a seed.
pub fn run(seed: u64) -> Result<Outcome, std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let pipeline = PipelineName::new("sim").map_err(std::io::Error::other)?;
    Ok(runtime.block_on(async move { Schedule::new(Plan::of(seed), pipeline).whole().await }))
}

/// Virtual time, with a date that may be off.
struct SimClock {
    started: tokio::time::Instant,
    skew_ms: u64,
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        1_800_000_000_000_u64.saturating_add(elapsed).saturating_sub(self.skew_ms)
    }
}

/// How a run ended by itself.
struct Ended {
    process: usize,
    /// What it did; `None` if it only replayed letters.
    outcome: Result<Option<Summary>, RunError>,
    /// Whether it held the lease when it ended.
    has_lease: bool,
}

struct Schedule {
    world: World,
    plan: Arc<Plan>,
    pipeline: PipelineName,
    signals: UnboundedReceiver<Signal>,
    started: tokio::time::Instant,
    running: JoinSet<Ended>,
    handles: BTreeMap<usize, (AbortHandle, Stop)>,
    promised: Level,
    unexplained: Vec<String>,
    has_completed: bool,
    is_stopped: bool,
    /// Whether somebody began to replay letters.
    has_replayed: bool,
}

impl Schedule {
    fn new(plan: Plan, pipeline: PipelineName) -> Self {
        let (send, signals) = unbounded_channel();
        let world = World::new(plan, send);
        let plan = Arc::clone(&world.now().plan);
        Self {
            world,
            plan,
            pipeline,
            signals,
            started: tokio::time::Instant::now(),
            running: JoinSet::new(),
            handles: BTreeMap::new(),
            promised: Level::ExactlyOnce,
            unexplained: Vec::new(),
            has_completed: false,
            is_stopped: false,
            has_replayed: false,
        }
    }

    async fn whole(mut self) -> Outcome {
        self.promised = self.promise();
        self.disturbed().await;
        self.world.now().heal();
        self.alone(false).await;
        if self.has_replayed && self.plan.refuses() {
            // Effect and settlement are two steps there: a replay that died between them is made good by the next.
            self.replay();
            self.ended().await;
        }
        self.alone(true).await;
        let mut now = self.world.now();
        let (records, set_aside, held) = (now.visible(), now.letters(false), now.letters(true));
        now.log.events.push(Event::Found { records, set_aside, held });
        Outcome {
            seed: self.plan.seed,
            promised: self.promised,
            counts: Counts::of(&now.log),
            faults: now.faults,
            unexplained: self.unexplained,
            is_stopped: self.is_stopped,
            log: now.log.clone(),
        }
    }

    /// What the calculus says of this pipeline, as `hapax plan` asks it.
    fn promise(&self) -> Level {
        let run = self.run(usize::MAX, Stop::default());
        let ledger = run.sink.ledger(run.duplicates);
        let identity = match run.identity {
            Identity::Position => IdentityKind::Position,
            Identity::Hash => IdentityKind::Hash,
            Identity::Key(_) | Identity::Uuid(_) => IdentityKind::Key,
        };
        let facts = Facts {
            source: run.source.facts(),
            identity,
            sink: run.sink.facts(),
            ledger,
            dead_letters: None,
            longest_outage: None,
        };
        derive(&facts).level
    }

    fn run(&self, number: usize, stop: Stop) -> Run {
        let process = Process { world: self.world.clone(), number };
        let source: Arc<dyn Source> = Arc::new(SimSource(process.clone()));
        let skew_ms = if number == 0 { self.plan.skew_ms } else { 0 };
        Run {
            source,
            transform: None,
            sink: sink(&process),
            ledger: None,
            identity: self.plan.identity.clone(),
            duplicates: self.plan.duplicates,
            on_error: OnError::SetAside,
            until: Until::End,
            parallel: self.plan.parallel,
            applicant: Applicant {
                pipeline: self.pipeline.clone(),
                holder: format!("process {number}"),
                definition: String::new(),
            },
            clock: Arc::new(SimClock { started: self.started, skew_ms }),
            progress: Progress::default(),
            stop,
            limits: Limits {
                batch_records_max: self.plan.batch_records,
                outage_ms: 600,
                commit: CommitLimit::default(),
                ..Limits::default()
            },
        }
    }

    fn start(&mut self) {
        self.begin(|run| Box::pin(async move { run.run().await.map(Some) }));
    }

    /// Starts a process that replays every dead letter there is.
    fn replay(&mut self) {
        self.begin(|run| {
            Box::pin(async move {
                let letters = run.sink.destination().dead_letters(&run.applicant.pipeline, usize::MAX).await;
                let letters = letters.map_err(|error| RunError::Sink { split: None, error })?;
                replay_letters(run, &letters).await.map(|_| None)
            })
        });
    }

    fn begin(&mut self, work: impl FnOnce(Run) -> Fut<'static, Option<Summary>, RunError>) {
        let number = {
            let mut now = self.world.now();
            now.started = now.started.saturating_add(1);
            now.started.saturating_sub(1)
        };
        let stop = Stop::default();
        let working = work(self.run(number, stop.clone()));
        let process = Process { world: self.world.clone(), number };
        let handle = self.running.spawn(async move {
            let outcome = working.await;
            // The dead do not end by themselves.
            process.stay_if_dead().await;
            // Asked at once: a destination that falls back later knows other holders.
            let has_lease = process.world.now().sink.holder == Some(number);
            Ended { process: number, outcome, has_lease }
        });
        self.handles.insert(number, (handle, stop));
    }

    /// Lets things go wrong, and starts a process whenever none is left, until one came to its end.
    async fn disturbed(&mut self) {
        self.start();
        loop {
            tokio::select! {
                biased;
                Some(signal) = self.signals.recv() => self.heed(signal),
                Some(ended) = self.running.join_next() => self.note(ended),
            }
            if self.running.is_empty() && self.signals.is_empty() {
                if self.has_completed || self.started() >= PROCESSES_MAX {
                    break;
                }
                // Somebody looks after a while, and starts it again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.start();
            }
        }
        while self.world.now().under_way > 0 {
            tokio::time::sleep(Duration::from_millis(1_000)).await;
        }
    }

    /// One run with nothing in its way.
    async fn alone(&mut self, idle: bool) {
        self.world.now().log.events.push(Event::Started { idle });
        self.has_completed = false;
        self.start();
        self.ended().await;
    }

    /// Waits until nothing runs.
    async fn ended(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            self.note(ended);
        }
    }

    fn started(&self) -> usize {
        self.world.now().started
    }

    fn heed(&mut self, signal: Signal) {
        match signal {
            Signal::Dead(number) => {
                if let Some((handle, _)) = self.handles.remove(&number) {
                    handle.abort();
                }
            }
            Signal::StartAnother => {
                if self.started() < PROCESSES_MAX {
                    self.start();
                }
            }
            Signal::Replay => {
                if self.started() < PROCESSES_MAX {
                    self.has_replayed = true;
                    self.replay();
                }
            }
            Signal::Stop(number) => {
                if let Some((_, stop)) = self.handles.get(&number) {
                    stop.request();
                }
            }
        }
    }

    /// A run ended: by itself, by a fault, or for no reason there could be.
    fn note(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { process, outcome, has_lease } = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            Err(_) => return self.unexplained.push("a run panicked".to_owned()),
        };
        self.handles.remove(&process);
        match outcome {
            Ok(None) => {}
            Ok(Some(summary)) if summary.stopped => {}
            Ok(Some(_)) => {
                self.has_completed = true;
                self.world.now().log.events.push(Event::Completed);
            }
            Err(error) => {
                self.is_stopped |= error.code() == codes::PAST_WINDOW;
                self.unexplained.extend(unexplained(&error, has_lease));
            }
        }
    }
}

/// What is wrong with an end that no fault explains.
fn unexplained(error: &RunError, has_lease: bool) -> Option<String> {
    let said = error.to_string();
    match error {
        RunError::Source { .. } => None,
        _ if error.is_fenced() => has_lease.then(|| format!("the holder of the lease was fenced: {said}")),
        RunError::Sink { .. } if !said.contains("stands elsewhere") => None,
        _ => Some(said),
    }
}
