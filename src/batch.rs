//! Batch scoring: the feed's own code, for many members.

use kindred_models::Model;
use kindred_models::feed::{FeedItem, FeedRequest, Visitor, feed};
use kindred_models::stop::{Stop, Stopped};
use rayon::prelude::*;

/// What every member is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// Products per member.
    pub top: usize,
    /// Whether to leave out what the member bought before.
    pub exclude_purchased: bool,
}

/// Each visitor's products, best first, in the order of the visitors; in parallel.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub fn score(
    model: &Model,
    visitors: &[Visitor],
    request: BatchRequest,
    stop: &Stop,
) -> Result<Vec<Vec<FeedItem>>, Stopped> {
    visitors
        .par_iter()
        .map(|visitor| {
            stop.check()?;
            let mut question = FeedRequest::new(*visitor, request.top);
            question.include_purchased = !request.exclude_purchased;
            Ok(feed(model, &question))
        })
        .collect()
}

/// The visitor behind a member id.
pub fn visitor(model: &Model, member_id: &str) -> Visitor {
    model.state.find(model, member_id).map_or(Visitor::Unknown, Visitor::Member)
}

/// Whether a member asked to be forgotten: nothing is said of them, not even what is popular.
pub fn is_erased(model: &Model, member_id: &str) -> bool {
    model.members.ids.find(member_id).is_some_and(|row| model.state.is_erased(row))
}
