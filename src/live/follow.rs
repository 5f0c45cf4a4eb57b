//! Follows the store: what others write, what was restored, and what was kept long enough.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Bound, Live, PART, blocking};
use crate::access::Keys;
use crate::store::{Changes, Rewritten, StoreError, in_time};

/// Time between two looks at what others wrote, and at what became popular.
const FOLLOW: Duration = Duration::from_secs(1);
/// Time between two looks at what was told of products before they were described, at least, as the version is loaded again
/// for it; where that takes long, ten times as long.
const DESCRIBED: Duration = Duration::from_secs(60);
/// Time between two looks for events that are kept long enough.
const CLEAR: Duration = Duration::from_secs(3600);

/// Bytes of an SQLite file that is written anew after erasures while the server runs; a larger one would take longer than
/// writers wait.
const REWRITTEN_BYTES: u64 = 256 << 20;

impl Live {
    /// Takes over what others wrote, soon after they did.
    pub(super) async fn follow_store(self: Arc<Self>) {
        let mut listener = None;
        loop {
            if listener.is_none() {
                listener = in_time(self.store.listener()).await.ok().flatten();
            }
            match &mut listener {
                Some(told) => {
                    // Whatever is heard, or nothing, or the connection is lost: it is time to look.
                    if let Ok(Err(_)) = tokio::time::timeout(FOLLOW, told.recv()).await {
                        listener = None;
                        tokio::time::sleep(FOLLOW).await;
                    } else {
                        // One look is for all that were told of by now.
                        while told.next_buffered().is_some() {}
                    }
                }
                None => tokio::time::sleep(FOLLOW).await,
            }
            let mut caught_up = self.catch_up().await;
            if caught_up.is_ok() && self.is_store_down() {
                // One that can be read may take nothing, such as on a full disk, or little.
                caught_up = in_time(self.store.can_write()).await;
            }
            if self.has_gone_back.load(Ordering::Relaxed) {
                self.start_over().await;
            }
            // Whoever is erased meanwhile asks for another.
            if self.must_checkpoint.swap(false, Ordering::Relaxed) && !matches!(self.store.checkpoint().await, Ok(true))
            {
                self.must_checkpoint.store(true, Ordering::Relaxed);
            }
            if self.note_store(caught_up).is_some() {
                self.pay().await;
            }
        }
    }

    /// Takes over what the store holds and the snapshot does not know, and what became popular.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let last = in_time(self.store.last()).await?;
        if self.keys_seq.load(Ordering::Relaxed) != last {
            // Keys are made on the command line, by others; whoever else took their change over did not look at them.
            let keys = Keys::new(in_time(self.store.keys()).await?, &self.keys());
            *self.keys.write() = Arc::new(keys);
            self.keys_seq.store(last, Ordering::Relaxed);
        }
        while self.catch_up_some(last).await? {}
        Ok(())
    }

    /// Takes over the next changes up to a number, and what became popular; gives whether there are more. Writes get their turn
    /// between them.
    async fn catch_up_some(&self, last: i64) -> Result<bool, StoreError> {
        let mut bound = self.bound.clone().lock_owned().await;
        // What was committed meanwhile serves already.
        let last = if last < bound.seq { in_time(self.store.last()).await? } else { last };
        self.lag.store((last - bound.seq).max(0), Ordering::Relaxed);
        if last < bound.seq {
            self.has_gone_back.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        let changes = if bound.seq < last {
            let Some(changes) = self.next_changes(&bound).await? else { return Ok(false) };
            Some(changes)
        } else if bound.is_unranked {
            None
        } else {
            return Ok(false);
        };
        let bound = blocking(move || {
            if let Some(changes) = changes {
                bound.apply(&changes);
            }
            bound.rank();
            bound
        });
        let bound = bound.await.ok_or(StoreError::NotTakenOver)?;
        self.publish(&bound);
        self.lag.store((last - bound.seq).max(0), Ordering::Relaxed);
        Ok(bound.seq < last)
    }

    /// The changes after those that a version knows, as many as are taken over at once; `None` where the store stands before it,
    /// as it was restored.
    pub(super) async fn next_changes(&self, bound: &Bound) -> Result<Option<Changes>, StoreError> {
        let changes = in_time(self.store.changes(bound.seq, PART, bound.unlearned)).await?;
        let has_gone_back = changes.last < bound.seq;
        self.has_gone_back.fetch_or(has_gone_back, Ordering::Relaxed);
        Ok((!has_gone_back).then_some(changes))
    }

    /// Binds the version that serves to the store as it stands: one that was restored numbers other changes as those that
    /// serve.
    pub(super) async fn start_over(&self) {
        match self.reload().await {
            Ok(()) => {
                self.has_gone_back.store(false, Ordering::Relaxed);
                tracing::warn!("the state store was restored to an earlier state; serving what it holds now");
            }
            Err(error) => {
                tracing::error!(%error, "the state store was restored, and what it holds can't be served yet")
            }
        }
    }

    /// Binds the version that serves to the store again once products are described that it names: beside what others wrote,
    /// which does not wait for it.
    pub(super) async fn follow_descriptions(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FOLLOW).await;
            // Whoever activates a version binds it to all that is there.
            if !self.is_outdated.load(Ordering::Relaxed) || self.loading.try_lock().is_err() {
                continue;
            }
            let began = Instant::now();
            match self.reload().await {
                Ok(()) => tracing::info!("what was told of products before they were described counts now"),
                Err(error) => {
                    tracing::warn!(%error, "what was told of products before they were described is not read")
                }
            }
            tokio::time::sleep(DESCRIBED.max(10 * began.elapsed())).await;
        }
    }

    /// Deletes events that were kept long enough.
    pub(super) async fn clear(self: Arc<Self>, retain: Duration) {
        let mut gone = 0;
        loop {
            match self.store.rewrite_erased(REWRITTEN_BYTES).await {
                Ok(Rewritten::Done | Rewritten::NoFile) => {}
                Ok(Rewritten::Busy) => self.must_checkpoint.store(true, Ordering::Relaxed),
                Ok(Rewritten::TooLarge) => tracing::warn!(
                    "parts of erased members' rows may be left in the state store's file, which is large: kindred state vacuum"
                ),
                Err(error) => tracing::warn!(%error, "what is left of erased members can't be overwritten"),
            }
            let start = Instant::now();
            let pause = match self.store.delete_some_older(retain.as_secs() as i64).await {
                Ok(0) => {
                    if gone > 0 {
                        tracing::info!(count = gone, "what was kept long enough is gone");
                    }
                    gone = 0;
                    CLEAR
                }
                Ok(count) => {
                    gone += count;
                    // Whoever writes gets as much of the time.
                    start.elapsed()
                }
                Err(error) => {
                    tracing::warn!(%error, "old events can't be deleted");
                    CLEAR
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
