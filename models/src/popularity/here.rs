//! What is bought in one place, at one time of day.

use super::Popularity;
use super::segment::Part;
use crate::ranking::{Scored, best, distinct};
use crate::strings::NONE;

/// Where and when a feed is shown, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Store.
    pub store: Option<String>,
    /// City.
    pub city: Option<String>,
    /// Channel.
    pub channel: Option<String>,
    /// Hour of the day, local time, 0 to 23.
    pub hour: Option<u8>,
}

/// Sums of the chain and of its only store differ by their rounding.
const NEARLY: f32 = 0.999;

/// Parts of the day, sorted by name.
pub const DAYPARTS: [&str; 5] = ["afternoon", "evening", "morning", "night", "noon"];

/// The part of [`DAYPARTS`] that an hour belongs to, 0 to 23.
pub fn daypart(hour: u8) -> &'static str {
    match hour {
        5..=10 => "morning",
        11..=13 => "noon",
        14..=17 => "afternoon",
        18..=22 => "evening",
        _ => "night",
    }
}

impl Popularity {
    /// What is bought in a context.
    pub fn here(&self, context: &Context) -> Here<'_> {
        let store = self.stores.find(context.store.as_deref());
        let of_store = store.and_then(|row| self.city_of_store.get(row as usize).copied()).filter(|row| *row != NONE);
        let best = self.order.first().map_or(0.0, |best| self.overall[*best as usize]);
        Here {
            popularity: self,
            store: self.stores.part(store),
            city: self.cities.part(self.cities.find(context.city.as_deref()).or(of_store)),
            channel: self.channels.part(self.channels.find(context.channel.as_deref())),
            daypart: self.dayparts.part(self.dayparts.find(context.hour.map(daypart))),
            best: (best / self.totals[0]).max(f32::MIN_POSITIVE),
        }
    }
}

/// Popularity in one [`Context`], looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    popularity: &'a Popularity,
    store: Part<'a>,
    city: Part<'a>,
    channel: Part<'a>,
    daypart: Part<'a>,
    best: f32,
}

impl Here<'_> {
    /// Products' shares of purchases here and now, 0 to 1: of the place, the channel and the part of the day, what is
    /// furthest from the chain's; fastest where products are in order.
    pub fn shares(&self, products: &[u32]) -> Vec<f32> {
        let chain: Vec<f32> = products.iter().map(|product| self.popularity.share(*product)).collect();
        let mut shares = chain.clone();
        self.city.smooth(products, &mut shares);
        self.store.smooth(products, &mut shares);
        for part in [&self.channel, &self.daypart].into_iter().filter(|part| part.is_known()) {
            let mut there = chain.clone();
            part.smooth(products, &mut there);
            // What is bought in a store is bought in its channel: what both say must not count twice.
            let lift = |share: f32, chain: f32| (share / chain).max(chain / share);
            for ((share, there), chain) in shares.iter_mut().zip(there).zip(&chain).filter(|(_, chain)| **chain > 0.0) {
                if lift(there, *chain) > lift(*share, *chain) {
                    *share = there;
                }
            }
        }
        shares
    }

    /// A product's share of purchases in the store, 0 to 1, where that is known and about as large as in the chain, or larger.
    pub fn favored_share(&self, product: u32) -> Option<f32> {
        let chain = self.popularity.share(product);
        let mut there = [chain];
        self.store.smooth(&[product], &mut there);
        (self.store.is_known() && chain > 0.0 && there[0] >= chain * NEARLY).then_some(there[0])
    }

    /// A product's share on a scale from 0 to about 1, on which half as many purchases are a step down that does not
    /// depend on how large the chain is.
    pub fn score_of(&self, share: f32) -> f32 {
        (share / self.best).max(0.0).sqrt()
    }

    /// The `k` allowed products with the highest share here, best first: among the most popular of the
    /// store, of the city, of the channel, and of the chain.
    pub fn top(&self, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        if ![self.store, self.city, self.channel, self.daypart].iter().any(Part::is_known) {
            return self.popularity.top(k, allowed).collect();
        }
        let mut rows: Vec<u32> = self.popularity.top(2 * k, &allowed).collect();
        for part in [self.store, self.city, self.channel] {
            rows.extend(part.top(2 * k, &allowed));
        }
        let rows = distinct(rows, self.popularity.overall.len());
        let shares = self.shares(&rows);
        let mut found =
            best(rows.iter().zip(shares).map(|(row, score)| Scored { row: *row, score }).collect(), k, |_| true);
        found.sort_unstable();
        found.iter().map(|s| s.row).collect()
    }
}
