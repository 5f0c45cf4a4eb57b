//! Where what happens is written down: lines on standard error, and traces.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::traces::Traces;

/// Logs to standard error, at the level of `KINDRED_LOG` (error, warn, info, debug, trace; info if unset), as lines of
/// JSON if `KINDRED_LOG_FORMAT` is json; and traces calls, if there is where to.
pub(crate) fn start_log(traces: Option<&Traces>) {
    let level = std::env::var("KINDRED_LOG").ok().and_then(|level| level.parse().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = if std::env::var("KINDRED_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.boxed()
    };
    // Only our own steps, and no lines of the log: the collector's client must not trace itself, and lines say more than
    // a trace should.
    let steps = filter_fn(|it| it.is_span() && it.target().starts_with("kindred"));
    let steps = steps.with_max_level_hint(LevelFilter::INFO);
    let spans = traces.map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(steps)
    });
    // Without a collector nobody wants spans, and they cost nothing.
    let level = level.unwrap_or(LevelFilter::INFO);
    // The database's library tells of each statement, and of each try while the store is away, which is said once as it is;
    // that of HTTP/2 of each frame.
    let is_chatty = |target: &str| ["sqlx", "h2"].iter().any(|library| target.starts_with(library));
    let most = move |target: &str| {
        if is_chatty(target) && level < LevelFilter::TRACE { LevelFilter::ERROR } else { level }
    };
    let events = filter_fn(move |it| !it.is_span() && *it.level() <= most(it.target())).with_max_level_hint(level);
    tracing_subscriber::registry().with(spans).with(lines.with_filter(events)).init();
}
