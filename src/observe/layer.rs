//! Times every call, and logs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tracing::{Instrument, Span};

use super::Metrics;
use super::traces::{call_span, note_code};
use crate::live::Live;
use crate::middleware::{Answer, Middleware};
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
pub(crate) struct Observe {
    metrics: Arc<Metrics>,
    live: Arc<Live>,
    /// `Service/Method` of what there is: whatever else is asked for is one thing, so that nobody can make up metrics
    /// without end.
    methods: Arc<BTreeSet<String>>,
}

impl Observe {
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

impl Middleware for Observe {
    fn handle<F, E>(&self, request: Request<Body>, next: impl FnOnce(Request<Body>) -> F) -> Answer<E>
    where
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: Send + 'static,
    {
        let id = request_id(request.headers());
        let method = method_of(request.uri().path(), &self.methods);
        let span = call_span(&method, &id, request.headers());
        let (metrics, live) = (self.metrics.clone(), self.live.clone());
        let mut seen = Seen { metrics, began: Instant::now(), code: None, method, id, span: span.clone() };
        let answer = span.in_scope(|| next(request)).instrument(span);
        Box::pin(async move {
            let mut answer = answer.await?;
            seen.code = code(answer.headers());
            if let Ok(value) = HeaderValue::from_str(&seen.id) {
                answer.headers_mut().insert(REQUEST_ID, value);
            }
            if live.is_store_down() {
                answer.headers_mut().insert(DEGRADED, HeaderValue::from_static("state-store"));
            }
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    // All of it goes along, so that the call is counted when the body is dropped.
                    let seen = &mut seen;
                    seen.code = frame.trailers_ref().and_then(code).or(seen.code);
                    frame
                }))
            }))
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
