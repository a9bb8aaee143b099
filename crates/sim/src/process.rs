//! One process: what it asks of the world passes through here, and here is where things go wrong.

use std::time::Duration;

use crate::fault::{Fault, Site};
use crate::world::{Inner, Signal, World};

/// How long a process that stands still does so. Longer than anything else takes.
const STALL_MS: u64 = 600_000;

/// One process of the schedule.
#[derive(Clone)]
pub struct Process {
    /// The world it lives in.
    pub world: World,
    /// Its number.
    pub number: usize,
}

/// A request that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It never arrived.
    Request,
    /// It took effect, or will; the answer never arrived.
    Answer,
    /// It arrived and was refused, for a reason that passes.
    Refused,
    /// It met a disk that fails.
    Disk,
}

impl Process {
    /// Asks something of the world, once.
    pub async fn call<T>(&self, site: Site, act: impl FnOnce(&mut Inner) -> T) -> Result<T, Lost> {
        let fault = self.leave(site).await?;
        let answer = act(&mut self.world.now());
        self.come_back(fault).await?;
        Ok(answer)
    }

    /// Sends a commit, or records: they may arrive late, or twice.
    pub async fn send<T: Send + 'static>(
        &self,
        site: Site,
        act: impl Fn(&mut Inner) -> T + Clone + Send + 'static,
    ) -> Result<T, Lost> {
        let fault = self.leave(site).await?;
        if fault == Some(Fault::Delayed) {
            self.later(act);
            return Err(Lost::Answer);
        }
        let answer = act(&mut self.world.now());
        if fault == Some(Fault::Repeated) {
            self.later(act);
        }
        self.come_back(fault).await?;
        Ok(answer)
    }

    /// The way to the world. Returns what goes wrong on the way back.
    async fn leave(&self, site: Site) -> Result<Option<Fault>, Lost> {
        self.stay_if_dead().await;
        let fate = self.world.now().fate(site);
        if fate.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(fate.latency_ms)).await;
            self.stay_if_dead().await;
        }
        match fate.fault {
            None => {}
            Some(Fault::CrashBefore) => self.die(false).await,
            Some(Fault::RolledBack) => self.die(true).await,
            Some(Fault::RequestLost) => return Err(Lost::Request),
            Some(Fault::Refused) => return Err(Lost::Refused),
            Some(Fault::DiskError) => return Err(Lost::Disk),
            Some(Fault::Stall) => {
                self.world.now().signal(Signal::StartAnother);
                tokio::time::sleep(Duration::from_millis(STALL_MS)).await;
                self.stay_if_dead().await;
            }
            Some(Fault::SecondHolder) => self.world.now().signal(Signal::StartAnother),
            Some(Fault::Replay) => {
                let mut now = self.world.now();
                now.is_mended = true;
                now.signal(Signal::Replay);
            }
            Some(Fault::Stop) => self.world.now().signal(Signal::Stop(self.number)),
            Some(Fault::CrashAfter | Fault::AnswerLost | Fault::Delayed | Fault::Repeated) => {
                return Ok(fate.fault);
            }
        }
        Ok(None)
    }

    async fn come_back(&self, fault: Option<Fault>) -> Result<(), Lost> {
        match fault {
            Some(Fault::CrashAfter) => self.die(false).await,
            Some(Fault::AnswerLost) => return Err(Lost::Answer),
            _ => {}
        }
        tokio::task::yield_now().await;
        self.stay_if_dead().await;
        Ok(())
    }

    /// A request that nobody waits for any more arrives at last.
    fn later<T>(&self, act: impl Fn(&mut Inner) -> T + Send + 'static) {
        let world = self.world.clone();
        let late_ms = {
            let mut now = world.now();
            now.under_way = now.under_way.saturating_add(1);
            now.lateness_ms()
        };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late_ms)).await;
            let mut now = world.now();
            act(&mut now);
            now.under_way = now.under_way.saturating_sub(1);
        });
    }

    /// The end of this process; with `machine` of every process, and the destination falls back.
    async fn die(&self, machine: bool) {
        {
            let mut now = self.world.now();
            if machine {
                now.fall_back();
                for number in 0..now.started {
                    now.signal(Signal::Dead(number));
                }
            } else {
                now.signal(Signal::Dead(self.number));
            }
        }
        std::future::pending::<()>().await;
    }

    /// A dead process asks nothing any more, and does not end.
    pub async fn stay_if_dead(&self) {
        let dead = self.world.now().dead.contains(&self.number);
        if dead {
            std::future::pending::<()>().await;
        }
    }
}
