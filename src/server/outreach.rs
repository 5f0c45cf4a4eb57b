//! OutreachService.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use kindred_models::Model;
use kindred_models::catalogue::Consent;
use kindred_models::feed::{Persona, Visitor, rank};
use kindred_models::outreach::{ContactStatus, Planner, Push, learned};
use prost_types::Timestamp;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::audience::excluded;
use super::deadline::{Deadline, exceeded};
use super::outreach_request::{PlanQuestion, contact_ids, said};
use super::recommendation::reason;
use super::status::Problem;
use super::validate::Check;
use super::{Shared, compute::Compute};
use crate::access::Caller;
use crate::clock::unix_now;
use crate::proto::v1;
use crate::proto::v1::outreach_service_server::{OutreachService, OutreachServiceServer};
use crate::proto::v1::plan_pushes_response::Payload;
use crate::store::{Claim, Refusal, Reservation, StoredContact, Wanted, Write};

/// Pushes per chunk, and contacts that are reserved at once: others write in between.
const CHUNK: usize = 500;
/// Members whose feeds are looked at in one go: others compute in between.
const PART: usize = 1000;

/// The service.
pub(super) fn service(shared: Shared) -> OutreachServiceServer<Outreach> {
    OutreachServiceServer::new(Outreach { shared })
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Outreach {
    shared: Shared,
}

/// A stream of answers.
type Answers = Pin<Box<dyn Stream<Item = Result<v1::PlanPushesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OutreachService for Outreach {
    type PlanPushesStream = Answers;

    async fn plan_pushes(
        &self,
        request: Request<v1::PlanPushesRequest>,
    ) -> Result<Response<Self::PlanPushesStream>, Status> {
        let (by, deadline) = (Caller::of(&request), request.extensions().get::<Deadline>().copied());
        let question = PlanQuestion::check(request.into_inner(), &self.shared.policy, unix_now())?;
        let plan_id = question.plan_id.clone();
        let model = self.shared.live.snapshot();
        let made = self.shared.live.plan(&plan_id).await.map_err(Problem::Store)?;
        let (summary, planned) = match made.is_empty() {
            true => self.plan(question, &model).await?,
            false => repeated(made, &model),
        };
        let detail = format!("{} contacts for plan {plan_id}, by {}", summary.contact_count, model.info.version);
        self.shared.account(&by, "PlanPushes", detail).await?;
        Ok(Response::new(answers(self.shared.compute.clone(), deadline, summary, planned, model)))
    }

    async fn claim_contacts(
        &self,
        request: Request<v1::ClaimContactsRequest>,
    ) -> Result<Response<v1::ClaimContactsResponse>, Status> {
        let ids = request.into_inner().contact_ids;
        let mut check = Check::default();
        contact_ids(&mut check, "contact_ids", ids.iter(), true);
        check.finish()?;
        let members = self.shared.live.members_of(&ids).await.map_err(Problem::Store)?;
        let model = self.shared.live.snapshot();
        let consent = |id: &String| learned_consent(&model, members.get(id).map_or("", String::as_str));
        let claims = ids.iter().map(|id| Claim { contact_id: id.clone(), consent: consent(id) }).collect();
        let kept = self.shared.live.keep(Write::Claim(claims, unix_now())).await.map_err(Problem::from)?;
        Ok(Response::new(v1::ClaimContactsResponse {
            claimed_count: kept.accepted as i64,
            refused: refused(&kept.refused, |at| ids[at].clone()),
        }))
    }

    async fn confirm_contacts(
        &self,
        request: Request<v1::ConfirmContactsRequest>,
    ) -> Result<Response<v1::ConfirmContactsResponse>, Status> {
        let said = said(request.into_inner().outcomes, unix_now())?;
        let ids: Vec<String> = said.iter().map(|said| said.contact_id.clone()).collect();
        let kept = self.shared.live.keep(Write::Confirm(said)).await.map_err(Problem::from)?;
        Ok(Response::new(v1::ConfirmContactsResponse {
            accepted_count: kept.accepted as i64,
            duplicate_count: kept.duplicates as i64,
            refused: refused(&kept.refused, |at| ids[at].clone()),
        }))
    }

    async fn cancel_plan(
        &self,
        request: Request<v1::CancelPlanRequest>,
    ) -> Result<Response<v1::CancelPlanResponse>, Status> {
        let by = Caller::of(&request);
        let plan_id = request.into_inner().plan_id;
        let mut check = Check::default();
        check.id("plan_id", &plan_id);
        check.finish()?;
        self.shared.account(&by, "CancelPlan", format!("plan {plan_id}")).await?;
        let kept = self.shared.live.keep(Write::CancelPlan(plan_id, unix_now())).await.map_err(Problem::from)?;
        Ok(Response::new(v1::CancelPlanResponse { cancelled_count: kept.accepted as i64 }))
    }
}

/// What is told of a member: a contact that has a place, or, of one who is held out, what it would have been.
type Planned = Vec<(StoredContact, bool)>;

impl Outreach {
    /// Plans, and reserves as much of it as there is room for.
    async fn plan(&self, question: PlanQuestion, model: &Arc<Model>) -> Result<(v1::PlanSummary, Planned), Problem> {
        let (planner, pushes) = self.pushes(&question, model).await?;
        let total = pushes.len();
        let planned = self.reserve(&question, model, pushes).await?;
        let left = planner.left;
        let contacts = || planned.iter().filter(|(_, held_out)| !held_out).map(|(contact, _)| contact);
        let count = |n: usize| n as i64;
        let summary = v1::PlanSummary {
            is_repeated: false,
            contact_count: count(contacts().count()),
            holdout_count: count(planned.len() - contacts().count()),
            expected_buyers: contacts().map(|contact| contact.probability).sum(),
            expected_value: contacts().map(|contact| contact.value).sum(),
            eligible_count: count(planner.eligible),
            excluded: Some(excluded(&planner.excluded)),
            unplanned: Some(v1::UnplannedMembers {
                unreachable_count: count(left.unreachable),
                capped_count: count(left.capped),
                not_worth_count: count(left.not_worth),
                over_budget_count: count(total - planned.len()),
            }),
            horizon_days: planner.horizon_days() as i32,
            model_version: model.info.version.clone(),
        };
        Ok((summary, planned))
    }

    /// What is worth most for each member whom there is room for, as the snapshot has it.
    async fn pushes(&self, question: &PlanQuestion, model: &Arc<Model>) -> Result<(Planner, Vec<Push>), Problem> {
        let (model, policy, request) = (model.clone(), self.shared.policy.clone(), question.ask(model)?);
        let begun = self.shared.compute.run(move |stop| Ok(Planner::new(model, policy, request, unix_now(), stop)?));
        let (mut planner, mut pushes, mut done) = (begun.await?, Vec::new(), 0);
        while done < planner.open() {
            let part = done..planner.open().min(done + planner.part(PART));
            done = part.end;
            let computed = self.shared.compute.run(move |stop| {
                let found = planner.pushes(part, stop)?;
                Ok((planner, found))
            });
            let (back, found) = computed.await?;
            planner = back;
            pushes.extend(found);
        }
        pushes.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.member.cmp(&b.member)));
        Ok((planner, pushes))
    }

    /// Reserves places for those that are worth most, until the budget is used up. Others may have been faster.
    async fn reserve(&self, question: &PlanQuestion, model: &Model, pushes: Vec<Push>) -> Result<Planned, Problem> {
        let (mut planned, mut left, mut pushes) =
            (Planned::new(), question.max_contacts, pushes.into_iter().peekable());
        while left > 0 && pushes.peek().is_some() {
            let mut wanted = Vec::new();
            while wanted.len() < CHUNK.min(left)
                && let Some(push) = pushes.next()
            {
                let want = want(model, &push);
                match question.holdout.contains(&want.member_id) {
                    true => planned.push((held_out(question, &self.shared, want), true)),
                    false => wanted.push(want),
                }
            }
            if wanted.is_empty() {
                continue;
            }
            let reservation = Reservation {
                plan_id: question.plan_id.clone(),
                campaign_id: question.campaign_id.clone(),
                priority: question.priority(),
                policy: self.shared.policy.clone(),
                wanted,
                unlearned: self.shared.live.unlearned(model),
                now: unix_now(),
            };
            let kept = self.shared.live.keep(Write::Reserve(reservation)).await?;
            left -= kept.contacts.len();
            planned.extend(kept.contacts.into_iter().map(|contact| (contact, false)));
        }
        Ok(planned)
    }
}

