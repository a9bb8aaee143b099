use tokio::sync::watch;

/// A request to finish the batch in hand, commit, and stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop {
    own: watch::Sender<bool>,
    parent: Option<watch::Receiver<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { own: watch::Sender::new(false), parent: None }
    }
}

impl Stop {
    /// Asks to stop.
    pub fn request(&self) {
        self.own.send_replace(true);
    }

    /// Whether someone asked.
    pub fn requested(&self) -> bool {
        *self.own.borrow() || self.parent.as_ref().is_some_and(|parent| *parent.borrow())
    }

    /// Returns once someone asks.
    pub async fn wait(&self) {
        let mut own = self.own.subscribe();
        let asked = |stop: &bool| *stop;
        match self.parent.clone() {
            None => {
                let _ = own.wait_for(asked).await;
            }
            Some(mut parent) => {
                let parent = async move {
                    if parent.wait_for(asked).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = own.wait_for(asked) => {}
                    () = parent => {}
                }
            }
        }
    }

    /// One that stops when this one does, and can be stopped alone.
    pub(crate) fn child(&self) -> Self {
        Self { own: watch::Sender::new(false), parent: Some(self.own.subscribe()) }
    }
}
