//! How many buy a launch, from how many bought those before.

use kindred_models::events::DAY_SECONDS;
use std::collections::BTreeMap;

use kindred_models::categories::path_levels;
use kindred_models::launch::{Expectation, Spread, Z90};
use kindred_models::stop::{Stop, Stopped};

use super::replay::{Past, ScoredPast};
use super::{LaunchReport, Moment, learn};
use crate::config::LaunchParams;

/// Launches of a kind at which its own rate counts half.
const KIND_PRIOR: f64 = 10.0;
/// Launches of a kind below which nothing is said of it.
const MIN_KIND: usize = 3;
/// By how much a season moves the number of buyers, where hardly any was seen: about a fifth.
const SEASON: f64 = 0.2;
/// An interval is never narrower than this, on the scale of logarithms.
const MIN_RESIDUAL: f64 = 0.05;

/// Learns what to expect; how far off it is, from launches of other moments.
pub(super) fn fit(moments: &[Moment<'_>], params: &LaunchParams) -> Expectation {
    let moments: Vec<(i64, &[Past])> = moments.iter().map(|m| (m.cut, counted(m.launches, params))).collect();
    let all: Vec<&Past> = moments.iter().flat_map(|(_, launches)| launches.iter()).collect();
    let expectation = rates(&all, params);
    let mut residuals = Vec::new();
    for (cut, launches) in &moments {
        let others: Vec<&Past> = moments.iter().filter(|(c, _)| c != cut).flat_map(|(_, l)| l.iter()).collect();
        // With a single moment there is nothing but what it was learned from.
        let known = if others.is_empty() { expectation.clone() } else { rates(&others, params) };
        residuals.extend(launches.iter().map(|launch| log_rate(launch) - f64::from(rate_of(&known, launch))));
    }
    let of_moments: Vec<Vec<f64>> =
        moments.iter().map(|(_, launches)| launches.iter().map(log_rate).collect()).collect();
    let buyers = all.iter().map(|launch| launch.buyers as f64).collect();
    Expectation { spread: spread(residuals, drift(&of_moments), buyers), ..expectation }
}

/// The launches that a number of buyers speaks of.
fn counted<'a>(launches: &'a [Past], params: &LaunchParams) -> &'a [Past] {
    &launches[..launches.partition_point(|launch| params.counts(launch.buyers))]
}

/// Of `ln(actual / expected)`, the drift of seasons, and the buyers of each.
pub(super) fn spread(mut residuals: Vec<f64>, drift: f64, mut buyers: Vec<f64>) -> Spread {
    let [low, high] = [0.1, 0.9].map(|share| quantile(&mut residuals, share));
    let residuals = [-low.min(-MIN_RESIDUAL).hypot(drift), high.max(MIN_RESIDUAL).hypot(drift)];
    Spread { residuals: residuals.map(|residual| residual as f32), typical_buyers: quantile(&mut buyers, 0.5) as f32 }
}

/// How far the next season may lie from those seen, on the scale of logarithms, as a 90% quantile; from what launches
/// came to, by moment. What those of one moment have in common was seen as often as there were moments: a normal mean of
/// unknown variance, whose prior is [`SEASON`], as sure as one moment (Gelman et al., "Bayesian Data Analysis", 3rd ed., section 3.3).
pub(super) fn drift(moments: &[Vec<f64>]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let means: Vec<f64> = moments.iter().filter(|values| !values.is_empty()).map(|values| mean(values)).collect();
    let squares: f64 = means.iter().map(|m| (m - mean(&means)).powi(2)).sum();
    let n = means.len().max(1);
    let scale = (SEASON * SEASON + squares) / n as f64;
    t90(n) * (scale * (1.0 + 1.0 / n as f64)).sqrt()
}

/// 90% quantile of Student's t with so many degrees of freedom. Abramowitz & Stegun 26.7.5, within 4% of it for 1.
fn t90(freedom: usize) -> f64 {
    let (z, v) = (Z90, freedom.max(1) as f64);
    let powers =
        |factors: [f64; 4]| factors[0] * z + factors[1] * z.powi(3) + factors[2] * z.powi(5) + factors[3] * z.powi(7);
    z + powers([1.0, 1.0, 0.0, 0.0]) / (4.0 * v)
        + powers([3.0, 16.0, 5.0, 0.0]) / (96.0 * v * v)
        + powers([-15.0, 17.0, 19.0, 3.0]) / (384.0 * v.powi(3))
}

