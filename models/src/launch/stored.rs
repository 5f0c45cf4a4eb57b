//! How a launch model is stored, and what older formats knew of it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::signals::{ACTIVITY, ANALOGUES_20, ANALOGUES_100, HABITS, STATICS, VECTOR};
use super::{
    Expectation, Known, LaunchFit, LaunchModel, Leanings, SIGNALS, SeedFit, Signals, Statics, TagBuyers, UsualPrices,
};
use crate::artifact::{Array, ArtifactError, Reader, Section, Writer};
use crate::catalogue::Members;
use crate::sparse::Matrix;

/// A [`LaunchFit`] as it is stored.
#[derive(Serialize, Deserialize)]
struct Values {
    /// Names of the signals, in the order of the lists.
    signals: Vec<String>,
    deviations: Vec<f32>,
    /// 0 in formats up to 6, whose weights are per unit of a signal.
    #[serde(default)]
    own_share: f32,
    learned: Option<Vec<f32>>,
    expectation: Option<Expectation>,
    #[serde(default)]
    known: Option<Known>,
    seeds: Vec<SeedFit>,
    /// Read by [`read_leanings`].
    #[serde(skip_deserializing)]
    leaning_weights: [f32; STATICS],
    /// Read by [`Counted`].
    #[serde(skip_deserializing)]
    active: usize,
    #[serde(skip_deserializing)]
    tags_per_member: usize,
}

/// Versions of before say what is known of products that sell beside what they say of launches.
#[derive(Deserialize)]
struct OfLaunches {
    expectation: Option<WithKnown>,
}

#[derive(Deserialize)]
struct WithKnown {
    known: Option<Known>,
}

/// What versions that were made before it was counted do not say.
#[derive(Deserialize)]
struct Counted {
    active: Option<usize>,
    tags_per_member: Option<usize>,
}

impl LaunchModel {
    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        let values = Values {
            signals: SIGNALS.map(str::to_owned).to_vec(),
            deviations: self.fit.deviations.to_vec(),
            own_share: self.fit.own_share,
            learned: self.fit.learned.map(|weights| weights.to_vec()),
            expectation: self.fit.expectation.clone(),
            known: self.fit.known,
            seeds: self.fit.seeds.clone(),
            leaning_weights: self.leanings.weights,
            active: self.active,
            tags_per_member: self.tag_buyers.per_member,
        };
        to.section("launch", &values, |s| {
            s.array("activity", &self.statics.activity)?;
            s.array("recent", &self.statics.recent)?;
            s.array("trips", &self.statics.trips)?;
            s.array("recency", &self.statics.recency)?;
            s.array("early", &self.statics.early)?;
            s.array("spend", &self.statics.spend)?;
            s.array("tried", &self.statics.tried)?;
            s.array("bargains", &self.statics.bargains)?;
            s.array("repeats", &self.statics.repeats)?;
            s.array("premium", &self.statics.premium)?;
            s.array("price_level", &self.statics.price_level)?;
            s.array("leanings", &self.leanings.of)?;
            s.array("usual_price", &[self.prices.of_all])?;
            s.array("usual_prices", &self.prices.of_features)?;
            s.array("rates", &self.rates)?;
            s.array("selling", &self.selling)?;
            s.array("tags", &self.tag_buyers.tags)?;
            s.array("tag_shares", &self.tag_buyers.shares)?;
            s.array("tag_totals", &self.tag_buyers.totals)?;
            self.tag_buyers.bought.write("tag_buyers", s)?;
            self.habits.write("habits", s)?;
            self.buyers.write("buyers", s)
        })
    }

    pub(crate) fn read(
        from: &Reader,
        members: &Members,
        products: usize,
        features: usize,
    ) -> Result<Self, ArtifactError> {
        let (members, tags) = (members.len(), members.tag_names.len());
        let s = from.section("launch")?;
        let format = from.manifest().format_version;
        let statics = read_statics(&s, format, members)?;
        let counted: Counted = s.values()?;
        let model = Self {
            active: counted.active.unwrap_or_else(|| statics.active()),
            statics,
            leanings: if format < 16 { Leanings::default() } else { read_leanings(&s)? },
            rates: s.array("rates")?,
            prices: if format < 11 { UsualPrices::default() } else { read_prices(&s)? },
            selling: if format < 7 { Array::default() } else { s.array("selling")? },
            habits: Matrix::read("habits", features, members, &s)?,
            buyers: Matrix::read("buyers", products, members, &s)?,
            tag_buyers: if format < 12 {
                TagBuyers::default()
            } else {
                read_tags(&s, products, tags, counted.tags_per_member)?
            },
            fit: if format < 4 { read_old(&s)? } else { read_fit(&s, format)? },
        };
        let fits = [0, members].contains(&model.leanings.of.len())
            && model.rates.len() == features
            && [0, products].contains(&model.selling.len())
            && [0, features].contains(&model.prices.of_features.len());
        s.ensure(fits, "launch signals do not fit their members or features")?;
        let finite = || model.leanings.of.par_iter().all(|x| x.is_finite());
        s.ensure_all(finite, "leanings are not finite")?;
        Ok(model)
    }
}

