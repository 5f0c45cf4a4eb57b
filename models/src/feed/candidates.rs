//! Which products are looked at for a feed.

use super::rules::Caps;
use super::{Rules, Signals};
use crate::history::Past;
use crate::kernels::dot;
use crate::ranking::{Scored, best, distinct};

/// Candidates that the sources give, at least; more for long pages.
const REPEAT: usize = 250;
const AFFINITY: usize = 200;
const RECENT: usize = 100;
const BASKET: usize = 50;
const NEIGHBOURS: usize = 150;
const TASTE: usize = 150;
const POPULAR: usize = 100;
const LAUNCHES: usize = 50;
const EXPLORED: usize = 50;
/// New products that nobody bought yet that are looked at for each visitor: others are found by vector.
const MOST_UNSOLD: usize = 1000;

impl Signals<'_> {
    /// The allowed products that any source speaks for, by row, each once.
    pub fn candidates(&self, page_size: usize, filtered: bool, allowed: &(dyn Fn(u32) -> bool + Sync)) -> Vec<u32> {
        let at_least = |count: usize| count.max(2 * page_size);
        let mut rows = self.repeat_candidates(page_size, allowed);
        for (source, count) in
            [(&self.affinity, AFFINITY), (&self.recent, RECENT), (&self.basket, BASKET), (&self.neighbours, NEIGHBOURS)]
        {
            rows.extend(source.best(at_least(count), allowed).iter().map(|s| s.row));
        }
        if let Some(vector) = &self.persona.vector {
            let is_alive = |row: u32| allowed(row) && self.model.popularity.is_alive(row);
            let found = self.model.product_index.search(vector, at_least(TASTE), filtered, &is_alive);
            rows.extend(found.iter().map(|s| s.row));
        }
        rows.extend(self.here.top(at_least(POPULAR), allowed));
        rows.extend(self.unsold_candidates(page_size, allowed));
        distinct(rows, self.model.products.len())
    }

    /// The allowed new products that nobody bought yet and that fit the visitor best, in no order: of very many, the latest are
    /// looked at.
    fn unsold_candidates(&self, page_size: usize, allowed: &(dyn Fn(u32) -> bool + Sync)) -> Vec<u32> {
        let unsold = self.model.unsold.iter().rev().take(MOST_UNSOLD).map(|unsold| unsold.product);
        self.fitting(unsold.filter(|row| allowed(*row)).collect(), page_size)
    }

    /// The allowed products first sold lately that fit the visitor best, in no order.
    pub fn launch_candidates(&self, page_size: usize, allowed: &(dyn Fn(u32) -> bool + Sync)) -> Vec<u32> {
        let popularity = &self.model.popularity;
        let is_launch = |row: &u32| popularity.is_new(*row) && allowed(*row);
        let launches: Vec<u32> = (0..popularity.overall.len() as u32).filter(is_launch).collect();
        self.fitting(launches, page_size)
    }

    /// Those of some launches that fit the visitor best, in no order.
    fn fitting(&self, launches: Vec<u32>, page_size: usize) -> Vec<u32> {
        let fits =
            |vector: &Vec<f32>| launches.iter().map(|row| dot(vector, self.model.embeddings.product(*row))).collect();
        let scores: Vec<f32> = self.persona.vector.as_ref().map_or_else(|| self.shares_here(&launches), fits);
        let launches = launches.into_iter().zip(scores).map(|(row, score)| Scored { row, score }).collect();
        best(launches, LAUNCHES.max(2 * page_size), |_| true).into_iter().map(|s| s.row).collect()
    }

    /// The most popular allowed products of categories that the member never bought.
    pub fn explore_candidates(&self, page_size: usize, allowed: &(dyn Fn(u32) -> bool + Sync)) -> Vec<u32> {
        let untried = self.persona.untried(self.model);
        self.here.top(EXPLORED.max(2 * page_size), |row| untried(row) && allowed(row))
    }

    /// Popular allowed products, as many of each category and brand as a page may have, and enough for one.
    pub fn capped_candidates(
        &self,
        rules: &Rules,
        page_size: usize,
        allowed: &(dyn Fn(u32) -> bool + Sync),
    ) -> Vec<u32> {
        let mut caps = Caps::new(rules, &self.model.products);
        let popular = self.model.popularity.order.iter().copied().filter(|row| allowed(*row));
        popular.filter(|row| caps.take(*row)).take(page_size).collect()
    }

    /// The allowed products that the member bought before, the most likely to be bought again first.
    pub fn repeat_candidates(&self, page_size: usize, allowed: &(dyn Fn(u32) -> bool + Sync)) -> Vec<u32> {
        let bought = self.persona.past.iter().filter(|past| self.persona.has_purchased(past.product));
        let likely = |past: &Past| self.model.repeat.hazard(past) + past.decayed.ln_1p();
        let bought = bought.map(|past| Scored { row: past.product, score: likely(past) }).collect();
        let mut likeliest = best(bought, REPEAT.max(2 * page_size), allowed);
        likeliest.sort_unstable();
        likeliest.iter().map(|s| s.row).collect()
    }
}
