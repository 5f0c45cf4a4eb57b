//! Contacts that go out: claimed, and what became of them.

use std::collections::{HashMap, HashSet};

use kindred_models::outreach::{ContactStatus, Held, Times};
use sqlx::any::AnyRow;

use super::StoreError;
use super::commit::{Outcome, ROWS, Tx, list};
use super::read::contact;
use super::reserve::{Budget, Known, Learned};
use super::rows::{Change, StoredContact};

/// A contact that is about to go out.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The contact.
    pub contact_id: String,
    /// What the version learned of its member; `None` if it does not know them.
    pub learned: Option<Learned>,
}

/// What became of a contact.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The contact.
    pub contact_id: String,
    /// What.
    pub status: ContactStatus,
    /// When, in unix seconds.
    pub time: i64,
}

/// Why a contact may not go out, or can't be spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of this name; that of a member who was erased among them.
    Unknown,
    /// It is too early, or nobody is to be disturbed at this hour.
    Early,
    /// Its time is over.
    Expired,
    /// The member does not allow it any more.
    NotAllowed,
    /// It gave way to a campaign that comes first.
    Displaced,
    /// It was called off.
    Cancelled,
    /// It was claimed before, went out, or failed.
    Claimed,
    /// The member was told enough meanwhile.
    Capped,
}

/// What a claim comes to: why the contact may not go out, and what it is from now on.
type Answer = (Option<Refusal>, Option<ContactStatus>);

impl Tx {
    /// Lets those go out that still may; the others are told why not.
    pub(super) async fn claim(
        &mut self,
        claims: &[Claim],
        budget: &Budget,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        for (chunk, claims) in claims.chunks(ROWS).enumerate() {
            let number = self.number();
            let ids: Vec<&str> = claims.iter().map(|claim| claim.contact_id.as_str()).collect();
            let mut contacts = self.contacts_named(&ids).await?;
            let members: Vec<String> = contacts.values().map(|c| c.member_id.clone()).collect();
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let mut known = self.known(&members, budget).await?;
            // A plan that was called off is so before all of its contacts are.
            let plans: HashSet<&str> = contacts.values().map(|c| c.plan_id.as_str()).collect();
            let cancelled = self.cancelled(&plans.into_iter().collect::<Vec<_>>()).await?;
            let is_left =
                |c: &&mut StoredContact| c.status == ContactStatus::Reserved && cancelled.contains(&c.plan_id);
            contacts.values_mut().filter(is_left).for_each(|c| c.status = ContactStatus::Cancelled);
            let mut changed: Vec<StoredContact> = Vec::new();
            for (at, claim) in claims.iter().enumerate() {
                let (refusal, status) = match contacts.get_mut(&claim.contact_id) {
                    Some(contact) => {
                        let member = known.entry(contact.member_id.clone()).or_default();
                        let (refusal, status) = answer(contact, claim, member, budget);
                        if let Some(status) = status {
                            contact.status = status;
                            changed.push(contact.clone());
                            // Another contact of the same member may be among the claims.
                            let same = member.contacts.iter_mut().find(|c| c.contact_id == contact.contact_id);
                            same.into_iter().for_each(|same| same.clone_from(contact));
                        }
                        (refusal, status)
                    }
                    None => (Some(Refusal::Unknown), None),
                };
                outcome.accepted += usize::from(status == Some(ContactStatus::Claimed));
                outcome.refused.extend(refusal.map(|refusal| (chunk * ROWS + at, refusal)));
            }
            changed.sort_by_key(|contact| contact.status as u8);
            for alike in changed.chunk_by_mut(|a, b| a.status == b.status) {
                self.become_all(alike, alike[0].status, budget.now, number).await?;
            }
        }
        Ok(())
    }

    /// Keeps what became of contacts.
    pub(super) async fn confirm(&mut self, said: &[Said], outcome: &mut Outcome) -> Result<(), StoreError> {
        let ids: Vec<&str> = said.iter().map(|said| said.contact_id.as_str()).collect();
        let mut known = self.contacts_named(&ids).await?;
        for (at, said) in said.iter().enumerate() {
            let number = self.number();
            let Some(contact) = known.get_mut(&said.contact_id) else {
                outcome.refused.push((at, Refusal::Unknown));
                continue;
            };
            // Nothing goes out before its place, whatever is said: an earlier day may have had no room for it.
            let time = said.time.max(contact.times.from);
            let status = contact.status.after(said.status, time >= contact.said_at);
            let tells_when =
                said.status == ContactStatus::Sent && status.is_out() && contact.times != Times::at(contact.times.from);
            if status == contact.status && !tells_when {
                outcome.duplicates += 1;
                continue;
            }
            if tells_when {
                contact.times = Times::at(time);
            }
            let said_at = if status == contact.status { contact.said_at } else { time };
            self.becomes(contact, status, said_at, number).await?;
            outcome.accepted += 1;
            if status == ContactStatus::Complained {
                let member_id = contact.member_id.clone();
                // Others of them may be spoken of in the same breath.
                for cancelled in self.leave_alone(&member_id, said_at, number).await? {
                    known.entry(cancelled.contact_id.clone()).and_modify(|known| *known = cancelled);
                }
            }
        }
        Ok(())
    }