/// What a format knew of members; of the rest nothing.
fn read_statics(s: &Section<'_>, format: u32, members: usize) -> Result<Statics, ArtifactError> {
    let since = |first: u32, name: &str| -> Result<Array<f32>, ArtifactError> {
        if format < first {
            return Ok(Array::default());
        }
        let column = s.array(name)?;
        s.ensure(column.len() == members, "launch signals do not fit their members")?;
        Ok(column)
    };
    Ok(Statics {
        activity: since(1, "activity")?,
        recent: since(4, "recent")?,
        trips: since(4, "trips")?,
        recency: since(4, "recency")?,
        early: since(4, "early")?,
        // Formats 4 to 6 knew nothing of money, and weigh it.
        spend: if (4..7).contains(&format) { vec![0.0; members].into() } else { since(7, "spend")? },
        tried: since(13, "tried")?,
        bargains: since(14, "bargains")?,
        repeats: since(14, "repeats")?,
        premium: since(11, "premium")?,
        price_level: since(11, "price_level")?,
    })
}

fn read_tags(
    s: &Section<'_>,
    products: usize,
    names: usize,
    per_member: Option<usize>,
) -> Result<TagBuyers, ArtifactError> {
    let (tags, shares): (Array<u32>, Array<f32>) = (s.array("tags")?, s.array("tag_shares")?);
    let products = if tags.is_empty() { 0 } else { products };
    let (bought, totals) = (Matrix::read("tag_buyers", products, tags.len(), s)?, s.array("tag_totals")?);
    let sorted = tags.is_sorted() && tags.last().is_none_or(|last| (*last as usize) < names);
    let per_member = per_member.unwrap_or(tags.len());
    let found = TagBuyers { tags, bought, totals, shares, per_member };
    let lengths = [found.shares.len(), found.totals.len()] == [found.tags.len(), products];
    s.ensure(sorted && lengths, "tags of buyers do not fit their products, or those of members")?;
    Ok(found)
}

fn read_leanings(s: &Section<'_>) -> Result<Leanings, ArtifactError> {
    #[derive(Deserialize)]
    struct Weights {
        leaning_weights: [f32; STATICS],
    }
    Ok(Leanings { weights: s.values::<Weights>()?.leaning_weights, of: s.array("leanings")? })
}

fn read_prices(s: &Section<'_>) -> Result<UsualPrices, ArtifactError> {
    let of_all: Array<f32> = s.array("usual_price")?;
    Ok(UsualPrices { of_all: of_all.first().copied().unwrap_or_default(), of_features: s.array("usual_prices")? })
}

fn read_fit(s: &Section<'_>, format: u32) -> Result<LaunchFit, ArtifactError> {
    let values: Values = s.values()?;
    // Signals that came later count nothing; one that this program does not know can't be left out.
    let place = |name: &String| SIGNALS.iter().position(|known| known == name);
    let places: Option<Vec<usize>> = values.signals.iter().map(place).collect();
    let lists = [Some(&values.deviations), values.learned.as_ref()];
    let whole = lists.into_iter().flatten().all(|list| list.len() == values.signals.len());
    s.ensure(places.is_some() && whole, "launch signals are not those that this program knows")?;
    let spread = |list: &Vec<f32>, rest: f32| {
        let mut signals = [rest; SIGNALS.len()];
        places.iter().flatten().zip(list).for_each(|(place, value)| signals[*place] = *value);
        signals
    };
    let deviations = spread(&values.deviations, 1.0);
    let per_scale = |list: &Vec<f32>| -> Signals {
        let learned = spread(list, 0.0);
        if format < 7 { std::array::from_fn(|k| learned[k] * deviations[k]) } else { learned }
    };
    Ok(LaunchFit {
        deviations,
        own_share: values.own_share,
        learned: values.learned.as_ref().map(per_scale),
        expectation: values.expectation,
        known: values.known.or(s.values::<OfLaunches>()?.expectation.and_then(|of_launches| of_launches.known)),
        seeds: values.seeds,
    })
}

