//! Making plans: who is told of what is looked for on a snapshot, and its places are taken in the store.

use std::sync::Arc;

use kindred_models::Model;
use kindred_models::outreach::{self, Planner, Push, PushRequest};

use super::audience::excluded;
use super::outreach::{CHUNK, Outreach};
use super::outreach_request::{MAX_CONTACTS, PlanQuestion};
use super::status::Problem;
use super::validate::Check;
use crate::clock::unix_now;
use crate::proto::v1;
use crate::store::{Budget, Learned, Plan, Reservation, StoredContact, Wanted, Write};

/// Members whose feeds are looked at in one go: others compute in between.
const PART: usize = 1000;
/// Members for whom room is looked for in one go.
const LOOKED_AT: usize = 20_000;
/// Members of a plan who are held out, at most.
const MAX_HELD_OUT: usize = MAX_CONTACTS as usize;

/// What is told of a member: a contact that has a place, or, of one who is held out (`true`), what it would have been.
pub(super) type Planned = Vec<(StoredContact, bool)>;

/// How reserving ended.
#[derive(Debug)]
enum Reserved {
    /// The plan has its places.
    Done,
    /// Another call reserved for it meanwhile: so many contacts the plan has now.
    Overtaken(i64),
    /// Another call filled it, or called it off.
    Closed,
}

impl Outreach {
    /// What decides whether there is room, besides what the store knows.
    pub(super) fn budget(&self, model: &Model) -> Budget {
        Budget { policy: self.shared.policy.clone(), unlearned: self.shared.live.unlearned(model), now: unix_now() }
    }

    /// Plans, and reserves as much of it as there is room for, beside so many contacts that were reserved before it broke off.
    /// Where another call reserves for the same plan meanwhile, what is left is planned anew.
    pub(super) async fn plan(
        &self,
        question: PlanQuestion,
        reserved: i64,
    ) -> Result<(v1::PlanSummary, Planned), Problem> {
        let mut known = reserved;
        let (planner, model_version) = loop {
            // Both know what the plan reserved until then.
            let taken = self.shared.live.plan(&question.plan_id).await.map_err(Problem::Store)?;
            let model = self.shared.live.snapshot();
            let asked = question.clone();
            let wanted = {
                let model = model.clone();
                self.shared.compute.go_on(move |_| asked.ask(&model, &taken)).await?
            };
            let (planner, pushes) = self.pushes(wanted, &model).await?;
            match self.reserve(&question, &model, pushes, known).await? {
                Reserved::Done => break (planner, model.info.version.clone()),
                Reserved::Overtaken(reserved) => known = reserved,
                Reserved::Closed => return self.repeated(&question.plan_id).await,
            }
        };
        self.shared.live.keep(Write::FinishPlan(question.plan_id.clone())).await?;
        let (summary, planned) = self.repeated(&question.plan_id).await?;
        let (left, count) = (planner.left, |n: usize| n as i64);
        let others = left.unreachable + left.capped + left.not_worth;
        let unplanned = v1::UnplannedMembers {
            unreachable_count: count(left.unreachable),
            capped_count: count(left.capped),
            not_worth_count: count(left.not_worth),
            // All others; who had a place before a call that broke off goes on is none of them.
            over_budget_count: (count(planner.eligible - others) - summary.contact_count - summary.holdout_count)
                .max(0),
        };
        let summary = v1::PlanSummary {
            is_repeated: false,
            eligible_count: count(planner.eligible),
            excluded: Some(excluded(&planner.excluded)),
            unplanned: Some(unplanned),
            horizon_days: planner.horizon_days() as i32,
            model_version,
            ..summary
        };
        Ok((summary, planned))
    }

    /// A plan of this name that was begun.
    pub(super) async fn begun(&self, plan_id: &str) -> Result<Option<Plan>, Problem> {
        let mut check = Check::default();
        check.id("plan_id", plan_id);
        // Of what is no name the store is not asked; that is told with all else that is wrong with the request.
        match check.finish() {
            Ok(()) => self.shared.live.begun_plan(plan_id).await.map_err(Problem::Store),
            Err(_) => Ok(None),
        }
    }

