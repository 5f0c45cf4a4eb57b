//! A feed for several members at once, such as a chat group: what most of them would like and none would mind.
//!
//! Every member names the head of the own feed; the products that most name are then weighed by all. A member's
//! liking of a product is its chance over that of the last product on the member's own page: what is liked by 1
//! or more would be shown to the member anyway. Members count alike, however much they buy, by the geometric
//! mean of their likings (the multiplicative strategy of Masthoff 2004, "Group modeling", section 2: one who
//! does not care at all weighs as much as many who do), and each who would mind halves the score.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::{
    FeedItem, FeedRequest, LAUNCH_DAYS, Persona, ProductFilter, Rules, Signals, Source, Visitor, allowed_products,
    ranked, score,
};
use crate::model::Model;
use crate::popularity::Context;
use crate::stop::{Stop, Stopped};

/// Products on a member's own page.
const OWN_PAGE: usize = 20;
/// Products that each member names.
const NAMED: usize = 40;
/// Products that all members weigh.
const CANDIDATES: usize = 300;
/// A member minds what is liked less.
const MINDED_BELOW: f32 = 0.1;
/// What the score is multiplied by for each who minds.
const MINDED: f32 = 0.5;

/// A question for a group's feed.
#[derive(Clone, Debug)]
pub struct GroupRequest {
    /// Whom it is for, each once.
    pub visitors: Vec<Visitor>,
    /// How many items at most.
    pub page_size: usize,
    /// Products not to show.
    pub excluded: HashSet<u32>,
    /// Products that may be shown.
    pub filter: ProductFilter,
    /// Where and when it is shown; each member's home where not said.
    pub context: Context,
    /// What is wanted of the page; the share to explore is of one member's feed, and without effect here.
    pub rules: Rules,
}

/// One product of a group's feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupItem {
    /// The product.
    pub product: u32,
    /// The chance that the typical member buys it over that of the last product on the own page, halved for each
    /// who minds. Higher is better.
    pub score: f32,
    /// Members on whose own page it would be.
    pub liked_by: u32,
    /// Members to whom it is less likely by a factor of ten than the last product on their own page.
    pub minded_by: u32,
}

/// A group's feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupFeed {
    /// The items, best first.
    pub items: Vec<GroupItem>,
    /// Members of whom something is known that may be used; the others count for what is popular.
    pub known_members: usize,
}

/// What the members say of each candidate, summed up.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    log_liking: f64,
    liked_by: u32,
    minded_by: u32,
}

impl Votes {
    /// Adds what a number of members say who all say the same; of those of whom nothing is known, nobody can say
    /// what they like and mind.
    fn add(&mut self, liking: f32, members: usize, known: bool) {
        self.log_liking += members as f64 * f64::from(liking.ln());
        if known {
            self.liked_by += u32::from(liking >= 1.0);
            self.minded_by += u32::from(liking < MINDED_BELOW);
        }
    }

    fn score(&self, members: usize) -> f32 {
        let typical = (self.log_liking / members.max(1) as f64).exp() as f32;
        // Far below that many, the product stands nowhere anyway.
        typical * MINDED.powi(self.minded_by.min(60) as i32)
    }
}

/// The feed of a group, best first.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub fn group_feed(model: &Model, request: &GroupRequest, stop: &Stop) -> Result<GroupFeed, Stopped> {
    // Those of whom nothing may be read are alike: asked once, counted each.
    let personas: Vec<Persona> = request.visitors.par_iter().map(|v| Persona::of(model, *v, &[])).collect();
    let known: Vec<&Persona> = personas.iter().filter(|persona| persona.is_personal()).collect();
    let (nobody, strangers) = (Persona::default(), personas.len() - known.len());
    let mut voices: Vec<(&Persona, usize)> = known.iter().map(|persona| (*persona, 1)).collect();
    if strangers > 0 {
        voices.push((&nobody, strangers));
    }
    let question = FeedRequest {
        excluded: request.excluded.clone(),
        filter: request.filter.clone(),
        context: request.context.clone(),
        rules: request.rules.clone(),
        ..FeedRequest::new(Visitor::Unknown, NAMED.max(request.page_size))
    };
    let named = named(model, &question, &voices, stop)?;
    let candidates = candidates(model, &question, &voices, &named);
    let votes = weigh(model, &question, &voices, &named, &candidates, stop)?;
    let members = personas.len();
    let items = candidates.iter().zip(&votes).map(|(p, v)| FeedItem::new(*p, v.score(members), Source::Popular));
    let page = request.rules.apply(model, &nobody, super::sorted(items.collect()), request.page_size);
    let items = page.iter().map(|item| {
        // The page's products are among the candidates, which are sorted.
        let votes = candidates.binary_search(&item.product).map_or_else(|_| Votes::default(), |at| votes[at]);
        let Votes { liked_by, minded_by, .. } = votes;
        GroupItem { product: item.product, score: item.score, liked_by, minded_by }
    });
    Ok(GroupFeed { items: items.collect(), known_members: known.len() })
}

