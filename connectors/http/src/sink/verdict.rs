//! What an answer means. The table of retries, for what has a status.

use hyper::StatusCode;

use super::plan::Plan;
use crate::client::{Answer, Host};
use crate::config::Method;
use crate::fault::WriteFault;

/// What an answer means.
pub(super) enum Verdict {
    /// The API has the record, or a newer one.
    Taken,
    /// It never will.
    Refused,
    /// Something stands in the way, which may be the record itself.
    Conflict,
    /// It may at another time; nothing has happened.
    Later,
    /// Nobody knows what has happened.
    Unknown,
    /// This user may not.
    Forbidden,
    /// Nothing more is sent.
    Stop(fn(&Host, &Answer) -> WriteFault),
}

/// Whether this user may not.
pub(super) fn forbids(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    )
}

/// What a status means for a plan.
pub(super) fn verdict(plan: &Plan, answer: &Answer) -> Verdict {
    let status = answer.status;
    if plan.overtaken.contains(&status.as_u16()) {
        return Verdict::Taken;
    }
    match status {
        // Some of the records of an array, and the answer says which: in words of its own.
        StatusCode::MULTI_STATUS => Verdict::Stop(unclear),
        status if status.is_success() => Verdict::Taken,
        status if forbids(status) => Verdict::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE if plan.method == Method::Delete => Verdict::Taken,
        // The first request of the token has not ended.
        StatusCode::CONFLICT if plan.has_tokens() => Verdict::Later,
        StatusCode::CONFLICT => Verdict::Conflict,
        StatusCode::UNPROCESSABLE_ENTITY if plan.has_tokens() => Verdict::Stop(reused),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY | StatusCode::LOCKED => Verdict::Later,
        // The request did not come to its end.
        StatusCode::REQUEST_TIMEOUT => Verdict::Unknown,
        StatusCode::SERVICE_UNAVAILABLE if answer.retry_after().is_some() => Verdict::Later,
        status if plan.is_no_fault_of_a_record(status) => Verdict::Stop(not_the_record),
        status if status.is_client_error() => Verdict::Refused,
        status if status.is_server_error() => Verdict::Unknown,
        _ => Verdict::Stop(unclear),
    }
}

fn unclear(host: &Host, answer: &Answer) -> WriteFault {
    let (place, status) = (host.place(), answer.status.as_u16());
    WriteFault::Unclear { place, status, said: host.excerpt(answer) }
}

fn not_the_record(host: &Host, answer: &Answer) -> WriteFault {
    let (place, status) = (host.place(), answer.status.as_u16());
    WriteFault::NotTheRecord { place, status, said: host.excerpt(answer) }
}

fn reused(host: &Host, answer: &Answer) -> WriteFault {
    WriteFault::KeyReused { place: host.place(), said: host.excerpt(answer) }
}
