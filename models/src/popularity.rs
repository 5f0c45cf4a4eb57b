//! Popularity: decayed purchase counts, over all and by store, city, channel and daypart.
//!
//! A place's own counts are smoothed to its parent's: a store's to its city's, a city's to the chain's. The
//! channel and the daypart of a request are smoothed to the chain's; where they say more of a product than the place does,
//! their share stands for it.

mod counts;
mod here;
mod places;
mod segment;

pub use here::{Context, DAYPARTS, Here, daypart};
pub use segment::Segment;
pub(crate) use segment::{Bought, Since};

use std::sync::Arc;

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::kernels::total;
use crate::ranking::Scored;
use crate::sparse::Matrix;
use crate::state;
use crate::strings::{NONE, Strings};

/// Purchases that a part of the chain must have for its own counts to weigh as much as its parent's.
const PRIOR: f32 = 200.0;
/// Days for which a product counts as a launch.
pub const LAUNCH_DAYS: u16 = 30;

/// How much each product is bought, with old purchases counted less.
#[derive(Clone, Debug, Default)]
pub struct Popularity {
    /// Decayed purchases per product.
    pub overall: Array<f32>,
    /// The same with a half-life of a few months, and of a week: the trend is their ratio.
    pub long: Array<f32>,
    /// See `long`.
    pub short: Array<f32>,
    /// Members who bought it for the first time, decayed as of that day: how many try it, whoever goes on buying it. All 0 in
    /// versions of older formats; of purchases since a version was made nothing is added.
    pub trials: Array<f32>,
    /// Days from a product's first purchase to the newest event; of one that nobody bought, from when it was launched, 1 at
    /// least; 0 where neither is known, or no time.
    pub age_days: Array<u16>,
    /// Products by overall popularity, best first.
    pub order: Array<u32>,
    /// By the store where it was bought.
    pub stores: Segment,
    /// By the city of the member who bought it.
    pub cities: Segment,
    /// By channel.
    pub channels: Segment,
    /// By [`daypart`].
    pub dayparts: Segment,
    /// Per store, the row of the city where most of its buyers live; [`NONE`] where unknown.
    pub city_of_store: Array<u32>,
    /// Days from the first purchase of all to the newest event, set by [`ranked`](Self::ranked).
    pub history_days: u16,
    /// Sums of `overall`, `long`, `short` and `trials`, set by [`ranked`](Self::ranked).
    pub totals: [f32; 4],
    /// Of products added since, which come last: days from their launch to the newest event that was learned, below 0 for a
    /// later one; not stored.
    pub added: Arc<[i32]>,
}

/// Whole days since a launch; none before it.
fn age_days(days: i32) -> u16 {
    u16::try_from(days.max(0)).unwrap_or(u16::MAX)
}

impl Popularity {
    /// Ranks products by their decayed purchases.
    pub fn ranked(mut self) -> Self {
        let mut order: Vec<u32> = (0..self.overall.len() as u32).collect();
        order.sort_by_key(|row| Scored { row: *row, score: self.overall[*row as usize] });
        self.order = order.into();
        self.with_total()
    }

    fn with_total(mut self) -> Self {
        let sum = |counts: &Array<f32>| total(counts).max(f32::MIN_POSITIVE);
        self.history_days = self.age_days.iter().copied().max().unwrap_or(0);
        self.totals = [&self.overall, &self.long, &self.short, &self.trials].map(sum);
        self
    }

    /// With products more, that nobody bought yet, by the days since they were launched; below 0, where that was later than all
    /// that was learned. To one with products added, no more can be added.
    pub(crate) fn extended(&self, ages: &[i32]) -> Self {
        let more = ages.len();
        let extended = |counts: &Array<f32>| state::extended(counts, more, 0.0);
        Self {
            overall: extended(&self.overall),
            long: extended(&self.long),
            short: extended(&self.short),
            trials: extended(&self.trials),
            age_days: self
                .age_days
                .iter()
                .copied()
                .chain(ages.iter().map(|age| age_days(*age)))
                .collect::<Vec<_>>()
                .into(),
            added: ages.into(),
            ..self.clone()
        }
        .ranked()
    }

