//! Requests are checked here, before anything is allocated or computed for them.

use kindred_models::Model;
use kindred_models::events;
use kindred_models::feed::DEFAULT_PAGE;
use kindred_models::feed::{ProductFilter, VisitEvent, visit_weight};
use tonic_types::FieldViolation;

use super::status::Problem;
use crate::proto::v1;

/// Items of a page at most.
const MAX_PAGE: usize = 500;
/// How far clocks may be ahead, in seconds.
pub(super) const CLOCKS_AHEAD: i64 = 300;
/// Bytes of an id at most.
pub(super) const MAX_ID_BYTES: usize = 256;
/// Bytes of a title or a category at most.
pub(super) const MAX_TEXT: usize = 1000;
/// Levels of a category at most.
const MAX_LEVELS: usize = 16;
/// Tags of a member, a product or a filter at most.
pub(super) const MAX_TAGS: usize = 100;
/// Values of a filter at most.
const MAX_FILTER_VALUES: usize = 100;
/// Events of a visit at most.
const MAX_VISIT_EVENTS: usize = 200;

/// Violations that are told: all that is said of an answer must fit into what clients take of headers.
const MAX_TOLD: usize = 20;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// Before the names of all fields: the field that they are within.
    within: &'static str,
    told: Vec<FieldViolation>,
    others: usize,
}

impl Check {
    /// Of what is within a field of a request, such as `audience.`.
    pub(super) fn within(field: &'static str) -> Self {
        Self { within: field, ..Self::default() }
    }

    /// Notes a violation unless `holds`.
    pub(super) fn that(&mut self, holds: bool, field: &str, rule: &str) {
        if holds {
            return;
        }
        match self.told.len() < MAX_TOLD {
            true => self.told.push(FieldViolation::new(format!("{}{field}", self.within), rule)),
            false => self.others += 1,
        }
    }

    /// The outcome: the first violations, and how many more there are.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.told.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.told, self.others)) }
    }

    /// An id that must be there.
    pub(super) fn id(&mut self, field: &str, id: &str) {
        // Tables have it for none, too.
        self.that(!id.trim().is_empty(), field, "is required");
        self.text(field, id, MAX_ID_BYTES);
    }

    /// Text of a length.
    pub(super) fn text(&mut self, field: &str, text: &str, max_bytes: usize) {
        self.that(text.len() <= max_bytes, field, &format!("must not be longer than {max_bytes} bytes"));
        // PostgreSQL takes none.
        self.that(!text.contains('\0'), field, "must not have a zero byte");
    }

    /// A list of a length, of ids.
    pub(super) fn ids(&mut self, field: &str, ids: &[String], max: usize) {
        self.that(ids.len() <= max, field, &format!("must not have more than {max} entries"));
        let is_bad = |id: &String| id.trim().is_empty() || id.len() > MAX_ID_BYTES || id.contains('\0');
        if let Some(at) = ids.iter().take(max).position(is_bad) {
            self.that(
                false,
                &format!("{field}[{at}]"),
                &format!("must have 1 to {MAX_ID_BYTES} bytes, none of them zero and not blanks alone"),
            );
        }
    }

    /// A path of categories; empty for none.
    pub(super) fn category(&mut self, field: &str, path: &str) {
        self.text(field, path, MAX_TEXT);
        let is_deep = path.split('/').nth(MAX_LEVELS).is_some();
        self.that(!is_deep, field, &format!("must not have more than {MAX_LEVELS} levels"));
    }

    /// A page size: 0 is the default, too large is capped.
    pub(super) fn page_size(&mut self, field: &str, size: i32) -> usize {
        self.that(size >= 0, field, "must not be negative");
        match usize::try_from(size) {
            Ok(0) | Err(_) => DEFAULT_PAGE,
            Ok(size) => size.min(MAX_PAGE),
        }
    }

    /// A filter of products.
    pub(super) fn filter(&mut self, field: &str, filter: Option<v1::ProductFilter>) -> ProductFilter {
        let filter = filter.unwrap_or_default();
        let most = format!("must not have more than {MAX_FILTER_VALUES} entries");
        self.that(filter.categories.len() <= MAX_FILTER_VALUES, &format!("{field}.categories"), &most);
        for (at, path) in filter.categories.iter().take(MAX_FILTER_VALUES).enumerate() {
            self.that(!path.is_empty(), &format!("{field}.categories[{at}]"), "must not be empty");
            self.category(&format!("{field}.categories[{at}]"), path);
        }
        self.ids(&format!("{field}.brands"), &filter.brands, MAX_FILTER_VALUES);
        self.text(&format!("{field}.store_id"), &filter.store_id, MAX_ID_BYTES);
        for (name, price) in [("min_price", filter.min_price), ("max_price", filter.max_price)] {
            let is_price = price.is_none_or(|p| p.is_finite() && p >= 0.0);
            self.that(is_price, &format!("{field}.{name}"), "must be 0 or above");
        }
        let (low, high) = (filter.min_price.unwrap_or(0.0), filter.max_price.unwrap_or(f32::INFINITY));
        self.that(
            low.partial_cmp(&high) != Some(std::cmp::Ordering::Greater),
            &format!("{field}.max_price"),
            "must not be below min_price",
        );
        ProductFilter {
            categories: filter.categories,
            brands: filter.brands,
            min_price: filter.min_price,
            max_price: filter.max_price,
            store: (!filter.store_id.is_empty()).then_some(filter.store_id),
        }
    }

    /// Events of a visit.
    pub(super) fn visit(&mut self, events: &[v1::VisitEvent]) {
        let limit = format!("must not have more than {MAX_VISIT_EVENTS} entries");
        self.that(events.len() <= MAX_VISIT_EVENTS, "visit_events", &limit);
        for (at, event) in events.iter().take(MAX_VISIT_EVENTS).enumerate() {
            self.id(&format!("visit_events[{at}].product_id"), &event.product_id);
            let known = v1::VisitEventKind::try_from(event.kind).is_ok();
            self.that(known, &format!("visit_events[{at}].kind"), "must be a known kind");
        }
    }
}

/// What is said of an id that nobody has and that has a blank at an end.
pub(super) const UNTRIMMED: &str = "must not have a space or a line break at its ends: no member is known by it";

/// Whether an id has no blank at its ends, as which it is mostly a slip.
pub(super) fn is_written_well(id: &str) -> bool {
    id.trim().len() == id.len()
}

/// Events of a visit as the model takes them; products that it does not know are left out.
pub(super) fn visit_events(model: &Model, given: &[v1::VisitEvent]) -> Vec<VisitEvent> {
    use v1::VisitEventKind as Kind;
    let known = given.iter().filter_map(|event| {
        let product = model.products.find(&event.product_id)?;
        let kind = match Kind::try_from(event.kind).unwrap_or(Kind::Unspecified) {
            Kind::Unspecified | Kind::View => events::Kind::View,
            Kind::Cart => events::Kind::Cart,
            Kind::Favorite => events::Kind::Favorite,
            Kind::Share => events::Kind::Share,
            Kind::Purchase => events::Kind::Purchase,
        };
        Some(VisitEvent { product, weight: visit_weight(kind), purchased: kind == events::Kind::Purchase })
    });
    known.collect()
}
