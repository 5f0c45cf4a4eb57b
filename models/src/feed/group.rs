//! A feed for several members at once, such as a chat group: what most of them would like and few would mind.
//!
//! Every member names the head of the own feed; the products that most name are then weighed by all. A member's
//! liking of a product is its chance over that of the last product on the member's own page: what is liked by 1
//! or more would be shown to the member anyway. Members count alike, however much they buy, by the geometric
//! mean of their likings (the multiplicative strategy of Masthoff 2004, "Group modeling", section 2: one who
//! does not care at all weighs as much as many who do), and each who would mind halves the score.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::{
    FeedItem, FeedRequest, Persona, ProductFilter, Rule, Rules, Signals, Source, Visitor, allowed_products, score,
};
use crate::model::Model;
use crate::popularity::Context;
use crate::stop::{Stop, Stopped};

/// Members of a group at most.
pub const MAX_GROUP: usize = 500;
/// Items of a group's page at most.
pub const MAX_GROUP_PAGE: usize = 100;
/// Products on a member's own page.
const OWN_PAGE: usize = 20;
/// Products that each member names.
const NAMED: usize = 40;
/// Products that all members weigh.
const CANDIDATES: usize = 300;
/// Likings beyond count as these: no single voice decides, and a product that a stranger's shop never sold is no
/// worse than one that somebody minds.
const LIKINGS: std::ops::RangeInclusive<f32> = 0.01..=1000.0;
/// A member minds what is liked less.
const MINDED_BELOW: f32 = 0.1;
/// What the score is multiplied by for each who minds.
const MINDED: f32 = 0.5;

/// A question for a group's feed.
#[derive(Clone, Debug)]
pub struct GroupRequest {
    /// Whom it is for, each once; 1 to [`MAX_GROUP`].
    pub visitors: Vec<Visitor>,
    /// How many items at most, up to [`MAX_GROUP_PAGE`].
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
    /// The source that speaks for it most, to most of those who like it; that it is popular, where nobody does.
    pub source: Source,
    /// The rule that put it here, if its score alone would not have.
    pub rule: Option<Rule>,
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
    /// Members who like it, by the [place](SOURCES) of what speaks for it.
    sources: [u32; SOURCES.len()],
}

/// What speaks for a product to a member; before others where as many have it.
const SOURCES: [Source; 5] = [Source::Repeat, Source::Affinity, Source::Neighbours, Source::Taste, Source::Popular];

impl Votes {
    /// Adds the liking that `members` share, and what speaks for it. Members of whom nothing is `known` count in the mean, but
    /// neither like nor mind.
    fn add(&mut self, (liking, source): (f32, Source), members: usize, known: bool) {
        let liking = liking.clamp(*LIKINGS.start(), *LIKINGS.end());
        self.log_liking += members as f64 * f64::from(liking.ln());
        if known {
            self.liked_by += u32::from(liking >= 1.0);
            let speaks = |of: &Source| liking >= 1.0 && *of == source;
            self.sources.iter_mut().zip(SOURCES).for_each(|(count, of)| *count += u32::from(speaks(&of)));
            self.minded_by += u32::from(liking < MINDED_BELOW);
        }
    }

    fn source(&self) -> Source {
        let most = self.sources.into_iter().max().filter(|most| *most > 0);
        let at = most.and_then(|most| self.sources.iter().position(|count| *count == most));
        at.map_or(Source::Popular, |at| SOURCES[at])
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
    let personas: Vec<Persona> = request.visitors.par_iter().map(|v| Persona::of(model, *v, &[])).collect();
    // Those of whom nothing may be read are alike: asked once, counted each.
    let mut voices: Vec<(&Persona, usize)> = personas.iter().filter(|p| p.row.is_some()).map(|p| (p, 1)).collect();
    let (nobody, strangers) = (Persona::default(), personas.len() - voices.len());
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
    let items = candidates.iter().zip(&votes).map(|(p, v)| FeedItem::new(*p, v.score(members), v.source()));
    let page = request.rules.apply(model, &nobody, super::sorted(items.collect()), request.page_size);
    let items = page.iter().map(|item| {
        // The page's products are among the candidates, which are sorted.
        let votes = candidates.binary_search(&item.product).map_or_else(|_| Votes::default(), |at| votes[at]);
        let Votes { liked_by, minded_by, .. } = votes;
        let FeedItem { product, score, source, rule } = *item;
        GroupItem { product, score, liked_by, minded_by, source, rule }
    });
    Ok(GroupFeed { items: items.collect(), known_members: personas.iter().filter(|p| p.is_personal()).count() })
}

/// What a member brings to the table.
struct Named {
    /// The head of the own feed, best first; where launches are wanted, as many of them.
    products: Vec<u32>,
    /// All candidates of the own feed, by row.
    own: Vec<u32>,
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
        let best = score(model, persona, &signals, &super::candidates(model, question, &signals, &allowed));
        let mut own: Vec<u32> = best.iter().map(|item| item.product).collect();
        own.sort_unstable();
        let (launches, others): (Vec<u32>, Vec<u32>) =
            best.iter().map(|item| item.product).partition(|product| is_wanted_launch(model, question, *product));
        let head = |products: Vec<u32>| products.into_iter().take(question.page_size);
        Ok(Named { products: head(others).chain(head(launches)).collect(), own })
    };
    voices.par_iter().map(name).collect()
}

