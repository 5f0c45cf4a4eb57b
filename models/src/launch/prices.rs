//! How dear a product is, against what others like it cost.

use super::LaunchModel;
use crate::Model;
use crate::artifact::Array;
use crate::content::Attributes;
use crate::ranking::Scored;

/// Logarithms of prices that are told apart, at most: beyond, a price is a mistake or of another pack.
const MOST: f32 = 3.0;

/// What purchases usually cost, as means of the logarithms of prices.
#[derive(Clone, Debug, Default)]
pub struct UsualPrices {
    /// Of all purchases.
    pub of_all: f32,
    /// Of those that have a feature, by row of the content vocabulary, shrunk to that of all; empty where nothing is
    /// known of prices.
    pub of_features: Array<f32>,
}

impl UsualPrices {
    /// How far a product's price stands above what is usual in the [category](Attributes::price_peers) that prices are
    /// compared in, given as a row of the content vocabulary, and above that of all purchases, as logarithms; 0 where
    /// the price is not known.
    pub fn above(&self, price: f32, peers: Option<u32>) -> [f32; 2] {
        if self.of_features.is_empty() || price.is_nan() || price <= 0.0 {
            return [0.0; 2];
        }
        let usual = peers.and_then(|row| self.of_features.get(row as usize)).copied().unwrap_or(self.of_all);
        [usual, self.of_all].map(|usual| (price.ln() - usual).clamp(-MOST, MOST))
    }
}

/// How dear a product is: against its category, against similar products, and against all.
pub(super) fn relative_prices(model: &Model, attributes: &Attributes, similar: &[Scored]) -> [f32; 3] {
    let Some(price) = attributes.price.filter(|price| *price > 0.0) else { return [0.0; 3] };
    let peers = attributes.price_peers().and_then(|feature| model.content.feature_row(feature));
    let [in_category, of_all] = model.launch.prices.above(price, peers);
    let usual = model.launch.usual_price_of(similar, &model.products.prices);
    [in_category, usual.map_or(0.0, |usual| (price.ln() - usual).clamp(-MOST, MOST)), of_all]
}

impl LaunchModel {
    /// Mean logarithm of the prices of similar products; those count that are most like it and bought by many. `None`
    /// where no price is known.
    fn usual_price_of(&self, similar: &[Scored], prices: &[f32]) -> Option<f32> {
        let (mut total, mut sum) = (0.0, 0.0);
        for product in similar {
            let price = prices.get(product.row as usize).copied().unwrap_or(f32::NAN);
            if price > 0.0 {
                let weight = product.score * product.score * self.buyers.rows.range(product.row).len() as f32;
                (total, sum) = (total + weight, sum + weight * price.ln());
            }
        }
        (total > 0.0).then(|| sum / total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Matrix;

    #[test]
    fn prices_stand_above_what_is_usual() {
        let usual = UsualPrices { of_all: 1.0, of_features: vec![1.0, 2.0].into() };
        let price = 2.5f32.exp();
        let close = |a: [f32; 2], b: [f32; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(usual.above(price, Some(1)), [0.5, 1.5]));
        assert!(close(usual.above(price, None), [1.5, 1.5]), "without a category, against all");
        assert_eq!(usual.above(f32::NAN, Some(1)), [0.0; 2]);
        assert_eq!(usual.above(9e9f32, Some(1)), [MOST; 2]);
        assert_eq!(UsualPrices::default().above(price, Some(1)), [0.0; 2], "of older versions nothing is known");
    }

    #[test]
    fn similar_products_count_by_likeness_and_buyers() {
        // The first has two buyers, the second one, the third's price is not known.
        let buyers = Matrix::from_sorted(3, &[(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (2, 0, 1.0)]);
        let model = LaunchModel { buyers, ..LaunchModel::default() };
        let prices = [1f32.exp(), 4f32.exp(), f32::NAN];
        let similar = |score: f32| [(0, 0.5), (1, score), (2, 0.9)].map(|(row, score)| Scored { row, score });
        // Weights of 2/4 and 1/4: a third of the way from 1 to 4.
        assert!((model.usual_price_of(&similar(0.5), &prices).unwrap() - 2.0).abs() < 1e-5);
        assert!(model.usual_price_of(&similar(0.5)[2..], &prices).is_none());
    }
}
