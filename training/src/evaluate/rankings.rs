//! The rankings that are compared: ours, the simple ones, and the served model's.

use kindred_models::Model;
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::ranking::{Scored, Top};

use super::Task;
use super::metrics::PAGE;
use crate::slice::Slice;

/// Days after which a purchase counts half in what is recent.
const RECENT_HALF_LIFE_DAYS: f32 = 14.0;

/// What the simple rankings count.
pub(super) struct Baselines {
    /// Products by purchases, best first.
    popular: Vec<u32>,
    /// The same, with old purchases counted less; `None` where events have no time.
    recent: Option<Vec<u32>>,
}

impl Baselines {
    pub(super) fn new(slice: &Slice, products: usize) -> Self {
        let order = |half_life: f32| {
            let counts = crate::popularity::overall(slice, products, half_life);
            let mut rows: Vec<u32> = (0..counts.len() as u32).collect();
            rows.sort_by_key(|row| Scored { row: *row, score: counts[*row as usize] });
            rows
        };
        Self { popular: order(0.0), recent: slice.has_time().then(|| order(RECENT_HALF_LIFE_DAYS)) }
    }

    /// Those that a task tells apart, by name.
    pub(super) fn rank(&self, model: &Model, member: u32, task: Task) -> Vec<(&'static str, Vec<u32>)> {
        let filled = |page: Vec<u32>, order: &[u32]| fill(page, order, model, member, task);
        let mut rankings = vec![("popularity", filled(Vec::new(), &self.popular))];
        rankings.extend(self.recent.as_ref().map(|recent| ("recent popularity", filled(Vec::new(), recent))));
        if task == Task::All {
            let rest = self.recent.as_ref().unwrap_or(&self.popular);
            rankings.push(("personal frequency", filled(frequent(model, member), rest)));
        }
        rankings
    }
}

/// What the member bought most, with old purchases counted less.
fn frequent(model: &Model, member: u32) -> Vec<u32> {
    let mut top = Top::new(PAGE);
    let bought = model.history.member(member).filter(|past| past.count > 0);
    bought.for_each(|past| top.push(past.product, past.decayed));
    top.into_sorted().iter().map(|s| s.row).collect()
}

/// Fills a page up with the first of an order that may stand there.
fn fill(mut page: Vec<u32>, order: &[u32], model: &Model, member: u32, task: Task) -> Vec<u32> {
    let bought = |row: u32| model.history.pair(member, row).is_some_and(|p| p.count > 0);
    for row in order {
        if page.len() >= PAGE {
            break;
        }
        if !page.contains(row) && (task == Task::All || !bought(*row)) {
            page.push(*row);
        }
    }
    page
}

/// The model's own feed.
pub(super) fn ours(model: &Model, member: u32, task: Task) -> Vec<u32> {
    let mut request = FeedRequest::new(Visitor::Member(member), PAGE);
    request.include_purchased = task == Task::All;
    feed(model, &request).into_iter().map(|item| item.product).collect()
}

/// The feed of a model that was served before, in rows of this one. What the member bought since it was
/// trained is left out of what is new.
pub(super) fn served(served: &Model, model: &Model, member: u32, task: Task) -> Vec<u32> {
    let row = served.members.ids.find(model.members.ids.get(member));
    let mut request = FeedRequest::new(row.map_or(Visitor::Unknown, Visitor::Member), PAGE);
    request.include_purchased = task == Task::All;
    if task == Task::New {
        let bought = model.history.member(member).filter(|past| past.count > 0);
        let ids = bought.map(|past| model.products.ids.get(past.product));
        request.excluded = ids.filter_map(|id| served.products.ids.find(id)).collect();
    }
    let items = feed(served, &request);
    items.iter().filter_map(|item| model.products.ids.find(served.products.ids.get(item.product))).collect()
}
