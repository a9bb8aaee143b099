//! Work in several tasks, of which nothing is left once it is given up.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::Poll;

use tokio::task::JoinSet;

/// Tasks that work at the same time. When it is dropped, none of them does anything any more: a task that is at work in
/// another thread at that moment is waited for until it waits itself.
pub(super) struct Crew<T> {
    tasks: JoinSet<T>,
    is_given_up: Arc<RwLock<bool>>,
}

impl<T> Default for Crew<T> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), is_given_up: Arc::default() }
    }
}

impl<T: Send + 'static> Crew<T> {
    /// Begins a task.
    pub(super) fn add(&mut self, work: impl Future<Output = T> + Send + 'static) {
        let is_given_up = Arc::clone(&self.is_given_up);
        self.tasks.spawn(async move {
            let mut work = pin!(work);
            poll_fn(|context| {
                let is_given_up = is_given_up.read().unwrap_or_else(PoisonError::into_inner);
                // Whoever gave it up ends the task.
                if *is_given_up { Poll::Pending } else { work.as_mut().poll(context) }
            })
            .await
        });
    }

    /// What the next task made that has ended. `None` once all have.
    pub(super) async fn next(&mut self) -> Option<T> {
        match self.tasks.join_next().await? {
            Ok(made) => Some(made),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl<T> Drop for Crew<T> {
    fn drop(&mut self) {
        *self.is_given_up.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_is_done_once_it_is_given_up() {
        for _ in 0..200 {
            let is_given_up = Arc::new(AtomicBool::new(false));
            let worked_on = Arc::new(AtomicBool::new(false));
            let mut crew = Crew::default();
            for _ in 0..4 {
                let (is_given_up, worked_on) = (Arc::clone(&is_given_up), Arc::clone(&worked_on));
                crew.add(async move {
                    loop {
                        if is_given_up.load(Ordering::SeqCst) {
                            worked_on.store(true, Ordering::SeqCst);
                        }
                        tokio::task::yield_now().await;
                    }
                });
            }
            tokio::task::yield_now().await;
            drop(crew);
            is_given_up.store(true, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert!(!worked_on.load(Ordering::SeqCst), "a task worked on");
        }
    }

    #[tokio::test]
    async fn each_task_hands_over_what_it_made() {
        let mut crew = Crew::default();
        for number in 0..10 {
            crew.add(async move {
                tokio::task::yield_now().await;
                number
            });
        }
        let mut made = Vec::new();
        while let Some(number) = crew.next().await {
            made.push(number);
        }
        made.sort_unstable();
        assert_eq!(made, (0..10).collect::<Vec<_>>());
    }
}