/// What a member brings to the table.
struct Named {
    /// The head of the own feed, best first; where launches are wanted, as many of them.
    products: Vec<u32>,
    /// Score of the last product on the own page.
    usual: f32,
}

fn named(
    model: &Model,
    question: &FeedRequest,
    voices: &[(&Persona, usize)],
    stop: &Stop,
) -> Result<Vec<Named>, Stopped> {
    let allowed = allowed_products(model, question);
    let name = |(persona, _): &(&Persona, usize)| {
        stop.check()?;
        let signals = Signals::new(model, persona, question);
        let best = ranked(model, question, persona, &signals, &allowed);
        // Of a small catalogue, the better half.
        let usual = best.get((OWN_PAGE - 1).min(best.len() / 2)).map_or(1.0, |item| item.score);
        let (launches, others): (Vec<u32>, Vec<u32>) =
            best.iter().map(|item| item.product).partition(|product| is_wanted_launch(model, question, *product));
        let head = |products: Vec<u32>| products.into_iter().take(question.page_size);
        Ok(Named { products: head(others).chain(head(launches)).collect(), usual: usual.max(1e-9) })
    };
    voices.par_iter().map(name).collect()
}

fn is_wanted_launch(model: &Model, question: &FeedRequest, product: u32) -> bool {
    question.rules.launch_share > 0.0 && model.popularity.is_new(product, LAUNCH_DAYS)
}

/// The products that most members name, by row; where launches are wanted, those of them that most name too.
fn candidates(model: &Model, question: &FeedRequest, voices: &[(&Persona, usize)], named: &[Named]) -> Vec<u32> {
    let mut counts = BTreeMap::<u32, usize>::new();
    for (named, (_, weight)) in named.iter().zip(voices) {
        named.products.iter().for_each(|product| *counts.entry(*product).or_default() += weight);
    }
    let mut most: Vec<(u32, usize)> = counts.into_iter().collect();
    most.sort_by_key(|(product, count)| (std::cmp::Reverse(*count), *product));
    let (launches, others): (Vec<u32>, Vec<u32>) =
        most.into_iter().map(|(product, _)| product).partition(|product| is_wanted_launch(model, question, *product));
    let mut products: Vec<u32> = others.into_iter().take(CANDIDATES.max(2 * question.page_size)).collect();
    products.extend(launches.into_iter().take(question.page_size));
    products.sort_unstable();
    products
}

/// What all members say of all candidates.
fn weigh(
    model: &Model,
    question: &FeedRequest,
    voices: &[(&Persona, usize)],
    named: &[Named],
    candidates: &[u32],
    stop: &Stop,
) -> Result<Vec<Votes>, Stopped> {
    let like = |((persona, _), named): (&(&Persona, usize), &Named)| {
        stop.check()?;
        let signals = Signals::new(model, persona, question);
        let mut items = score(model, persona, &signals, candidates);
        items.sort_unstable_by_key(|item| item.product);
        Ok(items.iter().map(|item| item.score.max(1e-12) / named.usual).collect())
    };
    let likings: Vec<Vec<f32>> = voices.par_iter().zip(named).map(like).collect::<Result<_, Stopped>>()?;
    let mut votes = vec![Votes::default(); candidates.len()];
    // In the order of the members: sums of floating-point numbers repeat.
    for (likings, (persona, weight)) in likings.iter().zip(voices) {
        for (vote, liking) in votes.iter_mut().zip(likings) {
            vote.add(*liking, *weight, persona.is_personal());
        }
    }
    Ok(votes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(likings: &[f32], strangers: (f32, usize)) -> (Votes, f32) {
        let mut votes = Votes::default();
        likings.iter().for_each(|liking| votes.add(*liking, 1, true));
        votes.add(strangers.0, strangers.1, false);
        (votes, votes.score(likings.len() + strangers.1))
    }

    #[test]
    fn what_all_like_goes_before_what_some_love_and_one_minds() {
        let (all, all_score) = votes(&[2.0, 2.0, 2.0], (1.0, 0));
        let (some, some_score) = votes(&[8.0, 8.0, 0.05], (1.0, 0));
        assert_eq!((all.liked_by, all.minded_by), (3, 0));
        assert_eq!((some.liked_by, some.minded_by), (2, 1));
        assert!((all_score - 2.0).abs() < 1e-6);
        assert!((some_score - 0.5 * 3.2f32.cbrt()).abs() < 1e-6, "by hand: {some_score}");
    }

    #[test]
    fn strangers_weigh_in_and_mind_nothing() {
        let (votes, score) = votes(&[4.0], (0.0625, 2));
        assert_eq!((votes.liked_by, votes.minded_by), (1, 0));
        assert!((score - 0.25).abs() < 1e-6, "the cube root of 4 · 1/16 · 1/16: {score}");
    }
}
