//! A request for an audience or an allocation: checked first, then looked up in the model that answers.

use std::collections::HashSet;

use chrono::NaiveDate;
use kindred_models::Model;
use kindred_models::audience::{
    AllocationRequest, AudienceRequest, AudienceSize, Cap, Launch, MAX_LAUNCHES, MemberFilter, Quota, Subject,
};
use kindred_models::content::Attributes;

use super::member_filter::{MAX_PLACES, member_filter};
use super::status::Problem;
use super::validate::{Check, MAX_TAGS, MAX_TEXT};
use crate::proto::v1;
use crate::proto::v1::find_audience_request::Size;
use crate::proto::v1::launch_to_allocate::Cap as GivenCap;

/// Seeds at most.
const MAX_SEEDS: usize = 100_000;
/// Seeds, and names of the filter, that nobody has, told at most.
pub(super) const MAX_UNKNOWN: usize = 100;
/// Days of a campaign at most.
const MAX_CAMPAIGN_DAYS: i32 = 366;

/// What was checked of a request, and needs no model to be understood.
#[derive(Debug)]
pub(super) struct AudienceQuestion {
    size: AudienceSize,
    filter: MemberFilter,
    quota: Quota,
}

impl AudienceQuestion {
    /// Checks every field, which the caller knows as `within` another one.
    pub(super) fn check(
        request: &v1::FindAudienceRequest,
        within: &'static str,
        today: NaiveDate,
    ) -> Result<Self, Problem> {
        let mut check = Check::within(within);
        check.text("product_id", &request.product_id, 256);
        check.ids("seed_member_ids", &request.seed_member_ids, MAX_SEEDS);
        let (named, described) = (!request.product_id.is_empty(), request.attributes.is_some());
        check.that(
            named || described || !request.seed_member_ids.is_empty(),
            "product_id",
            "one of product_id, attributes and seed_member_ids is required",
        );
        check.that(!(named && described), "attributes", "must not be set together with product_id");
        if let Some(given) = &request.attributes {
            attributes(&mut check, "attributes", given);
        }
        let filter = member_filter(&mut check, request.filter.as_ref(), today);
        let (size, quota) = (size(&mut check, request.size), quota(&mut check, request.quota));
        check.that((0.0..=1.0).contains(&request.holdout_share), "holdout_share", "must be from 0 to 1");
        check.finish()?;
        Ok(Self { size, filter, quota })
    }

    /// The question as the model takes it, and the seeds that it does not know.
    pub(super) fn ask(
        self,
        model: &Model,
        request: v1::FindAudienceRequest,
    ) -> Result<(AudienceRequest, Vec<String>), Problem> {
        let (mut seeds, mut unknown) = (Vec::new(), Vec::new());
        let (subject, buyers) = subject(model, request.product_id, request.attributes)?;
        seeds.extend(buyers);
        for id in request.seed_member_ids {
            match model.state.find_readable(model, &id) {
                Some(row) => seeds.push(row),
                None => unknown.push(id),
            }
        }
        seeds.sort_unstable();
        seeds.dedup();
        // Of members who never bought anything, or whose purchases are nobody's business, nobody can be alike.
        let has_bought = |row: &u32| !model.history.rows.range(*row).is_empty();
        if subject == Subject::SeedsOnly && !seeds.iter().any(has_bought) {
            let mut check = Check::default();
            check.that(false, "seed_member_ids", "must name at least one member whose purchases the model knows");
            check.finish()?;
        }
        unknown.truncate(MAX_UNKNOWN);
        let Self { size, filter, quota } = self;
        Ok((AudienceRequest { subject, seeds, size, filter, quota }, unknown))
    }
}

/// What is asked for, and who bought it already.
fn subject(
    model: &Model,
    product_id: String,
    attributes: Option<v1::ProductAttributes>,
) -> Result<(Subject, Vec<u32>), Problem> {
    match attributes {
        Some(given) => Ok((Subject::New(known_attributes(given)), Vec::new())),
        None if product_id.is_empty() => Ok((Subject::SeedsOnly, Vec::new())),
        None => match model.products.find(&product_id) {
            Some(row) => Ok(Subject::now(model, row)),
            None => Err(Problem::UnknownProduct(product_id)),
        },
    }
}

