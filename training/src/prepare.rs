//! From events to interactions: one entry per member and product, as of a moment.

use kindred_models::catalogue::Members;
use kindred_models::history::{History, UNKNOWN_DAYS};
use kindred_models::sparse::{Matrix, Rows};
use rayon::prelude::*;

use crate::config::{Decay, EventWeights, IalsParams, TrainConfig};
use crate::data::{Dataset, Event, Events, Kind};

const DAY_SECONDS: f64 = 86_400.0;

/// Which events are looked at.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The events, sorted by member, product and time.
    pub events: Vec<Event>,
    /// Moment of the newest event; 0 where events have no time.
    pub as_of: i64,
    has_time: bool,
}

impl Slice {
    /// Everything.
    pub fn all(dataset: &Dataset) -> Self {
        Self::of(dataset.events.list.clone(), dataset.has_time)
    }

    /// Of events in the dataset's order.
    pub fn of(events: Vec<Event>, has_time: bool) -> Self {
        let as_of = events.par_iter().map(|e| e.time).max().unwrap_or(0);
        Self { events, as_of, has_time }
    }

    /// What an event of `half_life_days` ago counts: a half; 1 where there is no time or no decay.
    fn decay(&self, time: i64, half_life_days: f32) -> f32 {
        if !self.has_time || half_life_days <= 0.0 {
            return 1.0;
        }
        let days = (self.as_of - time).max(0) as f64 / DAY_SECONDS;
        (-days / f64::from(half_life_days)).exp2() as f32
    }

    fn days_since(&self, time: Option<i64>) -> u16 {
        match time {
            Some(time) if self.has_time => {
                ((self.as_of - time).max(0) / 86_400).min(i64::from(UNKNOWN_DAYS - 1)) as u16
            }
            _ => UNKNOWN_DAYS,
        }
    }

    /// Events as runs of one member and product.
    fn pairs(&self) -> impl Iterator<Item = &[Event]> {
        self.events.chunk_by(|a, b| a.member == b.member && a.product == b.product)
    }
}

/// What a slice says of one member and product.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Purchases that were not brought back.
    count: usize,
    /// Those, and other events by their weights; decayed for the embeddings.
    mass: f32,
    /// Those alone, decayed for the repeat model.
    decayed: f32,
    last_purchase: Option<i64>,
}

impl Pair {
    fn of(events: &[Event], slice: &Slice, config: &TrainConfig) -> Self {
        let (mut kept, mut interest) = (Vec::new(), 0.0);
        for event in events {
            match event.kind {
                Kind::Purchase => kept.push(event.time),
                // Takes back the purchase before it; without one there is nothing to take back.
                Kind::Refund => drop(kept.pop()),
                other => {
                    let decay = slice.decay(event.time, config.embeddings.half_life_days);
                    interest += interest_weight(other, &config.event_weights) * decay;
                }
            }
        }
        let decayed = |half_life: f32| kept.iter().map(|time| slice.decay(*time, half_life)).sum::<f32>();
        Self {
            count: kept.len(),
            mass: interest + decayed(config.embeddings.half_life_days),
            decayed: decayed(config.repeat.half_life_days),
            last_purchase: kept.last().copied(),
        }
    }
}

fn interest_weight(kind: Kind, weights: &EventWeights) -> f32 {
    match kind {
        Kind::View => weights.view,
        Kind::Cart => weights.cart,
        Kind::Favorite => weights.favorite,
        Kind::Share => weights.share,
        Kind::Purchase | Kind::Refund | Kind::Contact => 0.0,
    }
}

