//! What sets an audience apart: tags, habits and products that its members have more often than others.

use rayon::prelude::*;
use serde::Serialize;

use super::Eligibility;
use crate::content::Attributes;
use crate::launch::LaunchQuery;
use crate::model::Model;
use crate::ranking::Scored;

/// Members with a trait below which it is not told: fewer could be recognized.
const MIN_MEMBERS: usize = 50;
/// Traits of an audience at most.
const MAX_TRAITS: usize = 20;
/// Members of an audience that are looked at, evenly spaced, at most.
const MAX_LOOKED_AT: usize = 5000;
/// Members who are counted by one task.
const COUNTED: usize = 1000;
/// How many times as often as in the base a trait must be there.
const MIN_LIFT: f64 = 1.2;

/// What a trait is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TraitKind {
    /// A tag of the member.
    Tag,
    /// Buys of a category.
    Category,
    /// Buys a brand.
    Brand,
    /// Bought a product like the one asked for.
    Analogue,
}

/// Something that sets an audience apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trait {
    /// What it is.
    pub kind: TraitKind,
    /// The tag, the category's path, the brand, or the product's id.
    pub name: String,
    /// Members of the audience who have it, 50 or more; estimated from 5000 of a larger audience.
    pub members: usize,
    /// Share of the audience that has it.
    pub share: f64,
    /// How many times as often it is there as in the base: among all eligible members for tags, among all who
    /// bought anything for the others.
    pub lift: f64,
}

/// The traits of an audience that say most, by `share · ln(lift)`.
pub(super) fn traits(model: &Model, query: &LaunchQuery, eligibility: &Eligibility, audience: &[Scored]) -> Vec<Trait> {
    if audience.len() < MIN_MEMBERS {
        return Vec::new();
    }
    let step = audience.len().div_ceil(MAX_LOOKED_AT);
    let looked_at: Vec<u32> = audience.iter().step_by(step).map(|m| m.row).collect();
    let base = Base { model, eligibility };
    let (count, scale) = (looked_at.len() as f64, audience.len() as f64 / looked_at.len() as f64);
    let told = |((kind, row), members): ((TraitKind, u32), usize)| {
        let share = members as f64 / count;
        let members = (members as f64 * scale).round() as usize;
        let (name, base_share) = base.share(kind, row)?;
        let lift = share / base_share;
        (lift.is_finite() && lift >= MIN_LIFT).then_some(Trait { kind, name, members, share, lift })
    };
    // Of those who were looked at: a count that is made larger by the sample proves nothing.
    let enough = counts(model, query, &looked_at).into_par_iter().filter(|(_, members)| *members >= MIN_MEMBERS);
    let mut traits: Vec<Trait> = enough.filter_map(told).collect();
    let value = |t: &Trait| t.share * t.lift.ln();
    traits.sort_by(|a, b| value(b).total_cmp(&value(a)).then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name))));
    traits.truncate(MAX_TRAITS);
    traits
}

/// How many of some members have each trait, by kind and row.
fn counts(model: &Model, query: &LaunchQuery, members: &[u32]) -> Vec<((TraitKind, u32), usize)> {
    let mut analogues: Vec<u32> = query.analogues.iter().map(|a| a.row).collect();
    analogues.sort_unstable();
    let parts = members.par_chunks(COUNTED).map(|members| Counts::of(model, &analogues, members));
    let Some(Counts { mut tags, categories, brands, alike }) = parts.reduce_with(Counts::and) else {
        return Vec::new();
    };
    let of = |kind, tally: Tally| tally.into_counts().map(move |(row, count)| ((kind, row), count));
    let alike = of(TraitKind::Analogue, alike).map(|((kind, place), count)| ((kind, analogues[place as usize]), count));
    tags.sort_unstable();
    let tags = tags.chunk_by(|a, b| a == b).map(|same| ((TraitKind::Tag, same[0]), same.len()));
    tags.chain(of(TraitKind::Category, categories)).chain(of(TraitKind::Brand, brands)).chain(alike).collect()
}