fn want(model: &Model, push: &Push) -> Wanted {
    Wanted {
        member_id: model.members.ids.get(push.member).to_owned(),
        product_id: model.products.ids.get(push.product).to_owned(),
        channel: push.channel,
        times: push.times,
        probability: f64::from(push.probability),
        value: push.value,
        learned: learned(model, push.member),
        consent: model.members.consent(push.member),
    }
}

/// What a member who is held out would have got.
fn held_out(question: &PlanQuestion, shared: &Shared, wanted: Wanted) -> StoredContact {
    StoredContact {
        contact_id: String::new(),
        plan_id: question.plan_id.clone(),
        campaign_id: question.campaign_id.clone(),
        member_id: wanted.member_id,
        product_id: wanted.product_id,
        channel: shared.policy.names[wanted.channel as usize].clone(),
        priority: question.priority(),
        times: wanted.times,
        status: ContactStatus::Cancelled,
        said_at: 0,
        probability: wanted.probability,
        value: wanted.value,
    }
}

/// What a version learned that a member allows; of who is not known, nothing.
fn learned_consent(model: &Model, member_id: &str) -> Consent {
    model.members.consent(model.members.ids.find(member_id).unwrap_or(u32::MAX))
}

/// A plan that was made before.
fn repeated(contacts: Vec<StoredContact>, model: &Model) -> (v1::PlanSummary, Planned) {
    let mut planned: Planned = contacts.into_iter().map(|contact| (contact, false)).collect();
    planned.sort_by(|(a, _), (b, _)| b.value.total_cmp(&a.value).then(a.member_id.cmp(&b.member_id)));
    let summary = v1::PlanSummary {
        is_repeated: true,
        contact_count: planned.len() as i64,
        expected_buyers: planned.iter().map(|(contact, _)| contact.probability).sum(),
        expected_value: planned.iter().map(|(contact, _)| contact.value).sum(),
        model_version: model.info.version.clone(),
        ..v1::PlanSummary::default()
    };
    (summary, planned)
}

