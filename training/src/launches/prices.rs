//! What purchases usually cost, and how dear each member buys.

use kindred_models::artifact::Array;
use kindred_models::history::History;
use kindred_models::launch::UsualPrices;
use rayon::prelude::*;

/// Purchases at the base's mean price that a feature's mean, and at the usual premium that a member's own, are shrunk by.
const PRIOR: f64 = 5.0;
/// Standard deviations that members are told apart by, at most.
const MOST: f64 = 4.0;

/// Means of the logarithms of prices, each purchase counted as decayed; `habits` are rows of the content vocabulary, by
/// product, out of `features`.
pub(crate) fn usual(history: &History, prices: &[f32], habits: &[Vec<u32>], features: usize) -> UsualPrices {
    let mut counts = vec![0f64; prices.len()];
    for (product, decayed) in history.rows.columns.iter().zip(history.decayed.iter()) {
        counts[*product as usize] += f64::from(*decayed);
    }
    // Per feature, purchases and the sum of their logarithms; of all purchases last.
    let mut sums = vec![(0f64, 0f64); features + 1];
    for (product, (count, price)) in counts.iter().zip(prices).enumerate().filter(|(_, (_, price))| **price > 0.0) {
        let price = f64::from(price.ln());
        for feature in habits[product].iter().map(|row| *row as usize).chain([features]) {
            sums[feature] = (sums[feature].0 + count, sums[feature].1 + count * price);
        }
    }
    let (count, sum) = sums[features];
    if count <= 0.0 {
        return UsualPrices::default();
    }
    let of_all = sum / count;
    let shrunk = |(count, sum): &(f64, f64)| ((sum + PRIOR * of_all) / (count + PRIOR)) as f32;
    UsualPrices { of_all: of_all as f32, of_features: sums[..features].iter().map(shrunk).collect::<Vec<_>>().into() }
}

/// How dear each member buys, in each category and at all, in standard deviations from the mean of those who bought
/// anything of a known price; 0 of the others. `peers` are the rows of products' categories.
pub(crate) fn dear(history: &History, prices: &[f32], peers: &[Option<u32>], usual: &UsualPrices) -> [Array<f32>; 2] {
    let above: Vec<[f32; 2]> = prices.iter().zip(peers).map(|(p, peers)| usual.above(*p, *peers)).collect();
    let of = |member: u32| -> Option<[f64; 2]> {
        let mut sums = [0f64; 3];
        for i in history.rows.range(member) {
            let (product, decayed) = (history.rows.columns[i] as usize, f64::from(history.decayed[i]));
            if prices[product] > 0.0 {
                sums[2] += decayed;
                (0..2).for_each(|k| sums[k] += decayed * f64::from(above[product][k]));
            }
        }
        (sums[2] > 0.0).then(|| [sums[0], sums[1]].map(|sum| sum / (sums[2] + PRIOR)))
    };
    let members: Vec<Option<[f64; 2]>> = (0..history.rows.len() as u32).into_par_iter().map(of).collect();
    [0, 1].map(|k| standardized(members.iter().map(|of| of.map(|of| of[k]))))
}

fn standardized(values: impl Iterator<Item = Option<f64>> + Clone) -> Array<f32> {
    let known = || values.clone().flatten();
    let n = known().count().max(1) as f64;
    let mean = known().sum::<f64>() / n;
    let deviation = (known().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-9);
    let of = |x: Option<f64>| x.map_or(0.0, |x| ((x - mean) / deviation).clamp(-MOST, MOST) as f32);
    values.map(of).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::sparse::Rows;

    fn close(found: &[f32], expected: &[f32]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4)
    }

    /// Three members: one buys the dear nuts, one the cheap ones and a tea whose price nobody knows, one nothing.
    fn history() -> History {
        let rows = Rows { offsets: vec![0, 1, 3, 3].into(), columns: vec![0, 1, 2].into() };
        History { rows, decayed: vec![15.0, 5.0, 9.0].into(), ..History::default() }
    }

    #[test]
    fn usual_prices_worked_by_hand() {
        let prices = [3f32.exp(), 1f32.exp(), f32::NAN];
        let usual = usual(&history(), &prices, &[vec![0, 1], vec![0], vec![2]], 3);
        // 15 of 3 and 5 of 1; the dear ones alone with 5 of the mean, 2.5; of tea nothing is known.
        assert!((usual.of_all - 2.5).abs() < 1e-5);
        assert!(close(&usual.of_features, &[2.5, (45.0 + 12.5) / 20.0, 2.5]), "{:?}", usual.of_features);
        let unknown = super::usual(&history(), &[f32::NAN; 3], &[vec![], vec![], vec![]], 3);
        assert!(unknown.of_features.is_empty());
    }

    #[test]
    fn who_buys_dear_stands_above_the_mean() {
        let prices = [3f32.exp(), 1f32.exp(), f32::NAN];
        let usual = UsualPrices { of_all: 2.0, of_features: vec![2.5].into() };
        let [premium, level] = dear(&history(), &prices, &[Some(0), Some(0), None], &usual);
        // Of two, each is one standard deviation from the mean; of the third nothing is known.
        assert!(close(&premium, &[1.0, -1.0, 0.0]) && close(&level, &[1.0, -1.0, 0.0]), "{premium:?} {level:?}");
        let one = standardized([Some(2.0), None].into_iter());
        assert!(close(&one, &[0.0, 0.0]), "nobody to stand above: {one:?}");
    }
}
