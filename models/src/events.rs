//! Events: what members do, and what it counts for.

use bytemuck::{CheckedBitPattern, NoUninit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;

/// What happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, NoUninit, CheckedBitPattern, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// Bought.
    Purchase,
    /// A purchase taken back.
    Refund,
    /// Looked at.
    View,
    /// Put into the cart.
    Cart,
    /// Marked as a favorite.
    Favorite,
    /// Shared.
    Share,
    /// One message sent to the member.
    Contact,
}

impl Kind {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Self; 7] =
        [Self::Purchase, Self::Refund, Self::View, Self::Cart, Self::Favorite, Self::Share, Self::Contact];

    /// Its name in the data contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Refund => "refund",
            Self::View => "view",
            Self::Cart => "cart",
            Self::Favorite => "favorite",
            Self::Share => "share",
            Self::Contact => "contact",
        }
    }

    /// From its name in the data contract.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The day of a moment in unix seconds, counted from 1970, in UTC.
pub fn day(time: i64) -> i64 {
    time.div_euclid(DAY_SECONDS)
}

/// What is left of 1 after so many seconds: a half after every half-life; 1 without one. Above 1 for seconds below 0, of
/// what is yet to come.
pub fn decayed(seconds: i64, half_life_days: f32) -> f32 {
    if half_life_days <= 0.0 {
        return 1.0;
    }
    let days = seconds as f64 / DAY_SECONDS as f64;
    (-days / f64::from(half_life_days)).exp2() as f32
}

/// The purchases that were not brought back, of events in order of time: a refund takes back the purchase before it.
/// With them, the refunds before which there was none.
pub fn kept_purchases(events: impl IntoIterator<Item = (Kind, i64)>) -> (Vec<i64>, usize) {
    let (mut kept, mut unmatched) = (Vec::new(), 0);
    for (kind, time) in events {
        match kind {
            Kind::Purchase => kept.push(time),
            Kind::Refund if kept.pop().is_none() => unmatched += 1,
            _ => {}
        }
    }
    (kept, unmatched)
}

/// How purchases become the weights of the embeddings' objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// `1 + ln(count)`; below one purchase, the count itself.
    #[default]
    Log,
    /// The count.
    Linear,
    /// The count, up to 1.
    Binary,
}

impl Weighting {
    /// The weight of a count above 0.
    pub fn weight(self, count: f32) -> f32 {
        match self {
            Self::Log if count >= 1.0 => 1.0 + count.ln(),
            Self::Log | Self::Linear => count,
            Self::Binary => count.min(1.0),
        }
    }

    /// The least count that has a weight.
    pub fn count(self, weight: f32) -> f32 {
        match self {
            Self::Log if weight >= 1.0 => (weight - 1.0).exp(),
            Self::Log | Self::Linear | Self::Binary => weight,
        }
    }
}

/// How much an event of each kind counts, where a purchase counts 1. Refunds take a purchase back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventWeights {
    /// Looked at.
    pub view: f32,
    /// Put into the cart.
    pub cart: f32,
    /// Marked as a favorite.
    pub favorite: f32,
    /// Shared.
    pub share: f32,
}

impl Default for EventWeights {
    fn default() -> Self {
        Self { view: 0.05, cart: 0.2, favorite: 0.2, share: 0.2 }
    }
}

impl EventWeights {
    /// How much interest an event shows; 0 for purchases, which are counted apart, and contacts.
    pub fn interest(&self, kind: Kind) -> f32 {
        match kind {
            Kind::View => self.view,
            Kind::Cart => self.cart,
            Kind::Favorite => self.favorite,
            Kind::Share => self.share,
            Kind::Purchase | Kind::Refund | Kind::Contact => 0.0,
        }
    }
}

