//! Contacts: places taken within the caps, asked for before they go out, and what became of them.
//!
//! Whoever plans looks at a snapshot; whether a member still has room is decided here, in the one transaction that
//! holds the clock, so that no two plans, on any two servers, take the same room.

use std::collections::HashMap;
use std::sync::Arc;

use kindred_models::catalogue::Consent;
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::outreach::{ContactStatus, Held, Policy, REMEMBERED_DAYS, Times};
use kindred_models::state::Profile;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::commit::{Outcome, ROWS, Tx, list, values};
use super::read::{contact, profile};
use super::rows::{Change, StoredContact};
use super::{From, Store, StoreError};

/// Seconds before its time at which a contact may be claimed.
const EARLY: i64 = 300;
/// Columns of a contact.
const COLUMNS: usize = 14;

/// Contacts that a plan wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// The plan.
    pub plan_id: String,
    /// Its campaign.
    pub campaign_id: String,
    /// How much that comes first, 0 to 9.
    pub priority: u8,
    /// The caps.
    pub policy: Arc<Policy>,
    /// The contacts, each of another member.
    pub wanted: Vec<Wanted>,
    /// Which events the version that planned did not learn from.
    pub unlearned: From,
    /// Now, in unix seconds.
    pub now: i64,
}

/// One contact that a plan wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The member.
    pub member_id: String,
    /// The product.
    pub product_id: String,
    /// Number of the channel in the policy.
    pub channel: u16,
    /// When.
    pub times: Times,
    /// The chance of a purchase.
    pub probability: f64,
    /// What is expected of it, less what it costs.
    pub value: f64,
    /// Messages that the version learned of.
    pub learned: Vec<Held>,
    /// What the version learned that the member allows.
    pub consent: Consent,
}

/// A contact that is about to go out.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The contact.
    pub contact_id: String,
    /// What the version learned that the member allows.
    pub consent: Consent,
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
    /// It is too early.
    Early,
    /// Its time is over.
    Expired,
    /// The member does not allow it any more.
    NotAllowed,
    /// It gave way to a campaign that comes first.
    Displaced,
    /// Its plan was called off.
    Cancelled,
    /// It was claimed before, or is out.
    Claimed,
}

impl Tx {
    /// Takes as many of the places as there is room for.
    pub(super) async fn reserve(&mut self, wanted: &Reservation, outcome: &mut Outcome) -> Result<(), StoreError> {
        for chunk in wanted.wanted.chunks(ROWS) {
            let number = self.number();
            let mut known = self.known(chunk, wanted).await?;
            let mut taken = Vec::new();
            for place in chunk {
                let member = known.entry(place.member_id.clone()).or_default();
                if let Some(contact) = self.take(member, place, wanted, number).await? {
                    taken.push(contact);
                }
            }
            self.insert_contacts(number, &taken).await?;
            self.changes.extend(taken.iter().cloned().map(Change::Contact));
            outcome.accepted += taken.len();
            outcome.contacts.append(&mut taken);
        }
        Ok(())
    }

    /// The place of one contact, if there is room for it now; what gives way to it does.
    async fn take(
        &mut self,
        member: &mut Known,
        wanted: &Wanted,
        of: &Reservation,
        number: i64,
    ) -> Result<Option<StoredContact>, StoreError> {
        let contact = StoredContact {
            contact_id: StoredContact::name(&of.plan_id, &wanted.member_id),
            plan_id: of.plan_id.clone(),
            campaign_id: of.campaign_id.clone(),
            member_id: wanted.member_id.clone(),
            product_id: wanted.product_id.clone(),
            channel: of.policy.names[wanted.channel as usize].clone(),
            priority: of.priority,
            times: wanted.times,
            status: ContactStatus::Reserved,
            said_at: of.now,
            probability: wanted.probability,
            value: wanted.value,
        };
        let is_known = member.contacts.iter().any(|c| c.contact_id == contact.contact_id);
        if is_known || wanted.times.until < of.now || !member.allows(wanted.consent, of.now) {
            return Ok(None);
        }
        // What is over is over for whoever's clock is behind, too.
        for expired in member.contacts.iter_mut().filter(|c| c.is_over(of.now)) {
            self.becomes(expired, ContactStatus::Expired, of.now, number).await?;
        }
        let mut live: Vec<&mut StoredContact> =
            member.contacts.iter_mut().filter(|c| c.held(&of.policy).counts(of.now)).collect();
        let mut held: Vec<Held> = live.iter().map(|c| c.held(&of.policy)).collect();
        let others = member.by_others.iter().map(|(time, channel)| by_others(&of.policy, *time, channel.as_deref()));
        held.extend(others.chain(wanted.learned.iter().copied()));
        let Some(giving_way) = of.policy.make_room(&held, wanted.channel, wanted.times, of.priority) else {
            return Ok(None);
        };
        // Only what has a place gives way, and that stands first.
        for at in giving_way {
            self.becomes(live[at], ContactStatus::Displaced, of.now, number).await?;
        }
        Ok(Some(contact))
    }

