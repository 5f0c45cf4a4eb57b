//! Repeat: when a member will buy again what they bought before.
//!
//! Every product has a usual gap between two purchases by one member, and a share of its buyers who came
//! back; both are backed off to the category's and the base's where few bought it. A member's own gaps are
//! shrunk to the product's. How far the time since the last purchase is into the gap, together with how
//! often the member bought and how often buyers come back, gives the hazard: the share of such pairs that
//! were bought again within the horizon, counted in the past.

use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::history::{Past, UNKNOWN_DAYS};

/// Gaps after which who has not bought again does not any more.
pub(crate) const LAPSED_GAPS: f32 = 2.0;
/// Gaps' worth of the product's usual gap that a member's own gaps are shrunk by.
const GAP_PRIOR: f32 = 1.0;
/// Upper ends of the classes of trips, of days since the last over the gap, and of the share that comes back.
const TRIPS: [u16; 6] = [1, 2, 3, 5, 9, 19];
const RATIOS: [f32; 10] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];
const RATES: [f32; 6] = [0.05, 0.1, 0.15, 0.22, 0.3, 0.4];

/// Number of classes, see [`Repeat::class`].
pub const CLASSES: usize = (TRIPS.len() + 1) * (RATIOS.len() + 1) * (RATES.len() + 1);

/// The model; empty where events have no time.
#[derive(Clone, Debug, Default)]
pub struct Repeat {
    /// Per product, the usual days between two purchases by one member; above 0.
    pub gaps: Array<f32>,
    /// Per product, the share of its buyers who bought it on another day again; 0 to 1.
    pub rates: Array<f32>,
    /// The small values.
    pub hazards: Hazards,
}

/// How often members came back, by class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hazards {
    /// Days within which a purchase counted; 0 where history is too short to tell.
    pub horizon_days: u32,
    /// By [`Repeat::class`], the share that bought again; 0 to 1.
    pub shares: Vec<f32>,
}

impl Repeat {
    /// Days between two purchases of this product that are usual for this member; `None` where events have
    /// no time.
    pub fn gap(&self, past: &Past) -> Option<f32> {
        let usual = *self.gaps.get(past.product as usize)?;
        if past.days_since == UNKNOWN_DAYS {
            return None;
        }
        let gaps = f32::from(past.trips.max(1) - 1);
        Some(((f32::from(past.span_days) + GAP_PRIOR * usual) / (gaps + GAP_PRIOR)).max(0.5))
    }

    /// How far into the gap the member is: 1 when it is time again.
    pub fn due(&self, past: &Past) -> Option<f32> {
        Some((f32::from(past.days_since) + 0.5) / self.gap(past)?)
    }

    /// Which class a pair belongs to; `None` where events have no time.
    pub fn class(&self, past: &Past) -> Option<usize> {
        let due = self.due(past)?;
        let rate = self.rates[past.product as usize];
        let trips = TRIPS.partition_point(|end| *end < past.trips);
        let ratio = RATIOS.partition_point(|end| *end < due);
        let rate = RATES.partition_point(|end| *end < rate);
        Some((trips * (RATIOS.len() + 1) + ratio) * (RATES.len() + 1) + rate)
    }

    /// The chance that the member buys it again within the horizon; 0 where that is not known.
    pub fn hazard(&self, past: &Past) -> f32 {
        let class = self.class(past).filter(|_| past.count > 0);
        class.and_then(|class| self.hazards.shares.get(class)).copied().unwrap_or(0.0)
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("repeat", &self.hazards, |s| {
            s.array("gaps", &self.gaps)?;
            s.array("rates", &self.rates)
        })
    }

    pub(crate) fn read(from: &Reader, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("repeat")?;
        let repeat = Self { gaps: s.array("gaps")?, rates: s.array("rates")?, hazards: s.values()? };
        let lengths = [0, products];
        let fits = lengths.contains(&repeat.gaps.len())
            && repeat.rates.len() == repeat.gaps.len()
            && [0, CLASSES].contains(&repeat.hazards.shares.len());
        s.ensure(fits, "the repeat model does not fit its products")?;
        Ok(repeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(trips: u16, span_days: u16, days_since: u16) -> Past {
        Past { decayed: 1.0, count: trips, days_since, trips, span_days, ..Past::new(0) }
    }

    #[test]
    fn gaps_are_shrunk_to_the_product() {
        let repeat = Repeat { gaps: vec![30.0].into(), rates: vec![0.5].into(), hazards: Hazards::default() };
        assert_eq!(repeat.gap(&past(1, 0, 3)), Some(30.0), "bought once: as others do");
        assert_eq!(repeat.gap(&past(4, 30, 3)), Some(15.0), "three gaps of ten days and one of thirty");
        assert_eq!(repeat.due(&past(4, 30, 22)), Some(1.5));
        assert_eq!(repeat.gap(&past(2, 0, UNKNOWN_DAYS)), None);
        assert_eq!(repeat.hazard(&past(4, 30, 22)), 0.0, "nothing was counted");
    }

    #[test]
    fn classes_stay_in_range_and_grow_with_what_they_class() {
        let repeat = Repeat { gaps: vec![30.0].into(), rates: vec![1.0].into(), hazards: Hazards::default() };
        assert!(repeat.class(&past(1, 0, 0)) < repeat.class(&past(1, 0, 400)));
        assert!(repeat.class(&past(1, 0, 400)) < repeat.class(&past(2, 0, 400)));
        assert_eq!(repeat.class(&past(60_000, 60_000, 65_000)), Some(CLASSES - 1));
    }
}
