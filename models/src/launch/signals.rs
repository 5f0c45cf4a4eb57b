//! What the launch score looks at: the signals of one member for one product.

use super::LaunchModel;
use super::question::Question;
use crate::artifact::Array;
use crate::embeddings::Embeddings;
use crate::kernels::ln_1p;

/// Purchases' worth of the base's rate that a member's own rate is shrunk by.
pub(super) const HABIT_PRIOR: f32 = 5.0;
/// Purchases' worth of the base's prices that a member's own are shrunk by.
pub(super) const PRICE_PRIOR: f32 = 3.0;

/// Variance of each signal over some members; 0 of none.
pub fn variances<const W: usize>(rows: &[[f32; W]]) -> [f64; W] {
    let n = rows.len().max(1) as f64;
    std::array::from_fn(|k| {
        let mean = rows.iter().map(|row| f64::from(row[k])).sum::<f64>() / n;
        rows.iter().map(|row| (f64::from(row[k]) - mean).powi(2)).sum::<f64>() / n
    })
}

/// Standard deviation of each signal, from its variances for some products; 1 for one that never varies.
pub fn deviations<const W: usize>(variances: &[[f64; W]]) -> [f32; W] {
    std::array::from_fn(|k| {
        let mean = variances.iter().map(|v| v[k]).sum::<f64>() / variances.len().max(1) as f64;
        if mean > 1e-12 { mean.sqrt() as f32 } else { 1.0 }
    })
}

/// Names of the signals, in the order of [`Signals`]: how active the member is, how much they spend, how much they try
/// that is new to them, how often they buy below the usual price, and again; how much of the product's category, brand,
/// price band and tags they buy; how much of the products most like it, and of what is bought with those; how near to what
/// they usually pay it is; whether their home store does not carry it; how well its price, against its category, against
/// similar products and against all, goes with how dear they buy; how much more those who share their tags buy similar
/// products; how much of the product itself they buy, which nobody does of a launch; how well the vectors fit; how like the seeds
/// they are.
pub const SIGNALS: [&str; 36] = [
    "activity",
    "recent_activity",
    "trips",
    "recency",
    "early",
    "spend",
    "tried",
    "bargains",
    "repeats",
    "habits",
    "category",
    "category_above",
    "category_above_2",
    "brand",
    "brand_category",
    "price_band",
    "price_band_above",
    "price_band_above_2",
    "tags",
    "analogues_5",
    "analogues_20",
    "analogues_100",
    "goes_with_analogues",
    "usual_price",
    "not_carried",
    "premium",
    "premium_of_analogues",
    "price_level",
    "member_tags",
    "bought",
    "vector",
    "vector_cosine",
    "vector_cosine_20",
    "seed_vector",
    "seed_cosine",
    "seed_products",
];
/// The last ones are of seeds, and 0 without any.
pub(super) const SEED_SIGNALS: usize = 3;

/// The signals of one member for one product, before they are weighed.
pub type Signals = [f32; SIGNALS.len()];

/// None of them.
pub const NO_SIGNALS: Signals = [0.0; SIGNALS.len()];

/// Place of a signal; of those that have a sum of habits, the first.
pub(super) const ACTIVITY: usize = 0;
/// Counts against who bought long ago.
pub(super) const RECENCY: usize = 3;
pub(super) const HABITS: usize = STATICS;
pub(super) const HABIT_SIGNALS: usize = HABITS + 1;
pub(super) const ANALOGUES_5: usize = HABIT_SIGNALS + TAGS + 1;
pub(super) const ANALOGUES_20: usize = ANALOGUES_5 + 1;
pub(super) const ANALOGUES_100: usize = ANALOGUES_20 + 1;
pub(super) const GOES_WITH_ANALOGUES: usize = ANALOGUES_100 + 1;
pub(super) const USUAL_PRICE: usize = GOES_WITH_ANALOGUES + 1;
pub(super) const NOT_CARRIED: usize = USUAL_PRICE + 1;
pub(super) const PREMIUM: usize = NOT_CARRIED + 1;
pub(super) const PREMIUM_OF_ANALOGUES: usize = PREMIUM + 1;
pub(super) const PRICE_LEVEL: usize = PREMIUM_OF_ANALOGUES + 1;
pub(super) const MEMBER_TAGS: usize = PRICE_LEVEL + 1;
/// Of the product itself; counts as [`Known`](super::Known) says, and is 0 of launches.
pub const BOUGHT: usize = MEMBER_TAGS + 1;
pub(super) const VECTOR: usize = BOUGHT + 1;
pub(super) const VECTOR_COSINE: usize = VECTOR + 1;
pub(super) const VECTOR_COSINE_20: usize = VECTOR_COSINE + 1;
pub(super) const SEED_VECTOR: usize = SIGNALS.len() - SEED_SIGNALS;
pub(super) const SEED_COSINE: usize = SEED_VECTOR + 1;
pub(super) const SEEDS_BUY: usize = SEED_COSINE + 1;
/// The first signals are of the member alone.
pub(super) const STATICS: usize = 9;