    /// Calls off what a member was about to get; gives it.
    async fn leave_alone(&mut self, member_id: &str, now: i64, number: i64) -> Result<Vec<StoredContact>, StoreError> {
        let text = "SELECT * FROM contacts WHERE member_id = $1 AND status = $2";
        let rows = self.rows(text, &[member_id], &[ContactStatus::Reserved as i64]).await?;
        let mut contacts: Vec<StoredContact> = rows.iter().map(contact).collect::<Result<_, _>>()?;
        for chunk in contacts.chunks_mut(ROWS) {
            self.become_all(chunk, ContactStatus::Cancelled, now, number).await?;
        }
        Ok(contacts)
    }

    async fn contacts_named(&mut self, ids: &[&str]) -> Result<HashMap<String, StoredContact>, StoreError> {
        let mut known = HashMap::new();
        for chunk in ids.chunks(ROWS) {
            for row in self.rows(&named("*", chunk.len()), chunk, &[]).await? {
                let contact = contact(&row)?;
                known.insert(contact.contact_id.clone(), contact);
            }
        }
        Ok(known)
    }

    /// Says what became of a contact, and when it went out.
    pub(super) async fn becomes(
        &mut self,
        contact: &mut StoredContact,
        status: ContactStatus,
        said_at: i64,
        number: i64,
    ) -> Result<(), StoreError> {
        (contact.status, contact.said_at) = (status, said_at);
        let text =
            "UPDATE contacts SET seq = $2, time = $3, until = $4, status = $5, said_at = $6 WHERE contact_id = $1";
        let query = sqlx::query(text).bind(&contact.contact_id).bind(number).bind(contact.times.from);
        let query = query.bind(contact.times.until).bind(status as i16).bind(said_at);
        query.execute(&mut *self.transaction).await?;
        self.changes.push(Change::Contact((&*contact).into()));
        Ok(())
    }

    /// Rows of a question, bound to texts first and then numbers.
    pub(super) async fn rows(
        &mut self,
        text: &str,
        texts: &[&str],
        numbers: &[i64],
    ) -> Result<Vec<AnyRow>, StoreError> {
        let query = texts.iter().fold(sqlx::query(text), |query, text| query.bind(*text));
        let query = numbers.iter().fold(query, |query, number| query.bind(*number));
        Ok(query.fetch_all(&mut *self.transaction).await?)
    }
}

/// Whether a contact may go out now, of a member of whom so much is known.
fn answer(contact: &StoredContact, claim: &Claim, member: &Known, budget: &Budget) -> Answer {
    let Budget { policy, now, .. } = budget;
    let refused = |refusal| (Some(refusal), None);
    match contact.status {
        ContactStatus::Reserved => {}
        ContactStatus::Expired => return refused(Refusal::Expired),
        ContactStatus::Displaced => return refused(Refusal::Displaced),
        ContactStatus::Cancelled => return refused(Refusal::Cancelled),
        _ => return refused(Refusal::Claimed),
    }
    let Some(learned) = &claim.learned else { return refused(Refusal::NotAllowed) };
    if contact.is_over(*now) {
        return (Some(Refusal::Expired), Some(ContactStatus::Expired));
    }
    if !member.allows(learned, *now) {
        return (Some(Refusal::NotAllowed), Some(ContactStatus::Cancelled));
    }
    if *now < contact.times.from || policy.is_quiet(policy.calendar.hour(*now)) {
        return refused(Refusal::Early);
    }
    // What went out since it was planned; what only has a place has room beside it.
    let out = member.contacts.iter().filter(|c| c.status.is_out() && c.contact_id != contact.contact_id);
    let out: Vec<Held> = out.map(|c| c.held(policy)).chain(member.by_others(policy, learned)).collect();
    let Some(channel) = policy.find(&contact.channel) else { return refused(Refusal::NotAllowed) };
    if member.was_told_of(contact, budget) {
        return refused(Refusal::Capped);
    }
    if policy.admit(&out, channel, Times::at(*now)) {
        (None, Some(ContactStatus::Claimed))
    } else {
        refused(Refusal::Capped)
    }
}

/// The statement that asks for so many contacts by name.
pub(super) fn named(columns: &str, count: usize) -> String {
    format!("SELECT {columns} FROM contacts WHERE contact_id IN ({})", list(count))
}