fn is_wanted_launch(model: &Model, question: &FeedRequest, product: u32) -> bool {
    question.rules.launch_share > 0.0 && model.popularity.is_new(product)
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
        Ok(likings(&named.own, candidates, |products| score(model, persona, &signals, products)))
    };
    let likings: Vec<Vec<(f32, Source)>> = voices.par_iter().zip(named).map(like).collect::<Result<_, Stopped>>()?;
    let mut votes = vec![Votes::default(); candidates.len()];
    // In the order of the members: sums of floating-point numbers repeat.
    for (likings, (persona, weight)) in likings.iter().zip(voices) {
        for (vote, liking) in votes.iter_mut().zip(likings) {
            vote.add(*liking, *weight, persona.is_personal());
        }
    }
    Ok(votes)
}

/// Scores of the candidates over that of the last product on the member's own page, and what speaks for them; all are
/// scored at once, since a score is also relative to what stands beside.
fn likings(own: &[u32], candidates: &[u32], score: impl Fn(&[u32]) -> Vec<FeedItem>) -> Vec<(f32, Source)> {
    let mut products = [own, candidates].concat();
    products.sort_unstable();
    products.dedup();
    let best = score(&products);
    let own_page = best.iter().filter(|item| own.binary_search(&item.product).is_ok());
    // Of a small catalogue, the better half.
    let usual = own_page.map(|item| item.score).nth((OWN_PAGE - 1).min(own.len() / 2)).unwrap_or(1.0).max(1e-9);
    let mut group: Vec<&FeedItem> =
        best.iter().filter(|item| candidates.binary_search(&item.product).is_ok()).collect();
    group.sort_unstable_by_key(|item| item.product);
    group.iter().map(|item| (item.score.max(0.0) / usual, item.source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(likings: &[f32], strangers: (f32, usize)) -> (Votes, f32) {
        let mut votes = Votes::default();
        likings.iter().for_each(|liking| votes.add((*liking, Source::Taste), 1, true));
        votes.add((strangers.0, Source::Popular), strangers.1, false);
        (votes, votes.score(likings.len() + strangers.1))
    }

    #[test]
    fn what_all_like_goes_before_what_some_love_and_one_minds() {
        let (all, all_score) = votes(&[2.0, 2.0, 2.0], (1.0, 0));
        let (some, some_score) = votes(&[8.0, 8.0, 0.05], (1.0, 0));
        let (loud, loud_score) = votes(&[1e9, 1.0, 1.0], (1.0, 0));
        assert_eq!((all.liked_by, all.minded_by), (3, 0));
        assert_eq!((some.liked_by, some.minded_by), (2, 1));
        assert!((loud_score - 10.0).abs() < 1e-4 && loud.liked_by == 3, "one voice has an end");
        assert!((all_score - 2.0).abs() < 1e-6);
        assert!((some_score - 0.5 * 3.2f32.cbrt()).abs() < 1e-6, "by hand: {some_score}");
    }

    #[test]
    fn likings_are_relative_to_the_own_page() {
        // Products 0 to 99 have the scores 100 to 1; a member's own candidates are the first 50.
        let score = |products: &[u32]| {
            let item = |p: &u32| FeedItem::new(*p, (100 - p) as f32, Source::Popular);
            super::super::sorted(products.iter().map(item).collect())
        };
        let own: Vec<u32> = (0..50).collect();
        let likings =
            |own, group| -> Vec<f32> { likings(own, group, score).into_iter().map(|(liking, _)| liking).collect() };
        assert_eq!(likings(&own, &[0, 19, 20, 99]), [100.0 / 81.0, 1.0, 80.0 / 81.0, 1.0 / 81.0]);
        assert_eq!(likings(&own[..4], &[2, 3]), [1.0, 97.0 / 98.0], "of four, the better half");
        assert_eq!(likings(&[], &[5]), [95.0]);
    }

    #[test]
    fn what_speaks_to_most_who_like_it_is_told() {
        let of = |voices: &[(f32, Source)]| {
            let mut votes = Votes::default();
            voices.iter().for_each(|voice| votes.add(*voice, 1, true));
            votes.source()
        };
        let (bought, alike) = (Source::Repeat, Source::Neighbours);
        assert_eq!(of(&[(2.0, bought), (1.0, alike), (3.0, alike)]), alike);
        assert_eq!(of(&[(2.0, bought), (0.5, alike), (0.5, alike)]), bought, "who does not like it does not say why");
        assert_eq!(of(&[(0.5, bought)]), Source::Popular);
    }

    #[test]
    fn strangers_weigh_in_and_mind_nothing() {
        let (votes, score) = votes(&[4.0], (0.0625, 2));
        assert_eq!((votes.liked_by, votes.minded_by), (1, 0));
        assert!((score - 0.25).abs() < 1e-6, "the cube root of 4 · 1/16 · 1/16: {score}");
    }
}
