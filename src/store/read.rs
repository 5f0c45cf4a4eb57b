//! Reading: what changed since a number.

use futures_util::TryStreamExt;
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::outreach::{ContactStatus, REMEMBERED_DAYS, Times};
use kindred_models::state::{Kept, ProductPatch, Profile};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use tokio::sync::mpsc;

use super::rows::{Change, ContactNow, StoredContact, StoredEvent};
use super::{Backend, Store, StoreError};

/// Changes that are given at once.
const BATCH: usize = 10_000;

/// Which events are not yet part of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Those with a higher number.
    Number(i64),
    /// Those of a later moment, in unix seconds.
    Moment(i64),
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The number of the last change.
    pub last: i64,
    /// What is different now.
    pub list: Vec<Change>,
}

impl Store {
    /// The number of the last change.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn last(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query("SELECT seq FROM clock WHERE id = 1").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// The key that ids are hashed with.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn hash_key(&self) -> Result<[u8; 32], StoreError> {
        hash_key(&sqlx::query("SELECT hash_key FROM clock WHERE id = 1").fetch_one(&self.pool).await?)
    }

    /// What changed after a number; of events, those alone that a version does not know.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn changes(&self, after: i64, events: From) -> Result<Changes, StoreError> {
        let (to, mut batches) = mpsc::channel(1);
        let collect = async {
            let mut list = Vec::new();
            while let Some(batch) = batches.recv().await {
                list.extend(batch);
            }
            list
        };
        let (last, list) = tokio::join!(self.send_changes(after, events, to), collect);
        Ok(Changes { last: last?, list })
    }

    /// The same a batch at a time, as there may be more than fits into memory; gives the number of the last change. What is
    /// said of products is one batch, and comes before what speaks of them.
    ///
    /// # Errors
    /// As [`changes`](Self::changes).
    pub async fn send_changes(
        &self,
        after: i64,
        events: From,
        to: mpsc::Sender<Vec<Change>>,
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin_read().await?;
        let last: i64 = sqlx::query("SELECT seq FROM clock WHERE id = 1").fetch_one(&mut *tx).await?.try_get(0)?;
        if last > after {
            let mut batches = Batches { list: Vec::new(), to };
            erased(&mut tx, after, last, &mut batches.list).await?;
            let text = "SELECT member_id, profile FROM members WHERE seq > $1 AND seq <= $2 ORDER BY seq";
            let mut rows = sqlx::query(text).bind(after).bind(last).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                batches.push(Change::Member(row.try_get("member_id")?, profile(&row)?)).await;
            }
            drop(rows);
            batches.flush().await;
            let text = "SELECT product_id, patch FROM products WHERE seq > $1 AND seq <= $2 ORDER BY seq";
            let mut rows = sqlx::query(text).bind(after).bind(last).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                batches.list.push(Change::Product(row.try_get("product_id")?, patch(&row)?));
            }
            drop(rows);
            batches.flush().await;
            contacts(&mut tx, after, last, &mut batches).await?;
            // From the first number on, a moment leaves few: SQLite is kept from going through all of them by number.
            let by_time = self.backend == Backend::Sqlite && after == 0;
            new_events(&mut tx, (after, last), events, by_time, &mut batches).await?;
            batches.flush().await;
        }
        tx.rollback().await?;
        Ok(last)
    }

    /// All that is kept but the events.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn kept(&self) -> Result<Kept, StoreError> {
        let mut tx = self.begin_read().await?;
        let row = sqlx::query("SELECT seq, hash_key FROM clock WHERE id = 1").fetch_one(&mut *tx).await?;
        let mut kept = Kept { seq: row.try_get("seq")?, hash_key: row.try_get("hash_key")?, ..Kept::default() };
        let rows =
            sqlx::query("SELECT hash FROM tombstones WHERE seq <= $1").bind(kept.seq).fetch_all(&mut *tx).await?;
        kept.erased = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let text = "SELECT member_id, profile FROM members WHERE seq <= $1";
        let mut rows = sqlx::query(text).bind(kept.seq).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            kept.members.insert(row.try_get("member_id")?, profile(&row)?);
        }
        drop(rows);
        let text = "SELECT product_id, patch FROM products WHERE seq <= $1";
        let mut rows = sqlx::query(text).bind(kept.seq).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            kept.products.insert(row.try_get("product_id")?, patch(&row)?);
        }
        drop(rows);
        tx.rollback().await?;
        Ok(kept)
    }

    /// Gives every event after a number and up to another, in order.
    ///
    /// # Errors
    /// If the database does not answer, or what `each` gives.
    pub async fn each_event<E: std::convert::From<StoreError>>(
        &self,
        after: i64,
        upto: i64,
        mut each: impl FnMut(StoredEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        let text = "SELECT * FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq";
        let mut rows = sqlx::query(text).bind(after).bind(upto).fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
            each(event(&row)?)?;
        }
        Ok(())
    }
}

/// Changes on their way, so many at a time.
struct Batches {
    list: Vec<Change>,
    to: mpsc::Sender<Vec<Change>>,
}