/// The summary, and then chunks, each made when the client reads on, as long as the deadline allows.
fn answers(
    compute: Compute,
    deadline: Option<Deadline>,
    summary: v1::PlanSummary,
    planned: Planned,
    model: Arc<Model>,
) -> Answers {
    let first = v1::PlanPushesResponse { payload: Some(Payload::Summary(summary)) };
    let planned = Arc::new(planned);
    let chunks = (0..planned.len()).step_by(CHUNK);
    let chunks = tokio_stream::iter(chunks).then(move |start| {
        let (compute, planned, model) = (compute.clone(), planned.clone(), model.clone());
        async move {
            let made = compute.run(move |_| {
                let part = planned[start..].iter().take(CHUNK);
                Ok(part.map(|(contact, held_out)| message(&model, contact, *held_out)).collect())
            });
            let chunk = v1::PushChunk { pushes: made.await? };
            Ok(v1::PlanPushesResponse { payload: Some(Payload::Chunk(chunk)) })
        }
    });
    Box::pin(tokio_stream::once(Ok(first)).chain(chunks).map(move |message| match deadline {
        Some(deadline) if deadline.has_passed() => Err(exceeded()),
        _ => message,
    }))
}

fn message(model: &Model, contact: &StoredContact, held_out: bool) -> v1::Push {
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let status = if held_out { v1::ContactStatus::Unspecified } else { status(contact.status) };
    v1::Push {
        contact_id: contact.contact_id.clone(),
        member_id: contact.member_id.clone(),
        product_id: contact.product_id.clone(),
        channel: contact.channel.clone(),
        time: time(contact.times.from),
        expire_time: time(contact.times.until),
        probability: contact.probability,
        expected_value: contact.value,
        reason: why(model, contact),
        held_out,
        status: status.into(),
    }
}

/// Why a member is told of this product, as far as both are known and may be.
fn why(model: &Model, contact: &StoredContact) -> Option<v1::Reason> {
    let (member, product) = (model.state.find(model, &contact.member_id)?, model.products.find(&contact.product_id)?);
    let persona = Persona::of(model, Visitor::Member(member), &[]);
    let item = rank(model, &persona, &[product]).into_iter().next()?;
    Some(reason(model, persona.reason(model, &item)))
}

fn status(status: ContactStatus) -> v1::ContactStatus {
    match status {
        ContactStatus::Reserved => v1::ContactStatus::Reserved,
        ContactStatus::Claimed => v1::ContactStatus::Claimed,
        ContactStatus::Sent => v1::ContactStatus::Sent,
        ContactStatus::Opened => v1::ContactStatus::Opened,
        ContactStatus::Clicked => v1::ContactStatus::Clicked,
        ContactStatus::Complained => v1::ContactStatus::Complained,
        ContactStatus::Failed => v1::ContactStatus::Failed,
        ContactStatus::Displaced => v1::ContactStatus::Displaced,
        ContactStatus::Expired => v1::ContactStatus::Expired,
        ContactStatus::Cancelled => v1::ContactStatus::Cancelled,
    }
}

/// Contacts that were refused, in the order in which they were named.
fn refused(refused: &[(usize, Refusal)], id: impl Fn(usize) -> String) -> Vec<v1::RefusedContact> {
    let refused: BTreeMap<usize, Refusal> = refused.iter().copied().collect();
    let reason = |refusal| match refusal {
        Refusal::Unknown => v1::RefusalReason::Unknown,
        Refusal::Early => v1::RefusalReason::Early,
        Refusal::Expired => v1::RefusalReason::Expired,
        Refusal::NotAllowed => v1::RefusalReason::NotAllowed,
        Refusal::Displaced => v1::RefusalReason::Displaced,
        Refusal::Cancelled => v1::RefusalReason::Cancelled,
        Refusal::Claimed => v1::RefusalReason::Claimed,
    };
    let message =
        |(at, refusal): (usize, Refusal)| v1::RefusedContact { contact_id: id(at), reason: reason(refusal).into() };
    refused.into_iter().map(message).collect()
}
