//! AudienceService.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use kindred_models::Model;
use kindred_models::audience::{
    Allocated, Audience, Excluded, Holdout, LaunchOutcome, Trait, TraitKind, allocate, audience,
};
use kindred_models::index::IndexKind;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::Shared;
use super::audience_request::{AudienceQuestion, MAX_UNKNOWN, allocation, check_allocation};
use super::deadline::{Deadline, exceeded};
use super::status::Problem;
use super::validate::Check;
use crate::access::Caller;
use crate::live::Live;
use crate::proto::v1;
use crate::proto::v1::allocate_launches_response::Payload as AllocationPayload;
use crate::proto::v1::audience_service_server::{AudienceService, AudienceServiceServer};
use crate::proto::v1::find_audience_response::Payload;

/// Members per chunk.
const CHUNK: usize = 1000;

/// The service.
pub(super) fn service(shared: Shared) -> AudienceServiceServer<Audiences> {
    AudienceServiceServer::new(Audiences { shared }).max_decoding_message_size(super::MAX_TABLE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Audiences {
    shared: Shared,
}

#[tonic::async_trait]
impl AudienceService for Audiences {
    type FindAudienceStream = Answers<v1::FindAudienceResponse>;
    type AllocateLaunchesStream = Answers<v1::AllocateLaunchesResponse>;

    async fn find_audience(
        &self,
        request: Request<v1::FindAudienceRequest>,
    ) -> Result<Response<Self::FindAudienceStream>, Status> {
        let (by, deadline) = (Caller::of(&request), request.extensions().get::<Deadline>().copied());
        let request = request.into_inner();
        let (subject, own) = (subject(&request), subject_in_full(&request));
        let holdout = Holdout::of(request.holdout_share, request.holdout_seed, &own);
        let Answer { mut summary, audience, held_out, model } = self.answer(request, "", holdout).await?;
        let detail = format!("{} members for {subject}, by {}", audience.members.len(), model.info.version);
        self.shared.account_soon(&by, "FindAudience", detail).await?;
        summary.holdout_count = held_out.iter().filter(|held| **held).count() as i64;
        let first = v1::FindAudienceResponse { payload: Some(Payload::Summary(summary)) };
        Ok(Response::new(until(deadline, first, chunks(self.shared.live.clone(), model, audience, held_out))))
    }

    async fn estimate_audience(
        &self,
        request: Request<v1::EstimateAudienceRequest>,
    ) -> Result<Response<v1::EstimateAudienceResponse>, Status> {
        let mut check = Check::default();
        let audience = request.into_inner().audience;
        check.that(audience.is_some(), "audience", "is required");
        check.finish()?;
        let Answer { summary, .. } = self.answer(audience.unwrap_or_default(), "audience.", Holdout::default()).await?;
        Ok(Response::new(v1::EstimateAudienceResponse { summary: Some(summary) }))
    }

    async fn allocate_launches(
        &self,
        request: Request<v1::AllocateLaunchesRequest>,
    ) -> Result<Response<Self::AllocateLaunchesStream>, Status> {
        let (by, deadline) = (Caller::of(&request), request.extensions().get::<Deadline>().copied());
        let request = request.into_inner();
        let own: Vec<String> = request.launches.iter().map(|l| in_full(&l.product_id, l.attributes.as_ref())).collect();
        let holdout = Holdout::of(request.holdout_share, request.holdout_seed, &own.join("\n"));
        let launches = request.launches.len();
        let filter = check_allocation(&request, self.shared.today())?;
        let model = self.shared.live.snapshot();
        let computed = self.shared.compute.run(move |stop| {
            let question = allocation(&model, request, filter)?;
            let answer = allocate(&model, &question, stop)?;
            let held_out = holdout.among(&answer.members, |m| model.members.ids.get(m.member));
            let outcomes = answer.by_launch(&question.launches, &held_out);
            let summary = v1::AllocationSummary {
                launches: outcomes.into_iter().map(launch_allocation).collect(),
                expected_value: answer.value,
                expected_value_bound: answer.bound,
                eligible_count: answer.eligible as i64,
                excluded: Some(excluded(&answer.excluded)),
                horizon_days: model.launch.fit.horizon_days() as i32,
                model_version: model.info.version.clone(),
            };
            Ok::<_, Problem>((summary, answer.members, held_out, model))
        });
        let (summary, members, held_out, model) = computed.await?;
        let detail = format!("{} members for {launches} launches, by {}", members.len(), model.info.version);
        self.shared.account_soon(&by, "AllocateLaunches", detail).await?;
        let first = v1::AllocateLaunchesResponse { payload: Some(AllocationPayload::Summary(summary)) };
        Ok(Response::new(until(deadline, first, allocation_chunks(self.shared.live.clone(), model, members, held_out))))
    }
}

/// What an audience is asked for, in a few words.
fn subject(request: &v1::FindAudienceRequest) -> String {
    match &request.attributes {
        Some(new) => format!("a new product ({} {})", new.category, new.title.chars().take(40).collect::<String>()),
        None if request.product_id.is_empty() => format!("{} seeds", request.seed_member_ids.len()),
        None => format!("product {}", request.product_id),
    }
}

/// What tells the subject from others: its seeds alone, where it has nothing else.
fn subject_in_full(request: &v1::FindAudienceRequest) -> String {
    if request.attributes.is_none() && request.product_id.is_empty() {
        let seeds: BTreeSet<&str> = request.seed_member_ids.iter().map(String::as_str).collect();
        return seeds.into_iter().collect::<Vec<_>>().join("\n");
    }
    in_full(&request.product_id, request.attributes.as_ref())
}

fn in_full(product_id: &str, attributes: Option<&v1::ProductAttributes>) -> String {
    let described = |new: &v1::ProductAttributes| [new.title.as_str(), &new.category, &new.brand].join("\n");
    attributes.map_or_else(|| product_id.to_owned(), described)
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages one after the other, as long as the deadline allows; others get their turn before each is made, and those made
/// are sent.
fn until<T: Send + 'static>(
    deadline: Option<Deadline>,
    first: T,
    mut rest: impl Iterator<Item = T> + Send + 'static,
) -> Answers<T> {
    // Whoever encodes them takes the first pause for the end of a frame, and asks again at once.
    let pause = async || {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    };
    let turns = tokio_stream::iter(std::iter::repeat(())).then(move |()| pause());
    let messages = tokio_stream::once(first).chain(turns.map_while(move |()| rest.next()));
    Box::pin(messages.map(move |message| match deadline {
        Some(deadline) if deadline.has_passed() => Err(exceeded()),
        _ => Ok(message),
    }))
}

/// An audience, and the model that gave it.
struct Answer {
    summary: v1::AudienceSummary,
    audience: Audience,
    held_out: Vec<bool>,
    model: Arc<Model>,
}

impl Audiences {
    /// Answers a request that may stand `within` another one's field.
    async fn answer(
        &self,
        request: v1::FindAudienceRequest,
        within: &'static str,
        holdout: Holdout,
    ) -> Result<Answer, Problem> {
        let checked = AudienceQuestion::check(&request, within, self.shared.today())?;
        let model = self.shared.live.snapshot();
        let computed = self.shared.compute.run(move |stop| {
            let (question, unknown) = checked.ask(&model, request)?;
            let audience = audience(&model, &question, stop)?;
            let unknown_names = question.filter.unknown_names(&model).into_iter().take(MAX_UNKNOWN).collect();
            let held_out = holdout.among(&audience.members, |m| model.members.ids.get(m.row));
            let summary = v1::AudienceSummary {
                unknown_seed_member_ids: unknown,
                unknown_filter_names: unknown_names,
                ..summary(&model, &audience)
            };
            Ok(Answer { summary, audience, held_out, model })
        });
        computed.await
    }
}

fn summary(model: &Model, answer: &Audience) -> v1::AudienceSummary {
    let expectation = model.launch.fit.expectation.as_ref().filter(|_| answer.expected.is_some());
    let reach = answer.reach.iter().map(|point| v1::ReachPoint {
        member_count: point.members as i64,
        expected_buyers: point.expected_buyers,
        precision: point.precision,
        lift: point.lift,
    });
    v1::AudienceSummary {
        eligible_count: answer.eligible as i64,
        audience_count: answer.members.len() as i64,
        excluded: Some(excluded(&answer.excluded)),
        expected_buyers: answer.expected.map(|e| e.buyers),
        expected_buyers_low: answer.expected.map(|e| e.low),
        expected_buyers_high: answer.expected.map(|e| e.high),
        horizon_days: answer.expected.map_or(0, |_| model.launch.fit.horizon_days() as i32),
        launch_count: expectation.map_or(0, |e| e.launches as i32),
        reach: reach.collect(),
        traits: answer.traits.iter().map(audience_trait).collect(),
        holdout_count: 0,
        index: index(answer.index).into(),
        model_version: model.info.version.clone(),
        over_quota_count: answer.over_quota as i64,
        scored_count: answer.scored as i64,
        ..v1::AudienceSummary::default()
    }
}

pub(super) fn excluded(excluded: &Excluded) -> v1::ExcludedMembers {
    let n = |count: usize| count as i64;
    v1::ExcludedMembers {
        erased_count: n(excluded.erased),
        no_consent_count: n(excluded.no_consent),
        minor_count: n(excluded.minor),
        seed_count: n(excluded.seed),
        filter_count: n(excluded.by_filter()),
        store_count: n(excluded.store),
        city_count: n(excluded.city),
        guide_count: n(excluded.guide),
        segment_count: n(excluded.segment),
        tag_count: n(excluded.tag),
        last_purchase_count: n(excluded.last_purchase),
        contact_count: n(excluded.contacts),
        birthday_count: n(excluded.birthday),
        due_for_repeat_count: n(excluded.due_for_repeat),
        any_of_count: n(excluded.any_of),
        none_of_count: n(excluded.none_of),
    }
}

fn audience_trait(found: &Trait) -> v1::AudienceTrait {
    let kind = match found.kind {
        TraitKind::Tag => v1::TraitKind::Tag,
        TraitKind::Category => v1::TraitKind::Category,
        TraitKind::Brand => v1::TraitKind::Brand,
        TraitKind::Analogue => v1::TraitKind::Analogue,
    };
    v1::AudienceTrait {
        kind: kind.into(),
        name: found.name.clone(),
        member_count: found.members as i64,
        share: found.share,
        lift: found.lift,
    }
}

/// Whether a member may be contacted now, as far as a model knows them.
pub(super) fn may_be_contacted(model: &Model, member_id: &str) -> bool {
    let allows = |row| model.state.consent(model, row).allows_contact(model.members.consent(row));
    model.state.find(model, member_id).map_or_else(|| !model.state.is_forgotten(member_id), allows)
}

/// The chunks of an answer, made one at a time as the client reads them. Members opt out meanwhile: of who may no longer be
/// contacted by then, nothing is told.
fn chunks(
    live: Arc<Live>,
    model: Arc<Model>,
    answer: Audience,
    held_out: Vec<bool>,
) -> impl Iterator<Item = v1::FindAudienceResponse> + Send {
    let count = answer.members.len().div_ceil(CHUNK);
    (0..count).map(move |chunk| {
        let rows = (chunk * CHUNK..answer.members.len()).take(CHUNK);
        let now = live.snapshot();
        let members = rows.filter_map(|i| {
            let member_id = model.members.ids.get(answer.members[i].row);
            may_be_contacted(&now, member_id).then(|| v1::AudienceMember {
                member_id: member_id.to_owned(),
                score: answer.members[i].score,
                probability: answer.probabilities.get(i).copied(),
                held_out: held_out[i],
                day: answer.days.get(i).map_or(0, |day| i32::from(*day)),
            })
        });
        v1::FindAudienceResponse { payload: Some(Payload::Chunk(v1::AudienceChunk { members: members.collect() })) }
    })
}

fn launch_allocation(outcome: LaunchOutcome) -> v1::LaunchAllocation {
    v1::LaunchAllocation {
        member_count: outcome.members as i64,
        holdout_count: outcome.held_out as i64,
        expected_buyers: outcome.expected_buyers,
        expected_value: outcome.expected_value,
    }
}

fn allocation_chunks(
    live: Arc<Live>,
    model: Arc<Model>,
    members: Vec<Allocated>,
    held_out: Vec<bool>,
) -> impl Iterator<Item = v1::AllocateLaunchesResponse> + Send {
    let count = members.len().div_ceil(CHUNK);
    (0..count).map(move |chunk| {
        let rows = (chunk * CHUNK..members.len()).take(CHUNK);
        let now = live.snapshot();
        let members = rows.filter_map(|i| {
            let member_id = model.members.ids.get(members[i].member);
            may_be_contacted(&now, member_id).then(|| v1::AllocatedMember {
                member_id: member_id.to_owned(),
                launch: i32::from(members[i].launch),
                probability: members[i].probability,
                held_out: held_out[i],
            })
        });
        let chunk = v1::AllocationChunk { members: members.collect() };
        v1::AllocateLaunchesResponse { payload: Some(AllocationPayload::Chunk(chunk)) }
    })
}

/// The index in the API's terms.
pub(super) fn index(kind: IndexKind) -> v1::Index {
    match kind {
        IndexKind::Exact => v1::Index::Exact,
        IndexKind::Hnsw => v1::Index::Hnsw,
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_message_is_sent_before_the_next_is_made() {
        let mut messages = until(None, 1, 2..4);
        let mut polled = || match messages.as_mut().poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(message)) => message.unwrap().to_string(),
            Poll::Ready(None) => "end".to_owned(),
            Poll::Pending => "pause".to_owned(),
        };
        let seen: Vec<String> = (0..10).map(|_| polled()).collect();
        assert_eq!(seen, ["1", "pause", "pause", "2", "pause", "pause", "3", "pause", "pause", "end"]);
    }
}