impl Batches {
    async fn push(&mut self, change: Change) {
        self.list.push(change);
        if self.list.len() >= BATCH {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        if !self.list.is_empty() {
            // Whoever takes them may have broken off, and says so.
            let _ = self.to.send(std::mem::take(&mut self.list)).await;
        }
    }
}

async fn contacts(
    tx: &mut Transaction<'static, Any>,
    after: i64,
    last: i64,
    batches: &mut Batches,
) -> Result<(), StoreError> {
    let since = crate::clock::unix_now() - REMEMBERED_DAYS * DAY_SECONDS;
    let text = "SELECT contact_id, member_id, product_id, channel, priority, time, until, status, said_at FROM contacts \
                WHERE seq > $1 AND seq <= $2 AND (time > $3 OR said_at > $3) ORDER BY seq";
    let mut rows = sqlx::query(text).bind(after).bind(last).bind(since).fetch(&mut **tx);
    while let Some(row) = rows.try_next().await? {
        batches.push(Change::Contact(contact_now(&row)?)).await;
    }
    Ok(())
}

async fn new_events(
    tx: &mut Transaction<'static, Any>,
    (after, last): (i64, i64),
    events: From,
    by_time: bool,
    batches: &mut Batches,
) -> Result<(), StoreError> {
    let (number, moment) = match events {
        From::Number(number) => (number.max(after), i64::MIN),
        From::Moment(moment) => (after, moment),
    };
    // Where the version's events had no times, the moment is of 1970 and leaves nothing out: the index by number is better.
    let seq = if by_time && moment >= DAY_SECONDS { "+seq" } else { "seq" };
    let text = format!(
        "SELECT member_id, product_id, kind, time, store_id, channel FROM events \
         WHERE {seq} > $1 AND {seq} <= $2 AND time > $3 ORDER BY {seq}"
    );
    let mut rows = sqlx::query(&text).bind(number).bind(last).bind(moment).fetch(&mut **tx);
    while let Some(row) = rows.try_next().await? {
        let event = Change::Event {
            member_id: row.try_get("member_id")?,
            product_id: row.try_get("product_id")?,
            kind: kind(&row)?,
            time: row.try_get("time")?,
            store: row.try_get("store_id")?,
            channel: row.try_get("channel")?,
        };
        batches.push(event).await;
    }
    Ok(())
}

async fn erased(
    tx: &mut Transaction<'static, Any>,
    after: i64,
    last: i64,
    list: &mut Vec<Change>,
) -> Result<(), StoreError> {
    let text = "SELECT hash FROM tombstones WHERE seq > $1 AND seq <= $2 ORDER BY seq";
    let rows = sqlx::query(text).bind(after).bind(last).fetch_all(&mut **tx).await?;
    let hashes: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if !hashes.is_empty() {
        list.push(Change::Tombstones(hashes));
    }
    Ok(())
}

fn event(row: &AnyRow) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        event_id: row.try_get("event_id")?,
        member_id: row.try_get("member_id")?,
        product_id: row.try_get("product_id")?,
        kind: kind(row)?,
        time: row.try_get("time")?,
        quantity: row.try_get("quantity")?,
        amount: row.try_get("amount")?,
        store_id: row.try_get("store_id")?,
        channel: row.try_get("channel")?,
        basket_id: row.try_get("basket_id")?,
    })
}

/// Columns go by their places: there are many rows.
fn contact_now(row: &AnyRow) -> Result<ContactNow, StoreError> {
    Ok(ContactNow {
        id: ContactNow::id(row.try_get(0)?),
        member_id: row.try_get(1)?,
        product_id: row.try_get(2)?,
        channel: row.try_get(3)?,
        priority: priority(row.try_get(4)?)?,
        times: Times { from: row.try_get(5)?, until: row.try_get(6)? },
        status: status(row.try_get(7)?)?,
        said_at: row.try_get(8)?,
    })
}

pub(super) fn contact(row: &AnyRow) -> Result<StoredContact, StoreError> {
    Ok(StoredContact {
        contact_id: row.try_get("contact_id")?,
        plan_id: row.try_get("plan_id")?,
        campaign_id: row.try_get("campaign_id")?,
        member_id: row.try_get("member_id")?,
        product_id: row.try_get("product_id")?,
        channel: row.try_get("channel")?,
        priority: priority(row.try_get("priority")?)?,
        times: Times { from: row.try_get("time")?, until: row.try_get("until")? },
        status: status(row.try_get("status")?)?,
        said_at: row.try_get("said_at")?,
        probability: row.try_get("probability")?,
        value: row.try_get("value")?,
    })
}

fn priority(stored: i64) -> Result<u8, StoreError> {
    u8::try_from(stored).map_err(|_| StoreError::Damaged("contacts", format!("priority {stored}")))
}

fn status(stored: i64) -> Result<ContactStatus, StoreError> {
    let known = usize::try_from(stored).ok().and_then(|stored| ContactStatus::ALL.get(stored));
    known.copied().ok_or_else(|| StoreError::Damaged("contacts", format!("status {stored}")))
}

fn kind(row: &AnyRow) -> Result<Kind, StoreError> {
    let stored: i64 = row.try_get("kind")?;
    let kind = usize::try_from(stored).ok().and_then(|kind| Kind::ALL.get(kind));
    kind.copied().ok_or_else(|| StoreError::Damaged("events", format!("kind {stored}")))
}

pub(super) fn profile(row: &AnyRow) -> Result<Profile, StoreError> {
    let text: String = row.try_get("profile")?;
    serde_json::from_str(&text).map_err(|e| StoreError::Damaged("members", e.to_string()))
}

pub(super) fn patch(row: &AnyRow) -> Result<ProductPatch, StoreError> {
    let text: String = row.try_get("patch")?;
    serde_json::from_str(&text).map_err(|e| StoreError::Damaged("products", e.to_string()))
}

pub(super) fn hash_key(row: &AnyRow) -> Result<[u8; 32], StoreError> {
    let text: String = row.try_get("hash_key")?;
    let key = blake3::Hash::from_hex(&text).map_err(|e| StoreError::Damaged("clock", e.to_string()))?;
    Ok(*key.as_bytes())
}
