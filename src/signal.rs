//! SIGTERM, SIGHUP and Ctrl-C.

use kindred_models::stop::Stop;

use crate::progress::say;

/// Ends when the process is asked to end. On Unix it listens from the call on, and not from the first poll: a
/// signal in between would end the process at once. Must be called within a runtime.
pub fn asked_to_end() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let [mut interrupt, mut terminate, mut hang_up] = {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a handler, who hangs up would end it in the middle of a call.
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| signal(kind).ok())
    };
    #[cfg(unix)]
    let asked = async move {
        // Without a handler there is nothing to wait for.
        let received = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        };
        tokio::select! {
            () = received(&mut interrupt) => {}
            () = received(&mut terminate) => {}
            () = received(&mut hang_up) => {}
        }
    };
    #[cfg(not(unix))]
    let asked = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    asked
}

/// A flag that goes up when the process is asked to end; a second request ends it at once.
pub fn stop_flag() -> Stop {
    let stop = Stop::default();
    let flag = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                asked_to_end().await;
                say("stopping as soon as it can be done cleanly; once more, and it stops at once");
                flag.raise();
                asked_to_end().await;
            });
            std::process::exit(130);
        }
    });
    stop
}
