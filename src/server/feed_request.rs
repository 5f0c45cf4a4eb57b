//! A request for a feed, of one member or of a group: checked first, then looked up in the model that answers.

use std::collections::{BTreeSet, HashMap};

use kindred_models::Model;
use kindred_models::feed::{FeedRequest, GroupRequest, MAX_GROUP, MAX_GROUP_PAGE, ProductFilter, Rules, SEEN_DECAY};
use kindred_models::popularity::Context;

use super::recommendation::MAX_PRODUCTS;
use super::status::Problem;
use super::validate::{Check, visit_events};
use crate::batch::visitor;
use crate::proto::v1;

/// Products in a basket at most.
const MAX_BASKET: usize = 200;

/// What was checked of a request, and needs no model to be understood.
#[derive(Debug)]
pub(super) struct FeedQuestion {
    page_size: usize,
    filter: ProductFilter,
    context: Context,
    rules: Rules,
}

impl FeedQuestion {
    /// Checks every field.
    pub(super) fn check(request: &v1::RecommendFeedRequest) -> Result<Self, Problem> {
        let mut check = Check::default();
        check.text("member_id", &request.member_id, 256);
        check.ids("excluded_product_ids", &request.excluded_product_ids, MAX_PRODUCTS);
        check.ids("basket_product_ids", &request.basket_product_ids, MAX_BASKET);
        check.visit(&request.visit_events);
        let page = Self::page(&mut check, request.page_size, &request.filter, &request.context, &request.rules);
        check.finish()?;
        Ok(page)
    }

    /// Checks every field of a request for a group.
    pub(super) fn check_group(request: &v1::RecommendGroupFeedRequest) -> Result<Self, Problem> {
        let mut check = Check::default();
        check.that(!request.member_ids.is_empty(), "member_ids", "is required");
        check.ids("member_ids", &request.member_ids, MAX_GROUP);
        check.ids("excluded_product_ids", &request.excluded_product_ids, MAX_PRODUCTS);
        let page = Self::page(&mut check, request.page_size, &request.filter, &request.context, &request.rules);
        check.that(page.rules.explore_share == 0.0, "rules.explore_share", "must be 0 for a group");
        check.finish()?;
        Ok(page)
    }

    fn page(
        check: &mut Check,
        page_size: i32,
        filter: &Option<v1::ProductFilter>,
        given_context: &Option<v1::FeedContext>,
        given_rules: &Option<v1::FeedRules>,
    ) -> Self {
        Self {
            page_size: check.page_size("page_size", page_size),
            filter: check.filter("filter", filter.clone()),
            context: context(check, given_context.clone().unwrap_or_default()),
            rules: rules(check, &given_rules.clone().unwrap_or_default()),
        }
    }

    /// Looks products and the members of a group up; products that the model does not know are left out.
    pub(super) fn resolve_group(self, model: &Model, request: &v1::RecommendGroupFeedRequest) -> GroupRequest {
        let find = |id: &String| model.products.find(id);
        // Once each, whoever is named twice.
        let ids: BTreeSet<&String> = request.member_ids.iter().collect();
        GroupRequest {
            visitors: ids.into_iter().map(|id| visitor(model, id)).collect(),
            page_size: self.page_size.min(MAX_GROUP_PAGE),
            excluded: request.excluded_product_ids.iter().filter_map(find).collect(),
            filter: self.filter,
            context: self.context,
            rules: Rules { seen: seen(model, &request.rules), ..self.rules },
        }
    }

    /// Looks products and the member up; products that the model does not know are left out.
    pub(super) fn resolve(self, model: &Model, request: &v1::RecommendFeedRequest) -> FeedRequest {
        let find = |id: &String| model.products.find(id);
        FeedRequest {
            visitor: visitor(model, &request.member_id),
            page_size: self.page_size,
            excluded: request.excluded_product_ids.iter().filter_map(find).collect(),
            filter: self.filter,
            include_purchased: request.include_purchased,
            visit: visit_events(model, &request.visit_events),
            context: self.context,
            // Once each, whatever is in it twice.
            basket: request.basket_product_ids.iter().filter_map(find).collect::<BTreeSet<u32>>().into_iter().collect(),
            rules: Rules { seen: seen(model, &request.rules), ..self.rules },
        }
    }
}

fn seen(model: &Model, rules: &Option<v1::FeedRules>) -> HashMap<u32, u16> {
    let times = |count: i32| u16::try_from(count.max(1)).unwrap_or(u16::MAX);
    let mut all = HashMap::<u32, u16>::new();
    for seen in rules.iter().flat_map(|rules| &rules.seen) {
        if let Some(product) = model.products.find(&seen.product_id) {
            let count = all.entry(product).or_default();
            *count = count.saturating_add(times(seen.count));
        }
    }
    all
}

fn context(check: &mut Check, context: v1::FeedContext) -> Context {
    for (field, text) in [
        ("context.store_id", &context.store_id),
        ("context.city", &context.city),
        ("context.channel", &context.channel),
    ] {
        check.text(field, text, 256);
    }
    check.that(context.hour.is_none_or(|hour| (0..24).contains(&hour)), "context.hour", "must be from 0 to 23");
    let given = |text: String| (!text.is_empty()).then_some(text);
    Context {
        store: given(context.store_id),
        city: given(context.city),
        channel: given(context.channel),
        hour: context.hour.and_then(|hour| u8::try_from(hour).ok()),
    }
}

fn rules(check: &mut Check, rules: &v1::FeedRules) -> Rules {
    let seen = rules.seen.len();
    check.that(seen <= MAX_PRODUCTS, "rules.seen", &format!("must not have more than {MAX_PRODUCTS} entries"));
    for (at, seen) in rules.seen.iter().take(MAX_PRODUCTS).enumerate() {
        check.id(&format!("rules.seen[{at}].product_id"), &seen.product_id);
        check.that(seen.count >= 0, &format!("rules.seen[{at}].count"), "must not be negative");
    }
    let decay = rules.seen_decay.unwrap_or(SEEN_DECAY);
    for (field, share) in [
        ("rules.seen_decay", decay),
        ("rules.explore_share", rules.explore_share),
        ("rules.launch_share", rules.launch_share),
        ("rules.diversity", rules.diversity),
    ] {
        check.that((0.0..=1.0).contains(&share), field, "must be from 0 to 1");
    }
    for (field, cap) in
        [("rules.max_per_category", rules.max_per_category), ("rules.max_per_brand", rules.max_per_brand)]
    {
        check.that(cap >= 0, field, "must not be negative");
    }
    let cap = |cap: i32| usize::try_from(cap).ok().filter(|cap| *cap > 0);
    Rules {
        seen: HashMap::new(),
        seen_decay: decay,
        explore_share: rules.explore_share,
        launch_share: rules.launch_share,
        max_per_category: cap(rules.max_per_category),
        max_per_brand: cap(rules.max_per_brand),
        diversity: rules.diversity,
    }
}
