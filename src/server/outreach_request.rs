//! A request for a plan: checked first, then looked up in the model that answers.

use std::collections::HashSet;

use kindred_models::Model;
use kindred_models::audience::{Cap, Holdout, MemberFilter};
use kindred_models::events::DAY_SECONDS;
use kindred_models::feed::ProductFilter;
use kindred_models::outreach::{ContactStatus, MAX_OFFERS, Offer, Policy, PushRequest};
use prost::Message as _;

use super::member_filter::member_filter;
use super::status::Problem;
use super::validate::{CLOCKS_AHEAD, Check};
use crate::proto::v1;
use crate::proto::v1::product_to_push::Cap as GivenCap;
use crate::store::{Plan, Said, StoredContact};

/// Contacts of a plan at most.
pub(super) const MAX_CONTACTS: i64 = 1_000_000;
/// Days that a plan looks ahead at most.
const MAX_DAYS: i64 = 31;
/// How much a campaign can come first.
const MAX_PRIORITY: u8 = 9;
/// Contacts that are spoken of at once, at most.
pub(super) const MAX_SPOKEN_OF: usize = 1000;
/// Bytes of a contact's name.
const NAME_BYTES: usize = 32;

/// What was checked of a request for a plan, and needs no model to be understood.
#[derive(Clone, Debug)]
pub(super) struct PlanQuestion {
    pub(super) plan_id: String,
    pub(super) campaign_id: String,
    pub(super) max_contacts: usize,
    pub(super) holdout: Holdout,
    products: Vec<v1::ProductToPush>,
    product_filter: ProductFilter,
    filter: MemberFilter,
    channels: Vec<u16>,
    start: i64,
    end: i64,
    priority: u8,
}

impl PlanQuestion {
    /// Checks every field.
    pub(super) fn check(request: v1::PlanPushesRequest, policy: &Policy, now: i64) -> Result<Self, Problem> {
        if policy.names.is_empty() {
            return Err(Problem::NoChannels);
        }
        let mut check = Check::default();
        check.id("plan_id", &request.plan_id);
        check.text("campaign_id", &request.campaign_id, 256);
        let priority = u8::try_from(request.priority).ok().filter(|priority| *priority <= MAX_PRIORITY);
        check.that(priority.is_some(), "priority", &format!("must be from 0 to {MAX_PRIORITY}"));
        products(&mut check, &request.products);
        let both = !request.products.is_empty() && request.product_filter.is_some();
        check.that(!both, "product_filter", "must not be set together with products");
        let product_filter = check.filter("product_filter", request.product_filter);
        let filter = member_filter(&mut check, request.filter.as_ref(), policy.calendar.today(now));
        let in_range = (1..=MAX_CONTACTS).contains(&request.max_contacts);
        check.that(in_range, "max_contacts", &format!("must be from 1 to {MAX_CONTACTS}"));
        let channels = channels(&mut check, &request.channels, policy);
        let start = request.start.map_or(now, |time| time.seconds).max(now);
        let end = request.end.map_or(start.saturating_add(DAY_SECONDS), |time| time.seconds);
        let days = MAX_DAYS * DAY_SECONDS;
        let is_soon = start - now <= days;
        check.that(is_soon, "start", &format!("must be within {MAX_DAYS} days"));
        let fits = end > start && (!is_soon || end - start <= days);
        check.that(fits, "end", &format!("must come after start and now, by up to {MAX_DAYS} days"));
        check.that((0.0..=1.0).contains(&request.holdout_share), "holdout_share", "must be from 0 to 1");
        check.finish()?;
        Ok(Self {
            holdout: Holdout::of(request.holdout_share, request.holdout_seed, &request.plan_id),
            plan_id: request.plan_id,
            campaign_id: request.campaign_id,
            max_contacts: usize::try_from(request.max_contacts).unwrap_or(0),
            products: request.products,
            product_filter,
            filter,
            channels,
            start,
            end,
            priority: priority.unwrap_or(0),
        })
    }

    /// How much the campaign comes first.
    pub(super) fn priority(&self) -> u8 {
        self.priority
    }

    /// The question in the model's terms. What an earlier call of this plan reserved is subtracted from the products' caps.
    pub(super) fn ask(&self, model: &Model, taken: &[StoredContact]) -> Result<PushRequest, Problem> {
        let mut offers = Vec::new();
        for given in &self.products {
            let product = model.products.find(&given.product_id);
            let product = product.ok_or_else(|| Problem::UnknownProduct(given.product_id.clone()))?;
            let can_be_sold = model.products.available[product as usize] != 0;
            if !can_be_sold {
                return Err(Problem::NotSold(given.product_id.clone()));
            }
            let taken = taken.iter().filter(|contact| contact.product_id == given.product_id);
            let cap = left(given.cap, taken.map(|contact| (contact.status, contact.probability)));
            offers.push(Offer { product, value: Some(given.value).filter(|value| *value > 0.0), cap });
        }
        Ok(PushRequest {
            offers,
            products: self.product_filter.clone(),
            filter: self.filter.clone(),
            channels: self.channels.clone(),
            start: self.start,
            end: self.end,
            priority: self.priority,
        })
    }
}

