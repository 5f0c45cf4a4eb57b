//! What feeds take a product for that is new and that nobody bought yet.
//!
//! By its sales it is the last of all: it would never be shown, and so never be bought. Its own attributes speak for it,
//! and, instead of its sales, those of the products most like it, as in audiences ([`crate::launch`]).

use rayon::prelude::*;

use crate::model::Model;
use crate::ranking::Scored;

/// How many similar products speak for one.
const SPEAKING: usize = 20;

/// A new product that nobody had bought when the model learned.
#[derive(Clone, Debug)]
pub struct Unsold {
    /// Its row.
    pub(super) product: u32,
    /// The sold products most like it, with weights that add up to 1.
    analogues: Vec<(u32, f32)>,
}

impl Unsold {
    /// From the sold products most like it, best first; `None` where none is.
    pub(crate) fn new(product: u32, analogues: &[Scored]) -> Option<Self> {
        let analogues = &analogues[..analogues.len().min(SPEAKING)];
        let total: f32 = analogues.iter().map(|analogue| analogue.score).sum();
        let weighed = |analogue: &Scored| (analogue.row, analogue.score / total);
        (total > 0.0).then(|| Self { product, analogues: analogues.iter().map(weighed).collect() })
    }

    /// Its row.
    pub(crate) fn product(&self) -> u32 {
        self.product
    }

    /// The mean over the products most like it.
    pub(super) fn mean(&self, of: impl Fn(u32) -> f32) -> f32 {
        self.analogues.iter().map(|(row, weight)| weight * of(*row)).sum()
    }
}

impl Model {
    /// The same model, with what speaks for its new products that nobody bought, once it was learned or loaded. Costs time in
    /// proportion to the products, and for each of the new ones.
    pub fn with_unsold(mut self) -> Self {
        let is_sold = |row: u32| !self.launch.buyers.rows.range(row).is_empty();
        let is_unsold = |row: &u32| self.popularity.overall[*row as usize] <= 0.0 && self.popularity.is_new(*row);
        let rows: Vec<u32> = (0..self.products.len() as u32).filter(is_unsold).collect();
        let unsold = |row: &u32| {
            let features = self.products.attributes(*row).features();
            Unsold::new(*row, &self.content.nearest(&features, SPEAKING, is_sold))
        };
        self.unsold = rows.par_iter().filter_map(unsold).collect::<Vec<_>>().into();
        self.with_facts()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::super::{FeedRequest, VisitEvent, Visitor, feed};
    use super::*;
    use crate::content::ContentIndex;
    use crate::events::DAY_SECONDS;
    use crate::sparse::Matrix;
    use crate::state::{Analogues, ProductPatch};

    /// Two teas and a soap that were bought by the hundredth day, and a tea that was added since, and launched so many days
    /// before.
    fn with_new_tea(days: i64) -> Model {
        let given = [("tea", "A", [1.0, 0.0], 90), ("tea", "B", [0.9, 0.1], 50), ("soap", "C", [0.0, 1.0], 90)];
        let mut learned = model(&given, &[(0, 1, 0.5)]);
        learned.affinity.by_member = Matrix::from_sorted(3, &[(0, 1, 0.5), (1, 0, 0.25)]);
        learned.content = ContentIndex::build(&[0, 1, 2].map(|row| learned.products.attributes(row)));
        learned.launch.buyers = Matrix::from_sorted(3, &[(0, 0, 1.0), (1, 0, 1.0), (2, 0, 1.0)]);
        learned.popularity.overall = vec![6.0, 3.0, 1.0].into();
        learned.popularity = learned.popularity.ranked();
        learned.info.as_of_time = 100 * DAY_SECONDS;
        let launched_at = Some((100 - days) * DAY_SECONDS);
        let patch = ProductPatch { category: Some("tea".to_owned()), launched_at, ..ProductPatch::default() };
        learned.with_products(&[("new".to_owned(), patch)], &mut Analogues::default())
    }

    #[test]
    fn those_most_like_it_speak_for_what_nobody_bought() {
        let model = with_new_tea(-1);
        let unsold = &model.unsold[0];
        assert_eq!((model.unsold.len(), unsold.product, unsold.analogues.len()), (1, 3, 2), "the teas");
        let [one, other, soap, new] = &model.facts[..] else { panic!("facts of all products") };
        let ([a, b], near) = ([unsold.analogues[0].1, unsold.analogues[1].1], |x: f32, y: f32| (x - y).abs() < 1e-6);
        assert!(near(a + b, 1.0) && near(new.share, a * one.share + b * other.share), "{new:?}");
        assert!(near(new.popularity, new.share.ln()) && near(new.age, a * one.age + b * other.age), "{new:?}");
        assert!(new.share > soap.share && new.nodes == one.nodes && new.brand != one.brand, "{new:?}");
    }

    #[test]
    fn what_nobody_bought_is_in_the_feed_of_who_likes_such() {
        let model = with_new_tea(30);
        let mut request = FeedRequest::new(Visitor::Unknown, 10);
        request.visit = vec![VisitEvent { product: 0, weight: 1.0, purchased: false }];
        let by_sales = Model { unsold: Default::default(), ..model.clone() }.with_facts();
        let score = |model: &Model| feed(model, &request).iter().find(|item| item.product == 3).unwrap().score;
        assert!(score(&model) > score(&by_sales));
        let of_nobody = FeedRequest::new(Visitor::Unknown, 10);
        let last = |model: &Model| feed(model, &of_nobody).last().map(|item| item.product);
        assert_eq!([&model, &by_sales].map(last), [Some(2), Some(3)], "soap, or what nobody bought");
        assert!(with_new_tea(31).unsold.is_empty(), "nobody wants it, and it is new no more");
    }
}
