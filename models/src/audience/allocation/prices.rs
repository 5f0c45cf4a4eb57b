//! What each launch's cap is worth.

use rayon::prelude::*;

use super::{CLOSE, NOTHING, Problem};
use crate::stop::{Stop, Stopped};

/// Rounds over a sample of the members, and over all of them.
const SAMPLE_ROUNDS: i32 = 400;
const ROUNDS: i32 = 20;
/// Members of the sample.
const SAMPLE: usize = 1 << 16;
/// Step of the first round over the sample and over all, as a share of the highest price that can be right, and what
/// each later step is of the one before.
const FIRST_STEP: f64 = 0.5;
const FIRST_STEP_OF_ALL: f64 = 0.02;
const SHORTER: f64 = 0.985;
/// Rounds of exact prices, where the looks at a member and two launches that they take are few, and up to how many.
const EXACT_ROUNDS: usize = 30;
const EXACT_LOOKS: usize = 200_000_000;
/// Steps that tighten the bound, at most.
const MOST_TIGHTENED: usize = 300;
/// Members per task.
const CHUNK: usize = 4096;
/// Difference, as a share of the highest value, below which a member does not care.
const TIE: f64 = 1e-12;

impl Problem<'_> {
    /// Prices at which about as much is wanted of each launch as it can take, 0 where it can take all that is wanted.
    /// They are found by subgradient steps, over a sample of the members first; then each is set to where it must be
    /// if the others stay, which alone would stand still between launches that are alike.
    pub(super) fn prices(&self, stop: &Stop) -> Result<Vec<f64>, Stopped> {
        let alone: Vec<f64> = self.numbers().map(|launch| self.price(launch, None)).collect();
        let mut prices: Vec<f64> = alone.iter().map(|price| price / 2.0).collect();
        let step = self.members().div_ceil(SAMPLE).max(1);
        self.descend(&mut prices, &alone, step, (SAMPLE_ROUNDS, FIRST_STEP), stop)?;
        if step > 1 {
            self.descend(&mut prices, &alone, 1, (ROUNDS, FIRST_STEP_OF_ALL), stop)?;
        }
        let looks = self.members() * self.launches.len() * self.launches.len();
        for _ in 0..(EXACT_LOOKS / looks.max(1)).clamp(1, EXACT_ROUNDS) {
            for launch in self.numbers() {
                stop.check()?;
                prices[launch as usize] = self.price(launch, Some(&prices));
            }
        }
        Ok(prices)
    }

    /// Subgradient steps over every `step`-th member; no price is right above what it is `alone`. Keeps the best.
    fn descend(
        &self,
        prices: &mut Vec<f64>,
        alone: &[f64],
        step: usize,
        (rounds, first): (i32, f64),
        stop: &Stop,
    ) -> Result<(), Stopped> {
        let (mut at, mut best) = (prices.clone(), f64::INFINITY);
        for round in 0..rounds {
            stop.check()?;
            let (bound, wanted) = self.wanted_at(&at, step);
            if bound < best {
                best = bound;
                prices.clone_from(&at);
            }
            for (launch, price) in self.numbers().zip(&mut at) {
                let (Some(room), wanted) = (self.room(launch), wanted[launch as usize]) else { continue };
                let room = room / step as f64;
                let most = alone[launch as usize];
                let excess = (wanted - room) / (wanted + room).max(f64::MIN_POSITIVE);
                *price = (*price + first * SHORTER.powi(round) * most * excess).clamp(0.0, most);
            }
        }
        Ok(())
    }

    /// Lowers the bound by steps towards a value that can be reached (Polyak 1969, "Minimization of unsmooth
    /// functionals").
    pub(super) fn tighten(&self, prices: &mut Vec<f64>, value: f64, stop: &Stop) -> Result<(), Stopped> {
        let (mut at, mut best) = (prices.clone(), f64::INFINITY);
        let looks = self.members() * self.launches.len();
        for _ in 0..(EXACT_LOOKS / looks.max(1)).clamp(1, MOST_TIGHTENED) {
            stop.check()?;
            let (bound, wanted) = self.wanted_at(&at, 1);
            if bound < best {
                best = bound;
                prices.clone_from(&at);
            }
            let spare = |launch: u16| self.room(launch).map_or(0.0, |room| room - wanted[launch as usize]);
            // A price of 0 can't fall.
            let moves =
                |launch: u16| if at[launch as usize] > 0.0 || spare(launch) < 0.0 { spare(launch) } else { 0.0 };
            let moves: Vec<f64> = self.numbers().map(moves).collect();
            let squared: f64 = moves.iter().map(|x| x * x).sum();
            if squared <= 0.0 || bound - value <= CLOSE * bound {
                break;
            }
            at.iter_mut().zip(moves).for_each(|(price, x)| *price = (*price - (bound - value) / squared * x).max(0.0));
        }
        Ok(())
    }

    /// The dual value at some prices, and what is wanted of each launch, over every `step`-th member.
    fn wanted_at(&self, prices: &[f64], step: usize) -> (f64, Vec<f64>) {
        let count = self.members().div_ceil(step);
        let chunks: Vec<(f64, Vec<f64>)> = (0..count.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let (mut worth, mut wanted) = (0.0, vec![0.0; self.launches.len()]);
                for member in (chunk * CHUNK..count).take(CHUNK).map(|i| i * step) {
                    let best = self.best_at(member, prices);
                    if let Some((launch, beyond)) = best.filter(|(_, beyond)| *beyond > 0.0) {
                        worth += beyond;
                        wanted[launch as usize] += self.load(launch, member);
                    }
                }
                (worth, wanted)
            })
            .collect();
        let caps = self.numbers().filter_map(|l| Some(self.room(l)? / step as f64 * prices[l as usize]));
        let (mut bound, mut all) = (caps.sum::<f64>(), vec![0.0; self.launches.len()]);
        for (worth, wanted) in chunks {
            bound += worth;
            all.iter_mut().zip(wanted).for_each(|(sum, load)| *sum += load);
        }
        (bound, all)
    }

    /// What a member wants most, and what it is worth beyond its price.
    #[inline]
    fn best_at(&self, member: usize, prices: &[f64]) -> Option<(u16, f64)> {
        let beyond = self.numbers().map(|launch| (launch, self.beyond_price(launch, member, prices)));
        beyond.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// The lowest price of a launch at which members want no more of it than there is room for, at some prices of the
    /// others; without them, if it were alone.
    fn price(&self, launch: u16, prices: Option<&Vec<f64>>) -> f64 {
        let Some(room) = self.room(launch) else { return 0.0 };
        let willing = |member: usize| {
            let others = self.numbers().filter(|other| *other != launch);
            let other = prices.map_or(0.0, |at| others.map(|o| self.beyond_price(o, member, at)).fold(0.0, f64::max));
            let load = self.load(launch, member);
            // What the member would pay per unit of the cap.
            let most = (self.gain(launch, member) - other) / load;
            (most > 0.0).then_some((most, load))
        };
        let mut wanting: Vec<(f64, f64)> = (0..self.members()).into_par_iter().filter_map(willing).collect();
        marginal(&mut wanting, room)
    }

    /// What a launch is worth beyond its price for a member.
    #[inline]
    pub(super) fn beyond_price(&self, launch: u16, member: usize, prices: &[f64]) -> f64 {
        self.gain(launch, member) - prices[launch as usize] * self.load(launch, member)
    }

    /// More than this no allocation is worth, whatever the prices are.
    pub(super) fn bound(&self, prices: &[f64]) -> f64 {
        self.wanted_at(prices, 1).0
    }

    /// What a member is worth beyond prices, at most.
    pub(super) fn best_beyond_price(&self, member: usize, prices: &[f64]) -> f64 {
        self.best_at(member, prices).map_or(0.0, |(_, beyond)| beyond.max(0.0))
    }

    /// What members take at these prices: first those whom it matters to most, then, as far as there is room, those
    /// who do not care.
    pub(super) fn taken_at(&self, prices: &[f64], stop: &Stop) -> Result<Vec<u16>, Stopped> {
        let mut launch_of = vec![NOTHING; self.members()];
        let mut room: Vec<f64> = self.numbers().map(|launch| self.rounded_room(launch)).collect();
        let mut take = |launch: u16, member: usize| {
            let (room, load) = (&mut room[launch as usize], self.load(launch, member));
            let fits = load <= *room;
            if fits {
                *room -= load;
                launch_of[member] = launch;
            }
            fits
        };
        let tie = TIE * self.highest_value;
        let mut undecided = Vec::new();
        for wish in self.wishes(prices) {
            if wish.regret <= tie || !take(wish.launch, wish.member) {
                undecided.push(wish);
            }
        }
        stop.check()?;
        undecided.par_sort_by(|a, b| b.worth.total_cmp(&a.worth).then(a.member.cmp(&b.member)));
        for Wish { member, .. } in undecided {
            let mut wanted: Vec<(f64, u16)> = self
                .numbers()
                .filter(|launch| self.gain(*launch, member) > 0.0)
                .map(|launch| (self.beyond_price(launch, member, prices), launch))
                .collect();
            wanted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            // The first that there is room for.
            wanted.into_iter().find(|(_, launch)| take(*launch, member));
        }
        Ok(launch_of)
    }

    /// What every member wants most who could gain by anything, those first who would lose most by not getting it.
    fn wishes(&self, prices: &[f64]) -> Vec<Wish> {
        let wish = |member: usize| {
            let (mut best, mut next) = ((f64::NEG_INFINITY, NOTHING), f64::NEG_INFINITY);
            for launch in self.numbers().filter(|launch| self.gain(*launch, member) > 0.0) {
                let worth = self.beyond_price(launch, member, prices);
                if worth > best.0 {
                    (best, next) = ((worth, launch), best.0);
                } else {
                    next = next.max(worth);
                }
            }
            let (worth, launch) = best;
            (launch != NOTHING).then_some(Wish { member, launch, worth, regret: worth - next.max(0.0) })
        };
        let mut wishes: Vec<Wish> = (0..self.members()).into_par_iter().filter_map(wish).collect();
        wishes.par_sort_by(|a, b| b.regret.total_cmp(&a.regret).then(a.member.cmp(&b.member)));
        wishes
    }
}