fn rate_of(expectation: &Expectation, launch: &Past) -> f32 {
    expectation.log_rate_of(Some(&launch.category))
}

fn log_rate(launch: &Past) -> f64 {
    (launch.buyers as f64 / launch.members as f64).ln()
}

/// The rate of the middle launch, and of each kind.
fn rates(launches: &[&Past], params: &LaunchParams) -> Expectation {
    let mut rates: Vec<f64> = launches.iter().map(|launch| log_rate(launch)).collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    Expectation {
        launches: launches.len() as u32,
        horizon_days: params.horizon_days,
        log_rate: quantile(&mut rates, 0.5) as f32,
        kinds: kinds(launches, mean),
        spread: Spread { residuals: [0.0; 2], typical_buyers: 0.0 },
    }
}

/// By category, how far its launches stand above the mean: each level is shrunk to the one above it.
fn kinds(launches: &[&Past], mean: f64) -> Vec<(String, f32)> {
    let mut by_path = BTreeMap::<&str, Vec<f64>>::new();
    for launch in launches {
        for path in path_levels(&launch.category).filter(|path| !path.is_empty()) {
            by_path.entry(path).or_default().push(log_rate(launch) - mean);
        }
    }
    let mut kinds: Vec<(String, f32)> = Vec::new();
    // Sorted by path, a category comes before what is within it.
    for (path, above) in by_path.into_iter().filter(|(_, above)| above.len() >= MIN_KIND) {
        let parent = path_levels(path)
            .nth(1)
            .and_then(|parent| kinds.binary_search_by(|(kind, _)| kind.as_str().cmp(parent)).ok());
        let parent = parent.map_or(0.0, |at| f64::from(kinds[at].1));
        let n = above.len() as f64;
        kinds.push((path.to_owned(), ((above.iter().sum::<f64>() + KIND_PRIOR * parent) / (n + KIND_PRIOR)) as f32));
    }
    kinds
}

/// Linear between the values around it; 0 of none.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = share * values.len().saturating_sub(1) as f64;
    let (below, rest) = (at.floor() as usize, at.fract());
    match (values.get(below), values.get(below + 1)) {
        (Some(a), Some(b)) => a + rest * (b - a),
        (Some(a), None) => *a,
        _ => 0.0,
    }
}

/// Foretells every launch from those alone whose days had ended when it was replayed.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub(super) fn foretell(
    moments: &[Moment<'_>],
    params: &LaunchParams,
    report: &mut LaunchReport,
    stop: &Stop,
) -> Result<(), Stopped> {
    let days = i64::from(params.step_days + params.horizon_days) * DAY_SECONDS;
    let (mut base, mut head, mut widths) = (Vec::new(), Vec::new(), Vec::new());
    for Moment { cut, launches, .. } in moments {
        let before: Vec<Moment<'_>> = moments.iter().filter(|other| other.cut + days <= *cut).copied().collect();
        if before.iter().map(|m| counted(m.launches, params).len()).sum::<usize>() < params.min_launches as usize {
            continue;
        }
        let Some(weights) = learn(&before, params, stop)? else { continue };
        let expectation = fit(&before, params);
        for launch in counted(launches, params) {
            let scored = launch.scored(&weights);
            let rate = rate_of(&expectation, launch);
            let [all, top] = [1.0, 0.1].map(|share| Foretold::new(&scored, share, rate, &expectation));
            widths.push(all.interval[1] / all.interval[0]);
            base.push(all);
            head.push(top);
        }
    }
    report.foretold = base.len();
    (report.median_ratio, report.coverage) = summary(&base);
    (report.median_ratio_of_head, report.coverage_of_head) = summary(&head);
    report.width = quantile(&mut widths, 0.5);
    Ok(())
}

/// What was expected of an audience, and what came.
pub(crate) struct Foretold {
    pub(crate) expected: f64,
    pub(crate) interval: [f64; 2],
    pub(crate) actual: f64,
}

impl Foretold {
    /// Of a share of the members, those with the highest scores.
    fn new(scored: &ScoredPast, share: f64, log_rate: f32, expectation: &Expectation) -> Self {
        let mut rows: Vec<usize> = (0..scored.scores.len()).collect();
        rows.sort_by(|a, b| scored.scores[*b].total_cmp(&scored.scores[*a]));
        let members: f64 = rows.iter().map(|i| f64::from(scored.weight_of(*i))).sum();
        let (level, mut left) = (scored.level(log_rate), share * members);
        let (mut expected, mut actual) = (0.0, 0.0);
        for i in rows {
            if left <= 0.0 {
                break;
            }
            let weight = f64::from(scored.weight_of(i)).min(left);
            left -= weight;
            expected += weight * level.probability(scored.scores[i]);
            actual += if i < scored.bought { weight } else { 0.0 };
        }
        Self { expected, interval: expectation.spread.interval(expected), actual }
    }
}

