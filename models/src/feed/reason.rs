//! Why a product is in a feed, in terms that a shopper understands.

use super::{FeedItem, Persona, Source};
use crate::history::UNKNOWN_DAYS;
use crate::kernels::dot;
use crate::model::Model;

/// A reason: a code with its arguments, for the caller to phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The member bought it before.
    BoughtBefore {
        /// How often.
        count: u16,
        /// Days from the last time to the newest event learned from, if events have a time.
        days_since: Option<u16>,
    },
    /// It goes with this product, which the member bought.
    GoesWith(u32),
    /// It goes with this product, which the visitor looked at just now.
    GoesWithVisit(u32),
    /// Many buy it.
    Popular,
}

impl Persona {
    /// The reason for an item of this persona's feed.
    pub fn reason(&self, model: &Model, item: &FeedItem) -> Reason {
        if let Some(past) = self.past.get(&item.product).filter(|past| past.count > 0) {
            let days_since = (past.days_since != UNKNOWN_DAYS).then_some(past.days_since);
            return Reason::BoughtBefore { count: past.count, days_since };
        }
        if item.source != Source::Taste {
            return Reason::Popular;
        }
        let vector = model.embeddings.product(item.product);
        let closeness = |product: u32, weight: f32| weight * dot(vector, model.embeddings.product(product));
        let visited = self
            .visited
            .iter()
            .filter(|p| **p != item.product)
            .map(|p| (closeness(*p, 1.0), Reason::GoesWithVisit(*p)));
        let past = self
            .past
            .values()
            .filter(|p| p.count > 0)
            .map(|p| (closeness(p.product, p.weight), Reason::GoesWith(p.product)));
        let best = visited.chain(past).max_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Reason::Popular, |(_, reason)| reason)
    }
}
