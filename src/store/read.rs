//! Reading: what changed since a number.

use futures_util::TryStreamExt;
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::outreach::{ContactStatus, REMEMBERED_DAYS, Times};
use kindred_models::state::{Kept, ProductPatch, Profile, SEEN_DAYS};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};
use tokio::sync::mpsc;

use super::pages::{Of, Pages};
use super::rows::{Change, ContactNow, StoredContact, StoredEvent};
use super::{Backend, Store, StoreError, in_time};

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
        self.is_in_place()?;
        Ok(sqlx::query("SELECT seq FROM clock WHERE id = 1").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// Whether nobody was heard of, and nothing was said, since it was begun; keys and the log of who did what apart.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn is_untold(&self) -> Result<bool, StoreError> {
        for table in ["events", "members", "products", "tombstones", "contacts"] {
            let text = format!("SELECT 1 FROM {table} LIMIT 1");
            if sqlx::query(&text).fetch_optional(&self.pool).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The key that ids are hashed with.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn hash_key(&self) -> Result<[u8; 32], StoreError> {
        hash_key(&sqlx::query("SELECT hash_key FROM clock WHERE id = 1").fetch_one(&self.pool).await?)
    }

    /// What changed after a number, and within so many that follow it; of events, those alone that a version does not know.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn changes(&self, after: i64, most: i64, events: From) -> Result<Changes, StoreError> {
        let (to, mut batches) = mpsc::channel(1);
        let collect = async {
            let mut list = Vec::new();
            while let Some(batch) = batches.recv().await {
                list.extend(batch);
            }
            list
        };
        let (last, list) = tokio::join!(self.send_changes(after, most, events, to), collect);
        Ok(Changes { last: last?, list })
    }

    /// The same a batch at a time, as there may be more than fits into memory; gives the number of the last change. What is
    /// said of products, up to now, is one batch, and comes before what speaks of them; who must be forgotten is one, too.
    ///
    /// # Errors
    /// As [`changes`](Self::changes).
    pub async fn send_changes(
        &self,
        after: i64,
        most: i64,
        events: From,
        to: mpsc::Sender<Vec<Change>>,
    ) -> Result<i64, StoreError> {
        let mut tx = in_time(self.begin_read()).await?;
        let newest: i64 = sqlx::query("SELECT seq FROM clock WHERE id = 1").fetch_one(&mut *tx).await?.try_get(0)?;
        let last = newest.min(after.saturating_add(most));
        if last > after {
            let mut changed = Changed { tx: &mut tx, backend: self.backend, after, last, newest, to };
            changed.erased().await?;
            changed.members().await?;
            changed.products().await?;
            changed.contacts().await?;
            changed.learned(events).await?;
            changed.events(events).await?;
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

/// Asks for the lowest number of an event after a moment. As a sum, so that they are found by their time, and not one after the
/// other by number.
const FIRST_BY_TIME: &str = "SELECT min(seq + 0) FROM events WHERE time > $1";

/// What changed after a number and up to another, on its way.
struct Changed<'a> {
    tx: &'a mut Transaction<'static, Any>,
    backend: Backend,
    after: i64,
    last: i64,
    /// The last of all that there are.
    newest: i64,
    to: mpsc::Sender<Vec<Change>>,
}

impl Changed<'_> {
    async fn erased(&mut self) -> Result<(), StoreError> {
        let (mut pages, mut hashes) = (self.pages("tombstones", "hash", None), Vec::new());
        while let Some(page) = pages.next::<(String,)>(self.tx).await? {
            hashes.extend(page.into_iter().map(|(hash,)| hash));
        }
        // All at once: the ids of the whole base are looked through for them.
        if !hashes.is_empty() {
            self.send(vec![Change::Tombstones(hashes)]).await;
        }
        Ok(())
    }

    async fn members(&mut self) -> Result<(), StoreError> {
        let mut pages = self.pages("members", "member_id, profile", None);
        while let Some(page) = pages.next::<(String, String)>(self.tx).await? {
            let member = |(id, profile): (String, String)| Ok(Change::Member(id, profile_of(&profile)?));
            self.send(page.into_iter().map(member).collect::<Result<_, StoreError>>()?).await;
        }
        Ok(())
    }

    async fn products(&mut self) -> Result<(), StoreError> {
        let of = Of { table: "products", columns: "product_id, patch", only: None, since: None };
        let (mut pages, mut list) = (Pages::new(self.backend, of, (self.after, self.newest)), Vec::new());
        while let Some(page) = pages.next::<(String, String)>(self.tx).await? {
            for (id, patch) in page {
                list.push(Change::Product(id, patch_of(&patch)?));
            }
        }
        self.send(list).await;
        Ok(())
    }

    async fn contacts(&mut self) -> Result<(), StoreError> {
        let since = crate::clock::unix_now() - REMEMBERED_DAYS * DAY_SECONDS;
        let columns = "contact_id, member_id, product_id, channel, priority, time, until, status, said_at";
        let mut pages = self.pages("contacts", columns, Some(("(time > $3 OR said_at > $3)", since)));
        while let Some(page) = pages.next(self.tx).await? {
            self.send(page.into_iter().map(contact_now).collect::<Result<_, StoreError>>()?).await;
        }
        Ok(())
    }

    /// What members were interested in lately, and the messages that others sent them, of what the version learned: it knows how
    /// much they like what, and how often they were told something, but not when, nor of what. Whoever asks for what came
    /// later has it.
    async fn learned(&mut self, unlearned: From) -> Result<(), StoreError> {
        if self.after > 0 {
            return Ok(());
        }
        let newest = sqlx::query("SELECT max(time) FROM events").fetch_one(&mut **self.tx).await?;
        let Some(newest) = newest.try_get::<Option<i64>, _>(0)? else { return Ok(()) };
        let newest = newest.min(crate::clock::unix_now());
        // From views to shares, and contacts: their places among the kinds.
        const { assert!(Kind::View as u8 == 2 && Kind::Share as u8 == 5 && Kind::Contact as u8 == 6) };
        self.learned_since(unlearned, "kind BETWEEN 2 AND 5", FIRST_BY_TIME, newest - SEEN_DAYS * DAY_SECONDS).await?;
        // Few among all events of months, and found by number.
        let first = "SELECT min(seq) FROM events WHERE kind = 6 AND time > $1";
        self.learned_since(unlearned, "kind = 6", first, newest - REMEMBERED_DAYS * DAY_SECONDS).await
    }

    /// Those of some kinds; `first` asks for the lowest number of one since then.
    async fn learned_since(&mut self, unlearned: From, kinds: &str, first: &str, since: i64) -> Result<(), StoreError> {
        let (upto, until) = match unlearned {
            From::Number(number) => (number.min(self.last), i64::MAX),
            From::Moment(moment) => (self.last, moment),
        };
        if until <= since {
            return Ok(());
        }
        let after = self.first(first, since).await? - 1;
        let columns = "member_id, product_id, kind, time, channel";
        let of = Of { table: "events", columns, only: Some(kinds), since: Some(("time > $3", since)) };
        let mut pages = Pages::new(self.backend, of, (after, upto));
        while let Some(page) = pages.next::<(String, String, i64, i64, Option<String>)>(self.tx).await? {
            let learned = page.into_iter().filter(|(_, _, _, time, _)| *time <= until);
            let learned = learned.map(|(member_id, product_id, kind, time, channel)| {
                Ok(Change::Learned { member_id, product_id, kind: kind_of(kind)?, time, channel })
            });
            self.send(learned.collect::<Result<_, StoreError>>()?).await;
        }
        Ok(())
    }

    async fn events(&mut self, unlearned: From) -> Result<(), StoreError> {
        let since = match unlearned {
            From::Number(number) => {
                self.after = self.after.max(number);
                None
            }
            From::Moment(moment) => {
                // Where the version's events had no times, all are later.
                if self.after == 0 && moment >= DAY_SECONDS {
                    self.after = self.first(FIRST_BY_TIME, moment).await? - 1;
                }
                Some(("time > $3", moment))
            }
        };
        let columns = "member_id, product_id, kind, time, store_id, channel";
        let mut pages = self.pages("events", columns, since);
        while let Some(page) = pages.next(self.tx).await? {
            self.send(page.into_iter().map(live_event).collect::<Result<_, StoreError>>()?).await;
        }
        Ok(())
    }

    /// The lowest number of an event after a moment, so that nobody goes through those of years; where there is none, the next
    /// that there will be.
    async fn first(&mut self, text: &str, moment: i64) -> Result<i64, StoreError> {
        let row = sqlx::query(text).bind(moment).fetch_one(&mut **self.tx).await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.unwrap_or(self.last + 1))
    }

    fn pages(&self, table: &'static str, columns: &'static str, since: Option<(&'static str, i64)>) -> Pages {
        Pages::new(self.backend, Of { table, columns, only: None, since }, (self.after, self.last))
    }

    async fn send(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            // Whoever takes them may have broken off, and says so.
            let _ = self.to.send(changes).await;
        }
    }
}

