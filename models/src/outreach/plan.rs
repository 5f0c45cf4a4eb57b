//! Who is told of what.

use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::contact::Times;
use super::opening::{Closed, Opening, Openings, Reached, reached};
use super::policy::Policy;
use crate::audience::{
    AudienceError, Cap, Eligibility, Excluded, Launch, MemberFilter, NOTHING, Subject, assign, chances,
};
use crate::events::DAY_SECONDS;
use crate::feed::{FeedRequest, Persona, ProductFilter, Visitor, feed_for};
use crate::model::Model;
use crate::stop::Stop;

/// Products at once, at most.
pub const MAX_OFFERS: usize = 100;
/// Products of a member's feed that are weighed.
const WEIGHED: usize = 10;

/// A product that members are to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The product.
    pub product: u32,
    /// What a purchase of it is worth; without it its price, or 1 where there is none.
    pub value: Option<f64>,
    /// How much it can take.
    pub cap: Cap,
}

/// A question for a plan.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The products; empty for whatever fits each member.
    pub offers: Vec<Offer>,
    /// Which products may fit.
    pub products: ProductFilter,
    /// Which members are wanted.
    pub filter: MemberFilter,
    /// Channels, by their numbers in the policy, each once.
    pub channels: Vec<u16>,
    /// When messages may go out, in unix seconds.
    pub start: i64,
    /// Until when.
    pub end: i64,
    /// How much the campaign comes first, 0 to 9: those that come after give way, as long as they did not go out.
    pub priority: u8,
}

/// What a member is to be told of, where and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Push {
    /// The member.
    pub member: u32,
    /// The product.
    pub product: u32,
    /// The chance that the member buys it.
    pub probability: f32,
    /// What is expected of it, less what it costs; above 0.
    pub value: f64,
    /// Number of the channel in the policy.
    pub channel: u16,
    /// When.
    pub times: Times,
}

/// Members who may be contacted, and are not, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// None of the channels reaches them.
    pub unreachable: usize,
    /// They were told enough.
    pub capped: usize,
    /// Nothing is worth disturbing them.
    pub not_worth: usize,
}

/// Plans pushes.
#[derive(Debug)]
pub struct Planner {
    model: Arc<Model>,
    policy: Arc<Policy>,
    request: PushRequest,
    now: i64,
    /// Members who may be contacted.
    pub eligible: usize,
    /// Members who may not.
    pub excluded: Excluded,
    /// Those who are not, among those who may be.
    pub left: Left,
    /// The eligible members.
    rows: Vec<u32>,
    channels: Vec<Reached>,
    openings: Vec<Opening>,
}

impl Planner {
    /// Looks for who may be contacted. For whom of them there is [room](Self::look) is looked for next.
    ///
    /// # Errors
    /// [`AudienceError::Stopped`] once `stop` is raised, or what is asked for is not known by the model.
    pub fn new(
        model: Arc<Model>,
        policy: Arc<Policy>,
        request: PushRequest,
        now: i64,
        stop: &Stop,
    ) -> Result<Self, AudienceError> {
        if request.offers.is_empty() && model.ranker.fit.horizon_days == 0 {
            return Err(AudienceError::NoFeedChances);
        }
        let Eligibility { rows, excluded } = Eligibility::with(&model, &[], &request.filter, stop)?;
        let rows: Vec<u32> = rows.iter().collect();
        let channels = reached(&model, &policy, &request);
        let (left, openings) = (Left::default(), Vec::new());
        Ok(Self { model, policy, request, now, eligible: rows.len(), excluded, left, rows, channels, openings })
    }

    /// Looks for whom of some of the eligible there is room in the budget of contacts, as it stands at the planner's
    /// moment; of all of them, one part after the other, as it takes long.
    ///
    /// # Errors
    /// [`AudienceError::Stopped`] once `stop` is raised.
    pub fn look(&mut self, part: std::ops::Range<usize>, stop: &Stop) -> Result<(), AudienceError> {
        let openings = Openings::new(&self.model, &self.policy, &self.channels, &self.request, self.now);
        let found = self.rows[part].par_iter().map(|member| {
            stop.check()?;
            Ok::<_, AudienceError>(openings.of(*member))
        });
        let found: Vec<Result<Opening, Closed>> = found.collect::<Result<_, _>>()?;
        let count = |why: Closed| found.iter().filter(|opening| **opening == Err(why)).count();
        self.left.unreachable += count(Closed::Unreachable);
        self.left.capped += count(Closed::Capped);
        self.openings.extend(found.into_iter().flatten());
        Ok(())
    }

    /// How many members there is room for.
    pub fn open(&self) -> usize {
        self.openings.len()
    }

    /// How many of them to look at in one go, where a product for each is looked for; otherwise all together.
    pub fn part(&self, most: usize) -> usize {
        if self.request.offers.is_empty() { most } else { self.open() }
    }

    /// Days that the chances of purchases speak of.
    pub fn horizon_days(&self) -> u32 {
        match self.request.offers.is_empty() {
            true => self.model.ranker.fit.horizon_days,
            false => self.model.launch.fit.horizon_days(),
        }
    }