/// The middle ratio of expected to actual, and the share within the interval.
pub(crate) fn summary(foretold: &[Foretold]) -> (f64, f64) {
    // Nobody at all counts as half a buyer, so that the ratio is finite.
    let mut ratios: Vec<f64> = foretold.iter().map(|f| f.expected / f.actual.max(0.5)).collect();
    let covered = |f: &&Foretold| (f.interval[0]..=f.interval[1]).contains(&f.actual);
    let share = foretold.iter().filter(covered).count() as f64 / foretold.len().max(1) as f64;
    (quantile(&mut ratios, 0.5), share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::launch::Signals;

    fn past(kind: &str, buyers: usize) -> Past {
        let row = |x: f32| -> Signals { std::array::from_fn(|k| if k == 0 { x } else { 0.0 }) };
        let rows = (0..buyers).map(|_| row(1.0)).chain((0..100).map(|i| row((i % 4 == 0) as u8 as f32)));
        let weight = (1000 - buyers) as f32 / 100.0;
        Past {
            category: kind.to_owned(),
            members: 1000,
            buyers,
            rows: rows.collect(),
            bought: buyers,
            weight,
            seeded: Vec::new(),
        }
    }

    #[test]
    fn the_middle_launch_sets_the_rate_and_kinds_move_it() {
        let launches: Vec<Past> =
            [10, 20, 400].iter().map(|n| past("a", *n)).chain((0..4).map(|_| past("b", 5))).collect();
        let all: Vec<&Past> = launches.iter().collect();
        let rates = rates(&all, &LaunchParams::default());
        assert!((rates.log_rate.exp() - 0.005).abs() < 1e-4, "{rates:?}");
        assert!(rates.log_rate_of(Some("a/x")) > rates.log_rate && rates.log_rate_of(Some("b")) < rates.log_rate);
    }

    #[test]
    fn the_fewer_moments_were_seen_the_less_is_known_of_the_next() {
        let alike = vec![vec![-3.0, -2.0]; 8];
        // One moment: a t of 1 degree of freedom, its scale the prior's, twice its variance. Eight: an eighth of it.
        let of = |n: usize| (SEASON * SEASON / n as f64 * (1.0 + 1.0 / n as f64)).sqrt() * t90(n);
        assert!((drift(&alike[..1]) - of(1)).abs() < 1e-9 && (drift(&alike) - of(8)).abs() < 1e-9);
        assert!(drift(&alike[..1]) > 0.8 && drift(&alike) < 0.11);
        // Moments that differ by a factor of 4.
        assert!(drift(&[vec![-3.0], vec![-3.0 + 4f64.ln()]]) > 1.0);
    }

    #[test]
    fn quantiles_of_t_are_as_tabulated() {
        for (freedom, tabulated) in [(1, 3.078), (2, 1.886), (3, 1.638), (8, 1.397), (100, 1.290)] {
            assert!((t90(freedom) / tabulated - 1.0).abs() < 0.04, "{freedom}: {}", t90(freedom));
        }
    }

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(&mut [4.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [1.0, 3.0], 0.25), 1.5);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn launches_like_those_before_are_foretold() {
        // Every moment has launches of 8 to 12 buyers, 4 weeks apart so that the others have ended.
        let params = LaunchParams { min_launches: 5, step_days: 14, horizon_days: 14, ..LaunchParams::default() };
        let launches: Vec<Past> = (8..=12).map(|n| past("a", n)).collect();
        let moment = |k: i64| Moment { cut: k * 28 * 86_400, launches: &launches, trials: &[] };
        let moments: Vec<Moment<'_>> = (0..4).rev().map(moment).collect();
        let mut report = LaunchReport::default();
        foretell(&moments, &params, &mut report, &Stop::default()).unwrap();
        assert_eq!(report.foretold, 15, "the first moment has none before it");
        assert!((report.median_ratio - 1.0).abs() < 0.02, "{report:?}");
        assert!(report.coverage >= 0.6 && report.width < 2.3, "{report:?}");
    }
}
