//! The one writer: commits as much as is waiting at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::{Live, WriteError, blocking, in_time};
use crate::observe::Stage;
use crate::store::{Changes, Committed, Outcome, StoreError, Write};

/// Rows of one transaction, about.
const ROWS: usize = 8192;

/// Something to keep, and whom to tell.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) answer: oneshot::Sender<Result<Outcome, WriteError>>,
}

/// Keeps what is waiting until it ends, and then what still waits.
pub(super) async fn write(live: Arc<Live>, mut waiting: mpsc::Receiver<Job>, mut ended: oneshot::Receiver<()>) {
    loop {
        let first = tokio::select! {
            first = waiting.recv() => first,
            _ = &mut ended, if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let (mut rows, mut jobs) = (first.write.len(), vec![first]);
        while rows < ROWS
            && let Ok(job) = waiting.try_recv()
        {
            rows += job.write.len();
            jobs.push(job);
        }
        keep(&live, jobs).await;
    }
}

async fn keep(live: &Live, jobs: Vec<Job>) {
    let (writes, answers): (Vec<Write>, Vec<_>) = jobs.into_iter().map(|job| (job.write, job.answer)).unzip();
    let began = Instant::now();
    let outcome = match in_time(live.store.commit(&writes)).await {
        Ok(committed) => {
            live.metrics.stage(Stage::Commit, began.elapsed());
            let began = Instant::now();
            let taken_over = live.take_over(committed).await;
            live.metrics.stage(Stage::Apply, began.elapsed());
            taken_over
        }
        Err(error) => Err(error),
    };
    // Whoever asked may be gone.
    match outcome {
        Ok(outcomes) => {
            let kept = writes.iter().zip(&outcomes).filter(|(write, _)| matches!(write, Write::Events(_)));
            live.metrics.events(kept.map(|(_, outcome)| outcome.accepted).sum());
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let _ = answer.send(Ok(outcome));
            }
            if writes.iter().any(|write| matches!(write, Write::Erase(..))) {
                live.must_checkpoint.store(true, Ordering::Relaxed);
            }
            live.note_store(Ok(()));
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(WriteError::Unavailable(error.clone())));
            }
            tracing::error!(%error, "nothing of what was asked could be kept");
            live.is_store_down.store(true, Ordering::Relaxed);
        }
    }
}

impl Live {
    /// Changes the snapshot by what was committed.
    async fn take_over(&self, committed: Committed) -> Result<Vec<Outcome>, StoreError> {
        let Committed { before, last, changes, outcomes } = committed;
        let mut bound = self.bound.clone().lock_owned().await;
        if bound.seq >= last || before == last {
            // Whoever follows the store was faster, or nothing changed.
            return Ok(outcomes);
        }
        let changes = if bound.seq == before {
            Changes { last, list: changes }
        } else {
            // Others wrote in between, and may have written since.
            self.store.changes(bound.seq, bound.unlearned).await?
        };
        let bound = blocking(move || {
            bound.apply(&changes);
            bound
        });
        if let Some(bound) = bound.await {
            self.publish(&bound);
        }
        Ok(outcomes)
    }
}