fn event(row: &AnyRow) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        event_id: row.try_get("event_id")?,
        member_id: row.try_get("member_id")?,
        product_id: row.try_get("product_id")?,
        kind: kind_of(row.try_get("kind")?)?,
        time: row.try_get("time")?,
        quantity: row.try_get("quantity")?,
        amount: row.try_get("amount")?,
        store_id: row.try_get("store_id")?,
        channel: row.try_get("channel")?,
        basket_id: row.try_get("basket_id")?,
    })
}

/// An event, by the columns that a server asks for.
fn live_event(row: (String, String, i64, i64, Option<String>, Option<String>)) -> Result<Change, StoreError> {
    let (member_id, product_id, kind, time, store, channel) = row;
    Ok(Change::Event { member_id, product_id, kind: kind_of(kind)?, time, store, channel })
}

/// A contact, by the columns that a server asks for.
fn contact_now(row: (String, String, String, String, i64, i64, i64, i64, i64)) -> Result<Change, StoreError> {
    let (contact_id, member_id, product_id, channel, priority, from, until, status, said_at) = row;
    Ok(Change::Contact(ContactNow {
        id: ContactNow::id(&contact_id),
        member_id,
        product_id,
        channel,
        priority: priority_of(priority)?,
        times: Times { from, until },
        status: status_of(status)?,
        said_at,
    }))
}

