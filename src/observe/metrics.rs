//! Metrics, as Prometheus reads them. Names and units are those of docs/grafana.json, which a test compares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Steps within a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// From the call to the thread that computes.
    Queue,
    /// On that thread.
    Compute,
    /// In the store's transaction.
    Commit,
    /// From there to the next snapshot.
    Apply,
}

impl EncodeLabelValue for Stage {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Queue => "queue",
            Self::Compute => "compute",
            Self::Commit => "commit",
            Self::Apply => "apply",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: String,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    version: String,
    product_index: &'static str,
    member_index: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    seconds: Family<MethodLabels, Histogram>,
    stages: Family<StageLabels, Histogram>,
    model: Family<ModelLabels, Gauge>,
    /// What `model` says.
    serving: Mutex<Option<ModelLabels>>,
    model_age: Gauge<f64, AtomicU64>,
    version_refused: Gauge,
    store_up: Gauge,
    state_lag: Gauge,
    jobs: Gauge,
    events: Counter,
}

/// From a tenth of a millisecond to 26 seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("kindred"),
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            stages: Family::new_with_constructor(histogram),
            model: Family::default(),
            serving: Mutex::default(),
            model_age: Gauge::default(),
            version_refused: Gauge::default(),
            store_up: Gauge::default(),
            state_lag: Gauge::default(),
            jobs: Gauge::default(),
            events: Counter::default(),
        };
        let all = &mut metrics.registry;
        all.register("calls", "Calls answered, by gRPC code", metrics.calls.clone());
        all.register_with_unit("call", "From a call to its last byte", Unit::Seconds, metrics.seconds.clone());
        all.register_with_unit("stage", "Steps within calls", Unit::Seconds, metrics.stages.clone());
        all.register("model", "1 for the version that serves", metrics.model.clone());
        all.register_with_unit("model_age", "Since the version was trained", Unit::Seconds, metrics.model_age.clone());
        let help = "1 while the registry's current version can't be loaded, and another serves";
        all.register("version_refused", help, metrics.version_refused.clone());
        all.register("store_up", "1 while the state store answers", metrics.store_up.clone());
        all.register("state_lag", "Changes in the store that are not served yet", metrics.state_lag.clone());
        all.register("jobs", "Computations that wait or run", metrics.jobs.clone());
        all.register("events", "Events kept", metrics.events.clone());
        Arc::new(metrics)
    }

    pub(crate) fn call(&self, method: &str, code: u32, took: Duration) {
        self.calls.get_or_create(&CallLabels { method: method.to_owned(), code }).inc();
        self.seconds.get_or_create(&MethodLabels { method: method.to_owned() }).observe(took.as_secs_f64());
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    pub(crate) fn serving(&self, version: &str, product_index: &'static str, member_index: &'static str) {
        let labels = ModelLabels { version: version.to_owned(), product_index, member_index };
        let mut serving = self.serving.lock();
        if serving.as_ref() != Some(&labels) {
            // The new one first: somebody else may be reading, and some version always serves.
            self.model.get_or_create(&labels).set(1);
            if let Some(before) = serving.replace(labels) {
                self.model.remove(&before);
            }
        }
    }

    pub(crate) fn model_age(&self, age: Duration) {
        self.model_age.set(age.as_secs_f64());
    }

    pub(crate) fn version_refused(&self, is_refused: bool) {
        self.version_refused.set(i64::from(is_refused));
    }

    pub(crate) fn store(&self, is_up: bool, lag: i64) {
        self.store_up.set(i64::from(is_up));
        self.state_lag.set(lag);
    }

    pub(crate) fn jobs(&self, count: usize) {
        self.jobs.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn events(&self, count: usize) {
        self.events.inc_by(count as u64);
    }

    /// All of them, as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
