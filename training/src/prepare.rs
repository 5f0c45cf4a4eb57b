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
    /// Purchases less refunds.
    count: i64,
    /// Purchases, and other events by their weights, less refunds; decayed for the embeddings.
    mass: f32,
    /// Purchases less refunds, decayed.
    decayed: f32,
    last_purchase: Option<i64>,
}

impl Pair {
    fn of(events: &[Event], slice: &Slice, config: &TrainConfig) -> Self {
        let mut pair = Self::default();
        for event in events {
            let mass = weight(event.kind, &config.event_weights);
            pair.mass += mass * slice.decay(event.time, config.embeddings.half_life_days);
            let purchases = match event.kind {
                Kind::Purchase => 1,
                Kind::Refund => -1,
                _ => 0,
            };
            pair.count += purchases;
            pair.decayed += purchases as f32 * slice.decay(event.time, config.repeat.half_life_days);
            if event.kind == Kind::Purchase {
                pair.last_purchase = Some(event.time);
            }
        }
        // A refund takes a purchase back, not more than there was.
        pair.count = pair.count.max(0);
        pair.decayed = if pair.count > 0 { pair.decayed.max(0.0) } else { 0.0 };
        pair
    }
}

fn weight(kind: Kind, weights: &EventWeights) -> f32 {
    match kind {
        Kind::Purchase => 1.0,
        Kind::Refund => -1.0,
        Kind::View => weights.view,
        Kind::Cart => weights.cart,
        Kind::Favorite => weights.favorite,
        Kind::Share => weights.share,
        Kind::Contact => 0.0,
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
        if pair.mass <= 0.0 {
            continue;
        }
        products.push(product);
        weights.push(weighting.weight(pair.mass).max(f32::MIN_POSITIVE));
        decayed.push(pair.decayed);
        counts.push(u16::try_from(pair.count).unwrap_or(u16::MAX));
        days_since.push(slice.days_since(pair.last_purchase.filter(|_| pair.count > 0)));
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