/// What some members have.
struct Counts {
    /// Every tag of every member: there may be as many as members.
    tags: Vec<u32>,
    categories: Tally,
    brands: Tally,
    /// By place among the analogues.
    alike: Tally,
}

impl Counts {
    /// `analogues` are sorted rows of products.
    fn of(model: &Model, analogues: &[u32], members: &[u32]) -> Self {
        let names = &model.members.tag_names;
        let (mut tags, mut categories) = (Vec::new(), Tally::new(model.tree.len()));
        let (mut brands, mut alike) = (Tally::new(model.products.brands.values.len()), Tally::new(analogues.len()));
        for (turn, member) in (1..).zip(members) {
            let learned = model.members.tags.row(*member);
            match model.state.profile(*member) {
                Some(said) => tags.extend(said.tags_now(learned, names)),
                None => tags.extend(learned),
            }
            for product in model.history.bought(*member) {
                let category = model.products.categories.rows[product as usize];
                model.tree.lineage(category).for_each(|node| categories.add(node, turn));
                brands.add(model.products.brands.rows[product as usize], turn);
                analogues.binary_search(&product).into_iter().for_each(|place| alike.add(place as u32, turn));
            }
        }
        Self { tags, categories, brands, alike }
    }

    /// With what others have.
    fn and(mut self, others: Self) -> Self {
        self.tags.extend(others.tags);
        self.categories.add_all(&others.categories);
        self.brands.add_all(&others.brands);
        self.alike.add_all(&others.alike);
        self
    }
}

/// Members by row of what they have, each once.
struct Tally {
    /// By row: the last member who has it, as the number of their turn, and how many have.
    rows: Vec<(u32, u32)>,
}

impl Tally {
    fn new(rows: usize) -> Self {
        Self { rows: vec![(0, 0); rows] }
    }

    /// Whoever's turn it is has it; a row beyond all, as [`NONE`](crate::strings::NONE) is, counts nothing.
    fn add(&mut self, row: u32, turn: u32) {
        if let Some((last, count)) = self.rows.get_mut(row as usize).filter(|(last, _)| *last != turn) {
            (*last, *count) = (turn, *count + 1);
        }
    }

    /// Adds those of other members.
    fn add_all(&mut self, others: &Self) {
        self.rows.iter_mut().zip(&others.rows).for_each(|((_, count), (_, more))| *count += more);
    }

    fn into_counts(self) -> impl Iterator<Item = (u32, usize)> {
        (0..).zip(self.rows).filter(|(_, (_, count))| *count > 0).map(|(row, (_, count))| (row, count as usize))
    }
}

/// What traits are compared with.
struct Base<'a> {
    model: &'a Model,
    eligibility: &'a Eligibility,
}

impl Base<'_> {
    /// A trait's name, and the share of the base that has it.
    fn share(&self, kind: TraitKind, row: u32) -> Option<(String, f64)> {
        let model = self.model;
        let active = model.launch.active.max(1) as f64;
        let habit = |name: &str, attributes: Attributes| {
            let feature = model.content.feature_row(*attributes.habits().first()?)?;
            Some((name.to_owned(), model.launch.habits.rows.range(feature).len() as f64 / active))
        };
        match kind {
            TraitKind::Tag => {
                let tag = model.members.tag_names.get(row);
                let tagged =
                    model.state.tagged(model.groups.tags.get(row), tag).intersection_len(&self.eligibility.rows);
                Some((tag.to_owned(), tagged as f64 / self.eligibility.count().max(1) as f64))
            }
            TraitKind::Category => {
                let path = model.tree.path(row);
                habit(path, Attributes { category: Some(path.to_owned()), ..Attributes::default() })
            }
            TraitKind::Brand => {
                let brand = model.products.brands.values.get(row);
                habit(brand, Attributes { brand: Some(brand.to_owned()), ..Attributes::default() })
            }
            TraitKind::Analogue => {
                let buyers = model.launch.buyers.rows.range(row).len() as f64;
                Some((model.products.ids.get(row).to_owned(), buyers / active))
            }
        }
    }
}
