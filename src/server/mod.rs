//! The gRPC server: thin handlers over the model. Each call is validated, takes one snapshot of the model,
//! computes off the async threads, and names the version that answered.

mod accept;
mod audience;
mod audience_request;
mod batch;
mod catalog;
mod compute;
mod deadline;
mod events;
mod feed_request;
mod member_filter;
mod members;
mod model;
mod outreach;
mod outreach_plan;
mod outreach_request;
pub(crate) mod recommendation;
mod status;
mod validate;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::NaiveDate;
use kindred_models::artifact::Registry;
use kindred_models::outreach::Policy;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::access::{Access, Caller, Jwt, Keys};
use crate::clock::unix_now;
use crate::config::{Config, ServeConfig, TlsConfig};
use crate::error::Error;
use crate::live::{Live, WriteError, open_known};
use crate::middleware::Around;
use crate::observe::{Metrics, Observe, serve_admin};
use crate::proto::{DESCRIPTORS, v1};
use crate::store::{Entry, Store, Write};
use accept::Spoken;
use compute::Compute;
use deadline::Deadlines;
use status::Problem;

/// Bytes of a message to the server, at most: room for what the API lets a request have, of the services that get tables or
/// long filters, and of the others.
const MAX_TABLE_BYTES: usize = 32 << 20;
const MAX_MESSAGE_BYTES: usize = 4 << 20;
const MAX_HEALTH_BYTES: usize = 4 << 10;

/// What the handlers share.
#[derive(Clone, Debug)]
struct Shared {
    live: Arc<Live>,
    compute: Compute,
    /// The contact budget.
    policy: Arc<Policy>,
    /// How long ago events may have happened.
    accept: Duration,
}

impl Shared {
    /// The date on the shops' calendars.
    fn today(&self) -> NaiveDate {
        self.policy.calendar.today(unix_now())
    }

    /// Accounts for what a caller does, before it is done.
    async fn account(&self, by: &Caller, action: &str, detail: String) -> Result<(), Problem> {
        self.live.keep(Write::Audit(vec![entry(by, action, detail)])).await?;
        Ok(())
    }

    /// The same where an answer must not wait for a store that is down: it is accounted for once that is back.
    async fn account_soon(&self, by: &Caller, action: &str, detail: String) -> Result<(), Problem> {
        let entry = entry(by, action, detail);
        match self.live.keep(Write::Audit(vec![entry.clone()])).await {
            Err(WriteError::Unavailable(_)) if self.live.owe(entry) => Ok(()),
            outcome => Ok(outcome.map(drop)?),
        }
    }
}

/// An entry of the log of who did what.
fn entry(by: &Caller, action: &str, detail: String) -> Entry {
    Entry { time: unix_now(), actor: by.0.to_string(), action: action.to_owned(), detail }
}

/// Serves the registry's current version, and what happened since, on a listener until `ended`, then lets open calls
/// finish. Of the config, `serve`, `state` and `outreach` count.
///
/// # Errors
/// If the version or the state can't be loaded, or the server breaks off.
pub async fn serve(
    registry: Registry,
    config: &Config,
    listener: TcpListener,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Config { serve, state, .. } = config;
    // First, as without a version there is nothing to keep a state for.
    registry.current()?;
    let policy = Arc::new(config.policy()?);
    let jwt = Jwt::new(&serve.jwt)?.map(Arc::new);
    let server = builder(&serve.tls)?;
    let admin = admin_listener(serve).await?;
    let store = match serve.new_state {
        true => Store::open(&state.url(&registry)?).await?,
        false => open_known(&registry, &state.url(&registry)?).await?,
    };
    let has_keys = Keys::new(store.keys().await?, &Keys::default()).are_needed();
    guard(serve, &listener, has_keys || jwt.is_some())?;
    let (reload, retain) = (Duration::from_secs(serve.reload_seconds), days(state.retain_days));
    let metrics = Metrics::new();
    let compute = Compute::new(serve.threads, metrics.clone())?;
    state.note(&registry)?;
    let mut ended = Box::pin(ended);
    // A large base takes minutes to load.
    let (live, tasks) = tokio::select! {
        started = Live::start(registry, store, reload, retain, config.outreach.rest_days, metrics.clone()) => started?,
        () = &mut ended => {
            tracing::info!("asked to end before a version was loaded");
            return Ok(());
        }
    };
    let shared = Shared { live, compute, policy, accept: days(state.accept_days) };
    let doors = Doors { listener, admin, server, jwt };
    let outcome = answer(doors, serve, shared, metrics, ended).await;
    tasks.end().await;
    outcome
}

/// How callers come in.
struct Doors {
    listener: TcpListener,
    admin: Option<TcpListener>,
    server: Server,
    jwt: Option<Arc<Jwt>>,
}

