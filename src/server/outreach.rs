//! OutreachService.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use kindred_models::Model;
use kindred_models::feed::{Persona, Reasons, Visitor, rank};
use kindred_models::outreach::{ContactStatus, Policy};
use prost_types::Timestamp;
use rayon::prelude::*;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::audience::may_be_contacted;
use super::deadline::{Deadline, exceeded};
use super::outreach_plan::{Planned, learned};
use super::outreach_request::{PlanQuestion, contact_ids, fingerprint, is_same, said};
use super::recommendation::reason;
use super::status::Problem;
use super::validate::Check;
use super::{Shared, entry};
use crate::access::Caller;
use crate::clock::unix_now;
use crate::live::WriteError;
use crate::proto::v1;
use crate::proto::v1::outreach_service_server::{OutreachService, OutreachServiceServer};
use crate::proto::v1::plan_pushes_response::Payload;
use crate::store::{Claim, ContactSubject, NewPlan, Plan, PlanState, Refusal, StoredContact, Write};

/// Pushes per chunk, and contacts that are reserved at once: others write in between.
pub(super) const CHUNK: usize = 500;

/// The service.
pub(super) fn service(shared: Shared) -> OutreachServiceServer<Outreach> {
    OutreachServiceServer::new(Outreach { shared }).max_decoding_message_size(super::MAX_TABLE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Outreach {
    pub(super) shared: Shared,
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
        let request = request.into_inner();
        let wish = fingerprint(&request);
        let begun = self.begun(&request.plan_id).await?;
        // Who asks for no contacts asks what the plan has.
        let is_told = request.max_contacts == 0;
        if begun.as_ref().is_some_and(|plan| !is_told && !is_same(plan, &wish)) {
            return Err(Problem::OtherPlan(request.plan_id).into());
        }
        // One that is made can be asked for when its time has passed, and its products are gone.
        if begun.is_some_and(|plan| is_told || plan.state != PlanState::Open) {
            self.shared.compute.run(|_| Ok::<_, Problem>(())).await?;
            self.shared.account_soon(&by, "PlanPushes", format!("plan {}, again", request.plan_id)).await?;
            let (summary, planned) = self.repeated(&request.plan_id).await?;
            return Ok(Response::new(self.answers(deadline, summary, planned)));
        }
        let question = PlanQuestion::check(request, &self.shared.policy, unix_now())?;
        // A product that nobody knows begins no plan, nor does one call too many.
        let (model, asked) = (self.shared.live.snapshot(), question.clone());
        self.shared.compute.run(move |_| asked.ask(&model, &[]).map(drop)).await?;
        let detail = format!("plan {}, {} contacts at most", question.plan_id, question.max_contacts);
        let by = entry(&by, "PlanPushes", detail);
        let (plan_id, most) = (question.plan_id.clone(), question.max_contacts);
        let begin = Write::BeginPlan(NewPlan { plan_id, asked: wish.clone(), most, by });
        let begun = self.shared.live.keep(begin).await.map_err(Problem::from)?.plan;
        if begun.as_ref().is_some_and(|plan| !is_same(plan, &wish)) {
            return Err(Problem::OtherPlan(question.plan_id).into());
        }
        let is_open = |plan: &Plan| plan.state == PlanState::Open;
        let (summary, planned) = match begun.filter(is_open) {
            Some(plan) => self.plan(question, plan.reserved).await?,
            None => self.repeated(&question.plan_id).await?,
        };
        Ok(Response::new(self.answers(deadline, summary, planned)))
    }

    async fn claim_contacts(
        &self,
        request: Request<v1::ClaimContactsRequest>,
    ) -> Result<Response<v1::ClaimContactsResponse>, Status> {
        let ids = request.into_inner().contact_ids;
        let mut check = Check::default();
        contact_ids(&mut check, "contact_ids", ids.iter(), true);
        check.finish()?;
        let subjects = self.shared.live.subjects_of(&ids).await.map_err(Problem::Store)?;
        let model = self.shared.live.snapshot();
        let learned = |id: &String| {
            let subject = subjects.get(id)?;
            let row = model.members.ids.find(&subject.member)?;
            still_fits(&model, &self.shared.policy, unix_now(), row, subject).then(|| learned(&model, row))
        };
        let claims = ids.iter().map(|id| Claim { contact_id: id.clone(), learned: learned(id) }).collect();
        let kept = self.shared.live.keep(Write::Claim(claims, self.budget(&model))).await.map_err(Problem::from)?;
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
        let (live, unknown) = (self.shared.live.clone(), Problem::UnknownPlan(plan_id.clone()));
        // Whoever asked may give up before all is called off: what was begun is done all the same.
        let cancelled = tokio::spawn(async move {
            let mut cancelled_count = 0;
            loop {
                let kept = live.keep(Write::CancelPlan(plan_id.clone(), unix_now())).await?;
                if kept.plan.is_none() {
                    return Ok(None);
                }
                match kept.accepted {
                    0 => return Ok(Some(cancelled_count)),
                    count => cancelled_count += count as i64,
                }
            }
        });
        let cancelled: Result<Option<i64>, WriteError> = cancelled.await.map_err(|_| Problem::Broken)?;
        let cancelled_count = cancelled.map_err(Problem::from)?.ok_or(unknown)?;
        Ok(Response::new(v1::CancelPlanResponse { cancelled_count }))
    }
}

impl Outreach {
    /// The summary, and then chunks, each made when the client reads on, as long as the deadline allows. Members opt out
    /// meanwhile: of who may no longer be contacted by then, nothing is told.
    fn answers(&self, deadline: Option<Deadline>, summary: v1::PlanSummary, planned: Planned) -> Answers {
        let first = v1::PlanPushesResponse { payload: Some(Payload::Summary(summary)) };
        let (shared, planned) = (self.shared.clone(), Arc::new(planned));
        let chunks = (0..planned.len()).step_by(CHUNK);
        let chunks = tokio_stream::iter(chunks).then(move |start| {
            let (compute, planned, model) = (shared.compute.clone(), planned.clone(), shared.live.snapshot());
            async move {
                let made = compute.go_on(move |stop| {
                    let part = planned[start..planned.len().min(start + CHUNK)].par_iter();
                    let may_be_told = part.filter(|(contact, _)| may_be_contacted(&model, &contact.member_id));
                    // Why a member is told of a product takes as long as a feed.
                    let told = may_be_told.map(|(contact, held_out)| {
                        stop.check()?;
                        Ok(message(&model, contact, *held_out))
                    });
                    told.collect::<Result<_, Problem>>()
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
}

fn message(model: &Model, contact: &StoredContact, held_out: bool) -> v1::Push {
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let status = if held_out { v1::ContactStatus::Unspecified } else { status(contact.status) };
    v1::Push {
        contact_id: if held_out { String::new() } else { contact.contact_id.clone() },
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
    Reasons::at_home(model, &persona).reason(&item).map(|why| reason(model, why))
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
        Refusal::Capped => v1::RefusalReason::Capped,
    };
    let message =
        |(at, refusal): (usize, Refusal)| v1::RefusedContact { contact_id: id(at), reason: reason(refusal).into() };
    refused.into_iter().map(message).collect()
}

/// Whether a contact makes sense as it did when it was planned: its product can be bought, the member has not just bought it,
/// and is reached by the channel. What a member allows, and the caps, the store asks.
fn still_fits(model: &Model, policy: &Policy, now: i64, row: u32, subject: &ContactSubject) -> bool {
    let Some(channel) = policy.find(&subject.channel) else { return false };
    let is_reached = || policy.channel(channel).tag.as_ref().is_none_or(|tag| model.state.has_tag(model, row, tag));
    let is_sold = |product: u32| model.products.available[product as usize] != 0;
    let may_be_read = model.state.consent(model, row).personalization;
    let just_bought = |product: u32| may_be_read && model.state.just_bought(model, row, now).contains(&product);
    let fits = |product: u32| is_sold(product) && !just_bought(product);
    is_reached() && (subject.product.is_empty() || model.products.find(&subject.product).is_some_and(fits))
}
