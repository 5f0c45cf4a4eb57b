//! SIGTERM, SIGHUP and Ctrl-C.

use kindred_models::stop::Stop;

use crate::progress::say;

/// Ends when the process is asked to end. On Unix it listens from the call on, and not from the first poll: a
/// signal in between would end the process at once. Must be called within a runtime.
pub fn asked_to_end() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let (mut interrupt, mut terminate, mut hang_up) = {
        use tokio::signal::unix::{SignalKind, signal};
        // Without a handler, who hangs up would end it in the middle of a call; with one, nohup would do nothing.
        let hang_up = (!is_hang_up_ignored()).then(|| signal(SignalKind::hangup()).ok()).flatten();
        (signal(SignalKind::interrupt()).ok(), signal(SignalKind::terminate()).ok(), hang_up)
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

/// Whether the process was begun with SIGHUP ignored, as by nohup; where that can't be told, it was not.
#[cfg(unix)]
fn is_hang_up_ignored() -> bool {
    const SIGHUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & SIGHUP != 0)
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
