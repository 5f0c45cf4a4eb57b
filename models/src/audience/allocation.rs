//! Several launches at once: which one, if any, each member gets.
//!
//! Each member gets at most one, no launch gets more than its cap allows, and the value that is expected of all is
//! to be the greatest possible: a generalized assignment problem. Every launch has a price for its cap; at the
//! right prices, members who simply take what is worth most to them beyond its price fill the caps, and what
//! they are worth beyond prices, and the caps at those prices, bounds what any allocation can be worth (Lagrangian
//! duality; Fisher 1981, "The Lagrangian relaxation method for solving integer programming problems"). What
//! remains of rounding is mended by exchanges, and among few members by a search.

mod exchange;
mod prices;
mod search;

use super::chances::chances;
use super::eligibility::{Eligibility, Excluded};
use super::{AudienceError, MemberFilter, Subject};
use crate::model::Model;
use crate::stop::{Stop, Stopped};

/// Launches at once, at most.
pub const MAX_LAUNCHES: usize = 100;

/// How much a launch can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cap {
    /// Any number of members.
    None,
    /// So many members.
    Members(usize),
    /// As many members as are expected to buy so many units.
    Stock(f64),
}

/// What one of the launches is worth, and takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch {
    /// What a purchase of it is worth; above 0.
    pub value: f64,
    /// How much it can take.
    pub cap: Cap,
}

impl Launch {
    /// A launch of which a purchase is worth `value`; without one its price, or 1 where there is none.
    pub fn new(price: Option<f32>, value: Option<f64>, cap: Cap) -> Self {
        let price = f64::from(price.filter(|price| *price > 0.0).unwrap_or(1.0));
        Self { value: value.filter(|value| *value > 0.0).unwrap_or(price), cap }
    }
}

/// A question for an allocation.
#[derive(Clone, Debug)]
pub struct AllocationRequest {
    /// What they are, each with members who bought it already, sorted, who do not get it.
    pub subjects: Vec<(Subject, Vec<u32>)>,
    /// What each is worth, and takes.
    pub launches: Vec<Launch>,
    /// What a contact costs, in the unit of the launches' values: nobody is contacted for less.
    pub contact_cost: f64,
    /// Which members are wanted.
    pub filter: MemberFilter,
}

/// A member with what was allocated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allocated {
    /// Row of the member.
    pub member: u32,
    /// Number of the launch.
    pub launch: u16,
    /// The chance that the member buys it.
    pub probability: f32,
}

/// Who gets what.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Members who get something, by row.
    pub members: Vec<Allocated>,
    /// What is expected of it: values times chances, less what contacts cost.
    pub value: f64,
    /// More than this could not be expected of any allocation.
    pub bound: f64,
    /// Members who could have got something.
    pub eligible: usize,
    /// Members who could not.
    pub excluded: Excluded,
}

/// What to expect of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaunchOutcome {
    /// Members who get it.
    pub members: usize,
    /// Those of them who are held out.
    pub held_out: usize,
    /// How many of the members buy it, if all are contacted.
    pub expected_buyers: f64,
    /// What that is worth.
    pub expected_value: f64,
}

impl Allocation {
    /// What to expect of each launch; `held_out` says it of each of the members.
    pub fn by_launch(&self, launches: &[Launch], held_out: &[bool]) -> Vec<LaunchOutcome> {
        let mut outcomes = vec![LaunchOutcome::default(); launches.len()];
        for (member, held_out) in self.members.iter().zip(held_out) {
            let outcome = &mut outcomes[member.launch as usize];
            outcome.members += 1;
            outcome.held_out += usize::from(*held_out);
            outcome.expected_buyers += f64::from(member.probability);
        }
        for (outcome, launch) in outcomes.iter_mut().zip(launches) {
            outcome.expected_value = outcome.expected_buyers * launch.value;
        }
        outcomes
    }
}

