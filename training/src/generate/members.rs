//! Who buys.

use kindred_models::events::DAY_SECONDS;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma};

use super::catalogue::{Catalogue, spread, store_id};
use super::words::{BRANDS, CITIES, KINDS};
use super::{Retailer, texts};
use crate::tables::Column;

/// Guides per store.
const GUIDES: usize = 4;
/// Age up to which a member is a minor, in days, leap days counted.
const MINOR_DAYS: i64 = 18 * 365 + 5;

/// Columns of the members table.
pub(super) const COLUMNS: [&str; 10] = [
    "member_id",
    "store_id",
    "guide_id",
    "city",
    "birthday",
    "joined_at",
    "consent_personalization",
    "consent_marketing",
    "minor",
    "tags",
];

/// One member.
pub(super) struct Member {
    pub(super) id: String,
    pub(super) store: usize,
    guide: usize,
    birthday: i64,
    joined_day: i64,
    consent_personalization: bool,
    consent_marketing: bool,
    tags: Vec<String>,
    /// Purchases, against the average.
    pub(super) activity: f64,
    /// How much each kind is liked; sums to 1.
    pub(super) tastes: Vec<f64>,
    /// How much each brand is liked, up to 1.
    pub(super) brands: Vec<f64>,
    /// How much what is new is liked, against what is not.
    pub(super) novelty: f64,
    /// Share of purchases in the mini-program mall.
    pub(super) online: f64,
    /// The hour at which the member usually buys.
    pub(super) hour: f64,
}

impl Member {
    pub(super) fn draw(i: usize, retailer: &Retailer, catalogue: &Catalogue, rng: &mut impl Rng) -> Self {
        let store = (retailer.stores as f64 * rng.random_range(0.0f64..1.0).powf(1.5)) as usize;
        let mut tastes: Vec<f64> = KINDS.iter().map(|_| gamma(0.4, rng)).collect();
        let has_baby = rng.random_bool(0.12);
        for (taste, kind) in tastes.iter_mut().zip(&KINDS) {
            if kind.path.starts_with("baby/") {
                *taste = if has_baby { 0.6 } else { 0.0 };
            }
        }
        let total: f64 = tastes.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        tastes.iter_mut().for_each(|taste| *taste /= total);
        let activity = spread(0.9, rng) / 0.45f64.exp().sqrt();
        let age_days = rng.random_range(15 * 365..70 * 365i64);
        let mut tags = Vec::new();
        if has_baby {
            tags.push("parent".to_owned());
        }
        if activity > 2.0 {
            tags.push("vip".to_owned());
        }
        let days = i64::from(retailer.days);
        Self {
            id: format!("m{i:07}"),
            store: store.min(catalogue.cities.len().saturating_sub(1)),
            guide: rng.random_range(0..GUIDES),
            birthday: retailer.start + (days - age_days) * DAY_SECONDS,
            joined_day: if rng.random_bool(0.3) { rng.random_range(0..(days * 3 / 4).max(1)) } else { -30 },
            consent_personalization: rng.random_bool(0.95),
            consent_marketing: rng.random_bool(0.85),
            tags,
            activity,
            tastes,
            brands: BRANDS.iter().map(|_| gamma(0.5, rng).min(1.0)).collect(),
            novelty: gamma(1.5, rng),
            online: rng.random_range(0.0f64..1.0).powi(2),
            hour: rng.random_range(8.0..22.0),
        }
    }

    /// First day of the history on which the member can buy.
    pub(super) fn first_day(&self) -> i64 {
        self.joined_day.max(0)
    }

    fn is_minor(&self, retailer_end: i64) -> bool {
        (retailer_end - self.birthday) / DAY_SECONDS <= MINOR_DAYS
    }
}

fn gamma(shape: f64, rng: &mut impl Rng) -> f64 {
    Gamma::new(shape, 1.0).map_or(1.0, |d| d.sample(rng))
}

/// Members as columns.
pub(super) fn columns<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    retailer: &Retailer,
    catalogue: &Catalogue,
) -> Vec<Column> {
    let end = retailer.start + i64::from(retailer.days) * DAY_SECONDS;
    let all = || members.clone();
    let moment = |day: i64| retailer.start + day * DAY_SECONDS;
    vec![
        texts(all(), |m| m.id.clone()),
        texts(all(), |m| store_id(m.store)),
        texts(all(), |m| format!("g{:04}-{}", m.store, m.guide)),
        texts(all(), |m| CITIES[catalogue.cities[m.store]].to_owned()),
        Column::Moment(all().map(|m| Some(m.birthday)).collect()),
        Column::Moment(all().map(|m| Some(moment(m.joined_day))).collect()),
        Column::Boolean(all().map(|m| m.consent_personalization).collect()),
        Column::Boolean(all().map(|m| m.consent_marketing).collect()),
        Column::Boolean(all().map(|m| m.is_minor(end)).collect()),
        Column::Texts(all().map(|m| m.tags.clone()).collect()),
    ]
}
