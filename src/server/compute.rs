//! Computation, off the async threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kindred_models::stop::Stop;
use kindred_training::config::InvalidParameter;
use tracing::Span;

use super::status::Problem;
use crate::error::Error;
use crate::observe::{Metrics, Stage};

/// A pool of threads that compute, as many as `serve.threads` says. Jobs wait in order.
#[derive(Clone, Debug)]
pub(super) struct Compute {
    pool: Arc<rayon::ThreadPool>,
    /// Jobs that wait or run.
    jobs: Arc<AtomicUsize>,
    most: usize,
    metrics: Arc<Metrics>,
}

/// Jobs per thread that may wait or run: more would wait longer than their callers do.
const JOBS_PER_THREAD: usize = 64;

/// Threads at most.
const MOST_THREADS: usize = 1024;

impl Compute {
    /// A pool of so many threads; 0 for one per core.
    pub(super) fn new(threads: usize, metrics: Arc<Metrics>) -> Result<Self, Error> {
        if threads > MOST_THREADS {
            let rule = "must be up to 1024; 0 is one per core";
            return Err(InvalidParameter { name: "serve.threads", value: threads.to_string(), rule }.into());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("compute-{i}"))
            // Without a handler, rayon aborts the process. The caller is answered INTERNAL.
            .panic_handler(|_| tracing::error!("a computation panicked"))
            .build();
        let pool = pool.map_err(|e| Error::Serve(e.to_string()))?;
        let most = JOBS_PER_THREAD * pool.current_num_threads();
        Ok(Self { pool: Arc::new(pool), jobs: Arc::default(), most, metrics })
    }

    /// Runs a job. If the caller goes away, because the call was cancelled or its deadline passed, the
    /// job's flag goes up, and a job that has not begun never does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.run_in(Place::take(self)?, job).await
    }

    /// Runs a job of a call that was taken in, one after the other: it waits as long as it must, and is not turned away
    /// half-way.
    pub(super) async fn go_on<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.run_in(Place::add(self).0, job).await
    }

    async fn run_in<T: Send + 'static>(
        &self,
        place: Place,
        job: impl FnOnce(&Stop) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (metrics, asked) = (self.metrics.clone(), Instant::now());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let guard = RaiseOnDrop(Stop::default());
        let stop = guard.0.clone();
        let (call, queued) = (Span::current(), tracing::info_span!("queue"));
        self.pool.spawn_fifo(move || {
            let _place = place;
            metrics.stage(Stage::Queue, asked.elapsed());
            drop(queued);
            let _computed = tracing::info_span!(parent: &call, "compute").entered();
            let began = Instant::now();
            let outcome = stop.check().map_err(Problem::from).and_then(|()| job(&stop));
            metrics.stage(Stage::Compute, began.elapsed());
            // The caller may be gone.
            let _ = answer.send(outcome);
        });
        let outcome = answered.await.unwrap_or(Err(Problem::Broken));
        drop(guard);
        outcome
    }
}

/// One job's place among those that wait or run.
struct Place {
    jobs: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Place {
    /// Takes one, unless as many are taken as there are.
    fn take(compute: &Compute) -> Result<Self, Problem> {
        let (place, before) = Self::add(compute);
        if before < compute.most { Ok(place) } else { Err(Problem::Overloaded) }
    }

    /// One more, and how many there were.
    fn add(compute: &Compute) -> (Self, usize) {
        let place = Self { jobs: compute.jobs.clone(), metrics: compute.metrics.clone() };
        let before = compute.jobs.fetch_add(1, Ordering::Relaxed);
        compute.metrics.jobs(before + 1);
        (place, before)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.jobs(self.jobs.fetch_sub(1, Ordering::Relaxed) - 1);
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
        let compute = Compute::new(1, Metrics::new()).unwrap();
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
    async fn more_jobs_than_can_wait_are_turned_away() {
        let compute = Compute::new(1, Metrics::new()).unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let compute = compute.clone();
            async move { compute.run(move |_| Ok(held.recv().is_err())).await }
        });
        let wait = async || {
            while compute.jobs.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        wait().await;
        let others: Vec<_> = (1..JOBS_PER_THREAD).map(|_| Place::take(&compute).unwrap()).collect();
        assert!(matches!(compute.run(|_| Ok(())).await, Err(Problem::Overloaded)));
        let next = tokio::spawn({
            let compute = compute.clone();
            async move { compute.go_on(|_| Ok(3)).await }
        });
        while compute.jobs.load(Ordering::Relaxed) <= JOBS_PER_THREAD {
            tokio::task::yield_now().await;
        }
        drop((others, hold));
        assert_eq!(next.await.unwrap().unwrap(), 3, "of a call that was taken in before");
        assert!(first.await.unwrap().unwrap());
        assert!(compute.run(|_| Ok(())).await.is_ok(), "places are given back");
    }

    #[tokio::test]
    async fn a_job_that_panics_is_answered_and_takes_nothing_down() {
        let compute = Compute::new(1, Metrics::new()).unwrap();
        let broken = compute.run(|_| -> Result<(), Problem> { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(Problem::Broken)));
        assert_eq!(compute.run(|_| Ok(7)).await.unwrap(), 7);
    }
}
