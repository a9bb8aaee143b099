//! An HTTP API of the tests' own: it keeps what is put, counts what is posted, remembers tokens, lists in pages, records
//! every request, and fails on demand.

mod listing;
mod secure;
mod state;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;

pub use secure::Secure;
pub use state::{Recorded, State};

/// What the API does to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It takes effect, and the connection ends without an answer.
    AnswerLost,
    /// The connection ends, and nothing takes effect.
    Reset,
    /// This status, with this `Retry-After`; nothing takes effect.
    Status(u16, Option<String>),
    /// It takes effect, and this status comes back.
    StatusAfter(u16),
    /// It takes effect; the head of the answer comes, and its body never does.
    SlowBody,
    /// No answer comes, and nothing takes effect.
    Silent,
    /// It is held back on its way until [`Api::let_go`], also if the client gives up.
    Held,
    /// It arrives twice.
    Twice,
}

/// How often each failure happens by itself.
#[derive(Debug, Clone, Copy, Default)]
struct Chaos {
    /// Of a thousand requests that write.
    per_mille: u64,
    state: u64,
}

struct Shared {
    state: Mutex<State>,
    plan: Mutex<VecDeque<Failure>>,
    chaos: Mutex<Chaos>,
    reached: Notify,
    released: Notify,
    dealt_with: Notify,
    gathered: Notify,
}

/// The API, on a free port of the loopback, in a thread of its own. It ends when it is dropped.
pub struct Api {
    port: u16,
    is_secure: bool,
    shared: Arc<Shared>,
    ends: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// A connection that is to end.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test ends the connection")
    }
}

impl std::error::Error for Cut {}

impl Api {
    /// Starts it.
    pub fn start() -> Self {
        Self::with(None, None)
    }

    /// Starts it behind TLS, for the host `localhost`.
    pub fn start_secure(secure: &Secure<'_>) -> Self {
        Self::with(Some(secure.acceptor()), secure.streams_max)
    }