/// What a member wants most.
#[derive(Clone, Copy, Debug)]
struct Wish {
    member: usize,
    launch: u16,
    /// What it is worth beyond its price.
    worth: f64,
    /// How much more than the next best, or nothing.
    regret: f64,
}

/// Of `(most that is paid, load)`: the highest offer that there is no room for beside those above it; 0 if there is
/// room for all. In linear time, by halves.
fn marginal(wanting: &mut [(f64, f64)], mut room: f64) -> f64 {
    let total = |list: &[(f64, f64)]| list.iter().map(|(_, load)| load).sum::<f64>();
    if total(wanting) <= room {
        return 0.0;
    }
    let mut list = wanting;
    while list.len() > 1 {
        let half = list.len() / 2;
        list.select_nth_unstable_by(half, |a, b| b.0.total_cmp(&a.0));
        let (above, below) = list.split_at_mut(half);
        let load = total(above);
        if load > room {
            list = above;
        } else {
            (room, list) = (room - load, below);
        }
    }
    list.first().map_or(0.0, |(most, _)| *most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marginal_offer_is_the_first_without_room() {
        let offers = || vec![(5.0, 1.0), (9.0, 1.0), (7.0, 2.0), (1.0, 1.0)];
        let at = |room| marginal(&mut offers(), room);
        assert_eq!([0.0, 1.0, 2.9, 3.0, 3.5, 4.0, 4.9, 5.0].map(at), [9.0, 7.0, 7.0, 5.0, 5.0, 1.0, 1.0, 0.0]);
        assert_eq!(marginal(&mut [], 0.0), 0.0);
    }
}
