//! What the store holds.

use kindred_models::events::Kind;
use kindred_models::outreach::{ContactStatus, Held, Policy, Times};
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

/// A contact as it was planned, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredContact {
    /// Names the contact: 32 hexadecimal digits.
    pub contact_id: String,
    /// The plan.
    pub plan_id: String,
    /// The campaign.
    pub campaign_id: String,
    /// The member.
    pub member_id: String,
    /// The product.
    pub product_id: String,
    /// The channel.
    pub channel: String,
    /// How much the campaign comes first, 0 to 9.
    pub priority: u8,
    /// When it goes out, or went.
    pub times: Times,
    /// What became of it.
    pub status: ContactStatus,
    /// When that was said, in unix seconds.
    pub said_at: i64,
    /// The chance of a purchase, as it was planned.
    pub probability: f64,
    /// What was expected of it, less what it costs.
    pub value: f64,
}

impl StoredContact {
    /// The name of a plan's contact with a member: what is planned twice is one.
    pub fn name(plan_id: &str, member_id: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        // The length goes first, so that no two pairs read alike.
        hasher.update(&(plan_id.len() as u64).to_le_bytes()).update(plan_id.as_bytes()).update(member_id.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Whether it had a place, whose time is over.
    pub fn is_over(&self, now: i64) -> bool {
        self.status == ContactStatus::Reserved && self.times.until < now
    }

    /// As a policy sees it.
    pub fn held(&self, policy: &Policy) -> Held {
        let place = policy.place(Some(&self.channel));
        let Self { times, status, priority, said_at, .. } = *self;
        Held { place, times, status, priority, said_at }
    }
}

/// What is known now of a contact, as far as whoever answers needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContactNow {
    /// Tells it from the member's others; never 0.
    pub id: u64,
    /// The member.
    pub member_id: String,
    /// The product.
    pub product_id: String,
    /// The channel.
    pub channel: String,
    /// How much the campaign comes first, 0 to 9.
    pub priority: u8,
    /// When it goes out, or went.
    pub times: Times,
    /// What became of it.
    pub status: ContactStatus,
    /// When that was said, in unix seconds.
    pub said_at: i64,
}

impl ContactNow {
    /// A contact's number: the first half of its name.
    pub(super) fn id(contact_id: &str) -> u64 {
        contact_id.get(..16).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0).max(1)
    }
}

impl From<&StoredContact> for ContactNow {
    fn from(contact: &StoredContact) -> Self {
        let StoredContact { contact_id, member_id, product_id, channel, .. } = contact;
        let StoredContact { priority, times, status, said_at, .. } = *contact;
        let (member_id, product_id, channel) = (member_id.clone(), product_id.clone(), channel.clone());
        Self { id: Self::id(contact_id), member_id, product_id, channel, priority, times, status, said_at }
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
        /// The store.
        store: Option<String>,
        /// The channel.
        channel: Option<String>,
    },
    /// A member showed interest in a product lately, or got a message, and the version learned of it, but not all of it.
    Learned {
        /// The member.
        member_id: String,
        /// The product; empty for a message about none.
        product_id: String,
        /// What happened.
        kind: Kind,
        /// Unix seconds.
        time: i64,
        /// The channel.
        channel: Option<String>,
    },
    /// A contact as it is now.
    Contact(ContactNow),
    /// All that was said of a member, by id.
    Member(String, Profile),
    /// All that was said of a product, by id.
    Product(String, ProductPatch),
    /// A member must be forgotten, by id.
    Erased(String),
    /// Members must be forgotten, by the hashes of their ids.
    Tombstones(Vec<String>),
}
