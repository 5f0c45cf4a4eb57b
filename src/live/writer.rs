//! The one writer: commits as much as is waiting at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{Live, PART, WriteError, blocking};
use crate::observe::Stage;
use crate::store::{Change, Changes, Committed, Outcome, StoreError, Write, in_time};

/// Rows of one transaction, about.
const ROWS: usize = 8192;
/// Statements of one, about: others wait for so long, and what takes too long is not kept at all.
const STATEMENTS: usize = 2000;

/// Something to keep, and whom to tell.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) answer: oneshot::Sender<Result<Outcome, WriteError>>,
    pub(super) _room: OwnedSemaphorePermit,
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
        let (mut rows, mut statements) = (first.write.rows(), first.write.statements());
        let mut jobs = vec![first];
        while rows < ROWS
            && statements < STATEMENTS
            && let Ok(job) = waiting.try_recv()
        {
            (rows, statements) = (rows + job.write.rows(), statements + job.write.statements());
            jobs.push(job);
        }
        // A contact whose claimer never hears of it would never be sent.
        jobs.retain(|job| !(matches!(job.write, Write::Claim(..)) && job.answer.is_closed()));
        if !jobs.is_empty() {
            keep(&live, jobs).await;
        }
    }
}

async fn keep(live: &Live, jobs: Vec<Job>) {
    let (writes, answers): (Vec<Write>, Vec<_>) = jobs.into_iter().map(|job| (job.write, job.answer)).unzip();
    let (began, served) = (Instant::now(), live.seq.load(Ordering::Relaxed));
    // Whoever asked may be gone.
    match in_time(live.store.commit(&writes)).await {
        Ok(mut committed) => {
            live.metrics.stage(Stage::Commit, began.elapsed());
            if committed.before < served {
                live.has_gone_back.store(true, Ordering::Relaxed);
            }
            let (began, outcomes) = (Instant::now(), std::mem::take(&mut committed.outcomes));
            // It is kept, whatever becomes of it here: who asks again would be told that it was done before.
            let taken_over = live.take_over(committed).await;
            live.metrics.stage(Stage::Apply, began.elapsed());
            let kept = writes.iter().zip(&outcomes).filter(|(write, _)| matches!(write, Write::Events(_)));
            live.metrics.events(kept.map(|(_, outcome)| outcome.accepted).sum());
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let _ = answer.send(Ok(outcome));
            }
            if writes.iter().any(|write| matches!(write, Write::Erase(..))) {
                live.must_checkpoint.store(true, Ordering::Relaxed);
            }
            live.note_store(taken_over);
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(WriteError::Unavailable(error.clone())));
            }
            if !matches!(*error, StoreError::Damaged(..)) {
                live.note_store(Err::<(), _>(error));
            }
        }
    }
}

impl Live {
    /// Changes the snapshot by what was committed; where that fails, whoever follows the store does.
    async fn take_over(&self, committed: Committed) -> Result<(), StoreError> {
        let Committed { before, last, changes, .. } = committed;
        let mut bound = self.bound.clone().lock_owned().await;
        if bound.seq >= last || before == last {
            // Whoever follows the store was faster, or nothing changed.
            return Ok(());
        }
        let changes = if bound.seq == before {
            Changes { last, list: changes }
        } else if last - bound.seq <= PART {
            // Others wrote in between, and may have written since.
            let Some(changes) = self.next_changes(&bound).await? else { return Ok(()) };
            changes
        } else {
            // More than a write waits for. What is said is said once and for all, and holds now; events count after those before
            // them.
            let is_said = |change: &Change| !matches!(change, Change::Event { .. });
            Changes { last: bound.seq, list: changes.into_iter().filter(is_said).collect() }
        };
        let bound = blocking(move || {
            bound.apply(&changes);
            bound
        });
        let bound = bound.await.ok_or(StoreError::NotTakenOver)?;
        self.publish(&bound);
        Ok(())
    }
}
