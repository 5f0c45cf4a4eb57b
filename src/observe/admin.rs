//! The admin port: what a monitor asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use kindred_models::index::IndexKind;
use tokio::net::TcpListener;

use super::Metrics;
use super::idle::Impatient;
use crate::clock::unix_now;
use crate::live::Live;

/// What Prometheus calls its format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    is_draining: Arc<AtomicBool>,
}

/// Answers `/metrics`, `/healthz` (the process lives) and `/readyz` (send it calls), until it is dropped.
pub(crate) async fn serve_admin(
    listener: TcpListener,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    is_draining: Arc<AtomicBool>,
) {
    let router = Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { live, metrics, is_draining });
    if let Err(error) = axum::serve(Impatient(listener), router).await {
        tracing::error!(%error, "the admin port broke off");
    }
}

async fn text(State(shared): State<Shared>) -> impl IntoResponse {
    let Shared { live, metrics, .. } = shared;
    let model = live.snapshot();
    let kind = |kind: IndexKind| if kind == IndexKind::Hnsw { "hnsw" } else { "exact" };
    metrics.serving(&model.info.version, kind(model.product_index.report.kind), kind(model.member_index.report.kind));
    if let Some(trained_at) = model.info.trained_at {
        metrics.model_age(Duration::from_secs(u64::try_from(unix_now() - trained_at).unwrap_or(0)));
    }
    let lag = live.lag();
    metrics.store(!live.is_store_down(), lag);
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text())
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    if shared.is_draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let (model, store) = (shared.live.snapshot(), if shared.live.is_store_down() { "down" } else { "up" });
    // Feeds go on from memory: a server whose store is down is still better than none.
    (StatusCode::OK, format!("version {}, state store {store}\n", model.info.version))
}