    /// The pushes of some of them, those that are worth most first; a part of them at a time where it takes long.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn pushes(&mut self, part: std::ops::Range<usize>, stop: &Stop) -> Result<Vec<Push>, AudienceError> {
        let openings = &self.openings[part];
        let (mut pushes, passed_over, told) = match self.request.offers.is_empty() {
            true => (self.fitting(openings, stop)?, 0, 0),
            false => self.offered(openings, stop)?,
        };
        self.left.capped += told;
        self.left.not_worth += openings.len() - pushes.len() - passed_over - told;
        pushes.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.member.cmp(&b.member)));
        Ok(pushes)
    }

    /// What fits each member best, of the head of their feed: by what is expected of it.
    fn fitting(&self, openings: &[Opening], stop: &Stop) -> Result<Vec<Push>, AudienceError> {
        let of = |opening: &Opening| {
            stop.check()?;
            let mut question = FeedRequest::new(Visitor::Member(opening.member), WEIGHED);
            question.filter = self.request.products.clone();
            question.excluded = self.not_again(opening.member);
            let persona = Persona::of(&self.model, question.visitor, &[]);
            // Of who is not known, no chance is.
            if !persona.is_personal() {
                return Ok(None);
            }
            let pushes = feed_for(&self.model, &question, &persona).into_iter().map(|item| {
                let value = f64::from(item.score) * self.launch(item.product, None, Cap::None).value - opening.cost;
                push(opening, item.product, item.score, value)
            });
            Ok(pushes.max_by(|a, b| a.value.total_cmp(&b.value)).filter(|push| push.value > 0.0))
        };
        let found: Vec<Option<Push>> = openings.par_iter().map(of).collect::<Result<_, AudienceError>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The products that a member has been told of, or is about to be, or [just bought](crate::state::State::just_bought).
    fn not_again(&self, member: u32) -> HashSet<u32> {
        let (state, since) = (&self.model.state, self.now - DAY_SECONDS * i64::from(self.policy.same_product_days()));
        let (now, priority) = (self.now, self.request.priority);
        let told_of = state.contacts(member).chain(state.told(member));
        let told_of =
            told_of.filter(|c| c.told_of(c.product, since, now) && !c.held.gives_way(priority)).map(|c| c.product);
        let may_be_read = state.consent(&self.model, member).personalization;
        let bought = may_be_read.then(|| state.just_bought(&self.model, member, self.now)).into_iter().flatten();
        told_of.chain(bought).collect()
    }

    /// One of the offers, if any, for each member, so that the value of all is the greatest that their caps allow; how many
    /// members get none for these alone; and how many because they were told of all of them, or bought them.
    fn offered(&self, openings: &[Opening], stop: &Stop) -> Result<(Vec<Push>, usize, usize), AudienceError> {
        let (model, offers) = (&self.model, &self.request.offers);
        let rows: Vec<u32> = openings.iter().map(|opening| opening.member).collect();
        let subjects: Vec<(Subject, Vec<u32>)> =
            offers.iter().map(|offer| Subject::now(model, offer.product)).collect();
        let mut chances = chances(model, &subjects, &rows, stop)?;
        let mut told = 0;
        for (at, row) in rows.iter().enumerate() {
            let not_again = self.not_again(*row);
            told += usize::from(offers.iter().all(|offer| not_again.contains(&offer.product)));
            for (chances, _) in chances.iter_mut().zip(offers).filter(|(_, offer)| not_again.contains(&offer.product)) {
                chances[at] = 0.0;
            }
        }
        let launch = |offer: &Offer| self.launch(offer.product, offer.value, offer.cap);
        let launches: Vec<Launch> = offers.iter().map(launch).collect();
        let costs: Vec<f64> = openings.iter().map(|opening| opening.cost).collect();
        let assigned = assign(&chances, &launches, &costs, stop)?;
        let pushes =
            openings.iter().zip(&assigned.launch_of).enumerate().filter(|(_, (_, number))| **number != NOTHING);
        let pushes = pushes.map(|(at, (opening, number))| {
            let (number, chance) = (*number as usize, chances[*number as usize][at]);
            let value = f64::from(chance) * launches[number].value - opening.cost;
            push(opening, offers[number].product, chance, value)
        });
        let pushes: Vec<Push> = pushes.filter(|push| push.value > 0.0).collect();
        let value = |launch: usize, at: usize| f64::from(chances[launch][at]) * launches[launch].value - costs[at];
        let is_worth = |at: &usize| (0..launches.len()).any(|launch| value(launch, *at) > 0.0);
        let passed_over = (0..rows.len()).filter(is_worth).count().saturating_sub(pushes.len());
        Ok((pushes, passed_over, told))
    }

    /// What a product is worth and takes.
    fn launch(&self, product: u32, value: Option<f64>, cap: Cap) -> Launch {
        Launch::new(Some(self.model.products.prices[product as usize]), value, cap)
    }
}

fn push(opening: &Opening, product: u32, probability: f32, value: f64) -> Push {
    let Opening { member, channel, times, .. } = *opening;
    Push { member, product, probability, value, channel, times }
}