    fn with(tls: Option<TlsAcceptor>, streams_max: Option<u32>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            plan: Mutex::default(),
            chaos: Mutex::default(),
            reached: Notify::new(),
            released: Notify::new(),
            dealt_with: Notify::new(),
            gathered: Notify::new(),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ends, ended) = oneshot::channel();
        let is_secure = tls.is_some();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        _ = ended => {}
                        () = accept(TcpListener::from_std(listener).unwrap(), shared, tls, streams_max) => {}
                    }
                });
            }
        });
        Self { port, is_secure, shared, ends: Some(ends), thread: Some(thread) }
    }

    /// Its URL, without a `/` at the end.
    pub fn url(&self) -> String {
        match self.is_secure {
            true => format!("https://localhost:{}", self.port),
            false => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it holds, and how it behaves.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Does this to the next requests, one after the other.
    pub fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.shared.plan.lock().unwrap().extend(failures);
    }

    /// How many planned failures have not happened yet.
    pub fn planned(&self) -> usize {
        self.shared.plan.lock().unwrap().len()
    }

    /// Fails by itself, so many of a thousand requests that write, from now on.
    pub fn fail_often(&self, per_mille: u64) {
        *self.shared.chaos.lock().unwrap() = Chaos { per_mille, state: 0x9E37_79B9_7F4A_7C15 };
    }

    /// Waits until a request is held back.
    pub async fn held(&self) {
        self.shared.reached.notified().await;
    }

    /// Lets the held request arrive, and waits until it was dealt with.
    pub async fn let_go(&self) {
        self.shared.released.notify_one();
        self.shared.dealt_with.notified().await;
    }

    /// Delivers everything that came once more, the last request first: nobody waits for an answer to it any more.
    pub fn deliver_again(&self) {
        let mut state = self.state();
        let all = state.requests.clone();
        for request in all.iter().rev() {
            state.answer(request);
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    streams_max: Option<u32>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        shared.state.lock().unwrap().connections += 1;
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let first = hyper::server::conn::http1::Builder::new();
            let Some(tls) = tls else {
                let _ = first.serve_connection(TokioIo::new(stream), service).await;
                return;
            };
            let Ok(stream) = tls.accept(stream).await else { return };
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => {
                    let mut second = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    second.max_concurrent_streams(streams_max);
                    let _ = second.serve_connection(TokioIo::new(stream), service).await;
                }
                _ => {
                    let _ = first.serve_connection(TokioIo::new(stream), service).await;
                }
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    let _under_way = UnderWay::begin(&shared);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let headers = head.headers.iter();
    let request = Recorded {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: body.to_vec(),
        is_http2: head.version == hyper::Version::HTTP_2,
        at: Instant::now(),
    };
    let failure = shared.failure(&request);
    shared.state.lock().unwrap().requests.push(request.clone());
    shared.gather().await;
    let apply = |request: &Recorded| shared.state.lock().unwrap().answer(request);
    match failure {
        None => Ok(whole(apply(&request))),
        Some(Failure::AnswerLost) => {
            apply(&request);
            Err(Cut)
        }
        Some(Failure::Reset) => Err(Cut),
        Some(Failure::Status(status, retry_after)) => {
            let mut headers = Vec::new();
            headers.extend(retry_after.map(|after| ("retry-after".to_owned(), after)));
            Ok(whole(state::Reply { status, headers, body: b"as the test asked".to_vec() }))
        }
        Some(Failure::StatusAfter(status)) => {
            apply(&request);
            Ok(whole(state::Reply { status, headers: Vec::new(), body: b"as the test asked".to_vec() }))
        }
        Some(Failure::SlowBody) => {
            let reply = apply(&request);
            let never = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok(Response::builder().status(reply.status).body(BodyExt::boxed(StreamBody::new(never))).unwrap())
        }
        Some(Failure::Silent) => std::future::pending().await,
        Some(Failure::Held) => {
            // The client may give up, and the connection end: the request is on its way all the same.
            let late = tokio::spawn({
                let shared = Arc::clone(&shared);
                async move {
                    shared.reached.notify_one();
                    shared.released.notified().await;
                    let reply = shared.state.lock().unwrap().answer(&request);
                    shared.dealt_with.notify_one();
                    reply
                }
            });
            late.await.map(whole).map_err(|_| Cut)
        }
        Some(Failure::Twice) => {
            let reply = apply(&request);
            apply(&request);
            Ok(whole(reply))
        }
    }
}

/// A request that is counted as under way, until it is dropped.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut state = shared.state.lock().unwrap();
        state.under_way += 1;
        state.peak = state.peak.max(state.under_way);
        shared.gathered.notify_waiters();
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().under_way -= 1;
    }
}

fn whole(reply: state::Reply) -> Answer {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(BodyExt::boxed(Full::new(Bytes::from(reply.body)))).unwrap()
}

impl Shared {
    /// Waits until as many requests as are to gather were under way at once, and a moment longer: one too many may come.
    async fn gather(&self) {
        loop {
            let more = self.gathered.notified();
            let (gathers, peak) = {
                let state = self.state.lock().unwrap();
                (state.gathers, state.peak)
            };
            if gathers == 0 {
                return;
            }
            if peak >= gathers {
                return tokio::time::sleep(Duration::from_millis(10)).await;
            }
            more.await;
        }
    }

    fn failure(&self, request: &Recorded) -> Option<Failure> {
        if request.method == "GET" && !self.state.lock().unwrap().fails_reads {
            return None;
        }
        if let Some(planned) = self.plan.lock().unwrap().pop_front() {
            return Some(planned);
        }
        let mut chaos = self.chaos.lock().unwrap();
        chaos.state =
            chaos.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = chaos.state >> 33;
        if drawn % 1_000 >= chaos.per_mille {
            return None;
        }
        Some(match (drawn / 1_000) % 6 {
            0 => Failure::AnswerLost,
            1 => Failure::Reset,
            2 => Failure::Status(429, Some("0".to_owned())),
            3 => Failure::Status(503, None),
            4 => Failure::StatusAfter(500),
            _ => Failure::StatusAfter(502),
        })
    }
}

/// Waits until something holds, for at most two minutes.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < limit, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