/// The history of all members with consent to personalization; of the others nothing is kept.
pub fn history(slice: &Slice, members: &Members, config: &TrainConfig) -> History {
    let IalsParams { weighting, .. } = config.embeddings;
    let mut offsets = vec![0u64; members.len() + 1];
    let (mut products, mut weights, mut decayed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut counts, mut days_since) = (Vec::new(), Vec::new());
    for events in slice.pairs() {
        let (member, product) = (events[0].member, events[0].product);
        if !members.consent(member).personalization {
            continue;
        }
        let pair = Pair::of(events, slice, config);
        if pair.count == 0 && pair.mass <= 0.0 {
            continue;
        }
        products.push(product);
        weights.push(weighting.weight(pair.mass).max(f32::MIN_POSITIVE));
        decayed.push(pair.decayed);
        counts.push(u16::try_from(pair.count).unwrap_or(u16::MAX));
        days_since.push(slice.days_since(pair.last_purchase));
        offsets[member as usize + 1] += 1;
    }
    for i in 1..offsets.len() {
        offsets[i] += offsets[i - 1];
    }
    History {
        rows: Rows { offsets: offsets.into(), columns: products.into() },
        weights: weights.into(),
        decayed: decayed.into(),
        counts: counts.into(),
        days_since: days_since.into(),
    }
}

/// Decayed purchases per product, over all and by store (rows of [`Events::stores`]). Counts of all
/// members: they name nobody.
pub fn popularity(slice: &Slice, events: &Events, products: usize, decay: Decay) -> (Vec<f32>, Matrix) {
    let mut overall = vec![0f64; products];
    let mut by_store = std::collections::BTreeMap::<(u32, u32), f64>::new();
    for event in &slice.events {
        let sign = match event.kind {
            Kind::Purchase => 1.0,
            Kind::Refund => -1.0,
            _ => continue,
        };
        let count = sign * f64::from(slice.decay(event.time, decay.half_life_days));
        overall[event.product as usize] += count;
        if event.store != u32::MAX {
            *by_store.entry((event.store, event.product)).or_default() += count;
        }
    }
    let entries: Vec<(u32, u32, f32)> =
        by_store.into_iter().filter(|(_, x)| *x > 0.0).map(|((s, p), x)| (s, p, x as f32)).collect();
    let overall = overall.into_iter().map(|x| x.max(0.0) as f32).collect();
    (overall, Matrix::from_sorted(events.stores.len(), &entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn slice(events: &[(i64, Kind)]) -> Slice {
        let event = |(day, kind): &(i64, Kind)| Event { member: 0, product: 0, time: day * DAY, store: 0, kind: *kind };
        Slice::of(events.iter().map(event).collect(), true)
    }

    fn pair(events: &[(i64, Kind)]) -> Pair {
        let mut config = TrainConfig::default();
        config.embeddings.half_life_days = 100.0;
        config.repeat.half_life_days = 50.0;
        let slice = slice(events);
        Pair::of(&slice.events, &slice, &config)
    }

    #[test]
    fn counts_decay_by_half_lives() {
        let pair = pair(&[(100, Kind::Purchase), (200, Kind::Purchase)]);
        assert_eq!(pair.count, 2);
        assert!((pair.mass - 1.5).abs() < 1e-6 && (pair.decayed - 1.25).abs() < 1e-6, "{pair:?}");
        assert_eq!(pair.last_purchase, Some(200 * DAY));
    }

    #[test]
    fn a_refund_takes_back_the_purchase_before_it() {
        let pair = pair(&[(100, Kind::Purchase), (190, Kind::Purchase), (195, Kind::Refund), (200, Kind::View)]);
        assert_eq!(pair.count, 1);
        assert_eq!(pair.last_purchase, Some(100 * DAY));
        assert!((pair.decayed - 0.25).abs() < 1e-6);
        assert!((pair.mass - 0.55).abs() < 1e-6, "an old purchase and a view: {pair:?}");
    }

    #[test]
    fn more_refunds_than_purchases_leave_nothing() {
        let pair = pair(&[(1, Kind::Refund), (2, Kind::Purchase), (3, Kind::Refund), (4, Kind::Refund)]);
        assert_eq!((pair.count, pair.mass, pair.decayed), (0, 0.0, 0.0));
    }
}
