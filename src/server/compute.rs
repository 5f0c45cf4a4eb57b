//! Computation, off the async threads.

use std::sync::Arc;

use kindred_models::stop::Stop;

use super::status::Problem;
use crate::error::Error;

/// A pool of threads that compute, as many as there are cores. Jobs wait in order.
#[derive(Clone, Debug)]
pub(super) struct Compute(Arc<rayon::ThreadPool>);

impl Compute {
    /// A pool of so many threads; 0 for one per core.
    pub(super) fn new(threads: usize) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("compute-{i}"))
            // Without a handler, rayon aborts the process. The caller is answered INTERNAL.
            .panic_handler(|_| tracing::error!("a computation panicked"))
            .build();
        Ok(Self(Arc::new(pool.map_err(|e| Error::Serve(e.to_string()))?)))
    }

    /// Runs a job. If the caller goes away, because the call was cancelled or its deadline passed, the
    /// job's flag goes up, and a job that has not begun never does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let guard = RaiseOnDrop(Stop::default());
        let stop = guard.0.clone();
        self.0.spawn_fifo(move || {
            let outcome = stop.check().map_err(Problem::from).and_then(|()| job(&stop));
            // The caller may be gone.
            let _ = answer.send(outcome);
        });
        let outcome = answered.await.unwrap_or(Err(Problem::Broken));
        drop(guard);
        outcome
    }
}

struct RaiseOnDrop(Stop);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_whose_caller_goes_away_is_told_to_stop() {
        let compute = Compute::new(1).unwrap();
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let call = tokio::spawn({
            let compute = compute.clone();
            async move {
                compute
                    .run(move |stop| {
                        began.send(()).unwrap();
                        while !stop.is_raised() {
                            std::thread::yield_now();
                        }
                        ended.send(()).unwrap();
                        Ok(())
                    })
                    .await
            }
        });
        has_begun.await.unwrap();
        call.abort();
        has_ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_job_that_panics_is_answered_and_takes_nothing_down() {
        let compute = Compute::new(1).unwrap();
        let broken = compute.run(|_| -> Result<(), Problem> { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(Problem::Broken)));
        assert_eq!(compute.run(|_| Ok(7)).await.unwrap(), 7);
    }
}