/// How a version adds events up, read from the parameters that it was trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counting {
    /// What interest counts.
    pub weights: EventWeights,
    /// How purchases add up in the embeddings.
    pub weighting: Weighting,
    /// Days after which a purchase counts half in the embeddings; 0 for never, here and below.
    pub half_life_days: f32,
    /// The same, in what a member bought.
    pub repeat_half_life_days: f32,
    /// The same, in what a member bought lately.
    pub recent_half_life_days: f32,
    /// The same, in what is popular: at large, all the year, and this week.
    pub popularity_half_life_days: [f32; 3],
    /// Seconds that the shops' clocks are ahead of UTC.
    pub utc_offset_seconds: i64,
    /// Whether its table of events had dates alone, each stored as midnight UTC of the shops' day.
    pub is_of_days: bool,
}

impl Counting {
    /// Seconds to take from the stored time of a day to get the shops' real midnight; `None` where events have times.
    pub fn days_offset(&self) -> Option<i64> {
        self.is_of_days.then_some(self.utc_offset_seconds)
    }

    /// From a version's parameters; what they do not say is as if nothing decayed.
    pub fn of(parameters: &Value) -> Self {
        let at = |section: &str, name: &str| parameters.get(section).and_then(|section| section.get(name));
        let days = |section: &str, name: &str| at(section, name).and_then(Value::as_f64).unwrap_or(0.0) as f32;
        let weights = parameters.get("event_weights").cloned().unwrap_or_default();
        let weighting = at("embeddings", "weighting").cloned().unwrap_or_default();
        Self {
            weights: serde_json::from_value(weights).unwrap_or_default(),
            weighting: serde_json::from_value(weighting).unwrap_or_default(),
            half_life_days: days("embeddings", "half_life_days"),
            repeat_half_life_days: days("repeat", "half_life_days"),
            recent_half_life_days: days("repeat", "recent_half_life_days"),
            popularity_half_life_days: ["half_life_days", "long_half_life_days", "short_half_life_days"]
                .map(|name| days("popularity", name)),
            is_of_days: parameters.pointer("/data/events/time_unit").and_then(Value::as_str) == Some("date"),
            utc_offset_seconds: 60
                * at("popularity", "utc_offset_minutes").and_then(Value::as_i64).unwrap_or(0).clamp(-1440, 1440),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_in_the_data_contract() {
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.name()) == Some(*kind)));
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| *kind as usize == i));
        assert_eq!(Kind::parse("Purchase"), None);
    }

    #[test]
    fn a_refund_takes_back_the_purchase_before_it() {
        use Kind::{Purchase, Refund, View};
        let kept = |kinds: &[Kind]| kept_purchases(kinds.iter().copied().zip(1..));
        assert_eq!(kept(&[Purchase, Purchase, View, Refund]), (vec![1], 0));
        assert_eq!(kept(&[Refund, Purchase, Refund, Refund]), (vec![], 2));
    }

    #[test]
    fn weights_are_told_back_as_counts() {
        for weighting in [Weighting::Log, Weighting::Linear] {
            for count in [0.05f32, 0.7, 1.0, 3.0, 40.0] {
                let back = weighting.count(weighting.weight(count));
                assert!((back - count).abs() < 1e-5 * count, "{weighting:?} {count}: {back}");
            }
        }
        assert_eq!(Weighting::Binary.count(Weighting::Binary.weight(7.0)), 1.0);
    }

    #[test]
    fn counting_is_as_the_version_was_trained() {
        let counting = Counting::of(&serde_json::json!({
            "embeddings": { "weighting": "linear", "half_life_days": 90.0 },
            "repeat": { "half_life_days": 120.0, "recent_half_life_days": 20.0 },
            "popularity": { "half_life_days": 30, "long_half_life_days": 180, "short_half_life_days": 7 },
            "event_weights": { "view": 0.5, "cart": 0.2, "favorite": 0.2, "share": 0.2 },
        }));
        assert_eq!((counting.weighting, counting.half_life_days), (Weighting::Linear, 90.0));
        assert_eq!(counting.popularity_half_life_days, [30.0, 180.0, 7.0]);
        assert_eq!(counting.weights.interest(Kind::View), 0.5);
        assert_eq!(decayed(20 * DAY_SECONDS, counting.recent_half_life_days), 0.5);
        assert_eq!(decayed(20 * DAY_SECONDS, Counting::of(&Value::Null).recent_half_life_days), 1.0);
    }
}
