//! Writing: several writes in one transaction, each done in whole or not at all.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kindred_models::events::DAY_SECONDS;
use kindred_models::outreach::REMEMBERED_DAYS;
use kindred_models::state::{ProductPatch, Profile, hash};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::contacts::{Claim, Refusal, Said};
use super::keys::{Entry, append};
use super::plans::{NewPlan, Plan};
use super::reserve::{Budget, Reservation};
use super::rows::{Change, StoredEvent};
use super::{Backend, CHANNEL, Store, StoreError};
use crate::clock::unix_now;

/// Rows of one statement: its parameters stay below what SQLite takes.
pub(super) const ROWS: usize = 1000;
/// Columns of an event.
const EVENT_COLUMNS: usize = 11;

/// What is to be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Events.
    Events(Vec<StoredEvent>),
    /// What is said of members, by id.
    Members(Vec<(String, Profile)>),
    /// What is said of products, by id.
    Products(Vec<(String, ProductPatch)>),
    /// Contacts that a plan wants, as far as there is room.
    Reserve(Reservation),
    /// Contacts that are about to go out, and what decides whether they may.
    Claim(Vec<Claim>, Budget),
    /// What became of contacts.
    Confirm(Vec<Said>),
    /// A plan to begin, or to go on with.
    BeginPlan(NewPlan),
    /// A plan that has all it can get.
    FinishPlan(String),
    /// A plan to call off, and when; asked again until nothing of it is left.
    CancelPlan(String, i64),
    /// A member to forget, and who asked for it.
    Erase(String, Entry),
    /// What must be accounted for.
    Audit(Vec<Entry>),
}

/// What became of one write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Events that are kept now, and contacts that were reserved, may go out, changed or were called off.
    pub accepted: usize,
    /// Members who are held out of those whom contacts were to be reserved for.
    pub held_out: usize,
    /// Places of products of which nothing was said before.
    pub new: Vec<usize>,
    /// Events that were kept already, and contacts of which nothing new was said.
    pub duplicates: usize,
    /// The plan as it is now, or, once it is called off, as it was; of one that has no room left for what is to be reserved,
    /// or that nobody made, nothing.
    pub plan: Option<Plan>,
    /// Places of contacts that were refused, and why.
    pub refused: Vec<(usize, Refusal)>,
    /// Places of what speaks of members who must be forgotten: not kept.
    pub of_erased: Vec<usize>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The number of the last change before.
    pub before: i64,
    /// The number of its last change.
    pub last: i64,
    /// What is different, in order.
    pub changes: Vec<Change>,
    /// By write.
    pub outcomes: Vec<Outcome>,
}

impl Write {
    /// How many rows it may change.
    pub fn rows(&self) -> usize {
        match self {
            Self::Events(events) => events.len(),
            Self::Members(members) => members.len(),
            Self::Products(products) => products.len(),
            Self::Erase(..) => 1,
            // All contacts of one statement share a number, and the others are not taken: whoever follows counts rows by numbers.
            Self::CancelPlan(..) => ROWS,
            Self::Reserve(reservation) => reservation.wanted.len(),
            Self::Claim(claims, _) => claims.len(),
            Self::Confirm(said) => said.len(),
            // It changes nothing that anybody follows.
            Self::BeginPlan(_) | Self::FinishPlan(_) | Self::Audit(_) => 0,
        }
    }

    /// How many statements it takes, about: for so long other writers wait.
    pub fn statements(&self) -> usize {
        match self {
            Self::Events(events) => events.len().div_ceil(ROWS),
            Self::Members(members) => 2 * members.len().div_ceil(ROWS),
            Self::Products(products) => 2 * products.len().div_ceil(ROWS),
            Self::Reserve(reservation) => reservation.wanted.len(),
            Self::Claim(claims, _) => 6 * claims.len().div_ceil(ROWS),
            Self::Confirm(said) => said.len(),
            Self::Erase(..) => 9,
            Self::BeginPlan(_) | Self::FinishPlan(_) | Self::CancelPlan(..) => 3,
            Self::Audit(entries) => 3 * entries.len(),
        }
    }

    /// The members that it speaks of.
    fn member_ids(&self) -> Vec<&str> {
        match self {
            Self::Events(events) => events.iter().map(|e| e.member_id.as_str()).collect(),
            Self::Members(members) => members.iter().map(|(id, _)| id.as_str()).collect(),
            // Of those whom contacts speak of, it is asked with them.
            _ => Vec::new(),
        }
    }
}