/// What stands by where no launch could be replayed, in standard deviations: measured on launches of two
/// chains by hand.
const PRIOR: [(usize, f32); 5] =
    [(ACTIVITY, 0.25), (HABITS, 0.25), (ANALOGUES_20, 0.15), (ANALOGUES_100, 0.35), (VECTOR, 0.2)];

/// Log odds that a unit of the prior is, about.
pub(super) const PRIOR_SCALE: f32 = 3.0;

/// Weights of the prior, per standard deviation.
pub fn prior() -> Signals {
    let mut weights = NO_SIGNALS;
    PRIOR.into_iter().for_each(|(signal, weight)| weights[signal] = PRIOR_SCALE * weight);
    weights
}

/// What is known of a member whatever the product, as the signals take it.
#[derive(Clone, Debug, Default)]
pub struct Statics {
    /// Decayed purchases; one per member, as all that follow.
    pub activity: Array<f32>,
    /// The same with a half-life of a few weeks.
    pub recent: Array<f32>,
    /// Days on which anything was bought.
    pub trips: Array<f32>,
    /// Days since the last purchase.
    pub recency: Array<f32>,
    /// Decayed purchases of products that were just launched.
    pub early: Array<f32>,
    /// Decayed purchases, each counted by its price over the mean price that the base pays.
    pub spend: Array<f32>,
    /// Purchases of the last weeks of what was bought on a single day: mostly first ones; empty in versions of formats
    /// up to 12.
    pub tried: Array<f32>,
    /// Share of decayed purchases that cost clearly less than the product usually does, pulled towards the base's; empty
    /// in versions of formats up to 13, as the next.
    pub bargains: Array<f32>,
    /// Share of their products that they bought on more days than one, pulled alike.
    pub repeats: Array<f32>,
    /// How dear they buy against what is usual in each [category](crate::content::Attributes::price_peers), in standard
    /// deviations from the mean member; empty in versions of formats up to 10, as the next.
    pub premium: Array<f32>,
    /// The same against what is usual of all purchases.
    pub price_level: Array<f32>,
}

impl Statics {
    /// How many members bought anything.
    pub fn active(&self) -> usize {
        self.activity.iter().filter(|activity| **activity > 0.0).count()
    }

    /// The first signals, of a member.
    pub(super) fn signals(&self, member: u32) -> [f32; STATICS] {
        let mut signals = self.columns().map(|array| ln_1p(value(array, member)));
        signals[RECENCY] = -signals[RECENCY];
        signals
    }

    /// What the first signals are logarithms of, in their order.
    pub(super) fn columns(&self) -> [&Array<f32>; STATICS] {
        let Self { activity, recent, trips, recency, early, spend, tried, bargains, repeats, .. } = self;
        [activity, recent, trips, recency, early, spend, tried, bargains, repeats]
    }
}

/// Of a member; 0 where a version of an older format has none.
fn value(of: &Array<f32>, member: u32) -> f32 {
    of.get(member as usize).copied().unwrap_or(0.0)
}

