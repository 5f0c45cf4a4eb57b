//! What each launch's cap is worth.

use rayon::prelude::*;

use super::{NOTHING, Problem, ROUNDING};
use crate::stop::{Stop, Stopped};

/// Rounds of prices at most, over a sample of the members and over all.
const SAMPLE_ROUNDS: usize = 100;
const ROUNDS: usize = 30;
/// Members of the sample.
const SAMPLE: usize = 1 << 16;
/// Change of a price, as a share of the highest value, at which it stands still.
const STILL: f64 = 1e-7;
/// Difference, as a share of the highest value, below which a member does not care.
const TIE: f64 = 1e-9;

impl Problem<'_> {
    /// Prices at which no more is wanted of any launch than it can take, 0 where it can take all that is wanted.
    /// They rise from 0 in rounds, each to where it must be if the others stay: over a sample first.
    pub(super) fn prices(&self, stop: &Stop) -> Result<Vec<f64>, Stopped> {
        let mut prices = vec![0.0; self.launches.len()];
        let step = self.members().div_ceil(SAMPLE).max(1);
        if step > 1 {
            self.settle(&mut prices, step, SAMPLE_ROUNDS, stop)?;
        }
        self.settle(&mut prices, 1, ROUNDS, stop)?;
        Ok(prices)
    }

    fn settle(&self, prices: &mut [f64], step: usize, rounds: usize, stop: &Stop) -> Result<(), Stopped> {
        let still = STILL * self.highest_value;
        for _ in 0..rounds {
            let mut moved = 0f64;
            for launch in self.numbers() {
                stop.check()?;
                let Some(room) = self.room(launch) else { continue };
                let price = self.price(launch, prices, step, room / step as f64);
                moved = moved.max((price - prices[launch as usize]).abs());
                prices[launch as usize] = price;
            }
            if moved <= still {
                break;
            }
        }
        Ok(())
    }

    /// The lowest price of a launch at which every `step`-th member wants no more of it than there is room for.
    fn price(&self, launch: u16, prices: &[f64], step: usize, room: f64) -> f64 {
        let willing = |member: usize| {
            let others = self.numbers().filter(|other| *other != launch);
            let other = others.map(|other| self.beyond_price(other, member, prices)).fold(0.0, f64::max);
            let load = self.load(launch, member);
            // What the member would pay per unit of the cap.
            let most = (self.gain(launch, member) - other) / load;
            (most > 0.0).then_some((most, load))
        };
        let mut wanting: Vec<(f64, f64)> =
            (0..self.members()).into_par_iter().step_by(step).filter_map(willing).collect();
        marginal(&mut wanting, room)
    }

    /// What a launch is worth beyond its price for a member.
    #[inline]
    pub(super) fn beyond_price(&self, launch: u16, member: usize, prices: &[f64]) -> f64 {
        self.gain(launch, member) - prices[launch as usize] * self.load(launch, member)
    }

    /// More than this no allocation is worth, whatever the prices are.
    pub(super) fn bound(&self, prices: &[f64]) -> f64 {
        let caps = self.numbers().filter_map(|launch| Some(self.room(launch)? * prices[launch as usize]));
        caps.sum::<f64>() + (0..self.members()).map(|member| self.best_beyond_price(member, prices)).sum::<f64>()
    }

    /// What a member is worth beyond prices, at most.
    pub(super) fn best_beyond_price(&self, member: usize, prices: &[f64]) -> f64 {
        self.numbers().map(|launch| self.beyond_price(launch, member, prices)).fold(0.0, f64::max)
    }

    /// What members take at these prices: first those who know what they want, then those who do not care, as far
    /// as there is room.
    pub(super) fn taken_at(&self, prices: &[f64]) -> Vec<u16> {
        let mut launch_of = vec![NOTHING; self.members()];
        let mut room: Vec<f64> = self.numbers().map(|launch| self.room(launch).unwrap_or(f64::INFINITY)).collect();
        let tie = TIE * self.highest_value;
        let mut undecided = Vec::new();
        let mut take = |launch: u16, member: usize| {
            let (room, load) = (&mut room[launch as usize], self.load(launch, member));
            let fits = load <= *room + ROUNDING;
            if fits {
                *room -= load;
                launch_of[member] = launch;
            }
            fits
        };
        let ranked = |member| {
            let mut wanted: Vec<(f64, u16)> =
                self.numbers().map(|launch| (self.beyond_price(launch, member, prices), launch)).collect();
            wanted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            wanted
        };
        for member in 0..self.members() {
            let wanted = ranked(member);
            let next = wanted.get(1).map_or(0.0, |(worth, _)| worth.max(0.0));
            match wanted.first() {
                Some((worth, launch)) if *worth > next + tie && take(*launch, member) => {}
                Some((worth, _)) if self.numbers().any(|launch| self.gain(launch, member) > 0.0) => {
                    undecided.push((*worth, member));
                }
                _ => {}
            }
        }
        undecided.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, member) in undecided {
            // The first that there is room for.
            ranked(member).into_iter().find(|(_, launch)| self.gain(*launch, member) > 0.0 && take(*launch, member));
        }
        launch_of
    }
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
