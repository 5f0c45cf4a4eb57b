//! Few members, each of whom takes much of a cap: whatever prices say, they may be packed better.

use super::{NOTHING, Problem};
use crate::stop::{Stop, Stopped};

/// Members up to which all ways to pack are searched.
const MEMBERS: usize = 500;
/// Ways that are looked at, at most.
const NODES: usize = 300_000;

/// A search by branch and bound, depth first, members in order.
struct Search<'a> {
    problem: &'a Problem<'a>,
    prices: &'a [f64],
    /// What the members from each on are worth beyond prices, at most.
    beyond: Vec<f64>,
    /// What is tried now, and what each launch has left.
    launch_of: Vec<u16>,
    room: Vec<f64>,
    best: (f64, Option<Vec<u16>>),
    nodes: usize,
}

impl Problem<'_> {
    /// Searches for a better allocation than one that is worth `value`, as far as a bounded number of looks goes.
    pub(super) fn search(
        &self,
        launch_of: &mut Vec<u16>,
        value: f64,
        prices: &[f64],
        stop: &Stop,
    ) -> Result<(), Stopped> {
        if self.members() > MEMBERS {
            return Ok(());
        }
        let mut beyond = vec![0.0; self.members() + 1];
        for member in (0..self.members()).rev() {
            beyond[member] = beyond[member + 1] + self.best_beyond_price(member, prices);
        }
        let mut search = Search {
            problem: self,
            prices,
            beyond,
            launch_of: vec![NOTHING; self.members()],
            room: self.numbers().map(|launch| self.rounded_room(launch)).collect(),
            best: (value, None),
            nodes: 0,
        };
        search.descend(0, 0.0, stop)?;
        if let Some(better) = search.best.1 {
            *launch_of = better;
        }
        Ok(())
    }
}

impl Search<'_> {
    /// Tries all that the members from one on can get, where those before it are worth `value`.
    fn descend(&mut self, member: usize, value: f64, stop: &Stop) -> Result<(), Stopped> {
        let problem = self.problem;
        let caps: f64 = self.room.iter().zip(self.prices).filter(|(_, p)| **p > 0.0).map(|(r, p)| r * p).sum();
        self.nodes += 1;
        if self.nodes > NODES || value + self.beyond[member] + caps <= self.best.0 + 1e-9 * problem.highest_value {
            return Ok(());
        }
        if member == problem.members() {
            if value > self.best.0 {
                self.best = (value, Some(self.launch_of.clone()));
            }
            return stop.check();
        }
        let mut ways: Vec<(f64, u16)> =
            problem.numbers().map(|launch| (problem.beyond_price(launch, member, self.prices), launch)).collect();
        ways.push((0.0, NOTHING));
        ways.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, launch) in ways {
            let (gain, load) = (problem.gain(launch, member), problem.load(launch, member));
            let fits = self.room.get(launch as usize).is_none_or(|room| load <= *room);
            if !fits || (launch != NOTHING && gain <= 0.0) {
                continue;
            }
            self.launch_of[member] = launch;
            if let Some(room) = self.room.get_mut(launch as usize) {
                *room -= load;
            }
            self.descend(member + 1, value + gain, stop)?;
            if let Some(room) = self.room.get_mut(launch as usize) {
                *room += load;
            }
        }
        self.launch_of[member] = NOTHING;
        Ok(())
    }
}
