//! Work that may wait for what requests leave of the cores.

use std::time::Duration;

use super::blocking;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// As requests.
    Usual,
    /// Requests go first; but not for ever, so that a version can be taken back where they leave nothing.
    Low,
}

/// How long requests go first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Computes off the async threads, on threads of their own where they have low priority; `None` if it broke off.
pub(super) async fn run<T: Send + 'static>(priority: Priority, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match priority {
        Priority::Usual => blocking(job).await,
        Priority::Low => run_behind(PATIENCE, job).await,
    }
}

async fn run_behind<T: Send + 'static>(patience: Duration, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let threads = idle::Threads::default();
    let begun = threads.clone();
    let job = blocking(move || {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|i| format!("background-{i}"))
            .start_handler(move |_| begun.give_way())
            .build();
        match pool {
            Ok(pool) => pool.install(job),
            Err(error) => {
                tracing::warn!(%error, "no threads for work in the background");
                job()
            }
        }
    });
    tokio::pin!(job);
    tokio::select! {
        done = &mut job => done,
        () = tokio::time::sleep(patience) => {
            threads.go_on();
            job.await
        }
    }
}

/// Linux's class for threads that run where no other wants to: unlike a nice thread, such a one is interrupted as soon as
/// another wakes up.
#[cfg(target_os = "linux")]
mod idle {
    use std::sync::Arc;

    use parking_lot::Mutex;

    /// Threads that give way, by their number; `None` once none has to.
    #[derive(Clone, Debug)]
    pub(super) struct Threads(Arc<Mutex<Option<Vec<libc::pid_t>>>>);

    impl Default for Threads {
        fn default() -> Self {
            Self(Arc::new(Mutex::new(Some(Vec::new()))))
        }
    }

    impl Threads {
        /// From now on, this thread does, unless it comes too late.
        pub(super) fn give_way(&self) {
            if let Some(threads) = &mut *self.0.lock() {
                // SAFETY: it asks for a number.
                #[allow(unsafe_code)]
                let this = unsafe { libc::gettid() };
                set(this, libc::SCHED_IDLE);
                threads.push(this);
            }
        }

        /// From now on, none does.
        pub(super) fn go_on(&self) {
            let threads = &mut *self.0.lock();
            threads.take().into_iter().flatten().for_each(|thread| set(thread, libc::SCHED_OTHER));
        }
    }

    fn set(thread: libc::pid_t, class: libc::c_int) {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters are read during the call only.
        #[allow(unsafe_code)]
        let failed = unsafe { libc::sched_setscheduler(thread, class, &parameters) } != 0;
        if failed {
            let error = std::io::Error::last_os_error();
            tracing::warn!(%error, "work in the background keeps its priority");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod idle {
    /// Threads that would give way, had the system a class for them.
    #[derive(Clone, Debug, Default)]
    pub(super) struct Threads;

    impl Threads {
        pub(super) fn give_way(&self) {}

        pub(super) fn go_on(&self) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_breaks_off_takes_nothing_down() {
        for priority in [Priority::Usual, Priority::Low] {
            assert_eq!(run(priority, || -> u32 { panic!("on purpose") }).await, None);
            assert_eq!(run(priority, || 7).await, Some(7));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn low_priority_gives_way_and_not_for_ever() {
        // SAFETY: it asks for a number.
        #[allow(unsafe_code)]
        let class = || unsafe { libc::sched_getscheduler(0) };
        let (idle, usual) = (libc::SCHED_IDLE, libc::SCHED_OTHER);
        assert_eq!(run(Priority::Low, move || rayon::join(class, class)).await, Some((idle, idle)));
        assert_eq!((run(Priority::Usual, class).await, class()), (Some(usual), usual));
        let waited = run_behind(Duration::ZERO, move || {
            while class() == idle {
                std::thread::yield_now();
            }
            class()
        });
        assert_eq!(waited.await, Some(usual));
    }
}