impl Store {
    /// Keeps all of these writes, or none. Durable when it returns.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn commit(&self, writes: &[Write]) -> Result<Committed, StoreError> {
        let rows: usize = writes.iter().map(Write::rows).sum();
        let mut tx = Tx::begin(self, rows).await?;
        let mut gone = tx.erased(writes).await?;
        let mut outcomes = vec![Outcome::default(); writes.len()];
        for (write, outcome) in writes.iter().zip(&mut outcomes) {
            match write {
                Write::Events(events) => tx.keep_events(events, &gone, outcome).await?,
                Write::Members(members) => {
                    let mut said = Vec::with_capacity(members.len());
                    for (at, (id, profile)) in members.iter().enumerate() {
                        match gone.contains(id) {
                            true => outcome.of_erased.push(at),
                            false => said.push((id, profile)),
                        }
                    }
                    tx.keep_said(&said).await?;
                }
                Write::Products(products) => {
                    let said: Vec<_> = products.iter().map(|(id, patch)| (id, patch)).collect();
                    let was_known = tx.keep_said(&said).await?;
                    outcome.new = (0..was_known.len()).filter(|at| !was_known[*at]).collect();
                }
                Write::Reserve(wanted) => tx.reserve(wanted, outcome).await?,
                Write::Claim(claims, budget) => tx.claim(claims, budget, outcome).await?,
                Write::Confirm(said) => tx.confirm(said, outcome).await?,
                Write::BeginPlan(plan) => tx.begin_plan(plan, outcome).await?,
                Write::FinishPlan(plan_id) => tx.finish_plan(plan_id).await?,
                Write::CancelPlan(plan_id, now) => tx.cancel(plan_id, *now, outcome).await?,
                Write::Erase(id, by) => {
                    tx.erase(id).await?;
                    gone.insert(id.clone());
                    append(&mut tx.transaction, by.clone()).await?;
                }
                Write::Audit(entries) => {
                    for entry in entries {
                        append(&mut tx.transaction, entry.clone()).await?;
                    }
                }
            }
        }
        let committed = Committed { before: tx.before, last: tx.last, changes: tx.changes, outcomes };
        if self.backend == Backend::Postgres {
            sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(&mut *tx.transaction).await?;
        }
        tx.transaction.commit().await?;
        self.is_in_place()?;
        Ok(committed)
    }

    /// Deletes some of the events that are older than so many seconds, and some contacts and plans that nobody remembers any
    /// more; gives how many. Not all at once: writers wait meanwhile.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn delete_some_older(&self, seconds: i64) -> Result<u64, StoreError> {
        let now = self.now().await?;
        let time = now - seconds;
        let forgotten = time.min(now - REMEMBERED_DAYS * DAY_SECONDS);
        let (mut deleted, some) = (0, "LIMIT 1000");
        for (table, name, old, time) in [
            ("events", "event_id", "time < $1 AND kind <> 6", time),
            // Messages of others count for as long as ours do.
            ("events", "event_id", "time < $1 AND kind = 6", forgotten),
            ("contacts", "contact_id", "time < $1 AND said_at < $1", forgotten),
            (
                "held_out",
                "contact_id",
                "time < $1 AND NOT EXISTS (SELECT 1 FROM contacts WHERE contacts.plan_id = held_out.plan_id)",
                forgotten,
            ),
            (
                "plans",
                "plan_id",
                "time < $1 AND NOT EXISTS (SELECT 1 FROM contacts WHERE contacts.plan_id = plans.plan_id)",
                forgotten,
            ),
        ] {
            let old = format!("SELECT {name} FROM {table} WHERE {old} {some}");
            let text = format!("DELETE FROM {table} WHERE {name} IN ({old})");
            deleted += sqlx::query(&text).bind(time).execute(&self.pool).await?.rows_affected();
        }
        Ok(deleted)
    }

    /// Now, in unix seconds, for what can't be taken back: one of several servers, whose clock runs ahead, must not delete
    /// what all of them keep.
    async fn now(&self) -> Result<i64, StoreError> {
        let here = unix_now();
        if self.backend == Backend::Sqlite {
            return Ok(here);
        }
        let asked = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)").fetch_one(&self.pool);
        Ok(here.min(asked.await?.try_get(0)?))
    }
}

/// A transaction that has its numbers.
pub(super) struct Tx {
    pub(super) backend: Backend,
    pub(super) transaction: Transaction<'static, Any>,
    before: i64,
    last: i64,
    /// The number of the change that comes next.
    next: i64,
    erasures: i64,
    hash_key: [u8; 32],
    pub(super) changes: Vec<Change>,
}

impl Tx {
    async fn begin(store: &Store, rows: usize) -> Result<Self, StoreError> {
        let mut transaction = store.pool.begin().await?;
        // First of all, so that others wait, and nothing is read that they are about to change.
        let taken = "UPDATE clock SET seq = seq + $1 WHERE id = 1 RETURNING seq, erasures, hash_key";
        let row = sqlx::query(taken).bind(rows as i64).fetch_one(&mut *transaction).await?;
        let last: i64 = row.try_get("seq")?;
        let before = last - rows as i64;
        let (erasures, hash_key) = (row.try_get("erasures")?, super::read::hash_key(&row)?);
        Ok(Self {
            backend: store.backend,
            transaction,
            before,
            last,
            next: before + 1,
            erasures,
            hash_key,
            changes: Vec::new(),
        })
    }