/// Allocates launches to members.
///
/// # Errors
/// [`AudienceError::Stopped`] once `stop` is raised, [`AudienceError::NoChances`] where nothing says how many buy
/// one of them, [`AudienceError::TooMany`] of more than memory is made for.
pub fn allocate(model: &Model, request: &AllocationRequest, stop: &Stop) -> Result<Allocation, AudienceError> {
    let eligibility = Eligibility::with(model, &[], &request.filter, stop)?;
    let rows: Vec<u32> = eligibility.rows.iter().collect();
    let chances = chances(model, &request.subjects, &rows, stop)?;
    let costs = vec![request.contact_cost; rows.len()];
    let assignment = assign(&chances, &request.launches, &costs, stop)?;
    let allocated = |(i, launch): (usize, &u16)| {
        let probability = chances.get(*launch as usize)?[i];
        Some(Allocated { member: rows[i], launch: *launch, probability })
    };
    Ok(Allocation {
        members: assignment.launch_of.iter().enumerate().filter_map(allocated).collect(),
        value: assignment.value,
        bound: assignment.bound,
        eligible: rows.len(),
        excluded: eligibility.excluded,
    })
}

/// Assigns one of some launches, or [`NOTHING`], to each of some members, by the chance that they buy it: by launch,
/// then member; `costs` says what it costs to contact each member.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub fn assign(chances: &[Vec<f32>], launches: &[Launch], costs: &[f64], stop: &Stop) -> Result<Assignment, Stopped> {
    Problem::new(chances, launches, costs).solve(stop)
}

/// No launch.
pub const NOTHING: u16 = u16::MAX;
/// What a contact costs besides, as a share of the launch's value: of two ways to sell the same, the one that disturbs
/// fewer members is taken.
const DISTURBANCE: f64 = 1e-9;
/// Share of the bound that may be missing.
const CLOSE: f64 = 1e-4;
/// Chances are rounded, and so are their sums.
const ROUNDING: f64 = 1e-6;

/// What is to be allocated, as numbers.
struct Problem<'a> {
    /// By launch, then member.
    chances: &'a [Vec<f32>],
    launches: &'a [Launch],
    costs: &'a [f64],
    highest_value: f64,
}

/// An allocation of numbered members.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The number of each member's launch, or [`NOTHING`].
    pub launch_of: Vec<u16>,
    /// What is expected of it.
    pub value: f64,
    /// More than this could not be expected of any.
    pub bound: f64,
}

impl<'a> Problem<'a> {
    fn new(chances: &'a [Vec<f32>], launches: &'a [Launch], costs: &'a [f64]) -> Self {
        let highest_value = launches.iter().map(|launch| launch.value).fold(0.0, f64::max);
        Self { chances, launches, costs, highest_value }
    }

    fn solve(&self, stop: &Stop) -> Result<Assignment, Stopped> {
        let mut prices = self.prices(stop)?;
        let mut launch_of = self.taken_at(&prices, stop)?;
        let mut bound = self.bound(&prices);
        self.exchange(&mut launch_of, bound, stop)?;
        if bound - self.value(&launch_of) > CLOSE * bound {
            // What was reached tells how far prices are off, and better prices what can be reached.
            self.tighten(&mut prices, self.value(&launch_of), stop)?;
            bound = self.bound(&prices);
            let mut other = self.taken_at(&prices, stop)?;
            self.exchange(&mut other, bound, stop)?;
            if self.value(&other) > self.value(&launch_of) {
                launch_of = other;
            }
        }
        if bound - self.value(&launch_of) > CLOSE * bound {
            let value = self.value(&launch_of);
            self.search(&mut launch_of, value, &prices, stop)?;
        }
        Ok(Assignment { value: self.value(&launch_of), launch_of, bound })
    }

    fn value(&self, launch_of: &[u16]) -> f64 {
        launch_of.iter().enumerate().map(|(member, launch)| self.gain(*launch, member)).sum()
    }

    fn members(&self) -> usize {
        self.chances.first().map_or(0, Vec::len)
    }

    /// What is expected of a member who gets a launch.
    #[inline]
    fn gain(&self, launch: u16, member: usize) -> f64 {
        let Some(chances) = self.chances.get(launch as usize) else { return 0.0 };
        self.launches[launch as usize].value * (f64::from(chances[member]) - DISTURBANCE) - self.costs[member]
    }