/// Checks every field of a request for an allocation; who is asked for.
pub(super) fn check_allocation(
    request: &v1::AllocateLaunchesRequest,
    today: NaiveDate,
) -> Result<MemberFilter, Problem> {
    let mut check = Check::default();
    let count = request.launches.len();
    check.that((1..=MAX_LAUNCHES).contains(&count), "launches", &format!("must have 1 to {MAX_LAUNCHES} entries"));
    let mut seen = HashSet::new();
    for (i, launch) in request.launches.iter().enumerate().take(MAX_LAUNCHES) {
        let field = |name: &str| format!("launches[{i}].{name}");
        check.text(&field("product_id"), &launch.product_id, 256);
        match (&launch.attributes, launch.product_id.is_empty()) {
            (Some(given), true) => attributes(&mut check, &field("attributes"), given),
            (Some(_), false) => check.that(false, &field("attributes"), "must not be set together with product_id"),
            (None, named) => check.that(!named, &field("attributes"), "or product_id is required"),
        }
        check.that(launch.value >= 0.0 && launch.value.is_finite(), &field("value"), "must be 0 or above");
        let is_new = launch.product_id.is_empty() || seen.insert(&launch.product_id);
        check.that(is_new, &field("product_id"), "must not be named twice");
        let (cap, holds) = match launch.cap {
            Some(GivenCap::MaxMembers(members)) => ("max_members", members >= 0),
            Some(GivenCap::Stock(units)) => ("stock", units >= 0.0 && units.is_finite()),
            None => ("cap", true),
        };
        check.that(holds, &field(cap), "must be 0 or above");
    }
    let filter = member_filter(&mut check, request.filter.as_ref(), today);
    let cost = request.contact_cost;
    check.that(cost >= 0.0 && cost.is_finite(), "contact_cost", "must be 0 or above");
    check.that((0.0..=1.0).contains(&request.holdout_share), "holdout_share", "must be from 0 to 1");
    check.finish()?;
    Ok(filter)
}

/// A request for an allocation as the model takes it.
pub(super) fn allocation(
    model: &Model,
    request: v1::AllocateLaunchesRequest,
    filter: MemberFilter,
) -> Result<AllocationRequest, Problem> {
    let (mut subjects, mut launches) = (Vec::new(), Vec::new());
    for given in request.launches {
        let cap = match given.cap {
            Some(GivenCap::MaxMembers(members)) => Cap::Members(usize::try_from(members).unwrap_or(0)),
            Some(GivenCap::Stock(units)) => Cap::Stock(units),
            None => Cap::None,
        };
        let named = model.products.find(&given.product_id).map(|row| model.products.prices[row as usize]);
        let price = given.attributes.as_ref().map_or(named, |attributes| attributes.price);
        launches.push(Launch::new(price, Some(given.value), cap));
        subjects.push(subject(model, given.product_id, given.attributes)?);
    }
    Ok(AllocationRequest { subjects, launches, contact_cost: request.contact_cost, filter })
}

fn attributes(check: &mut Check, field: &str, given: &v1::ProductAttributes) {
    check.text(&format!("{field}.title"), &given.title, MAX_TEXT);
    check.category(&format!("{field}.category"), &given.category);
    check.text(&format!("{field}.brand"), &given.brand, 256);
    check.ids(&format!("{field}.tags"), &given.tags, MAX_TAGS);
    check.ids(&format!("{field}.store_ids"), &given.store_ids, MAX_PLACES);
    let priced = given.price.is_none_or(|price| price.is_finite() && price > 0.0);
    check.that(priced, &format!("{field}.price"), "must be above 0");
    check.that(*given != v1::ProductAttributes::default(), field, "must have at least one field set");
}

fn known_attributes(given: v1::ProductAttributes) -> Attributes {
    Attributes {
        title: given.title,
        category: Some(given.category).filter(|c| !c.is_empty()),
        brand: Some(given.brand).filter(|b| !b.is_empty()),
        price: given.price,
        tags: given.tags,
        stores: given.store_ids,
    }
}

fn size(check: &mut Check, given: Option<Size>) -> AudienceSize {
    match given {
        None => {
            check.that(false, "size", "is required: member_count, member_share, min_probability or expected_buyers");
            AudienceSize::Count(0)
        }
        Some(Size::MemberCount(count)) => {
            check.that(count >= 1, "member_count", "must be 1 or more");
            AudienceSize::Count(usize::try_from(count).unwrap_or(0))
        }
        Some(Size::MemberShare(share)) => {
            check.that(share > 0.0 && share <= 1.0, "member_share", "must be above 0 and up to 1");
            AudienceSize::Share(share)
        }
        Some(Size::MinProbability(least)) => {
            check.that(least > 0.0 && least <= 1.0, "min_probability", "must be above 0 and up to 1");
            AudienceSize::MinProbability(least)
        }
        Some(Size::ExpectedBuyers(buyers)) => {
            check.that(buyers > 0.0 && buyers.is_finite(), "expected_buyers", "must be above 0");
            AudienceSize::ExpectedBuyers(buyers)
        }
    }
}

fn quota(check: &mut Check, given: Option<v1::Quota>) -> Quota {
    let Some(given) = given else { return Quota::default() };
    let mut places = |field: &str, places: Option<i32>| {
        check.that(places.is_none_or(|p| p >= 0), field, "must be 0 or above");
        places.map(|p| u32::try_from(p).unwrap_or(0))
    };
    let (per_store, per_guide) =
        (places("quota.per_store", given.per_store), places("quota.per_guide", given.per_guide));
    check.that(
        (0..=MAX_CAMPAIGN_DAYS).contains(&given.days),
        "quota.days",
        &format!("must be from 0 to {MAX_CAMPAIGN_DAYS}"),
    );
    let is_for_something = given.days == 0 || per_store.is_some() || per_guide.is_some();
    check.that(is_for_something, "quota.days", "needs quota.per_store or quota.per_guide");
    Quota { per_store, per_guide, days: u16::try_from(given.days).unwrap_or(1).max(1) }
}