    /// What was reserved by a plan, and who is held out of it.
    pub(super) async fn repeated(&self, plan_id: &str) -> Result<(v1::PlanSummary, Planned), Problem> {
        let contacts = self.shared.live.plan(plan_id).await.map_err(Problem::Store)?;
        let held_out = self.shared.live.held_out(plan_id).await.map_err(Problem::Store)?;
        // Of what is not sent nothing follows.
        let sent = || contacts.iter().filter(|contact| !contact.status.is_void());
        let summary = v1::PlanSummary {
            is_repeated: true,
            contact_count: contacts.len() as i64,
            holdout_count: held_out.len() as i64,
            expected_buyers: sent().map(|contact| contact.probability).sum(),
            expected_value: sent().map(|contact| contact.value).sum(),
            model_version: self.shared.live.snapshot().info.version.clone(),
            ..v1::PlanSummary::default()
        };
        let sorted = self.shared.compute.go_on(move |_| {
            let held_out = held_out.into_iter().map(|contact| (contact, true));
            let mut planned: Planned = contacts.into_iter().map(|contact| (contact, false)).chain(held_out).collect();
            planned.sort_by(|(a, _), (b, _)| b.value.total_cmp(&a.value).then(a.member_id.cmp(&b.member_id)));
            Ok(planned)
        });
        Ok((summary, sorted.await?))
    }

    /// What is worth most for each member whom there is room for, as the snapshot has it.
    async fn pushes(&self, wanted: PushRequest, model: &Arc<Model>) -> Result<(Planner, Vec<Push>), Problem> {
        let (model, policy) = (model.clone(), self.shared.policy.clone());
        let begun = self.shared.compute.go_on(move |stop| Ok(Planner::new(model, policy, wanted, unix_now(), stop)?));
        let (mut planner, mut pushes, mut done) = (begun.await?, Vec::new(), 0);
        for first in (0..planner.eligible).step_by(LOOKED_AT) {
            let part = first..planner.eligible.min(first + LOOKED_AT);
            let looked = self.shared.compute.go_on(move |stop| {
                planner.look(part, stop)?;
                Ok(planner)
            });
            planner = looked.await?;
        }
        while done < planner.open() {
            let part = done..planner.open().min(done + planner.part(PART));
            done = part.end;
            let computed = self.shared.compute.go_on(move |stop| {
                let found = planner.pushes(part, stop)?;
                Ok((planner, found))
            });
            let (back, found) = computed.await?;
            planner = back;
            pushes.extend(found);
        }
        let sorted = self.shared.compute.go_on(move |_| {
            pushes.sort_by(|a: &Push, b| b.value.total_cmp(&a.value).then(a.member.cmp(&b.member)));
            Ok(pushes)
        });
        Ok((planner, sorted.await?))
    }

    /// Reserves places for those that are worth most, until the plan has as many as it may, beside so many that it had when
    /// this was planned.
    async fn reserve(
        &self,
        question: &PlanQuestion,
        model: &Model,
        pushes: Vec<Push>,
        mut known: i64,
    ) -> Result<Reserved, Problem> {
        let (mut reserved, mut held_out, mut pushes) = (0, 0, pushes.into_iter().peekable());
        let room = question.max_contacts.saturating_sub(usize::try_from(known).unwrap_or(0));
        // All who are held out stay in memory until the client has read the stream.
        while reserved < room && held_out < MAX_HELD_OUT && pushes.peek().is_some() {
            let wanted =
                pushes.by_ref().take(CHUNK.min(room - reserved)).map(|push| want(model, question, &push)).collect();
            let reservation = Reservation {
                plan_id: question.plan_id.clone(),
                campaign_id: question.campaign_id.clone(),
                priority: question.priority(),
                after: known,
                budget: self.budget(model),
                wanted,
            };
            let kept = self.shared.live.keep(Write::Reserve(reservation)).await?;
            reserved += kept.accepted;
            held_out += kept.held_out;
            known += kept.accepted as i64;
            match kept.plan {
                None if kept.accepted == 0 => return Ok(Reserved::Closed),
                None => break,
                Some(plan) if plan.reserved != known => return Ok(Reserved::Overtaken(plan.reserved)),
                Some(_) => {}
            }
        }
        Ok(Reserved::Done)
    }
}

fn want(model: &Model, question: &PlanQuestion, push: &Push) -> Wanted {
    let member_id = model.members.ids.get(push.member);
    Wanted {
        is_held_out: question.holdout.contains(member_id),
        member_id: member_id.to_owned(),
        product_id: model.products.ids.get(push.product).to_owned(),
        channel: push.channel,
        times: push.times,
        probability: f64::from(push.probability),
        value: push.value,
        learned: learned(model, push.member),
    }
}

/// What a version learned of a member.
pub(super) fn learned(model: &Model, member: u32) -> Learned {
    let (consent, is_young) = (model.members.consent(member), model.members.is_young(member));
    let is_of_days = model.state.counting().is_of_days;
    Learned { held: outreach::learned(model, member), consent, is_young, is_of_days }
}
