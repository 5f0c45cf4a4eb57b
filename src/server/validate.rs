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
    told: Vec<FieldViolation>,
    others: usize,
}

impl Check {
    /// Notes a violation unless `holds`.
    pub(super) fn that(&mut self, holds: bool, field: &str, rule: &str) {
        if holds {
            return;
        }
        match self.told.len() < MAX_TOLD {
            true => self.told.push(FieldViolation::new(field, rule)),
            false => self.others += 1,
        }
    }

    /// The outcome: the first violations, and how many more there are.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        if self.others > 0 {
            self.told.push(FieldViolation::new("…", format!("and {} more", self.others)));
        }
        if self.told.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.told)) }
    }

    /// An id that must be there.
    pub(super) fn id(&mut self, field: &str, id: &str) {
        self.that(!id.is_empty(), field, "is required");
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
        let is_bad = |id: &String| id.is_empty() || id.len() > MAX_ID_BYTES || id.contains('\0');
        if let Some(at) = ids.iter().take(max).position(is_bad) {
            self.that(
                false,
                &format!("{field}[{at}]"),
                &format!("must have 1 to {MAX_ID_BYTES} bytes, none of them zero"),
            );
        }
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
        self.ids(&format!("{field}.categories"), &filter.categories, MAX_FILTER_VALUES);
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
