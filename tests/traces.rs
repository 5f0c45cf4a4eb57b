//! Traces of a server, as a collector gets them over OTLP.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kindred::proto::v1;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use support::process::Server;
use support::{trained, two_tastes};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector that remembers all it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Calls twice within a trace of the caller's, once rightly and once wrongly.
async fn call_twice(server: &Server, is_sampled: bool) {
    let mut feeds = RecommendationServiceClient::new(server.channel.clone());
    let traceparent = format!("00-{TRACE}-{CALLER}-0{}", u8::from(is_sampled));
    for (page_size, is_right) in [(5, true), (-1, false)] {
        let asked = v1::RecommendFeedRequest { member_id: "t1".to_owned(), page_size, ..Default::default() };
        let mut request = Request::new(asked);
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        assert_eq!(feeds.recommend_feed(request).await.is_ok(), is_right);
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a collector has got of two calls when the server has ended.
async fn collected(share: f64, is_sampled: bool) -> Vec<Span> {
    let trained = trained(&two_tastes());
    let root = trained.registry.folder().parent().unwrap();
    let (collector, listener) = (Collector::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    let collecting = tonic::transport::Server::builder().add_service(service);
    let collecting = tokio::spawn(collecting.serve_with_incoming(TcpIncoming::from(listener)));
    let config = format!("[serve.traces]\nendpoint = \"{endpoint}\"\nshare = {share}\n");
    std::fs::write(root.join("kindred.toml"), config).unwrap();
    let server = Server::start(root).await;
    call_twice(&server, is_sampled).await;
    tokio::task::spawn_blocking(move || server.end()).await.unwrap();
    collecting.abort();
    std::mem::take(&mut *collector.0.lock())
}

#[tokio::test]
async fn a_call_is_traced_within_the_trace_of_its_caller() {
    let spans = collected(0.0, true).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let mut calls: Vec<&Span> = spans.iter().filter(|span| hex(&span.parent_span_id) == CALLER).collect();
    calls.sort_by_key(|call| call.start_time_unix_nano);
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.name == "RecommendationService/RecommendFeed"));
    let code = |call: &Span| {
        let code = call.attributes.iter().find(|attribute| attribute.key == "rpc.grpc.status_code").unwrap();
        format!("{:?}", code.value)
    };
    assert!(code(calls[0]).contains("IntValue(0)") && code(calls[1]).contains("IntValue(3)"), "{calls:?}");
    let steps = |call: &Span| {
        let within = spans.iter().filter(|span| span.parent_span_id == call.span_id);
        let mut names: Vec<&str> = within.map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(steps(calls[0]), "compute queue");
    assert_eq!(steps(calls[1]), "", "refused before anything was computed");
    assert!(!format!("{spans:?}").contains("t1"), "a trace names no member");
}

#[tokio::test]
async fn a_call_is_not_traced_where_its_caller_says_so() {
    assert_eq!(collected(1.0, false).await.len(), 0);
}