    /// So many days later, with purchases since: what is left of `overall`, `long` and `short`, what they count in these by product, and what
    /// they count in stores, cities, channels and dayparts.
    pub(crate) fn with_purchases(
        &self,
        days: u16,
        left: [f32; 3],
        bought: impl Iterator<Item = (u32, [f32; 3])>,
        bought_in: [Since; 4],
    ) -> Self {
        let faded = |counts: &Array<f32>, left: f32| counts.iter().map(|count| count * left).collect::<Vec<f32>>();
        let mut counts = [faded(&self.overall, left[0]), faded(&self.long, left[1]), faded(&self.short, left[2])];
        for (product, more) in bought {
            for (counts, more) in counts.iter_mut().zip(more) {
                if let Some(count) = counts.get_mut(product as usize) {
                    *count = (*count + more).max(0.0);
                }
            }
        }
        let [overall, long, short] = counts.map(Array::from);
        let [stores, cities, channels, dayparts] = bought_in;
        // What was neither sold nor launched yet does not get older.
        let learned = &self.age_days[..self.age_days.len() - self.added.len()];
        let aged = |(age, count): (&u16, &f32)| if *age > 0 || *count > 0.0 { age.saturating_add(days) } else { *age };
        let added = self.added.iter().map(|age| age_days(age.saturating_add(i32::from(days))));
        let age_days = learned.iter().zip(self.long.iter()).map(aged).chain(added);
        Self {
            age_days: age_days.collect::<Vec<u16>>().into(),
            overall,
            long,
            short,
            stores: self.stores.with_purchases(stores),
            cities: self.cities.with_purchases(cities),
            channels: self.channels.with_purchases(channels),
            dayparts: self.dayparts.with_purchases(dayparts),
            ..self.clone()
        }
        .ranked()
    }

    /// The `k` most popular products among those allowed, best first.
    pub fn top(&self, k: usize, allowed: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        self.order.iter().copied().filter(move |row| allowed(*row)).take(k)
    }

    /// A product's share of all purchases, 0 to 1.
    pub fn share(&self, product: u32) -> f32 {
        self.overall[product as usize] / self.totals[0]
    }

    /// The same with a half-life of a few months.
    pub fn long_share(&self, product: u32) -> f32 {
        self.long[product as usize] / self.totals[1]
    }

    /// The same with a half-life of a week.
    pub fn short_share(&self, product: u32) -> f32 {
        self.short[product as usize] / self.totals[2]
    }

    /// A product's share of what members lately bought for the first time, 0 to 1. All that is bought of a product which
    /// nobody had bought when the version was made is bought for the first time, or nearly.
    pub fn trial_share(&self, product: u32) -> f32 {
        let trials = self.trials[product as usize];
        if trials > 0.0 { trials / self.totals[3] } else { self.share(product) }
    }

    /// Whether a product was first sold within [`LAUNCH_DAYS`], or launched and not sold yet, as far as events have a time;
    /// to a history that has just begun, nothing is new but what was added since.
    pub fn is_new(&self, product: u32) -> bool {
        let age = self.age_days[product as usize];
        if product as usize + self.added.len() >= self.overall.len() {
            return age <= LAUNCH_DAYS;
        }
        let is_there = age > 0 || self.long[product as usize] > 0.0;
        is_there && age <= LAUNCH_DAYS && age.saturating_add(LAUNCH_DAYS) <= self.history_days
    }

    /// Whether a product is bought, or was launched lately: what nobody bought for long has a vector like that of its category,
    /// and is bought by nobody.
    pub fn is_alive(&self, product: u32) -> bool {
        self.share(product) > 0.0 || self.is_new(product)
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("popularity", &(), |s| {
            s.array("overall", &self.overall)?;
            s.array("order", &self.order)?;
            s.array("long", &self.long)?;
            s.array("short", &self.short)?;
            s.array("trials", &self.trials)?;
            s.array("age_days", &self.age_days)?;
            self.stores.write("stores", s)?;
            self.cities.write("cities", s)?;
            self.channels.write("channels", s)?;
            self.dayparts.write("dayparts", s)?;
            s.array("city_of_store", &self.city_of_store)
        })
    }

