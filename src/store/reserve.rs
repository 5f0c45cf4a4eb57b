//! Reserving: places taken within the caps.
//!
//! Whoever plans looks at a snapshot; whether a member still has room is decided here, in the one transaction that
//! holds the clock, so that no two plans, on any two servers, take the same room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kindred_models::catalogue::Consent;
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::outreach::{ContactStatus, Held, Policy, REMEMBERED_DAYS, Times, told_more};
use kindred_models::state::Profile;
use sqlx::Row;

use super::commit::{Outcome, ROWS, Tx, list, values};
use super::plans::PlanState;
use super::read::{contact, profile};
use super::rows::{Change, StoredContact};
use super::{From, StoreError};

/// Columns of a contact: the first three are the same where its name is.
const COLUMNS: [&str; 14] = [
    "contact_id",
    "plan_id",
    "member_id",
    "seq",
    "campaign_id",
    "product_id",
    "channel",
    "priority",
    "time",
    "until",
    "status",
    "said_at",
    "probability",
    "value",
];

/// What decides whether a member has room, besides what the store knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The caps.
    pub policy: Arc<Policy>,
    /// Which events the version that asks did not learn from.
    pub unlearned: From,
    /// Now, in unix seconds.
    pub now: i64,
}

/// Contacts that a plan wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// The plan.
    pub plan_id: String,
    /// Its campaign.
    pub campaign_id: String,
    /// How much that comes first, 0 to 9.
    pub priority: u8,
    /// How many contacts were reserved for it when it was planned: where there are more by now, what was planned is out of
    /// date, and nothing is reserved.
    pub after: i64,
    /// What is asked.
    pub budget: Budget,
    /// The contacts, each of another member.
    pub wanted: Vec<Wanted>,
}

/// What a version learned of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Messages that it learned of.
    pub held: Vec<Held>,
    /// What it learned that the member allows.
    pub consent: Consent,
    /// Whether it learned that they are a minor by birthday.
    pub is_young: bool,
    /// Whether it learned from days, and not from moments.
    pub is_of_days: bool,
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
    /// What the version learned of the member.
    pub learned: Learned,
    /// Whether the member is held out: noted, if there is room, and neither reserved nor sent.
    pub is_held_out: bool,
}

/// What the store knows of a member that decides whether there is room.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) contacts: Vec<StoredContact>,
    by_others: Vec<ByOthers>,
    profile: Option<Profile>,
    is_erased: bool,
}

/// A message that others sent.
#[derive(Debug)]
struct ByOthers {
    product_id: String,
    time: i64,
    channel: Option<String>,
    /// Whether the version learned of it, which knows its day alone.
    is_learned: bool,
}

impl Known {
    /// Whether the member may be contacted.
    pub(super) fn allows(&self, Learned { consent: learned, is_young, .. }: &Learned, now: i64) -> bool {
        let consent = self.profile.as_ref().map_or(*learned, |said| said.consent(*learned, *is_young, now));
        !self.is_erased && consent.allows_contact(*learned)
    }

    /// Messages that others sent.
    pub(super) fn by_others(&self, policy: &Policy, learned: &Learned) -> Vec<Held> {
        let sent = |of: &&ByOthers| Held::by_others(policy.place(of.channel.as_deref()), of.time);
        let (told, new): (Vec<&ByOthers>, Vec<&ByOthers>) = self.by_others.iter().partition(|of| of.is_learned);
        let learned = told_more(&learned.held, told.iter().map(sent).collect(), learned.is_of_days);
        new.iter().map(sent).chain(learned).collect()
    }

    /// Whether the member was told of a contact's product lately, or is about to be by another that does not give way to it.
    pub(super) fn was_told_of(&self, contact: &StoredContact, budget: &Budget) -> bool {
        let since = budget.now - DAY_SECONDS * i64::from(budget.policy.same_product_days());
        let is_it = |product_id: &str, time: i64| product_id == contact.product_id && time > since;
        let others = self.contacts.iter().filter(|c| c.contact_id != contact.contact_id);
        let mut others = others.filter(|c| is_it(&c.product_id, c.times.from)).map(|c| c.held(&budget.policy));
        others.any(|held| held.counts(budget.now) && !held.gives_way(contact.priority))
            || self.by_others.iter().any(|of| is_it(&of.product_id, of.time))
    }
}

