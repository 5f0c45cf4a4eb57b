//! A model small enough to know the right answer.

use super::FeedItem;
use crate::affinity::Affinity;
use crate::audience::Costs;
use crate::blend::Blend;
use crate::catalogue::{IdType, Members, Products};
use crate::categories::CategoryTree;
use crate::content::{Attributes, ContentIndex};
use crate::embeddings::{Embeddings, Fit, Objective};
use crate::groups::Groups;
use crate::history::{History, Past};
use crate::index::GatedIndex;
use crate::launch::LaunchModel;
use crate::model::{Model, ModelInfo};
use crate::neighbours::Neighbours;
use crate::popularity::Popularity;
use crate::ranker::{Ranker, RankerFit, Scorer};
use crate::repeat::Repeat;
use crate::sparse::{Matrix, Rows};
use crate::state::State;
use crate::strings::Labels;

use super::Source;

/// A product: category, brand, vector, days since it was first sold.
pub(crate) type Given = (&'static str, &'static str, [f32; 2], u16);

/// A model of these products, equally popular, with baskets (product, product, similarity) and no members.
pub(crate) fn model(given: &[Given], baskets: &[(u32, u32, f32)]) -> Model {
    let n = given.len();
    let labels = |of: &dyn Fn(&Given) -> &'static str| {
        Labels::encode(&given.iter().map(|g| (!of(g).is_empty()).then(|| of(g).to_owned())).collect::<Vec<_>>())
    };
    let ids: Vec<String> = (0..n).map(|i| format!("p{i:03}")).collect();
    let products = Products {
        ids: ids.iter().collect(),
        id_type: IdType::String,
        titles: ids.iter().collect(),
        categories: labels(&|g| g.0),
        brands: labels(&|g| g.1),
        prices: vec![f32::NAN; n].into(),
        available: vec![1; n].into(),
        tags: crate::sparse::Rows::from_lists(vec![Vec::new(); n]),
        stores: crate::sparse::Rows::from_lists(vec![Vec::new(); n]),
        ..Products::default()
    };
    let objective = Objective { unobserved_weight: 0.1, regularization: 0.1, regularization_exponent: 1.0 };
    let embeddings = Embeddings {
        factors: 2,
        members: crate::quantized::Quantized::default(),
        products: given.iter().flat_map(|g| g.2).collect::<Vec<_>>().into(),
        product_gramian: vec![1.0, 1.0].into(),
        member_gramian: vec![0.0; 4].into(),
        fit: Fit { factors: 2, objective, bought_products: n, active_members: 1 },
    };
    let popularity = Popularity {
        overall: vec![1.0; n].into(),
        long: vec![1.0; n].into(),
        short: vec![1.0; n].into(),
        trials: vec![1.0; n].into(),
        age_days: given.iter().map(|g| g.3).collect::<Vec<_>>().into(),
        ..Popularity::default()
    }
    .ranked();
    let scorer = Scorer::Linear(Blend::default().linear());
    Model {
        tree: CategoryTree::new(&products.categories, &popularity.overall).into(),
        product_index: GatedIndex::exact(Model::exact_products(&embeddings), String::new()),
        member_index: GatedIndex::without(String::new()),
        affinity: Affinity { by_member: Matrix::from_sorted(n, &[]), by_basket: Matrix::from_sorted(n, baskets) },
        members: Members::default(),
        groups: Groups::default(),
        audience_costs: Costs::default(),
        history: History::default(),
        neighbours: Neighbours::default(),
        repeat: Repeat::default(),
        presence: Default::default(),
        content: ContentIndex::build(&vec![Attributes::default(); n]),
        launch: LaunchModel::default(),
        ranker: Ranker { repeat: scorer.clone(), fresh: scorer, fit: RankerFit::default() },
        info: ModelInfo::default(),
        state: State::default(),
        products,
        embeddings,
        popularity,
        facts: Default::default(),
        unsold: Default::default(),
        tag_shares: Default::default(),
    }
    .with_facts()
}

/// Items with falling scores 1, 0.9, 0.8, …, one per product.
pub(super) fn ranking(n: u32) -> Vec<FeedItem> {
    (0..n).map(|product| FeedItem::new(product, 1.0 - 0.1 * product as f32, Source::Popular)).collect()
}

/// A history of members, each of whom bought so much.
pub(crate) fn history(members: &[Vec<Past>]) -> History {
    let all: Vec<&Past> = members.iter().flatten().collect();
    let numbers = |of: fn(&Past) -> f32| all.iter().map(|past| of(past)).collect::<Vec<f32>>().into();
    let counts = |of: fn(&Past) -> u16| all.iter().map(|past| of(past)).collect::<Vec<u16>>().into();
    History {
        rows: Rows::from_lists(members.iter().map(|of| of.iter().map(|past| past.product).collect())),
        weights: numbers(|past| past.weight),
        decayed: numbers(|past| past.decayed),
        recent: numbers(|past| past.recent),
        counts: counts(|past| past.count),
        days_since: counts(|past| past.days_since),
        trips: counts(|past| past.trips),
        span_days: counts(|past| past.span_days),
        trips_since: counts(|past| past.trips_since),
        trips_from: counts(|past| past.trips_from),
        member_trips: vec![1; members.len()].into(),
    }
}