/// Answers calls until `ended`, and lets open ones finish.
async fn answer(
    doors: Doors,
    config: &ServeConfig,
    shared: Shared,
    metrics: Arc<Metrics>,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let is_draining = Arc::new(AtomicBool::new(false));
    let Doors { listener, admin, server, jwt } = doors;
    // It closes when the task is dropped.
    let mut monitors = JoinSet::new();
    if let Some(admin) = admin {
        tracing::info!(address = %admin.local_addr()?, "admin port");
        monitors.spawn(serve_admin(admin, shared.live.clone(), metrics.clone(), is_draining.clone()));
    }
    let (health_reporter, health) = tonic_health::server::health_reporter();
    set_health(&health_reporter, true).await;
    let drain = Duration::from_secs(config.drain_seconds);
    let (draining, drained) = tokio::sync::oneshot::channel();
    let ended = async move {
        ended.await;
        tracing::info!("draining: no new calls, open ones may finish");
        is_draining.store(true, Ordering::Relaxed);
        set_health(&health_reporter, false).await;
        // Nobody listens any more if the server broke off on its own.
        let _ = draining.send(());
    };
    tracing::info!(version = %shared.live.snapshot().info.version, "answering calls");
    let incoming = Spoken::of(listener, config.connections);
    let server = server
        .layer(Around(Observe::new(metrics, shared.live.clone())))
        .layer(Around(Deadlines))
        .layer(Around(Access { live: shared.live.clone(), jwt }))
        // Anybody may ask: nothing large.
        .add_service(health.max_decoding_message_size(MAX_HEALTH_BYTES))
        .add_service(reflection_v1()?)
        .add_service(reflection_v1alpha()?)
        .add_service(recommendation::service(shared.clone()))
        .add_service(audience::service(shared.clone()))
        .add_service(batch::service(shared.clone()))
        .add_service(events::service(shared.clone()))
        .add_service(catalog::service(shared.clone()))
        .add_service(members::service(shared.clone()))
        .add_service(outreach::service(shared.clone()))
        .add_service(model::service(shared))
        .serve_with_incoming_shutdown(incoming, ended);
    let overdue = async move {
        match drained.await {
            Ok(()) => tokio::time::sleep(drain).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = server => outcome.map_err(|e| Error::Serve(e.to_string())),
        () = overdue => {
            tracing::warn!("calls still open after {} s of draining are cut off", drain.as_secs());
            Ok(())
        }
    }
}

async fn set_health(reporter: &tonic_health::server::HealthReporter, serving: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    use v1::audience_service_server::SERVICE_NAME as AUDIENCE;
    use v1::batch_service_server::SERVICE_NAME as BATCH;
    use v1::catalog_service_server::SERVICE_NAME as CATALOG;
    use v1::event_service_server::SERVICE_NAME as EVENTS;
    use v1::member_service_server::SERVICE_NAME as MEMBERS;
    use v1::model_service_server::SERVICE_NAME as MODEL;
    use v1::outreach_service_server::SERVICE_NAME as OUTREACH;
    use v1::recommendation_service_server::SERVICE_NAME as RECOMMENDATION;
    for name in ["", RECOMMENDATION, AUDIENCE, BATCH, MODEL, EVENTS, CATALOG, MEMBERS, OUTREACH] {
        reporter.set_service_status(name, if serving { Serving } else { NotServing }).await;
    }
}

/// Opens the admin port, if there is one.
async fn admin_listener(config: &ServeConfig) -> Result<Option<TcpListener>, Error> {
    let Some(address) = config.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.map_err(|e| Error::Serve(format!("{address}: {e}; choose another with --admin")))?))
}

/// Who listens to more than this machine must know who calls, and be heard by nobody else.
fn guard(config: &ServeConfig, listener: &TcpListener, asks_who_calls: bool) -> Result<(), Error> {
    let address = listener.local_addr()?;
    if address.ip().is_loopback() || config.insecure {
        return Ok(());
    }
    let missing = match (config.tls.is_set(), asks_who_calls) {
        (true, true) => return Ok(()),
        (false, true) => "TLS (serve.tls.certificate and serve.tls.key)",
        (true, false) => "a key (kindred keys create)",
        (false, false) => "TLS (serve.tls.certificate and serve.tls.key) and a key (kindred keys create)",
    };
    Err(Error::Usage(format!(
        "{address} can be reached from other machines, and there is no {missing}; --insecure serves all the same"
    )))
}

/// How long a connection may be silent before it is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Calls of one connection at a time, and bytes of each that may wait to be read. Those of all together may, so that a call
/// whose caller reads no answers holds up no other of its connection.
const STREAMS: u32 = 200;
const STREAM_WINDOW: u32 = 1 << 18;

/// How long a client may take to agree on how to encrypt.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// A server that speaks TLS if it is set, and knows its clients by their certificates if it has a root of these.
fn builder(tls: &TlsConfig) -> Result<Server, Error> {
    // Whoever is gone without a word must not keep a place.
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAMS * STREAM_WINDOW);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return if tls.is_empty() {
            Ok(server)
        } else {
            Err(Error::Usage("serve.tls needs both certificate and key".to_owned()))
        };
    };
    let read =
        |path: &Path| std::fs::read(path).map_err(|e| Error::NotFound(format!("serve.tls: {}: {e}", path.display())));
    let mut config = ServerTlsConfig::new().timeout(HANDSHAKE);
    config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    let mut files = format!("{}, {}", certificate.display(), key.display());
    if let Some(root) = &tls.client_root {
        config = config.client_ca_root(Certificate::from_pem(read(root)?));
        files = format!("{files}, {}", root.display());
    }
    server.tls_config(config).map_err(|e| {
        // What was wrong stands behind what went wrong.
        let causes = std::iter::successors(std::error::Error::source(&e), |cause| cause.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        Error::Usage(format!("serve.tls: {files} can't be used{causes}"))
    })
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

fn reflection_v1() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    Error,
> {
    reflection().build_v1().map_err(|e| Error::Serve(e.to_string()))
}

fn reflection_v1alpha() -> Result<
    tonic_reflection::server::v1alpha::ServerReflectionServer<impl tonic_reflection::server::v1alpha::ServerReflection>,
    Error,
> {
    reflection().build_v1alpha().map_err(|e| Error::Serve(e.to_string()))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