pub(super) fn contact(row: &AnyRow) -> Result<StoredContact, StoreError> {
    Ok(StoredContact {
        contact_id: row.try_get("contact_id")?,
        plan_id: row.try_get("plan_id")?,
        campaign_id: row.try_get("campaign_id")?,
        member_id: row.try_get("member_id")?,
        product_id: row.try_get("product_id")?,
        channel: row.try_get("channel")?,
        priority: priority_of(row.try_get("priority")?)?,
        times: Times { from: row.try_get("time")?, until: row.try_get("until")? },
        status: status_of(row.try_get("status")?)?,
        said_at: row.try_get("said_at")?,
        probability: row.try_get("probability")?,
        value: row.try_get("value")?,
    })
}

fn priority_of(stored: i64) -> Result<u8, StoreError> {
    u8::try_from(stored).map_err(|_| StoreError::Damaged("contacts", format!("priority {stored}")))
}

fn status_of(stored: i64) -> Result<ContactStatus, StoreError> {
    let known = usize::try_from(stored).ok().and_then(|stored| ContactStatus::ALL.get(stored));
    known.copied().ok_or_else(|| StoreError::Damaged("contacts", format!("status {stored}")))
}

fn kind_of(stored: i64) -> Result<Kind, StoreError> {
    let kind = usize::try_from(stored).ok().and_then(|kind| Kind::ALL.get(kind));
    kind.copied().ok_or_else(|| StoreError::Damaged("events", format!("kind {stored}")))
}

pub(super) fn profile(row: &AnyRow) -> Result<Profile, StoreError> {
    profile_of(row.try_get("profile")?)
}

fn profile_of(text: &str) -> Result<Profile, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Damaged("members", e.to_string()))
}

pub(super) fn patch(row: &AnyRow) -> Result<ProductPatch, StoreError> {
    patch_of(row.try_get("patch")?)
}

fn patch_of(text: &str) -> Result<ProductPatch, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Damaged("products", e.to_string()))
}

pub(super) fn hash_key(row: &AnyRow) -> Result<[u8; 32], StoreError> {
    let text: String = row.try_get("hash_key")?;
    let key = blake3::Hash::from_hex(&text).map_err(|e| StoreError::Damaged("clock", e.to_string()))?;
    Ok(*key.as_bytes())
}
