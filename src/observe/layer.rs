//! Times every call, and logs it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::Metrics;
use super::traces::{call_span, note_code};
use crate::live::Live;
use crate::proto::methods;

/// Name of the header that carries a call's id, in and out.
const REQUEST_ID: &str = "x-request-id";
/// Name of the header of answers that do not know what happened since the state store was last heard of.
const DEGRADED: &str = "x-kindred-degraded";
/// Bytes of an id that a caller may choose.
const MAX_ID: usize = 128;
/// gRPC's code for a call whose caller went away.
const CANCELLED: u32 = 1;

/// Stands around everything else.
#[derive(Clone, Debug)]
pub(crate) struct ObserveLayer {
    metrics: Arc<Metrics>,
    live: Arc<Live>,
    /// `Service/Method` of what there is: whatever else is asked for is one thing, so that nobody can make up metrics
    /// without end.
    methods: Arc<BTreeSet<String>>,
}

impl ObserveLayer {
    pub(crate) fn new(metrics: Arc<Metrics>, live: Arc<Live>) -> Self {
        Self { metrics, live, methods: Arc::new(methods()) }
    }
}

/// The name under which a call is counted.
fn method_of(path: &str, methods: &BTreeSet<String>) -> String {
    let path = path.trim_start_matches('/');
    match path.strip_prefix("kindred.v1.") {
        Some(method) if methods.contains(method) => method.to_owned(),
        _ if path.starts_with("grpc.health.") => "Health".to_owned(),
        _ => "other".to_owned(),
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveService { inner, layer: self.clone() }
    }
}

/// A service whose calls are seen.
#[derive(Clone, Debug)]
pub(crate) struct ObserveService<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S> Service<Request<Body>> for ObserveService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let id = request_id(request.headers());
        let method = method_of(request.uri().path(), &self.layer.methods);
        let span = call_span(&method, &id, request.headers());
        let (metrics, live) = (self.layer.metrics.clone(), self.layer.live.clone());
        let mut seen = Seen { metrics, began: Instant::now(), code: None, method, id, span: span.clone() };
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let mut answer = answer.await?;
            seen.code = code(answer.headers());
            if let Ok(value) = HeaderValue::from_str(&seen.id) {
                answer.headers_mut().insert(REQUEST_ID, value);
            }
            if live.is_store_down() {
                answer.headers_mut().insert(DEGRADED, HeaderValue::from_static("state-store"));
            }
            Ok(answer.map(|body| Body::new(Observed { body, seen })))
        })
    }
}

/// The id that a caller gave, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()));
    given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned)
}

fn code(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// One call, counted when its last byte is sent, or its caller goes away.
struct Seen {
    metrics: Arc<Metrics>,
    began: Instant,
    code: Option<u32>,
    method: String,
    id: String,
    span: Span,
}

impl Drop for Seen {
    fn drop(&mut self) {
        let (code, took) = (self.code.unwrap_or(CANCELLED), self.began.elapsed());
        self.metrics.call(&self.method, code, took);
        note_code(&self.span, code);
        let milliseconds = took.as_secs_f64() * 1e3;
        tracing::debug!(request_id = self.id, method = self.method, code, milliseconds, "call");
    }
}

/// An answer under observation.
struct Observed {
    body: Body,
    seen: Seen,
}

impl http_body::Body for Observed {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.seen.code = code(trailers).or(self.seen.code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_and_what_is_made_up_is_one_thing() {
        let methods = methods();
        let method = |path: &str| method_of(path, &methods);
        assert_eq!(method("/kindred.v1.EventService/RecordEvents"), "EventService/RecordEvents");
        assert_eq!(method("/grpc.health.v1.Health/Check"), "Health");
        assert_eq!(method("/kindred.v1.EventService/Made-up"), "other");
        assert_eq!(method("/anything"), "other");
    }

    #[test]
    fn ids_are_the_callers_own_if_they_can_be_written_down() {
        let with =
            |id: &'static str| HeaderMap::from_iter([(REQUEST_ID.parse().unwrap(), HeaderValue::from_static(id))]);
        assert_eq!(request_id(&with("mall-7")), "mall-7");
        assert_eq!(request_id(&with("a b")).len(), 16);
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
