//! Deadlines: a call that is past the deadline that its client set is answered DEADLINE_EXCEEDED, as is one whose request does
//! not come.
//!
//! tonic reads `grpc-timeout` too, and answers CANCELLED. This layer stands inside of tonic's timer and
//! fires a little earlier.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};

use crate::middleware::{Answer, Middleware};
use crate::proto::streamed_methods;

/// How much earlier than tonic's timer this one fires. A timeout that is not longer has passed already:
/// tokio's timers are exact to a millisecond.
const EARLIER: Duration = Duration::from_millis(1);

/// How long nothing may come of a request that is not there in full. What has come of it takes memory.
const SILENCE: Duration = Duration::from_secs(20);
/// Calls of many requests each, which come when there is something to say.
static STREAMED: LazyLock<BTreeSet<String>> = LazyLock::new(streamed_methods);
const REFLECTION: &str = "/grpc.reflection.";

/// When a call's client stops waiting; in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// Whether it has passed.
    pub(super) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// What a call past its deadline is answered.
pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the answer was complete")
}

/// Adds the deadline to every call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines;

impl Middleware for Deadlines {
    fn handle<F, E>(&self, mut request: Request<Body>, next: impl FnOnce(Request<Body>) -> F) -> Answer<E>
    where
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: Send + 'static,
    {
        let path = request.uri().path();
        if !path.starts_with(REFLECTION) && !STREAMED.contains(path) {
            request = request.map(timely);
        }
        let Some(timeout) = timeout(request.headers()) else {
            return Box::pin(next(request));
        };
        let Some(allowed) = timeout.checked_sub(EARLIER).filter(|allowed| !allowed.is_zero()) else {
            return Box::pin(async { Ok(exceeded().into_http()) });
        };
        // A timeout beyond what the clock can count is none.
        if let Some(end) = Instant::now().checked_add(allowed) {
            request.extensions_mut().insert(Deadline(end));
        }
        let answer = tokio::time::timeout(allowed, next(request));
        Box::pin(async move { answer.await.unwrap_or_else(|_| Ok(exceeded().into_http())) })
    }
}

/// A request that ends with an error when nothing comes of it for long.
fn timely(body: Body) -> Body {
    let frames = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(frame) => frame.map(|frame| (frame, Some(body))),
            Err(_) => Some((Err(Status::deadline_exceeded("the request did not come in time")), None)),
        }
    });
    Body::new(StreamBody::new(frames))
}

/// The `grpc-timeout` header: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use http_body::Frame;
    use prost::bytes::Bytes;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_ends() {
        let begun = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"some")))]);
        let mut body = timely(Body::new(StreamBody::new(begun.chain(stream::pending()))));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
        let since = tokio::time::Instant::now();
        assert_eq!(body.frame().await.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert!(since.elapsed() >= SILENCE && body.frame().await.is_none());
        for streamed in ["EventService/StreamEvents", "BatchService/ScoreMembers"] {
            assert!(STREAMED.contains(&format!("/kindred.v1.{streamed}")));
        }
        assert_eq!(STREAMED.len(), 2);
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("15S"), Some(Duration::from_secs(15)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("9u"), Some(Duration::from_micros(9)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for wrong in ["", "S", "12", "-1S", "123456789S", "5x", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
