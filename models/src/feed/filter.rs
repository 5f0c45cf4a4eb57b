//! Which products a caller wants to see.

use crate::catalogue::Products;
use crate::categories::is_within;
use crate::strings::{Labels, NONE};

/// What a caller asks for; an empty list means "any".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProductFilter {
    /// Category paths; each stands for itself and everything below it.
    pub categories: Vec<String>,
    /// Brands.
    pub brands: Vec<String>,
    /// Lowest price.
    pub min_price: Option<f32>,
    /// Highest price.
    pub max_price: Option<f32>,
    /// The store that must carry the product.
    pub store: Option<String>,
}

impl ProductFilter {
    /// Whether every product passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A filter looked up once in a catalogue, so that each product costs a few comparisons.
#[derive(Clone, Debug)]
pub struct AllowedProducts {
    /// By row of the category table; `None` for any.
    categories: Option<Vec<bool>>,
    brands: Option<Vec<bool>>,
    min_price: f32,
    max_price: f32,
    has_price_range: bool,
    /// Row of the store; [`NONE`] for a store that no product names.
    store: Option<u32>,
}

impl AllowedProducts {
    /// Looks the filter up.
    pub fn new(products: &Products, filter: &ProductFilter) -> Self {
        let is_under = |path: &str, top: &String| is_within(path, top);
        Self {
            categories: lookup(&products.categories, &filter.categories, is_under),
            brands: lookup(&products.brands, &filter.brands, |brand, wanted| brand == wanted),
            min_price: filter.min_price.unwrap_or(0.0),
            max_price: filter.max_price.unwrap_or(f32::INFINITY),
            has_price_range: filter.min_price.is_some() || filter.max_price.is_some(),
            store: filter.store.as_deref().map(|store| products.store_names.find(store).unwrap_or(NONE)),
        }
    }

    /// Whether a product is available and passes.
    #[inline]
    pub fn contains(&self, products: &Products, product: u32) -> bool {
        let row = product as usize;
        let labelled = |allowed: &Option<Vec<bool>>, labels: &Labels| {
            allowed.as_ref().is_none_or(|rows| rows.get(labels.rows[row] as usize).copied().unwrap_or(false))
        };
        let is_priced = || (self.min_price..=self.max_price).contains(&products.prices[row]);
        products.available[row] != 0
            && labelled(&self.categories, &products.categories)
            && labelled(&self.brands, &products.brands)
            && (!self.has_price_range || is_priced())
            && self.store.is_none_or(|store| {
                let carried_by = products.stores.row(product);
                carried_by.is_empty() || carried_by.binary_search(&store).is_ok()
            })
    }
}

fn lookup(labels: &Labels, wanted: &[String], matches: impl Fn(&str, &String) -> bool) -> Option<Vec<bool>> {
    if wanted.is_empty() {
        return None;
    }
    Some(labels.values.iter().map(|value| wanted.iter().any(|w| matches(value, w))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Rows;

    fn products() -> Products {
        let labels = |values: &[&str]| {
            Labels::encode(&values.iter().map(|v| (!v.is_empty()).then(|| (*v).to_owned())).collect::<Vec<_>>())
        };
        Products {
            ids: ["p0", "p1", "p2", "p3"].iter().collect(),
            categories: labels(&["food/nuts", "food/tea", "foodstuff", ""]),
            brands: labels(&["A", "B", "A", ""]),
            prices: vec![5.0, 10.0, f32::NAN, 1.0].into(),
            available: vec![1, 1, 1, 1].into(),
            stores: Rows::from_lists([vec![0], vec![], vec![1], vec![0, 1]]),
            store_names: ["s1", "s2"].iter().collect(),
            ..Products::default()
        }
    }

    fn passing(filter: &ProductFilter) -> Vec<u32> {
        let products = products();
        let allowed = AllowedProducts::new(&products, filter);
        (0..4).filter(|row| allowed.contains(&products, *row)).collect()
    }

    #[test]
    fn each_filter_alone() {
        let any = ProductFilter::default;
        assert_eq!(passing(&any()), [0, 1, 2, 3]);
        assert_eq!(passing(&ProductFilter { categories: vec!["food".into()], ..any() }), [0, 1]);
        assert_eq!(passing(&ProductFilter { categories: vec!["food/tea".into()], ..any() }), [1]);
        assert_eq!(passing(&ProductFilter { brands: vec!["A".into(), "Z".into()], ..any() }), [0, 2]);
        assert_eq!(passing(&ProductFilter { min_price: Some(5.0), ..any() }), [0, 1]);
        assert_eq!(passing(&ProductFilter { max_price: Some(5.0), ..any() }), [0, 3]);
        assert_eq!(passing(&ProductFilter { store: Some("s1".into()), ..any() }), [0, 1, 3]);
        assert_eq!(passing(&ProductFilter { store: Some("elsewhere".into()), ..any() }), [1]);
    }

    #[test]
    fn what_is_not_available_never_passes() {
        let mut products = products();
        products.available = vec![0, 1, 0, 0].into();
        let allowed = AllowedProducts::new(&products, &ProductFilter::default());
        assert_eq!((0..4).filter(|row| allowed.contains(&products, *row)).collect::<Vec<_>>(), [1]);
    }
}
