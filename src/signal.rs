//! SIGTERM and Ctrl-C.

use kindred_models::stop::Stop;

/// Ends when the process is asked to end.
pub async fn asked_to_end() {
    let interrupt = async {
        // Without a handler there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// A flag that goes up when the process is asked to end; a second request ends it at once.
pub fn stop_flag() -> Stop {
    let stop = Stop::default();
    let flag = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(asked_to_end());
            flag.raise();
            runtime.block_on(asked_to_end());
            std::process::exit(130);
        }
    });
    stop
}