    /// The number of one more change.
    pub(super) fn number(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn hash(&self, id: &str) -> String {
        hash(&self.hash_key, id)
    }

    /// Those of the members spoken of who must be forgotten.
    async fn erased(&mut self, writes: &[Write]) -> Result<HashSet<String>, StoreError> {
        if self.erasures == 0 {
            return Ok(HashSet::new());
        }
        let ids: BTreeSet<&str> = writes.iter().flat_map(Write::member_ids).collect();
        let by_hash: BTreeMap<String, &str> = ids.into_iter().map(|id| (self.hash(id), id)).collect();
        let hashes: Vec<&String> = by_hash.keys().collect();
        let mut erased = HashSet::new();
        for chunk in hashes.chunks(ROWS) {
            let asked = format!("SELECT hash FROM tombstones WHERE hash IN ({})", list(chunk.len()));
            let query = chunk.iter().fold(sqlx::query(&asked), |query, hash| query.bind(hash.as_str()));
            for row in query.fetch_all(&mut *self.transaction).await? {
                let hash: String = row.try_get(0)?;
                erased.extend(by_hash.get(&hash).map(|id| (*id).to_owned()));
            }
        }
        Ok(erased)
    }

    async fn keep_events(
        &mut self,
        events: &[StoredEvent],
        gone: &HashSet<String>,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut numbered = Vec::with_capacity(events.len());
        for (at, event) in events.iter().enumerate() {
            let number = self.number();
            match gone.contains(&event.member_id) {
                true => outcome.of_erased.push(at),
                false => numbered.push((number, event)),
            }
        }
        for chunk in numbered.chunks(ROWS) {
            let kept = self.insert_events(chunk).await?;
            outcome.accepted += kept.len();
            outcome.duplicates += chunk.len() - kept.len();
            let new = chunk.iter().filter(|(number, _)| kept.contains(number));
            self.changes.extend(new.map(|(_, event)| Change::Event {
                member_id: event.member_id.clone(),
                product_id: event.product_id.clone(),
                kind: event.kind,
                time: event.time,
                store: event.store_id.clone(),
                channel: event.channel.clone(),
            }));
        }
        Ok(())
    }

    /// Keeps numbered events; gives the numbers of those that were not kept before.
    async fn insert_events(&mut self, events: &[(i64, &StoredEvent)]) -> Result<HashSet<i64>, StoreError> {
        let sql = insert_events(self.backend, events.len());
        let mut query = sqlx::query(&sql);
        for (number, e) in events {
            query = query.bind(number).bind(&e.event_id).bind(&e.member_id).bind(&e.product_id);
            query = query.bind(e.kind as i16).bind(e.time).bind(e.quantity).bind(e.amount);
            query = query.bind(&e.store_id).bind(&e.channel).bind(&e.basket_id);
        }
        let rows = query.fetch_all(&mut *self.transaction).await?;
        rows.iter().map(|row: &AnyRow| Ok(row.try_get::<i64, _>(0)?)).collect()
    }

    async fn erase(&mut self, id: &str) -> Result<(), StoreError> {
        let (number, hash) = (self.number(), self.hash(id));
        for table in ["events", "contacts", "held_out", "members"] {
            let gone = format!("DELETE FROM {table} WHERE member_id = $1");
            sqlx::query(&gone).bind(id).execute(&mut *self.transaction).await?;
        }
        let kept = "INSERT INTO tombstones (hash, seq) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
        let new = sqlx::query(kept).bind(&hash).bind(number).execute(&mut *self.transaction).await?;
        let counted = "UPDATE clock SET erasures = erasures + $1 WHERE id = 1";
        sqlx::query(counted).bind(new.rows_affected() as i64).execute(&mut *self.transaction).await?;
        self.changes.push(Change::Erased(id.to_owned()));
        Ok(())
    }
}

/// The statement that keeps so many events, and gives the numbers of those that are new.
fn insert_events(backend: Backend, count: usize) -> String {
    format!(
        "INSERT INTO events (seq, event_id, member_id, product_id, kind, time, quantity, amount, store_id, channel, \
         basket_id) VALUES {} ON CONFLICT (event_id) DO NOTHING RETURNING seq",
        values(backend, count, EVENT_COLUMNS)
    )
}

/// Parameters for so many rows to insert.
pub(super) fn values(backend: Backend, rows: usize, columns: usize) -> String {
    // SQLite looks a parameter with a name or number up among all others, which takes six times as long as the rest.
    let parameter = |number: usize| match backend {
        Backend::Sqlite => "?".to_owned(),
        Backend::Postgres => format!("${number}"),
    };
    let row = |row: usize| {
        let parameters: Vec<String> = (1..=columns).map(|c| parameter(row * columns + c)).collect();
        format!("({})", parameters.join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

/// Parameters for a list of so many.
pub(super) fn list(count: usize) -> String {
    (1..=count).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ")
}
