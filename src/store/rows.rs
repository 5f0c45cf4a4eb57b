//! What the store holds.

use kindred_models::events::Kind;
use kindred_models::state::{ProductPatch, Profile};

/// An event as it was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Names the event.
    pub event_id: String,
    /// The member.
    pub member_id: String,
    /// The product; empty for a contact about none.
    pub product_id: String,
    /// What happened.
    pub kind: Kind,
    /// Unix seconds.
    pub time: i64,
    /// Units.
    pub quantity: Option<f64>,
    /// Amount paid.
    pub amount: Option<f64>,
    /// The store.
    pub store_id: Option<String>,
    /// The channel.
    pub channel: Option<String>,
    /// The basket.
    pub basket_id: Option<String>,
}

/// One thing that is different from before.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Something happened.
    Event {
        /// The member.
        member_id: String,
        /// The product; empty for a contact about none.
        product_id: String,
        /// What happened.
        kind: Kind,
        /// Unix seconds.
        time: i64,
    },
    /// All that was said of a member, by id.
    Member(String, Profile),
    /// All that was said of a product, by id.
    Product(String, ProductPatch),
    /// A member must be forgotten, by id.
    Erased(String),
    /// Members must be forgotten, by the hashes of their ids.
    Tombstones(Vec<String>),
}
