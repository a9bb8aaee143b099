//! One connection to a host.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::answer::{Answer, read};
use super::cause;

/// How long a connection is kept that nobody uses: servers close theirs, and a request that meets the end of a
/// connection is in doubt.
const IDLE: Duration = Duration::from_secs(20);

/// How often an HTTP/2 connection is asked whether it is there, while requests wait for answers.
const PING: Duration = Duration::from_secs(20);

/// Why there is no answer.
pub(super) enum Failed {
    /// Nothing of the request has left.
    Untouched(String),
    /// Some of it may have.
    Lost(String),
}

/// What carries a connection on. It is polled by whoever waits for an answer: nobody else is woken for it.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that carries one request at a time (HTTP/1.1).
pub(super) struct One {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Until the connection has ended.
    driver: Option<Driver>,
    used_at: Instant,
}

/// A connection that carries many (HTTP/2). A task carries it on.
pub(super) type Many = http2::SendRequest<Full<Bytes>>;

impl One {
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, String> {
        // Head and body are written together: they are small.
        let shaken = http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| cause(&error))?;
        let driver: Driver = Box::pin(async move {
            // Whoever waits for an answer gets the error.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: Some(driver), used_at: Instant::now() })
    }

    /// Sends a request. The connection comes back with the answer if it may carry another one.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<(Answer, Option<Self>), Failed> {
        let Self { sender, driver, .. } = &mut self;
        let work = async move {
            sender.ready().await.map_err(|error| Failed::Untouched(cause(&error)))?;
            let response = answered(sender.try_send_request(request).await)?;
            read(response, bytes_max).await.map_err(Failed::Lost)
        };
        let (answer, has_ended) = driven(driver, work).await?;
        self.used_at = Instant::now();
        let goes_on = has_ended && self.driver.is_some() && !self.sender.is_closed();
        Ok((answer, goes_on.then_some(self)))
    }

    /// Whether it was used a short time ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.used_at.elapsed() < IDLE
    }
}

/// Carries a connection on while something waits for it.
async fn driven<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    // At first a second time, for what the first put before the connection.
    let mut rounds = 2;
    poll_fn(|context| {
        for _ in 0..std::mem::replace(&mut rounds, 1) {
            if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
                *driver = None;
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

/// A connection that carries many requests at once.
pub(super) async fn many(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Many, String> {
    let shaken = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        // Until the server has said how many it carries at once: what comes beyond that it gives back, and says that nothing
        // of it was begun, which proxies say of what they have passed on, too (HAProxy, of a backend that went away).
        .initial_max_send_streams(1)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|error| cause(&error))?;
    // It ends with its last sender.
    drop(tokio::spawn(connection));
    Ok(sender)
}

/// Sends a request over a connection that carries many.
pub(super) async fn send_among(
    mut many: Many,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Answer, Failed> {
    let response = answered(many.try_send_request(request).await)?;
    read(response, bytes_max).await.map(|(answer, _)| answer).map_err(Failed::Lost)
}

fn answered(
    sent: Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>,
) -> Result<Response<Incoming>, Failed> {
    sent.map_err(|mut error| match error.take_message() {
        // It was given back before its first byte was written.
        Some(_) => Failed::Untouched(cause(error.error())),
        None => Failed::Lost(cause(error.error())),
    })
}