    /// What a member takes of a launch's cap.
    #[inline]
    fn load(&self, launch: u16, member: usize) -> f64 {
        if launch == NOTHING {
            return 0.0;
        }
        match self.launches[launch as usize].cap {
            Cap::None => 0.0,
            Cap::Members(_) => 1.0,
            Cap::Stock(_) => f64::from(self.chances[launch as usize][member]),
        }
    }

    /// How much a launch can take; `None` for any number.
    fn room(&self, launch: u16) -> Option<f64> {
        match self.launches[launch as usize].cap {
            Cap::None => None,
            Cap::Members(members) => Some(members as f64),
            Cap::Stock(units) => Some(units),
        }
    }

    /// The same, with room for what is rounded, but none where nothing is to be taken; infinite for any number.
    fn rounded_room(&self, launch: u16) -> f64 {
        self.room(launch).map_or(f64::INFINITY, |room| room + ROUNDING * room.min(1.0))
    }

    fn numbers(&self) -> std::ops::Range<u16> {
        0..self.launches.len() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn launch(value: f64, cap: Cap) -> Launch {
        Launch { value, cap }
    }

    fn solved(chances: &[Vec<f32>], launches: &[Launch], contact_cost: f64) -> Assignment {
        let costs = vec![contact_cost; chances[0].len()];
        let problem = Problem::new(chances, launches, &costs);
        let assignment = problem.solve(&Stop::default()).unwrap();
        for number in problem.numbers() {
            let of = assignment.launch_of.iter().enumerate().filter(|(_, launch)| **launch == number);
            let load: f64 = of.map(|(member, _)| problem.load(number, member)).sum();
            assert!(problem.room(number).is_none_or(|room| load <= room + 1e-6), "{number} takes more than it can");
        }
        assignment
    }

    /// The best of all allocations, by trying all.
    fn exact(problem: &Problem<'_>, member: usize, room: &mut Vec<f64>) -> f64 {
        if member == problem.members() {
            return 0.0;
        }
        let mut best = exact(problem, member + 1, room);
        for launch in problem.numbers() {
            let load = problem.load(launch, member);
            if load <= room[launch as usize] + 1e-12 {
                room[launch as usize] -= load;
                best = best.max(problem.gain(launch, member) + exact(problem, member + 1, room));
                room[launch as usize] += load;
            }
        }
        best
    }

    #[test]
    fn the_better_one_gives_way_where_another_loses_less() {
        // Both are worth most to the first member; the second loses more by not getting the first launch.
        let chances = [vec![0.9, 0.8], vec![0.8, 0.1]];
        let launches = [launch(1.0, Cap::Members(1)), launch(1.0, Cap::Members(1))];
        let assignment = solved(&chances, &launches, 0.0);
        assert_eq!(assignment.launch_of, [1, 0]);
        assert!((assignment.value - 1.6).abs() < 1e-5 && assignment.bound >= assignment.value - 1e-6);
    }

    #[test]
    fn nobody_is_contacted_for_less_than_it_costs() {
        let launches = [launch(2.0, Cap::None)];
        assert_eq!(solved(&[vec![0.2, 0.4, 0.6]], &launches, 0.9).launch_of, [NOTHING, NOTHING, 0]);
        let stocked = [launch(2.0, Cap::Stock(1.0))];
        assert_eq!(solved(&[vec![0.2, 0.4, 0.6]], &stocked, 0.0).launch_of, [NOTHING, 0, 0]);
        assert_eq!(solved(&[vec![]], &stocked, 0.0).launch_of, [0u16; 0]);
        let sold_out = [launch(2.0, Cap::Stock(0.0))];
        assert_eq!(solved(&[vec![1e-8, 1e-7, 0.5]], &sold_out, 0.0).launch_of, [NOTHING; 3]);
    }

    fn instance(members: std::ops::Range<usize>, most: f32) -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<f64>, f64)> {
        (members, 1usize..4).prop_flat_map(move |(members, launches)| {
            let chance = prop::collection::vec((1u32..=1000).prop_map(move |x| x as f32 / 1000.0 * most), members);
            let values = prop::collection::vec(0.2f64..5.0, launches);
            (prop::collection::vec(chance, launches), values, prop_oneof![Just(0.0), 0.0f64..1.0])
        })
    }