/// Formats up to 3 knew the five signals of the prior only.
fn read_old(s: &Section<'_>) -> Result<LaunchFit, ArtifactError> {
    #[derive(Deserialize)]
    struct Old {
        deviations: [f32; 5],
    }
    let old: Old = s.values()?;
    let mut fit = LaunchFit::default();
    for (place, deviation) in [ACTIVITY, HABITS, ANALOGUES_20, ANALOGUES_100, VECTOR].into_iter().zip(old.deviations) {
        fit.deviations[place] = deviation;
    }
    Ok(fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Check, fixture};

    /// Reads what was written of one member, who leans so, and two products.
    fn back(tag_buyers: &TagBuyers, leaning: f32) -> Result<LaunchModel, ArtifactError> {
        let column = || Array::from(vec![1.0f32]);
        let statics = Statics {
            activity: column(),
            recent: column(),
            trips: column(),
            recency: column(),
            early: column(),
            spend: column(),
            tried: column(),
            bargains: column(),
            repeats: column(),
            premium: column(),
            price_level: column(),
        };
        let leanings = Leanings { weights: std::array::from_fn(|k| k as f32 / 3.0), of: vec![leaning].into() };
        let model = LaunchModel {
            statics,
            leanings,
            buyers: Matrix::from_sorted(2, &[(1, 0, 1.0)]),
            tag_buyers: tag_buyers.clone(),
            ..LaunchModel::default()
        };
        let members =
            Members { ids: ["m"].iter().collect(), tag_names: ["a", "b", "c"].iter().collect(), ..Members::default() };
        let (_root, registry, id) = fixture::published(|to| model.write(to).unwrap());
        LaunchModel::read(&registry.open(&id, Check::All).unwrap(), &members, 2, 0)
    }

    #[test]
    fn leanings_come_back_unless_they_are_not_finite() {
        let leanings = back(&TagBuyers::default(), -1.5).unwrap().leanings;
        assert_eq!((leanings.weights[8], &leanings.of[..]), (8.0 / 3.0, &[-1.5][..]));
        assert!([f32::NAN, f32::INFINITY].iter().all(|leaning| back(&TagBuyers::default(), *leaning).is_err()));
    }

    #[test]
    fn tags_come_back_and_those_that_do_not_fit_are_refused() {
        let known = TagBuyers {
            tags: vec![0, 2].into(),
            bought: Matrix::from_sorted(2, &[(1, 0, 0.5), (1, 1, 1.0)]),
            totals: vec![0.0, 1.5].into(),
            shares: vec![0.25, 0.75].into(),
            per_member: 1,
        };
        let found = back(&known, 1.0).unwrap().tag_buyers;
        assert_eq!((found.tags.to_vec(), found.totals.to_vec()), (vec![0, 2], vec![0.0, 1.5]));
        assert_eq!(found.per_member, 1);
        assert_eq!((found.bought.row(1), found.shares.to_vec()), ((&[0, 1][..], &[0.5, 1.0][..]), vec![0.25, 0.75]));
        for unfit in [
            TagBuyers { tags: vec![0, 3].into(), ..known.clone() },
            TagBuyers { tags: vec![2, 0].into(), ..known.clone() },
            TagBuyers { shares: vec![0.25].into(), ..known.clone() },
            TagBuyers { totals: vec![1.5].into(), ..known.clone() },
            TagBuyers { bought: Matrix::from_sorted(1, &[]), ..known.clone() },
        ] {
            assert!(back(&unfit, 1.0).is_err(), "{unfit:?}");
        }
    }
}