impl Tx {
    /// Takes as many of the places as there is room for, in the budgets of members and of the plan, and notes who is held out
    /// of those who have room. The outcome has the plan as long as there is room in it.
    pub(super) async fn reserve(&mut self, wanted: &Reservation, outcome: &mut Outcome) -> Result<(), StoreError> {
        let plan = self.plan_row(&wanted.plan_id).await?;
        let Some(mut plan) = plan.filter(|plan| plan.state == PlanState::Open && plan.reserved < plan.most) else {
            return Ok(());
        };
        outcome.plan = Some(plan.clone());
        if plan.reserved != wanted.after {
            return Ok(());
        }
        for chunk in wanted.wanted.chunks(ROWS) {
            let number = self.number();
            let ids: Vec<&str> = chunk.iter().map(|w| w.member_id.as_str()).collect();
            let mut known = self.known(&ids, &wanted.budget).await?;
            let noted = self.held_out(&wanted.plan_id, &ids).await?;
            let (mut taken, mut held_out) = (Vec::new(), Vec::new());
            // Who is held out stays so, whatever a call that goes on with the plan asks for.
            for place in chunk.iter().filter(|place| !noted.contains(&place.member_id)) {
                if plan.reserved + taken.len() as i64 == plan.most {
                    break;
                }
                let member = known.entry(place.member_id.clone()).or_default();
                let into = if place.is_held_out { &mut held_out } else { &mut taken };
                into.extend(self.take(member, place, wanted, number).await?);
            }
            plan.reserved += taken.len() as i64;
            self.insert_contacts("contacts", number, &taken).await?;
            self.insert_contacts("held_out", number, &held_out).await?;
            self.count_reserved(&wanted.plan_id, taken.len()).await?;
            outcome.accepted += taken.len();
            outcome.held_out += held_out.len();
            self.changes.extend(taken.iter().map(|contact| Change::Contact(contact.into())));
        }
        outcome.plan = Some(plan).filter(|plan| plan.reserved < plan.most);
        Ok(())
    }

    /// The place of one contact, if there is room for it now; what gives way to it does, unless the member is held out.
    async fn take(
        &mut self,
        member: &mut Known,
        wanted: &Wanted,
        of: &Reservation,
        number: i64,
    ) -> Result<Option<StoredContact>, StoreError> {
        let Budget { policy, now, .. } = &of.budget;
        let contact = StoredContact {
            contact_id: StoredContact::name(&of.plan_id, &wanted.member_id),
            plan_id: of.plan_id.clone(),
            campaign_id: of.campaign_id.clone(),
            member_id: wanted.member_id.clone(),
            product_id: wanted.product_id.clone(),
            channel: policy.names[wanted.channel as usize].clone(),
            priority: of.priority,
            times: wanted.times,
            status: ContactStatus::Reserved,
            said_at: *now,
            probability: wanted.probability,
            value: wanted.value,
        };
        let is_known = member.contacts.iter().any(|c| c.contact_id == contact.contact_id);
        let is_told = member.was_told_of(&contact, &of.budget);
        if is_known || is_told || wanted.times.until < *now || !member.allows(&wanted.learned, *now) {
            return Ok(None);
        }
        // Noted in the store, so that a server whose clock is behind can't still claim them.
        for expired in member.contacts.iter_mut().filter(|c| c.is_over(*now)) {
            self.becomes(expired, ContactStatus::Expired, *now, number).await?;
        }
        let by_others = member.by_others(policy, &wanted.learned);
        let mut live: Vec<&mut StoredContact> =
            member.contacts.iter_mut().filter(|c| c.held(policy).counts(*now)).collect();
        // What comes after, and is of the same product, gives way whatever caps say.
        let is_same = |c: &StoredContact| c.product_id == contact.product_id && c.held(policy).gives_way(of.priority);
        let (same, rest): (Vec<usize>, Vec<usize>) = (0..live.len()).partition(|at| is_same(live[*at]));
        let held: Vec<Held> = rest.iter().map(|at| live[*at].held(policy)).chain(by_others).collect();
        let Some(giving_way) = policy.make_room(&held, wanted.channel, wanted.times, of.priority) else {
            return Ok(None);
        };
        // Only reserved contacts give way, and these are the first of `held`, in the order of `rest`.
        let giving_way = giving_way.into_iter().map(|at| rest[at]).chain(same);
        for at in giving_way.filter(|_| !wanted.is_held_out) {
            self.becomes(live[at], ContactStatus::Displaced, *now, number).await?;
        }
        Ok(Some(contact))
    }