    proptest! {
        #[test]
        fn members_are_allocated_as_well_as_can_be(
            (chances, values, cost) in instance(1..8, 1.0),
            caps in prop::collection::vec(prop_oneof![Just(None), (0usize..5).prop_map(Some)], 3),
        ) {
            let cap = |cap: &Option<usize>| cap.map_or(Cap::None, Cap::Members);
            let launches: Vec<Launch> = values.iter().zip(&caps).map(|(value, c)| launch(*value, cap(c))).collect();
            let assignment = solved(&chances, &launches, cost);
            let costs = vec![cost; chances[0].len()];
            let problem = Problem::new(&chances, &launches, &costs);
            let mut room = problem.numbers().map(|l| problem.room(l).unwrap_or(f64::INFINITY)).collect();
            let best = exact(&problem, 0, &mut room);
            prop_assert!(assignment.value >= 0.99 * best - 1e-9, "{} of {best}", assignment.value);
            prop_assert!(assignment.bound >= best - 1e-9);
        }

        #[test]
        fn stock_is_used_as_well_as_can_be(
            (chances, values, cost) in instance(1..9, 1.0),
            stocks in prop::collection::vec(0.0f64..3.0, 3),
        ) {
            let launches: Vec<Launch> =
                values.iter().zip(&stocks).map(|(value, units)| launch(*value, Cap::Stock(*units))).collect();
            let assignment = solved(&chances, &launches, cost);
            let costs = vec![cost; chances[0].len()];
            let problem = Problem::new(&chances, &launches, &costs);
            let best = exact(&problem, 0, &mut stocks.clone());
            prop_assert!(assignment.value >= 0.99 * best - 1e-9, "{} of {best}", assignment.value);
            prop_assert!(assignment.bound >= best - 1e-9);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn launches_that_are_alike_share_the_members(
            (chances, values, _) in instance(2000..3000, 0.1),
            (noise, launches, by_stock) in (prop_oneof![Just(0.0f32), 0.0f32..0.01], 2u16..5, any::<bool>()),
        ) {
            let of = |l: u16| (0..chances[0].len()).map(move |m| (l as usize * 31 + m * 17) % 97);
            let alike = |l| -> Vec<f32> {
                chances[0].iter().zip(of(l)).map(|(p, x)| p * (1.0 + noise * (x as f32 / 97.0 - 0.5))).collect()
            };
            let alike: Vec<Vec<f32>> = (0..launches).map(alike).collect();
            let cap = if by_stock { Cap::Stock(5.0) } else { Cap::Members(100) };
            let launches: Vec<Launch> = (0..launches).map(|_| launch(values[0], cap)).collect();
            let assignment = solved(&alike, &launches, 0.0);
            prop_assert!(assignment.value >= 0.99 * assignment.bound, "{} of {}", assignment.value, assignment.bound);
        }

        #[test]
        fn of_many_members_nearly_nothing_is_missing(
            (chances, values, cost) in instance(300..900, 0.1), stocks in prop::collection::vec(5.0f64..20.0, 3),
        ) {
            let launches: Vec<Launch> =
                values.iter().zip(&stocks).map(|(value, units)| launch(*value, Cap::Stock(*units))).collect();
            let assignment = solved(&chances, &launches, cost);
            // The bound counts parts of members, one per launch at most.
            let most = chances.iter().zip(&values).flat_map(|(p, value)| p.iter().map(move |p| f64::from(*p) * value - cost));
            let parts = launches.len() as f64 * most.fold(0.0, f64::max);
            let missing = assignment.bound - assignment.value;
            prop_assert!(missing <= (0.01 * assignment.bound).max(parts), "{missing} of {}", assignment.bound);
        }
    }
}