    /// What is known of the members of some places.
    async fn known(&mut self, wanted: &[Wanted], of: &Reservation) -> Result<HashMap<String, Known>, StoreError> {
        let mut known = HashMap::<String, Known>::new();
        let ids: Vec<&str> = wanted.iter().map(|w| w.member_id.as_str()).collect();
        let since = of.now - REMEMBERED_DAYS * DAY_SECONDS;
        let members = list(ids.len());
        let text = format!("SELECT * FROM contacts WHERE member_id IN ({members}) AND time > {since}");
        for row in self.rows(&text, &ids).await? {
            let contact = contact(&row)?;
            known.entry(contact.member_id.clone()).or_default().contacts.push(contact);
        }
        let unlearned = match of.unlearned {
            From::Number(number) => format!("seq > {number}"),
            From::Moment(moment) => format!("time > {moment}"),
        };
        let kind = Kind::Contact as u8;
        let text = format!(
            "SELECT member_id, time, channel FROM events \
             WHERE member_id IN ({members}) AND kind = {kind} AND time > {since} AND {unlearned}"
        );
        for row in self.rows(&text, &ids).await? {
            let sent = (row.try_get("time")?, row.try_get("channel")?);
            known.entry(row.try_get("member_id")?).or_default().by_others.push(sent);
        }
        let text = format!("SELECT member_id, profile FROM members WHERE member_id IN ({members})");
        for row in self.rows(&text, &ids).await? {
            known.entry(row.try_get("member_id")?).or_default().profile = Some(profile(&row)?);
        }
        let by_hash: HashMap<String, &str> = ids.iter().map(|id| (self.hash(id), *id)).collect();
        let hashes: Vec<&str> = by_hash.keys().map(String::as_str).collect();
        let text = format!("SELECT hash FROM tombstones WHERE hash IN ({})", list(hashes.len()));
        for row in self.rows(&text, &hashes).await? {
            let hash: String = row.try_get(0)?;
            if let Some(id) = by_hash.get(&hash) {
                known.entry((*id).to_owned()).or_default().is_erased = true;
            }
        }
        Ok(known)
    }

    async fn rows(&mut self, text: &str, bound: &[&str]) -> Result<Vec<AnyRow>, StoreError> {
        let query = bound.iter().fold(sqlx::query(text), |query, id| query.bind(*id));
        Ok(query.fetch_all(&mut *self.transaction).await?)
    }

    async fn insert_contacts(&mut self, number: i64, contacts: &[StoredContact]) -> Result<(), StoreError> {
        if contacts.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO contacts (contact_id, seq, plan_id, campaign_id, member_id, product_id, channel, priority, time, \
             until, status, said_at, probability, value) VALUES {}",
            values(self.backend, contacts.len(), COLUMNS)
        );
        let mut query = sqlx::query(&sql);
        for c in contacts {
            query = query.bind(&c.contact_id).bind(number).bind(&c.plan_id).bind(&c.campaign_id).bind(&c.member_id);
            query = query.bind(&c.product_id).bind(&c.channel).bind(i16::from(c.priority));
            query = query.bind(c.times.from).bind(c.times.until).bind(c.status as i16).bind(c.said_at);
            query = query.bind(c.probability).bind(c.value);
        }
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Lets those go out that still may; the others are told why not.
    pub(super) async fn claim(&mut self, claims: &[Claim], now: i64, outcome: &mut Outcome) -> Result<(), StoreError> {
        let ids: Vec<&str> = claims.iter().map(|claim| claim.contact_id.as_str()).collect();
        let mut known = self.contacts_named(&ids).await?;
        let mut profiles = HashMap::<String, Profile>::new();
        let members: Vec<&str> = known.values().map(|c| c.member_id.as_str()).collect();
        for chunk in members.chunks(ROWS) {
            let text = format!("SELECT member_id, profile FROM members WHERE member_id IN ({})", list(chunk.len()));
            for row in self.rows(&text, chunk).await? {
                profiles.insert(row.try_get("member_id")?, profile(&row)?);
            }
        }
        for (at, claim) in claims.iter().enumerate() {
            let number = self.number();
            let Some(contact) = known.get_mut(&claim.contact_id) else {
                outcome.refused.push((at, Refusal::Unknown));
                continue;
            };
            let said = profiles.get(&contact.member_id);
            let allows =
                |learned: Consent| said.map_or(learned, |said| said.consent(learned, now)).allows_contact(learned);
            let (status, refusal) = match contact.status {
                ContactStatus::Expired => (None, Some(Refusal::Expired)),
                ContactStatus::Displaced => (None, Some(Refusal::Displaced)),
                ContactStatus::Cancelled => (None, Some(Refusal::Cancelled)),
                ContactStatus::Reserved if contact.is_over(now) => {
                    (Some(ContactStatus::Expired), Some(Refusal::Expired))
                }
                ContactStatus::Reserved if !allows(claim.consent) => {
                    (Some(ContactStatus::Cancelled), Some(Refusal::NotAllowed))
                }
                ContactStatus::Reserved if now < contact.times.from - EARLY => (None, Some(Refusal::Early)),
                ContactStatus::Reserved => (Some(ContactStatus::Claimed), None),
                _ => (None, Some(Refusal::Claimed)),
            };
            if let Some(status) = status {
                self.becomes(contact, status, now, number).await?;
            }
            outcome.accepted += usize::from(refusal.is_none());
            outcome.refused.extend(refusal.map(|refusal| (at, refusal)));
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
            let status = contact.status.after(said.status);
            if said.status == ContactStatus::Sent && status != ContactStatus::Failed {
                contact.times = Times::at(said.time);
            }
            match status == contact.status && said.status != ContactStatus::Sent {
                true => outcome.duplicates += 1,
                false => {
                    self.becomes(contact, status, said.time, number).await?;
                    outcome.accepted += 1;
                }
            }
        }
        Ok(())
    }