    pub(crate) fn read(from: &Reader, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("popularity")?;
        let (overall, order): (Array<f32>, Array<u32>) = (s.array("overall")?, s.array("order")?);
        let format = from.manifest().format_version;
        let trials = if format < 12 { vec![0.0; products].into() } else { s.array("trials")? };
        let popularity = if format < 2 {
            let names = Strings::read("stores", &s)?;
            let counts = Matrix::read("by_store", names.len(), products, &s)?;
            Self {
                long: overall.clone(),
                short: overall.clone(),
                trials,
                age_days: vec![0; products].into(),
                city_of_store: vec![NONE; names.len()].into(),
                stores: Segment::new(names, counts),
                overall,
                order,
                ..Self::default()
            }
        } else {
            Self {
                overall,
                order,
                long: s.array("long")?,
                short: s.array("short")?,
                trials,
                age_days: s.array("age_days")?,
                stores: Segment::read("stores", products, &s)?,
                cities: Segment::read("cities", products, &s)?,
                channels: Segment::read("channels", products, &s)?,
                dayparts: Segment::read("dayparts", products, &s)?,
                city_of_store: s.array("city_of_store")?,
                history_days: 0,
                totals: [0.0; 4],
                added: Arc::default(),
            }
        };
        let popularity = popularity.with_total();
        let p = &popularity;
        let counts = [p.overall.len(), p.long.len(), p.short.len(), p.trials.len()];
        let fits = counts == [products; 4]
            && [p.order.len(), p.age_days.len()] == [products; 2]
            && p.order.iter().all(|row| (*row as usize) < products)
            && p.city_of_store.len() == p.stores.names.len()
            && p.city_of_store.iter().all(|row| *row == NONE || (*row as usize) < p.cities.names.len());
        s.ensure(fits, "popularity does not fit its products or stores")?;
        Ok(popularity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(names: &[&str], entries: &[(u32, u32, f32)]) -> Segment {
        Segment::new(names.iter().collect(), Matrix::from_sorted(names.len(), entries))
    }

    fn popularity() -> Popularity {
        Popularity {
            overall: vec![4000.0, 101.0, 9000.0].into(),
            stores: segment(&["a", "b", "c"], &[(0, 0, 4000.0), (0, 1, 100.0), (1, 1, 1.0)]),
            cities: segment(&["east"], &[(0, 1, 800.0)]),
            channels: segment(&["mall"], &[(0, 0, 10_000.0)]),
            dayparts: segment(&["night"], &[(0, 1, 100_000.0)]),
            city_of_store: vec![NONE, NONE, 0].into(),
            ..Popularity::default()
        }
        .ranked()
    }

    fn order(context: &Context) -> Vec<u32> {
        popularity().here(context).top(3, |_| true)
    }

    #[test]
    fn a_place_with_many_purchases_has_its_own_order() {
        let at = |store: &str| Context { store: Some(store.to_owned()), ..Context::default() };
        assert_eq!(order(&Context::default()), [2, 0, 1]);
        assert_eq!(order(&at("a")), [0, 2, 1]);
        assert_eq!(order(&at("b")), [2, 0, 1], "one purchase does not make a trend");
        assert_eq!(order(&at("c")), [1, 2, 0], "a store without purchases sells what its city buys");
        assert_eq!(order(&at("elsewhere")), [2, 0, 1]);
        assert_eq!(popularity().here(&at("a")).top(2, |row| row != 0)[0], 2);
    }

    #[test]
    fn what_nobody_had_bought_is_tried_as_it_is_bought() {
        let learned = Popularity { trials: vec![3.0, 1.0, 0.0].into(), ..popularity() }.ranked();
        assert_eq!([0, 1, 2].map(|product| learned.trial_share(product)), [0.75, 0.25, learned.share(2)]);
        let extended = learned.extended(&[0]);
        assert_eq!(extended.trial_share(3), 0.0, "nobody has bought it yet");
        let none = || Since { left: 1.0, scale: 1.0, parts: std::iter::empty().collect() };
        let bought =
            extended.with_purchases(0, [1.0; 3], [(3, [2.0; 3])].into_iter(), [none(), none(), none(), none()]);
        assert!(bought.share(3) > 0.0);
        assert_eq!((bought.trial_share(3), bought.trial_share(0)), (bought.share(3), 0.75));
    }

    #[test]
    fn shares_are_smoothed_by_hand() {
        let p = popularity();
        let here = p.here(&Context { city: Some("east".to_owned()), ..Context::default() });
        let chain = 101.0 / 13_101.0;
        assert!((here.shares(&[1])[0] - (800.0 + 200.0 * chain) / 1000.0).abs() < 1e-6);
        let chain_wide = p.here(&Context::default());
        assert!((chain_wide.score_of(chain_wide.shares(&[2])[0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn what_was_bought_since_counts_where_it_was_bought() {
        let p = popularity();
        let since =
            |scale: f32, bought: Option<(u32, Bought)>| Since { left: 0.5, scale, parts: bought.into_iter().collect() };
        let mut in_b = Bought::of(0, 300.0);
        in_b.add(1, -4.0);
        let parts = [since(2.0, Some((1, in_b))), since(2.0, None), since(2.0, None), since(2.0, None)];
        let later = p.with_purchases(0, [1.0; 3], std::iter::empty(), parts);
        let at = |store: &str| later.here(&Context { store: Some(store.to_owned()), ..Context::default() });
        let chain = |product: usize| p.overall[product] / 13_101.0;
        // Learned in b: 1 of product 1, of which a half is left, and 8 were brought back.
        assert!((at("b").shares(&[0])[0] - (600.0 + 200.0 * chain(0)) / (592.5 + 200.0)).abs() < 1e-6);
        assert!((at("b").shares(&[1])[0] - 200.0 * chain(1) / (592.5 + 200.0)).abs() < 1e-6);
        assert_eq!(at("b").top(3, |_| true), [0, 2, 1]);
        assert_eq!(at("b").top(3, |row| row != 0), [2, 1]);
        let faded = (2000.0 + 200.0 * chain(0)) / (2050.0 + 200.0);
        assert!((at("a").shares(&[0])[0] - faded).abs() < 1e-6, "nothing was bought there");
    }

    #[test]
    fn what_a_store_and_its_channel_both_say_counts_once() {
        let both = Context { store: Some("a".to_owned()), channel: Some("mall".to_owned()), ..Context::default() };
        let chain = 4000.0 / 13_101.0;
        let there = (10_000.0 + 200.0 * chain) / 10_200.0;
        let found = popularity().here(&both).shares(&[0])[0];
        assert!((found - there).abs() < 1e-6, "the channel says more than the store, and {found} is its share");
        let favored = |context: &Context, product| popularity().here(context).favored_share(product);
        assert_eq!([favored(&both, 0), favored(&both, 2)].map(|share| share.is_some()), [true, false]);
        assert_eq!(favored(&Context::default(), 0), None, "nobody knows where it is");
    }

    #[test]
    fn channel_and_daypart_lift_what_is_bought_then() {
        let mall = Context { channel: Some("mall".to_owned()), ..Context::default() };
        assert_eq!(order(&mall)[0], 0);
        assert_eq!(order(&Context { hour: Some(23), ..Context::default() })[0], 1);
        assert_eq!(order(&Context { hour: Some(12), ..Context::default() })[0], 2, "nothing is known of noon");
    }

    #[test]
    fn products_get_older_and_are_new_no_more() {
        let learned =
            Popularity { age_days: vec![300, 20, 0].into(), long: vec![9.0, 1.0, 0.0].into(), ..popularity() }.ranked();
        let launched = Popularity { age_days: vec![300, 20, 7].into(), ..learned.clone() };
        assert_eq!([&learned, &launched].map(|popularity| popularity.is_new(2)), [false, true], "none bought it");
        let dead = Popularity { overall: vec![9.0, 1.0, 0.0].into(), ..learned.clone() }.ranked();
        assert_eq!([0, 1, 2].map(|product| dead.is_alive(product)), [true, true, false]);
        assert!(Popularity { overall: dead.overall.clone(), ..launched.clone() }.ranked().is_alive(2));
        let none = || Since { left: 1.0, scale: 1.0, parts: std::iter::empty().collect() };
        let later = |days| learned.with_purchases(days, [1.0; 3], std::iter::empty(), [none(), none(), none(), none()]);
        assert_eq!(later(15).age_days[..], [315, 35, 0], "the last was not sold yet");
        assert_eq!([0, 10, 11].map(|days| later(days).is_new(1)), [true, true, false]);
        // Launched a month before what was learned, ten days before, and 190 days after.
        let added = learned.extended(&[31, 10, -190]);
        let is_new = |days: u16| {
            let bought = [(3, [1.0; 3]), (4, [1.0; 3])].into_iter();
            let later = added.with_purchases(days, [1.0; 3], bought, [none(), none(), none(), none()]);
            [3, 4, 5].map(|product| later.is_new(product))
        };
        let each = [0, 20, 21, 220, 221].map(is_new);
        let [no, yes] = [false, true];
        assert_eq!(each, [[no, yes, yes], [no, yes, yes], [no, no, yes], [no, no, yes], [no, no, no]]);
    }
}
