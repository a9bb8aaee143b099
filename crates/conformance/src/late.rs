//! A proxy that holds one HTTP/2 request back, to stand between a connector and a real server.
//!
//! What is held back arrives when it is told to, also if the client gave it up long before: as a request does that a server
//! has taken from the network and not yet looked at.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy on a free port of the loopback. It ends when it is dropped.
pub struct Late {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: String,
    /// What the request holds that is waited for.
    pattern: Mutex<Option<Vec<u8>>>,
    step: watch::Sender<Step>,
}

/// How far the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Awaited,
    Held,
    LetGo,
    Answered,
}

impl Late {
    /// Listens, and passes on to `server` (`host:port`).
    pub async fn before(server: impl Into<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let step = watch::Sender::new(Step::Awaited);
        let shared = Arc::new(Shared { server: server.into(), pattern: Mutex::default(), step });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds the next request back whose body holds this pattern.
    pub fn hold(&self, pattern: &[u8]) {
        self.shared.step.send_replace(Step::Awaited);
        *self.shared.pattern.lock().unwrap() = Some(pattern.to_vec());
    }

    /// Waits until a request is held back.
    pub async fn held(&self) {
        self.shared.reached(Step::Held).await;
    }

    /// Lets it arrive, and waits for the server's answer.
    pub async fn let_go(&self) {
        assert_eq!(*self.shared.step.borrow(), Step::Held, "no request is held back");
        self.shared.step.send_replace(Step::LetGo);
        self.shared.reached(Step::Answered).await;
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    async fn reached(&self, step: Step) {
        self.step.subscribe().wait_for(|now| *now >= step).await.unwrap();
    }

    /// Whether this is the request that is waited for. It is waited for no longer then.
    fn catches(&self, frame: &Frame) -> bool {
        let mut pattern = self.pattern.lock().unwrap();
        let is_it = pattern.as_ref().is_some_and(|pattern| {
            frame.kind() == DATA && frame.0.windows(pattern.len()).any(|window| window == pattern)
        });
        if is_it {
            *pattern = None;
        }
        is_it
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&shared.server).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let held = watch::Sender::new(None);
            tokio::select! {
                () = forth(from_client, to_server, &shared, &held) => {}
                () = back(from_server, to_client, &shared, held.subscribe()) => {}
            }
        });
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// One frame of HTTP/2, with the nine bytes before it.
struct Frame(Vec<u8>);

impl Frame {
    fn kind(&self) -> u8 {
        self.0[3]
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.0[5] & 0x7f, self.0[6], self.0[7], self.0[8]])
    }

    fn ends(&self) -> bool {
        matches!(self.kind(), DATA | HEADERS) && self.0[4] & END_STREAM != 0
    }
}

/// Takes the first frame out of what came, if all of it is there.
fn frame(bytes: &mut Vec<u8>) -> Option<Frame> {
    let [one, two, three, ..] = bytes.as_slice() else { return None };
    let length = 9 + usize::try_from(u32::from_be_bytes([0, *one, *two, *three])).unwrap();
    (bytes.len() >= length).then(|| Frame(bytes.drain(..length).collect()))
}

/// What a client says before its first frame.
const PREFACE_BYTES: usize = 24;

async fn forth(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    stream: &watch::Sender<Option<u32>>,
) {
    let (mut bytes, mut held) = (vec![0; PREFACE_BYTES], Vec::new());
    if client.read_exact(&mut bytes).await.is_err() || server.write_all(&bytes).await.is_err() {
        return;
    }
    bytes.clear();
    loop {
        while let Some(frame) = frame(&mut bytes) {
            let now = *stream.borrow();
            if now.is_none() && !shared.catches(&frame) {
                if server.write_all(&frame.0).await.is_err() {
                    return;
                }
                continue;
            }
            // Everything else that the client says from now on never arrives: that it gave the request up, too.
            if frame.kind() != DATA || now.is_some_and(|stream| stream != frame.stream()) {
                continue;
            }
            stream.send_replace(Some(frame.stream()));
            held.extend_from_slice(&frame.0);
            if frame.ends() {
                shared.step.send_replace(Step::Held);
                shared.reached(Step::LetGo).await;
                let _ = server.write_all(&held).await;
                // The other direction ends the connection, once the answer is there.
                return std::future::pending().await;
            }
        }
        let mut more = [0; 16 * 1024];
        match client.read(&mut more).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&more[..read]),
            _ => return,
        }
    }
}

async fn back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    stream: watch::Receiver<Option<u32>>,
) {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 16 * 1024];
        let Ok(read @ 1..) = server.read(&mut more).await else { return };
        bytes.extend_from_slice(&more[..read]);
        while let Some(frame) = frame(&mut bytes) {
            let held = *stream.borrow();
            // A client that is gone does not matter.
            let written = client.write_all(&frame.0).await;
            if held.is_some_and(|held| held == frame.stream() && frame.ends()) {
                shared.step.send_replace(Step::Answered);
                return;
            }
            if held.is_none() && written.is_err() {
                return;
            }
        }
    }
}