    /// Calls a plan's contacts off, as far as they did not go out.
    pub(super) async fn cancel(&mut self, plan_id: &str, now: i64, outcome: &mut Outcome) -> Result<(), StoreError> {
        let number = self.number();
        let text = "SELECT * FROM contacts WHERE plan_id = $1";
        for row in self.rows(text, &[plan_id]).await? {
            let mut contact = contact(&row)?;
            if contact.status == ContactStatus::Reserved {
                self.becomes(&mut contact, ContactStatus::Cancelled, now, number).await?;
                outcome.accepted += 1;
            }
        }
        Ok(())
    }

    async fn contacts_named(&mut self, ids: &[&str]) -> Result<HashMap<String, StoredContact>, StoreError> {
        let mut known = HashMap::new();
        for chunk in ids.chunks(ROWS) {
            let text = format!("SELECT * FROM contacts WHERE contact_id IN ({})", list(chunk.len()));
            for row in self.rows(&text, chunk).await? {
                let contact = contact(&row)?;
                known.insert(contact.contact_id.clone(), contact);
            }
        }
        Ok(known)
    }

    async fn becomes(
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
        self.changes.push(Change::Contact(contact.clone()));
        Ok(())
    }
}

/// What the store knows of a member that decides whether there is room.
#[derive(Default)]
struct Known {
    contacts: Vec<StoredContact>,
    /// Messages that others sent, and that the version did not learn of: when and where.
    by_others: Vec<(i64, Option<String>)>,
    profile: Option<Profile>,
    is_erased: bool,
}

impl Known {
    fn allows(&self, learned: Consent, now: i64) -> bool {
        let consent = self.profile.as_ref().map_or(learned, |said| said.consent(learned, now));
        !self.is_erased && consent.allows_contact(learned)
    }
}

fn by_others(policy: &Policy, time: i64, channel: Option<&str>) -> Held {
    Held { place: policy.place(channel), times: Times::at(time), status: ContactStatus::Sent, priority: 0 }
}

impl Store {
    /// The contacts of a plan, in the order of their members' ids.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn plan(&self, plan_id: &str) -> Result<Vec<StoredContact>, StoreError> {
        let text = "SELECT * FROM contacts WHERE plan_id = $1 ORDER BY member_id";
        let rows = sqlx::query(text).bind(plan_id).fetch_all(&self.pool).await?;
        rows.iter().map(contact).collect()
    }

    /// The members of some contacts, by the contact's name.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn members_of(&self, contact_ids: &[String]) -> Result<HashMap<String, String>, StoreError> {
        let mut members = HashMap::new();
        for chunk in contact_ids.chunks(ROWS) {
            let text =
                format!("SELECT contact_id, member_id FROM contacts WHERE contact_id IN ({})", list(chunk.len()));
            let query = chunk.iter().fold(sqlx::query(&text), |query, id| query.bind(id.as_str()));
            for row in query.fetch_all(&self.pool).await? {
                members.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        Ok(members)
    }
}
