//! Traces of calls, sent to a collector over OTLP. A trace names methods, codes and the ids of
//! calls, and no member.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tonic::Code;
use tonic::codegen::http::HeaderMap;
use tonic::transport::ClientTlsConfig;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::config::TracesConfig;
use crate::error::Error;

/// What sends spans, until it is ended.
#[derive(Clone, Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to the collector of the config, if it has one. Must be called within a runtime.
    ///
    /// # Errors
    /// If the config is out of range, or the address is none.
    pub(crate) fn start(config: &TracesConfig) -> Result<Option<Self>, Error> {
        let TracesConfig { endpoint, share } = config;
        if !(0.0..=1.0).contains(share) {
            return Err(Error::Usage(format!("serve.traces.share is {share}, and must be from 0 to 1")));
        }
        let Some(endpoint) = endpoint else { return Ok(None) };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::Usage(format!(
                "serve.traces.endpoint is {endpoint}, and must begin with http:// or https://"
            )));
        }
        let wrong = |e: ExporterBuildError| Error::Usage(format!("serve.traces.endpoint: {endpoint}: {e}"));
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        if endpoint.starts_with("https://") {
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_native_roots());
        }
        let resource = Resource::builder().with_service_name("kindred").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter.build().map_err(wrong)?)
            // Whoever calls decides whether its own trace goes on here.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(*share))))
            .with_resource(resource);
        Ok(Some(Self(provider.build())))
    }

    /// What spans are written with.
    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer("kindred")
    }

    /// Sends what is still there. Blocks until it is sent, or five seconds have passed.
    pub(crate) fn end(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces are not sent");
        }
    }
}

/// The span of one call: within its caller's trace if that says so in `traceparent` (W3C Trace Context).
pub(super) fn call_span(method: &str, id: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!("call", otel.name = method, otel.kind = "server", request_id = id);
    if headers.contains_key("traceparent") {
        // Without a collector there is no trace to go on with.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
    span
}

/// Notes how a call ended. What the caller did wrong is no error of the server's.
pub(super) fn note_code(span: &Span, code: u32) {
    span.set_attribute("rpc.grpc.status_code", i64::from(code));
    let code = Code::from_i32(i32::try_from(code).unwrap_or(i32::MAX));
    let is_ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if is_ours {
        span.set_status(Status::error(code.description()));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}
