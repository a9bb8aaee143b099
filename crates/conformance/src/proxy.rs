//! A TCP proxy that fails on demand, to stand between a connector and a real server.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does to the connections that go through it.
///
/// `Cut`, `Unsent` and `Unanswered` happen once, then the proxy forwards again; the others last until
/// [`Proxy::heal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing: what comes is passed on.
    Healed,
    /// After so many more bytes, both ways together, the connection that carries the next one ends.
    Cut {
        /// How many bytes still pass.
        bytes: u64,
    },
    /// The client's bytes that hold this pattern never reach the server, and the connection ends.
    Unsent(Vec<u8>),
    /// The client's bytes that hold this pattern reach the server; its answer does not come back, and the
    /// connection ends.
    Unanswered(Vec<u8>),
    /// Nothing passes, and no connection ends.
    BlackHole,
    /// Every connection ends, and new ones end at once.
    Gone,
}

/// A proxy on a free port of the loopback. It ends when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: String,
    failure: watch::Sender<Failure>,
    happened: AtomicU64,
    /// How many pieces of what came wait in a black hole.
    swallowed: AtomicU64,
}

impl Proxy {
    /// Listens, and passes on to `server` (`host:port`).
    pub async fn before(server: impl Into<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let failure = watch::Sender::new(Failure::Healed);
        let (happened, swallowed) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { server: server.into(), failure, happened, swallowed });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Fails like this from now on.
    pub fn fail(&self, failure: Failure) {
        self.shared.failure.send_replace(failure);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.fail(Failure::Healed);
    }

    /// How many pieces of what came have not been passed on, because nothing passes ([`Failure::BlackHole`]), so far.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// How many connections it has ended on demand so far.
    pub fn happened(&self) -> u64 {
        self.shared.happened.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections outlive their acceptor: they end here.
        self.shared.failure.send_replace(Failure::Gone);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        tokio::spawn(connection(client, Arc::clone(&shared)));
    }
}

/// One connection, from its beginning to its end on both sides.
async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let mut failure = shared.failure.subscribe();
    if *failure.borrow_and_update() == Failure::Gone {
        shared.happened.fetch_add(1, Ordering::SeqCst);
        return;
    }
    let Ok(server) = TcpStream::connect(&shared.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (answers, answered) = watch::channel(Answers::Pass);
    let gone = async {
        if failure.wait_for(|failure| *failure == Failure::Gone).await.is_ok() {
            shared.happened.fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::select! {
        () = forth(from_client, to_server, &shared, answers) => {}
        () = back(from_server, to_client, &shared, answered) => {}
        () = gone => {}
    }
}

/// What becomes of the server's next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Pass,
    Drop,
}

/// What becomes of some bytes.
enum Fate {
    Passed,
    Ended,
}

impl Shared {
    /// Waits while nothing may pass, then says how many of `bytes` do, and whether the connection ends then.
    async fn allowance(&self, bytes: usize) -> (usize, Fate) {
        let mut failure = self.failure.subscribe();
        if *failure.borrow() == Failure::BlackHole {
            self.swallowed.fetch_add(1, Ordering::SeqCst);
        }
        let _ = failure.wait_for(|failure| *failure != Failure::BlackHole).await;
        let mut allowed = (bytes, Fate::Passed);
        self.failure.send_if_modified(|failure| {
            let Failure::Cut { bytes: left } = failure else { return false };
            let wanted = u64::try_from(bytes).unwrap();
            if wanted < *left {
                *left -= wanted;
                return true;
            }
            allowed = (usize::try_from(*left).unwrap(), Fate::Ended);
            self.happened.fetch_add(1, Ordering::SeqCst);
            *failure = Failure::Healed;
            true
        });
        allowed
    }

    /// Whether `seen` holds the pattern waited for. It is waited for no longer then.
    fn caught(&self, seen: &[u8]) -> Option<Failure> {
        let mut caught = None;
        self.failure.send_if_modified(|failure| {
            let (Failure::Unsent(pattern) | Failure::Unanswered(pattern)) = &*failure else { return false };
            if !seen.windows(pattern.len().max(1)).any(|window| window == pattern.as_slice()) {
                return false;
            }
            self.happened.fetch_add(1, Ordering::SeqCst);
            caught = Some(std::mem::replace(failure, Failure::Healed));
            true
        });
        caught
    }
}

/// How much of what was passed on is kept, so that a pattern is found that came in two pieces.
const TAIL_BYTES: usize = 64;

async fn forth(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    answers: watch::Sender<Answers>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut seen = Vec::new();
    loop {
        let Ok(read @ 1..) = client.read(&mut buffer).await else { return };
        let (allowed, fate) = shared.allowance(read).await;
        let bytes = &buffer[..allowed];
        seen.extend_from_slice(bytes);
        let caught = shared.caught(&seen);
        seen.drain(..seen.len().saturating_sub(TAIL_BYTES));
        match caught {
            Some(Failure::Unsent(_)) => return,
            Some(_) => {
                let _ = answers.send(Answers::Drop);
                let _ = server.write_all(bytes).await;
                // The other direction ends the connection, once the answer is there.
                std::future::pending().await
            }
            None => {}
        }
        if server.write_all(bytes).await.is_err() || matches!(fate, Fate::Ended) {
            return;
        }
    }
}

async fn back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    answers: watch::Receiver<Answers>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = server.read(&mut buffer).await else { return };
        if *answers.borrow() == Answers::Drop {
            return;
        }
        let (allowed, fate) = shared.allowance(read).await;
        if client.write_all(&buffer[..allowed]).await.is_err() || matches!(fate, Fate::Ended) {
            return;
        }
    }
}
