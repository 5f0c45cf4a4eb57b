//! What a search may change, and where it looks next.

use std::collections::BTreeMap;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::Source;

/// Values by name, as the config file has them: `embeddings.factors`.
pub type Parameters = BTreeMap<String, Value>;

/// Trials drawn from the whole space before the best of them is changed step by step.
const EXPLORING: u64 = 10;
/// Chance of each parameter to be changed in a step.
const CHANGED: f64 = 0.4;
/// How far a step goes at most, as a share of a parameter's range.
const STEP: f64 = 0.25;
/// Draws of a trial that was not tried before.
const DRAWS: u64 = 50;

/// One parameter, and what it may be.
#[derive(Debug)]
pub(super) struct Dimension {
    pub(super) name: &'static str,
    range: Range,
}

#[derive(Debug)]
enum Range {
    /// Between two numbers above 0, evenly by ratio; two digits of it.
    Log(f64, f64),
    /// One of a list, in order.
    OneOf(Vec<Value>),
}

/// The parameters of a source.
pub(super) fn space(source: Source, max_factors: usize, has_time: bool) -> Vec<Dimension> {
    let one_of = |name, values: Vec<Value>| Dimension { name, range: Range::OneOf(values) };
    let numbers = |name, values: &[f64]| one_of(name, values.iter().map(|x| json!(x)).collect());
    match source {
        Source::Embeddings => {
            let factors = [8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512];
            let factors = factors.into_iter().filter(|f| *f <= max_factors.max(8)).map(|f| json!(f)).collect();
            let mut space = vec![
                one_of("embeddings.factors", factors),
                Dimension { name: "embeddings.unobserved_weight", range: Range::Log(0.003, 1.0) },
                Dimension { name: "embeddings.regularization", range: Range::Log(0.0002, 0.1) },
                one_of("embeddings.epochs", [2, 4, 6, 8, 12, 16, 20].map(|n| json!(n)).to_vec()),
                one_of("embeddings.weighting", ["binary", "log", "linear"].map(|w| json!(w)).to_vec()),
            ];
            // Decay needs a time, and goes from none to a month.
            if has_time {
                space.push(numbers("embeddings.half_life_days", &[0.0, 365.0, 180.0, 90.0, 60.0, 30.0]));
            }
            space
        }
        Source::Affinity => {
            let tenths: Vec<f64> = (0..=10).map(|k| f64::from(k) / 10.0).collect();
            vec![
                numbers("affinity.group_exponent", &tenths),
                numbers("affinity.source_exponent", &tenths),
                numbers("affinity.target_exponent", &tenths),
                numbers("affinity.shrinkage", &[0.0, 1.0, 3.0, 10.0, 30.0]),
                numbers("affinity.ridge", &[0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
            ]
        }
    }
}

impl Dimension {
    /// The value at a place from 0 to 1 of the range.
    fn at(&self, place: f64) -> Value {
        match &self.range {
            Range::Log(low, high) => {
                let value = low * (high / low).powf(place);
                let unit = 10f64.powf(value.log10().floor() - 1.0);
                // By way of text, so that it is the decimal number that a person would write.
                json!(format!("{:.6}", (value / unit).round() * unit).parse::<f64>().unwrap_or(value))
            }
            Range::OneOf(values) => {
                let at = (place * values.len() as f64) as usize;
                values[at.min(values.len() - 1)].clone()
            }
        }
    }

    /// The place of a value; that of the nearest one where it is not in the range.
    fn place(&self, value: &Value) -> f64 {
        match &self.range {
            Range::Log(low, high) => {
                let value = value.as_f64().unwrap_or(*low).max(f64::MIN_POSITIVE);
                ((value / low).ln() / (high / low).ln()).clamp(0.0, 1.0)
            }
            Range::OneOf(values) => {
                let distance = |other: &Value| match (value.as_f64(), other.as_f64()) {
                    (Some(a), Some(b)) => (a - b).abs(),
                    _ => f64::from(u8::from(value != other)),
                };
                let nearest = (0..values.len()).min_by(|a, b| distance(&values[*a]).total_cmp(&distance(&values[*b])));
                (nearest.unwrap_or(0) as f64 + 0.5) / values.len() as f64
            }
        }
    }
}

/// The parameters to try next: anywhere at first, then near the best so far; the same for the same seed,
/// number and best.
pub(super) fn propose(
    space: &[Dimension],
    number: u64,
    seed: u64,
    best: Option<&Parameters>,
    was_tried: impl Fn(&Parameters) -> bool,
) -> Parameters {
    let draw = |attempt: u64| {
        let mut rng =
            Xoshiro256PlusPlus::seed_from_u64(crate::rank::mix(seed ^ crate::rank::mix(number << 8 | attempt)));
        let near = best.filter(|_| number >= EXPLORING);
        let always = rng.random_range(0..space.len());
        let value = |(k, dimension): (usize, &Dimension)| {
            let (anywhere, step, lot) =
                (rng.random_range(0.0..1.0), rng.random_range(-STEP..STEP), rng.random_range(0.0..1.0));
            let value = match near.and_then(|best| best.get(dimension.name)) {
                Some(value) if k != always && lot >= CHANGED => value.clone(),
                Some(value) => dimension.at((dimension.place(value) + step).clamp(0.0, 1.0)),
                None => dimension.at(anywhere),
            };
            (dimension.name.to_owned(), value)
        };
        space.iter().enumerate().map(value).collect::<Parameters>()
    };
    (0..DRAWS).map(draw).find(|parameters| !was_tried(parameters)).unwrap_or_else(|| draw(DRAWS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_lies_where_it_was_taken_from(place in 0f64..1.0, source in 0..2) {
            let source = if source == 0 { Source::Embeddings } else { Source::Affinity };
            for dimension in space(source, 256, true) {
                let value = dimension.at(place);
                prop_assert_eq!(&dimension.at(dimension.place(&value)), &value, "{}", dimension.name);
                prop_assert!((dimension.place(&value) - place).abs() < 0.2);
            }
        }
    }

    #[test]
    fn a_search_looks_anywhere_and_then_near_the_best() {
        let space = space(Source::Embeddings, 64, false);
        assert!(space.iter().all(|d| d.name != "embeddings.half_life_days"), "nothing decays without a time");
        let best = propose(&space, 0, 1, None, |_| false);
        assert_eq!(best, propose(&space, 0, 1, None, |_| false), "the same seed draws the same");
        assert_ne!(best, propose(&space, 0, 1, None, |p| *p == best), "what was tried is not tried again");
        assert!(best["embeddings.factors"].as_u64().unwrap() <= 64);
        for number in EXPLORING..EXPLORING + 20 {
            let next = propose(&space, number, 1, Some(&best), |p| *p == best);
            for dimension in &space {
                let moved = dimension.place(&next[dimension.name]) - dimension.place(&best[dimension.name]);
                assert!(moved.abs() <= STEP + 0.2, "{}: {moved}", dimension.name);
            }
        }
    }
}