    /// Those of some members who are held out of a plan.
    async fn held_out(&mut self, plan_id: &str, ids: &[&str]) -> Result<HashSet<String>, StoreError> {
        let names: Vec<String> = ids.iter().map(|id| StoredContact::name(plan_id, id)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let text = format!("SELECT member_id FROM held_out WHERE contact_id IN ({})", list(names.len()));
        self.rows(&text, &names, &[]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// What is known of some members.
    pub(super) async fn known(&mut self, ids: &[&str], budget: &Budget) -> Result<HashMap<String, Known>, StoreError> {
        let mut known = HashMap::<String, Known>::new();
        if ids.is_empty() {
            // PostgreSQL knows no empty list.
            return Ok(known);
        }
        let (members, next) = (list(ids.len()), ids.len() + 1);
        let since = budget.now - REMEMBERED_DAYS * DAY_SECONDS;
        let text =
            format!("SELECT * FROM contacts WHERE member_id IN ({members}) AND (time > ${next} OR said_at > ${next})");
        for row in self.rows(&text, ids, &[since]).await? {
            let contact = contact(&row)?;
            known.entry(contact.member_id.clone()).or_default().contacts.push(contact);
        }
        let text = format!(
            "SELECT seq, member_id, product_id, time, channel FROM events WHERE member_id IN ({members}) AND kind = {} \
             AND time > ${next}",
            Kind::Contact as u8,
        );
        for row in self.rows(&text, ids, &[since]).await? {
            let (seq, time): (i64, i64) = (row.try_get("seq")?, row.try_get("time")?);
            let is_learned = match budget.unlearned {
                From::Number(number) => seq <= number,
                From::Moment(moment) => time <= moment,
            };
            let (product_id, channel) = (row.try_get("product_id")?, row.try_get("channel")?);
            let sent = ByOthers { product_id, time, channel, is_learned };
            known.entry(row.try_get("member_id")?).or_default().by_others.push(sent);
        }
        let text = format!("SELECT member_id, profile FROM members WHERE member_id IN ({members})");
        for row in self.rows(&text, ids, &[]).await? {
            known.entry(row.try_get("member_id")?).or_default().profile = Some(profile(&row)?);
        }
        let by_hash: HashMap<String, &str> = ids.iter().map(|id| (self.hash(id), *id)).collect();
        let hashes: Vec<&str> = by_hash.keys().map(String::as_str).collect();
        let text = format!("SELECT hash FROM tombstones WHERE hash IN ({})", list(hashes.len()));
        for row in self.rows(&text, &hashes, &[]).await? {
            let hash: String = row.try_get(0)?;
            if let Some(id) = by_hash.get(&hash) {
                known.entry((*id).to_owned()).or_default().is_erased = true;
            }
        }
        Ok(known)
    }

    async fn insert_contacts(
        &mut self,
        table: &'static str,
        number: i64,
        contacts: &[StoredContact],
    ) -> Result<(), StoreError> {
        if contacts.is_empty() {
            return Ok(());
        }
        // One of the same name that nobody remembers, and that was not deleted yet, is this one now.
        let replaced: Vec<String> = COLUMNS[3..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let sql = format!(
            "INSERT INTO {table} ({}) VALUES {} ON CONFLICT (contact_id) DO UPDATE SET {}",
            COLUMNS.join(", "),
            values(self.backend, contacts.len(), COLUMNS.len()),
            replaced.join(", ")
        );
        let mut query = sqlx::query(&sql);
        for c in contacts {
            query = query.bind(&c.contact_id).bind(&c.plan_id).bind(&c.member_id).bind(number).bind(&c.campaign_id);
            query = query.bind(&c.product_id).bind(&c.channel).bind(i16::from(c.priority));
            query = query.bind(c.times.from).bind(c.times.until).bind(c.status as i16).bind(c.said_at);
            query = query.bind(c.probability).bind(c.value);
        }
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }
}