fn products(check: &mut Check, products: &[v1::ProductToPush]) {
    check.that(products.len() <= MAX_OFFERS, "products", &format!("must not have more than {MAX_OFFERS} entries"));
    let mut seen = HashSet::new();
    for (i, given) in products.iter().take(MAX_OFFERS).enumerate() {
        let field = |name: &str| format!("products[{i}].{name}");
        check.id(&field("product_id"), &given.product_id);
        check.that(seen.insert(&given.product_id), &field("product_id"), "must not be named twice");
        check.that(given.value >= 0.0 && given.value.is_finite(), &field("value"), "must be 0 or above");
        let (cap, holds) = match given.cap {
            Some(GivenCap::MaxMembers(members)) => ("max_members", members >= 0),
            Some(GivenCap::Stock(units)) => ("stock", units >= 0.0 && units.is_finite()),
            None => ("cap", true),
        };
        check.that(holds, &field(cap), "must be 0 or above");
    }
}

/// What is left of a product's cap, beside contacts of it.
fn left(cap: Option<GivenCap>, contacts: impl Iterator<Item = (ContactStatus, f64)>) -> Cap {
    // What gave its place back is there again.
    let taken = contacts.filter(|(status, _)| *status == ContactStatus::Reserved || status.is_out());
    match cap {
        Some(GivenCap::MaxMembers(members)) => {
            Cap::Members(usize::try_from(members).unwrap_or(0).saturating_sub(taken.count()))
        }
        Some(GivenCap::Stock(units)) => {
            Cap::Stock((units - taken.map(|(_, probability)| probability).sum::<f64>()).max(0.0))
        }
        None => Cap::None,
    }
}

/// A hash of what is asked for, but for how much and when: a plan that broke off may go on later, and with more.
pub(super) fn fingerprint(request: &v1::PlanPushesRequest) -> String {
    let asked = v1::PlanPushesRequest { max_contacts: 0, start: None, end: None, ..request.clone() };
    blake3::hash(&asked.encode_to_vec()).to_hex().to_string()
}

/// Whether a plan was asked the same, as far as is known.
pub(super) fn is_same(plan: &Plan, asked: &str) -> bool {
    plan.asked.as_ref().is_none_or(|was| was == asked)
}

/// The numbers of channels; of all where none is named.
fn channels(check: &mut Check, names: &[String], policy: &Policy) -> Vec<u16> {
    let known = policy.names.join(", ");
    check.that(names.len() <= policy.names.len(), "channels", &format!("must be of {known}, each once"));
    if names.is_empty() {
        return (0..policy.names.len() as u16).collect();
    }
    let mut numbers = Vec::new();
    for (i, name) in names.iter().take(policy.names.len()).enumerate() {
        let number = policy.find(name).filter(|number| !numbers.contains(number));
        check.that(number.is_some(), &format!("channels[{i}]"), &format!("must be one of {known}, each once"));
        numbers.extend(number);
    }
    numbers
}

/// Names of contacts; each once, if asked for.
pub(super) fn contact_ids<'a>(
    check: &mut Check,
    field: &str,
    ids: impl ExactSizeIterator<Item = &'a String>,
    once: bool,
) {
    check.that(ids.len() > 0, field, "is required");
    check.that(ids.len() <= MAX_SPOKEN_OF, field, &format!("must not have more than {MAX_SPOKEN_OF} entries"));
    let mut seen = HashSet::new();
    for (i, id) in ids.take(MAX_SPOKEN_OF).enumerate() {
        let is_name = id.len() == NAME_BYTES && id.bytes().all(|b| b.is_ascii_hexdigit());
        let field = if field == "outcomes" { format!("{field}[{i}].contact_id") } else { format!("{field}[{i}]") };
        check.that(is_name, &field, "must be the contact_id of a push");
        check.that(seen.insert(id) || !once, &field, "must not be named twice");
    }
}

/// What is said of contacts.
pub(super) fn said(outcomes: Vec<v1::ContactOutcome>, now: i64) -> Result<Vec<Said>, Problem> {
    let mut check = Check::default();
    contact_ids(&mut check, "outcomes", outcomes.iter().map(|outcome| &outcome.contact_id), false);
    let mut said = Vec::new();
    for (i, outcome) in outcomes.into_iter().take(MAX_SPOKEN_OF).enumerate() {
        let status = status(outcome.status);
        let names = "must be sent, opened, clicked, complained or failed";
        check.that(status.is_some(), &format!("outcomes[{i}].status"), names);
        let time = outcome.time.map_or(now, |time| time.seconds);
        let is_past = (0..=now + CLOCKS_AHEAD).contains(&time);
        check.that(is_past, &format!("outcomes[{i}].time"), "must not be yet to come, nor before 1970");
        said.extend(status.map(|status| Said { contact_id: outcome.contact_id, status, time }));
    }
    check.finish()?;
    Ok(said)
}

/// What a caller may say of a contact.
fn status(given: i32) -> Option<ContactStatus> {
    use v1::ContactStatus as Given;
    match Given::try_from(given).ok()? {
        Given::Sent => Some(ContactStatus::Sent),
        Given::Opened => Some(ContactStatus::Opened),
        Given::Clicked => Some(ContactStatus::Clicked),
        Given::Complained => Some(ContactStatus::Complained),
        Given::Failed => Some(ContactStatus::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_goes_on_has_what_its_contacts_left() {
        use ContactStatus::{Failed, Reserved, Sent};
        let contacts = || [(Reserved, 0.25), (Sent, 0.5), (Failed, 0.5)].into_iter();
        assert_eq!(left(Some(GivenCap::Stock(2.0)), contacts()), Cap::Stock(1.25));
        assert_eq!(left(Some(GivenCap::Stock(0.5)), contacts()), Cap::Stock(0.0));
        assert_eq!(left(Some(GivenCap::MaxMembers(5)), contacts()), Cap::Members(3));
        assert_eq!(left(None, contacts()), Cap::None);
    }
}
