//! What the store holds.

use kindred_models::content::Attributes;
use kindred_models::events::Kind;
use kindred_models::state::{ProductNow, Profile};
use serde::{Deserialize, Serialize};

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

/// What was said of a product; what is `None` is as a version has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProductPatch {
    /// Title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Category path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f32>,
    /// Tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Stores that carry it; empty for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stores: Option<Vec<String>>,
    /// Whether it can be sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
}

impl ProductPatch {
    /// Takes over what a later word says; what it does not say stays.
    pub fn merge(&mut self, later: Self) {
        let Self { title, category, brand, price, tags, stores, available } = later;
        self.title = title.or(self.title.take());
        self.category = category.or(self.category.take());
        self.brand = brand.or(self.brand.take());
        self.price = price.or(self.price);
        self.tags = tags.or(self.tags.take());
        self.stores = stores.or(self.stores.take());
        self.available = available.or(self.available);
    }

    /// The product as it is now, where a version knows this of it.
    pub fn applied(&self, id: &str, known: Option<(Attributes, bool)>) -> ProductNow {
        let (learned, available) = known.unwrap_or_else(|| (Attributes::default(), true));
        let patch = self.clone();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let attributes = Attributes {
            title: patch.title.unwrap_or(learned.title),
            category: patch.category.map_or(learned.category, given),
            brand: patch.brand.map_or(learned.brand, given),
            price: patch.price.or(learned.price),
            tags: patch.tags.unwrap_or(learned.tags),
            stores: patch.stores.unwrap_or(learned.stores),
        };
        ProductNow { id: id.to_owned(), attributes, available: self.available.unwrap_or(available) }
    }
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