/// Places of [`Sums`]: the three finest category levels come first, then the other habits.
pub(super) const BRAND: usize = 3;
pub(super) const BRAND_CATEGORY: usize = 4;
pub(super) const PRICE_BAND: usize = 5;
/// Of the two category levels above the finest.
pub(super) const PRICE_BANDS_ABOVE: usize = 6;
pub(super) const TAGS: usize = 8;
/// Of category levels beyond the third.
pub(super) const OTHER_LEVELS: usize = 9;
/// Those that the mean of the habits is of.
pub(super) const MEAN_HABITS: [usize; 6] = [0, 1, 2, BRAND, BRAND_CATEGORY, OTHER_LEVELS];
/// Purchases in the product's finest category, and their price bands above the product's.
pub(super) const PRICED: usize = 10;
pub(super) const PRICE: usize = 11;
/// Purchases of the first 5 analogues, of those up to 20, and of those up to 100.
pub(super) const ANALOGUE_SUMS: usize = 12;
/// Purchases of what is bought with them.
pub(super) const GOES_WITH: usize = 15;

/// Purchases of what seeds buy.
pub(super) const SEED_PRODUCTS: usize = 16;
/// Purchases of the product itself.
pub(super) const OWN: usize = 17;

/// What a question adds up over a member's purchases.
pub(super) type Sums = [f32; 18];

/// What the signals take of a member, whatever the product.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The first signals.
    statics: [f32; STATICS],
    /// What a habit that is as strong as the base's comes to.
    usual: f32,
    /// Length of the member's vector.
    length: f32,
    /// How dear they buy: in each category, and at all.
    dear: [f32; 2],
}

impl LaunchModel {
    /// Looks up a member.
    fn known(&self, embeddings: &Embeddings, member: u32) -> Known {
        let statics = &self.statics;
        Known {
            statics: statics.signals(member),
            usual: ln_1p(value(&statics.activity, member) / HABIT_PRIOR),
            length: embeddings.members.lengths[member as usize],
            dear: [value(&statics.premium, member), value(&statics.price_level, member)],
        }
    }

    /// The signals of a member, from what the question added up over their purchases.
    pub(super) fn signals(&self, question: &Question<'_>, member: u32, sums: &Sums) -> Signals {
        let known = self.known(question.embeddings, member);
        let above_usual = |sum: f32, count: f32| if count > 0.0 { sum / count - known.usual } else { 0.0 };
        let habit = |k: usize| above_usual(sums[k], question.known[k]);
        let total = |of: &[f32]| MEAN_HABITS.iter().map(|k| of[*k]).sum::<f32>();
        let [few, more, most] = [0, 1, 2].map(|k| sums[ANALOGUE_SUMS + k]);
        let bands = sums[PRICE] + PRICE_PRIOR * question.usual_price_band;
        let length = known.length;
        let [fit, few_fit, seed_fit, seed_cosine] =
            question.codes.each_ref().map(|query| question.embeddings.members.dot(member, query));
        let per = |length: f32| if length > 1e-12 { 1.0 / length } else { 0.0 };
        let cosine = |fit: f32, other: f32| fit * (per(length) * per(other));
        let [activity, recent, trips, recency, early, spend, tried, bargains, repeats] = known.statics;
        let (prices, [premium, price_level]) = (question.query.prices, known.dear);
        // In the order of their names.
        [
            activity,
            recent,
            trips,
            recency,
            early,
            spend,
            tried,
            bargains,
            repeats,
            above_usual(total(sums), total(&question.known)),
            habit(0),
            habit(1),
            habit(2),
            habit(BRAND),
            habit(BRAND_CATEGORY),
            habit(PRICE_BAND),
            habit(PRICE_BANDS_ABOVE),
            habit(PRICE_BANDS_ABOVE + 1),
            habit(TAGS),
            ln_1p(few),
            ln_1p(few + more),
            ln_1p(few + more + most),
            ln_1p(sums[GOES_WITH]),
            -(bands / (sums[PRICED] + PRICE_PRIOR)).abs(),
            f32::from(u8::from(question.query.is_out_of_reach(member))),
            prices[0] * premium,
            prices[1] * premium,
            prices[2] * price_level,
            question.query.tags.as_ref().map_or(0.0, |tags| tags.of(member)),
            ln_1p(sums[OWN]),
            fit,
            cosine(fit, question.lengths[0]),
            cosine(few_fit, question.lengths[1]),
            seed_fit,
            cosine(seed_cosine, 1.0),
            ln_1p(sums[SEED_PRODUCTS]),
        ]
    }
}
