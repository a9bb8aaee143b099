use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The way from a reader to a writer. It holds at most `bytes_max` bytes, or one item that is larger.
pub(super) fn bounded_in_bytes<T>(bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX).max(1);
    let (items, received) = unbounded_channel();
    let room = Arc::new(Semaphore::new(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
    (Sender { items, room, bytes_max }, Receiver { received })
}

pub(super) struct Sender<T> {
    // Unbounded in items, but no item enters without a permit for its bytes.
    items: UnboundedSender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bytes_max: u32,
}

pub(super) struct Receiver<T> {
    received: UnboundedReceiver<(T, OwnedSemaphorePermit)>,
}

/// Nobody receives any more.
#[derive(Debug)]
pub(super) struct Closed;

impl<T> Sender<T> {
    /// Waits for room and sends.
    pub async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.bytes_max);
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&self.room).acquire_many_owned(bytes) => permit.map_err(|_| Closed)?,
            () = self.items.closed() => return Err(Closed),
        };
        self.items.send((item, permit)).map_err(|_| Closed)
    }
}

impl<T> Receiver<T> {
    /// The next item. Its bytes count until it is dropped.
    pub async fn recv(&mut self) -> Option<(T, OwnedSemaphorePermit)> {
        self.received.recv().await
    }
}
