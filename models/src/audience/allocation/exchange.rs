//! What is left to gain by a few members' changing places.

use super::{CLOSE, NOTHING, Problem};
use crate::stop::{Stop, Stopped};

/// Members looked at per pair of launches: those who would gain most.
const CANDIDATES: usize = 4;
/// Looks at a member and a launch that exchanges may take in all, at most.
const LOOKS: usize = 1 << 30;
/// Launches up to which chains of three moves are tried; of two beyond.
const FEW_LAUNCHES: usize = 16;

/// A member who goes from one place to another.
#[derive(Clone, Copy, Debug)]
struct Move {
    member: usize,
    gain: f64,
}

/// Members who would gain most by going from each place to each other; the last place is none.
struct Moves {
    places: usize,
    best: Vec<Vec<Move>>,
}

impl Moves {
    fn between(&self, from: usize, to: usize) -> &[Move] {
        &self.best[from * self.places + to]
    }
}

impl Problem<'_> {
    /// Exchanges members between launches as long as that gains: one goes to a launch, whose place is given up
    /// by another, up to three in a row or in a circle.
    pub(super) fn exchange(&self, launch_of: &mut [u16], bound: f64, stop: &Stop) -> Result<(), Stopped> {
        let mut value = self.value(launch_of);
        let mut loads = vec![0.0; self.launches.len()];
        for (member, launch) in launch_of.iter().enumerate() {
            loads.iter_mut().skip(*launch as usize).take(1).for_each(|load| *load += self.load(*launch, member));
        }
        for _ in 0..LOOKS / (launch_of.len() * self.launches.len()).max(1) {
            stop.check()?;
            if bound - value <= CLOSE * bound {
                break;
            }
            let moves = self.moves(launch_of);
            let Some(chain) = self.best_chain(&moves, &loads) else { break };
            for (member, to) in chain {
                let (from, to) = (launch_of[member], self.launch_at(to));
                value += self.gain(to, member) - self.gain(from, member);
                if from != NOTHING {
                    loads[from as usize] -= self.load(from, member);
                }
                if to != NOTHING {
                    loads[to as usize] += self.load(to, member);
                }
                launch_of[member] = to;
            }
        }
        Ok(())
    }

    fn launch_at(&self, place: usize) -> u16 {
        if place < self.launches.len() { place as u16 } else { NOTHING }
    }

    fn moves(&self, launch_of: &[u16]) -> Moves {
        let places = self.launches.len() + 1;
        let mut best = vec![Vec::with_capacity(CANDIDATES + 1); places * places];
        for (member, launch) in launch_of.iter().enumerate() {
            let from = (*launch as usize).min(places - 1);
            let now = self.gain(*launch, member);
            for to in (0..places).filter(|to| *to != from) {
                let candidate = Move { member, gain: self.gain(self.launch_at(to), member) - now };
                let list: &mut Vec<Move> = &mut best[from * places + to];
                let place = list.partition_point(|m| m.gain >= candidate.gain);
                if place < CANDIDATES {
                    list.insert(place, candidate);
                    list.truncate(CANDIDATES);
                }
            }
        }
        Moves { places, best }
    }

    /// The chain of up to three moves that gains most and leaves no launch with more than it can take, as members
    /// and the places that they go to.
    fn best_chain(&self, moves: &Moves, loads: &[f64]) -> Option<Vec<(usize, usize)>> {
        let mut best = (1e-12 * self.highest_value, None);
        for start in 0..moves.places {
            self.lengthen(moves, loads, &mut vec![(start, None)], 0.0, &mut best);
        }
        best.1
    }

    /// Tries all chains that go on from one: places with the member who left each for the next.
    fn lengthen(
        &self,
        moves: &Moves,
        loads: &[f64],
        chain: &mut Vec<(usize, Option<usize>)>,
        gained: f64,
        best: &mut (f64, Option<Vec<(usize, usize)>>),
    ) {
        let (last, _) = chain[chain.len() - 1];
        for to in (0..moves.places).filter(|to| *to != last) {
            let is_circle = to == chain[0].0;
            // A place in the middle is passed once.
            if chain[1..].iter().any(|(place, _)| *place == to) || (is_circle && chain.len() == 1) {
                continue;
            }
            for step in moves.between(last, to) {
                let length = chain.len();
                chain[length - 1].1 = Some(step.member);
                let gain = gained + step.gain;
                if gain > best.0 && self.fits(chain, to, is_circle, loads) {
                    let goes = |i: usize| Some((chain[i].1?, chain.get(i + 1).map_or(to, |(place, _)| *place)));
                    *best = (gain, (0..length).map(goes).collect());
                }
                if length < self.longest_chain() && !is_circle {
                    chain.push((to, None));
                    self.lengthen(moves, loads, chain, gain, best);
                    chain.pop();
                }
            }
        }
        let length = chain.len();
        chain[length - 1].1 = None;
    }

    fn longest_chain(&self) -> usize {
        if self.launches.len() <= FEW_LAUNCHES { 3 } else { 2 }
    }

    /// Whether every launch that somebody comes to can take what it has then.
    fn fits(&self, chain: &[(usize, Option<usize>)], end: usize, is_circle: bool, loads: &[f64]) -> bool {
        let last = chain.len() - 1;
        (0..chain.len()).all(|i| {
            let to = chain.get(i + 1).map_or(end, |(place, _)| *place);
            let launch = self.launch_at(to);
            if launch == NOTHING {
                return true;
            }
            let leaves = if i < last { chain[i + 1].1 } else { chain[0].1.filter(|_| is_circle) };
            let comes = chain[i].1.map_or(0.0, |member| self.load(launch, member));
            let left = leaves.map_or(0.0, |member| self.load(launch, member));
            loads[to] + comes - left <= self.rounded_room(launch)
        })
    }
}
