//! Plans: how many contacts each may reserve, and whether it goes on.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::commit::{Outcome, ROWS, Tx, list};
use super::contacts::named;
use super::keys::{Entry, append};
use super::read::contact;
use super::rows::{Change, StoredContact};
use super::{Store, StoreError};
use kindred_models::outreach::ContactStatus;

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PlanState {
    /// Places are being reserved, or were when it broke off.
    Open,
    /// It has all places that it got.
    Made,
    /// It was called off.
    Cancelled,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for, as a hash; `None` of a plan that was begun before this was kept.
    pub asked: Option<String>,
    /// Contacts that it may reserve.
    pub most: i64,
    /// Contacts that were reserved for it.
    pub reserved: i64,
    /// How far it is.
    pub state: PlanState,
}

/// A plan to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPlan {
    /// Its name.
    pub plan_id: String,
    /// What is asked for, as a hash: another question may not go on with it.
    pub asked: String,
    /// Contacts that it may reserve.
    pub most: usize,
    /// Who asks.
    pub by: Entry,
}

/// What a contact is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactSubject {
    /// The id of the member who gets it.
    pub member: String,
    /// The id of the product; empty for none.
    pub product: String,
    /// The channel's name.
    pub channel: String,
}

fn plan(row: &AnyRow) -> Result<Plan, StoreError> {
    let state: i64 = row.try_get("state")?;
    let known = [PlanState::Open, PlanState::Made, PlanState::Cancelled];
    let known = usize::try_from(state).ok().and_then(|state| known.get(state).copied());
    let state = known.ok_or_else(|| StoreError::Damaged("plans", format!("state {state}")))?;
    let asked = row.try_get("asked")?;
    Ok(Plan { asked, most: row.try_get("most")?, reserved: row.try_get("reserved")?, state })
}

impl Tx {
    pub(super) async fn plan_row(&mut self, plan_id: &str) -> Result<Option<Plan>, StoreError> {
        let rows = self.rows("SELECT * FROM plans WHERE plan_id = $1", &[plan_id], &[]).await?;
        rows.first().map(plan).transpose()
    }

    /// Begins a plan, or goes on with one of this name that is still open and was asked the same, and accounts for it; tells
    /// how far it is.
    pub(super) async fn begin_plan(&mut self, new: &NewPlan, outcome: &mut Outcome) -> Result<(), StoreError> {
        let NewPlan { plan_id, asked, most, by } = new;
        let begun = "INSERT INTO plans (plan_id, time, most, reserved, state, asked) VALUES ($1, $2, $3, 0, 0, $4) \
            ON CONFLICT (plan_id) DO UPDATE SET most = excluded.most, asked = excluded.asked \
            WHERE plans.state = 0 AND (plans.asked IS NULL OR plans.asked = excluded.asked)";
        let begun = sqlx::query(begun).bind(plan_id).bind(by.time).bind(*most as i64).bind(asked);
        begun.execute(&mut *self.transaction).await?;
        append(&mut self.transaction, by.clone()).await?;
        outcome.plan = self.plan_row(plan_id).await?;
        Ok(())
    }

