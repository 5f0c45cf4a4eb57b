//! `kindred serve`.

use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;

use super::Common;
use crate::config::ServeConfig;
use crate::error::Error;
use crate::observe::{Traces, start_log};
use crate::server;
use crate::signal::asked_to_end;

/// Answers over gRPC.
///
/// Answers from the registry's active version, and follows it when another becomes active.
/// SIGTERM, SIGHUP and Ctrl-C let open calls finish.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred serve --registry registry\n  \
    kindred serve --config kindred.toml --listen 0.0.0.0:50051      (needs serve.tls and keys)\n  \
    KINDRED_LOG=debug kindred serve --config kindred.toml")]
pub(super) struct Serve {
    #[command(flatten)]
    common: Common,
    /// Address to listen on [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of /metrics, /healthz and /readyz [default: none]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Serves other machines without TLS or keys.
    #[arg(long)]
    insecure: bool,
    /// Begins an empty state store though the version learned from another.
    #[arg(long)]
    new_state: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Error> {
        let mut config = self.common.load()?;
        if let Some(listen) = self.listen {
            config.serve.listen = listen;
        }
        config.serve.insecure |= self.insecure;
        config.serve.new_state |= self.new_state;
        config.serve.admin = self.admin.or(config.serve.admin);
        let registry = config.registry()?;
        let runtime = runtime()?;
        let outcome = runtime.block_on(async {
            let asked_to_end = asked_to_end();
            let traces = Traces::start(&config.serve.traces)?;
            start_log(traces.as_ref());
            let listener = listen(&config.serve).await?;
            let address = listener.local_addr()?;
            tracing::info!(%address, "listening");
            let outcome = server::serve(registry, &config, listener, asked_to_end).await;
            if let Some(traces) = traces {
                // What sends them runs on these threads too.
                let _ = tokio::task::spawn_blocking(move || traces.end()).await;
            }
            outcome
        });
        // A version that is being loaded is not waited for.
        runtime.shutdown_background();
        outcome
    }
}

/// Opens the address.
pub(super) async fn listen(config: &ServeConfig) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(config.listen).await;
    listener.map_err(|e| Error::Serve(format!("{}: {e}; choose another address with --listen", config.listen)))
}

/// The async runtime of server and client.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