    /// Those of some plans that were called off.
    pub(super) async fn cancelled(&mut self, plan_ids: &[&str]) -> Result<HashSet<String>, StoreError> {
        if plan_ids.is_empty() {
            return Ok(HashSet::new());
        }
        let (plans, next) = (list(plan_ids.len()), plan_ids.len() + 1);
        let text = format!("SELECT plan_id FROM plans WHERE plan_id IN ({plans}) AND state = ${next}");
        let rows = self.rows(&text, plan_ids, &[PlanState::Cancelled as i64]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn count_reserved(&mut self, plan_id: &str, count: usize) -> Result<(), StoreError> {
        let text = "UPDATE plans SET reserved = reserved + $2 WHERE plan_id = $1";
        sqlx::query(text).bind(plan_id).bind(count as i64).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// A plan that was not called off is made.
    pub(super) async fn finish_plan(&mut self, plan_id: &str) -> Result<(), StoreError> {
        let text = "UPDATE plans SET state = $2 WHERE plan_id = $1 AND state = $3";
        let query = sqlx::query(text).bind(plan_id).bind(PlanState::Made as i16).bind(PlanState::Open as i16);
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Calls a plan off, and up to [`ROWS`] of its reserved contacts: whoever asks repeats it until none is left, so that no
    /// transaction is long.
    pub(super) async fn cancel(&mut self, plan_id: &str, now: i64, outcome: &mut Outcome) -> Result<(), StoreError> {
        outcome.plan = self.plan_row(plan_id).await?;
        if outcome.plan.is_none() {
            return Ok(());
        }
        let number = self.number();
        let off = sqlx::query("UPDATE plans SET state = $2 WHERE plan_id = $1").bind(plan_id);
        off.bind(PlanState::Cancelled as i16).execute(&mut *self.transaction).await?;
        let text = format!("SELECT * FROM contacts WHERE plan_id = $1 AND status = $2 LIMIT {ROWS}");
        let rows = self.rows(&text, &[plan_id], &[ContactStatus::Reserved as i64]).await?;
        let mut contacts: Vec<StoredContact> = rows.iter().map(contact).collect::<Result<_, _>>()?;
        self.become_all(&mut contacts, ContactStatus::Cancelled, now, number).await?;
        outcome.accepted = contacts.len();
        Ok(())
    }

    /// The same for several contacts at once.
    pub(super) async fn become_all(
        &mut self,
        contacts: &mut [StoredContact],
        status: ContactStatus,
        said_at: i64,
        number: i64,
    ) -> Result<(), StoreError> {
        if contacts.is_empty() {
            return Ok(());
        }
        let (names, next) = (list(contacts.len()), contacts.len() + 1);
        let text = format!(
            "UPDATE contacts SET seq = ${next}, status = ${}, said_at = ${} WHERE contact_id IN ({names})",
            next + 1,
            next + 2
        );
        let query = contacts.iter().fold(sqlx::query(&text), |query, contact| query.bind(contact.contact_id.as_str()));
        query.bind(number).bind(status as i16).bind(said_at).execute(&mut *self.transaction).await?;
        for contact in contacts {
            (contact.status, contact.said_at) = (status, said_at);
            self.changes.push(Change::Contact((&*contact).into()));
        }
        Ok(())
    }
}

impl Store {
    /// How far a plan is; `None` of one that nobody began, or that is forgotten.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn begun_plan(&self, plan_id: &str) -> Result<Option<Plan>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM plans WHERE plan_id = $1").bind(plan_id).fetch_optional(&self.pool).await?;
        row.as_ref().map(plan).transpose()
    }

    /// The contacts of a plan, those that are worth most first.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn plan(&self, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        self.of_plan("SELECT * FROM contacts WHERE plan_id = $1 ORDER BY value DESC, member_id", plan_id).await
    }

    /// What those who are held out of a plan would have got; such contacts have no status.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn held_out(&self, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        self.of_plan("SELECT * FROM held_out WHERE plan_id = $1 ORDER BY value DESC, member_id", plan_id).await
    }

    async fn of_plan(&self, text: &str, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        let mut rows = sqlx::query(text).bind(plan_id).fetch(&self.pool);
        let mut contacts = Vec::new();
        // One by one: a row as the database gives it takes several times the memory.
        while let Some(row) = rows.try_next().await? {
            contacts.push(contact(&row)?);
        }
        Ok(contacts)
    }

    /// Whom some contacts are for, about which product and by which channel, by the contact's name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn subjects_of(&self, ids: &[String]) -> Result<HashMap<String, ContactSubject>, StoreError> {
        let mut subjects = HashMap::new();
        for chunk in ids.chunks(ROWS) {
            let text = named("contact_id, member_id, product_id, channel", chunk.len());
            let query = chunk.iter().fold(sqlx::query(&text), |query, id| query.bind(id.as_str()));
            for row in query.fetch_all(&self.pool).await? {
                let of = ContactSubject { member: row.try_get(1)?, product: row.try_get(2)?, channel: row.try_get(3)? };
                subjects.insert(row.try_get(0)?, of);
            }
        }
        Ok(subjects)
    }
}
