//! AudienceService.

use std::pin::Pin;
use std::sync::Arc;

use kindred_models::Model;
use kindred_models::audience::{
    Audience, AudienceRequest, AudienceSize, Holdout, MemberFilter, Subject, Trait, TraitKind, audience,
};
use kindred_models::content::Attributes;
use kindred_models::index::IndexKind;
use kindred_models::ranking::Scored;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::Shared;
use super::deadline::{Deadline, exceeded};
use super::status::Problem;
use super::validate::Check;
use crate::proto::v1;
use crate::proto::v1::audience_service_server::{AudienceService, AudienceServiceServer};
use crate::proto::v1::find_audience_request::Size;
use crate::proto::v1::find_audience_response::Payload;

/// Members per chunk.
const CHUNK: usize = 1000;
/// Seeds at most.
const MAX_SEEDS: usize = 100_000;
/// Bytes of a request at most: room for as many seeds.
const MAX_REQUEST_BYTES: usize = 32 << 20;
/// Unknown seeds named at most.
const MAX_UNKNOWN_SEEDS: usize = 100;
/// Stores, cities and guides of a filter at most.
const MAX_PLACES: usize = 10_000;
/// Tags at most.
const MAX_TAGS: usize = 100;

/// The service.
pub(super) fn service(shared: Shared) -> AudienceServiceServer<Audiences> {
    AudienceServiceServer::new(Audiences { shared }).max_decoding_message_size(MAX_REQUEST_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Audiences {
    shared: Shared,
}

#[tonic::async_trait]
impl AudienceService for Audiences {
    type FindAudienceStream = Pin<Box<dyn Stream<Item = Result<v1::FindAudienceResponse, Status>> + Send>>;

    async fn find_audience(
        &self,
        request: Request<v1::FindAudienceRequest>,
    ) -> Result<Response<Self::FindAudienceStream>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let request = request.into_inner();
        let holdout = Holdout { share: request.holdout_share, seed: request.holdout_seed };
        let Answer { mut summary, audience, held_out, model } = self.answer(request, holdout).await?;
        summary.holdout_count = held_out.iter().filter(|held| **held).count() as i64;
        let first = v1::FindAudienceResponse { payload: Some(Payload::Summary(summary)) };
        let messages = tokio_stream::once(first).chain(tokio_stream::iter(chunks(model, audience, held_out)));
        let until_deadline = messages.map(move |message| match deadline {
            Some(deadline) if deadline.has_passed() => Err(exceeded()),
            _ => Ok(message),
        });
        Ok(Response::new(Box::pin(until_deadline)))
    }

    async fn estimate_audience(
        &self,
        request: Request<v1::EstimateAudienceRequest>,
    ) -> Result<Response<v1::EstimateAudienceResponse>, Status> {
        let request = request.into_inner().audience.unwrap_or_default();
        let Answer { summary, .. } = self.answer(request, Holdout::default()).await?;
        Ok(Response::new(v1::EstimateAudienceResponse { summary: Some(summary) }))
    }
}

/// An audience, and the model that gave it.
struct Answer {
    summary: v1::AudienceSummary,
    audience: Audience,
    held_out: Vec<bool>,
    model: Arc<Model>,
}

impl Audiences {
    async fn answer(&self, request: v1::FindAudienceRequest, holdout: Holdout) -> Result<Answer, Problem> {
        let size = validate(&request)?;
        let model = self.shared.current.snapshot();
        let computed = self.shared.compute.run(move |stop| {
            let (question, unknown) = question(&model, request, size)?;
            let audience = audience(&model, &question, stop)?;
            let id = |m: &Scored| model.members.ids.get(m.row);
            let held_out = audience.members.iter().map(|m| holdout.contains(id(m))).collect();
            Ok(Answer { summary: summary(&model, &audience, unknown), audience, held_out, model })
        });
        computed.await
    }
}

fn validate(request: &v1::FindAudienceRequest) -> Result<AudienceSize, Problem> {
    let mut check = Check::default();
    check.text("product_id", &request.product_id, 256);
    check.ids("seed_member_ids", &request.seed_member_ids, MAX_SEEDS);
    let (named, described) = (!request.product_id.is_empty(), request.attributes.is_some());
    check.that(
        named || described || !request.seed_member_ids.is_empty(),
        "product_id",
        "one of product_id, attributes and seed_member_ids is required",
    );
    check.that(!(named && described), "attributes", "must not be set together with product_id");
    if let Some(attributes) = &request.attributes {
        check.text("attributes.title", &attributes.title, 1000);
        check.text("attributes.category", &attributes.category, 1000);
        check.text("attributes.brand", &attributes.brand, 256);
        check.ids("attributes.tags", &attributes.tags, MAX_TAGS);
        let priced = attributes.price.is_none_or(|price| price.is_finite() && price > 0.0);
        check.that(priced, "attributes.price", "must be above 0");
        check.that(*attributes != v1::ProductAttributes::default(), "attributes", "must have at least one field set");
    }
    if let Some(filter) = &request.filter {
        check.ids("filter.store_ids", &filter.store_ids, MAX_PLACES);
        check.ids("filter.cities", &filter.cities, MAX_PLACES);
        check.ids("filter.guide_ids", &filter.guide_ids, MAX_PLACES);
        check.ids("filter.tags", &filter.tags, MAX_TAGS);
    }
    let size = match request.size {
        None => {
            check.that(false, "size", "is required: member_count, member_share, min_probability or expected_buyers");
            AudienceSize::Count(0)
        }
        Some(Size::MemberCount(count)) => {
            check.that(count >= 1, "member_count", "must be 1 or more");
            AudienceSize::Count(usize::try_from(count).unwrap_or(0))
        }
        Some(Size::MemberShare(share)) => {
            check.that(share > 0.0 && share <= 1.0, "member_share", "must be above 0 and up to 1");
            AudienceSize::Share(share)
        }
        Some(Size::MinProbability(least)) => {
            check.that(least > 0.0 && least <= 1.0, "min_probability", "must be above 0 and up to 1");
            AudienceSize::MinProbability(least)
        }
        Some(Size::ExpectedBuyers(buyers)) => {
            check.that(buyers > 0.0 && buyers.is_finite(), "expected_buyers", "must be above 0");
            AudienceSize::ExpectedBuyers(buyers)
        }
    };
    check.that((0.0..=1.0).contains(&request.holdout_share), "holdout_share", "must be from 0 to 1");
    check.finish().map(|()| size)
}

/// The question as the model takes it, and the seeds that it does not know.
fn question(
    model: &Model,
    request: v1::FindAudienceRequest,
    size: AudienceSize,
) -> Result<(AudienceRequest, Vec<String>), Problem> {
    let subject = match request.attributes {
        Some(a) => Subject::New(Attributes {
            title: a.title,
            category: Some(a.category).filter(|c| !c.is_empty()),
            brand: Some(a.brand).filter(|b| !b.is_empty()),
            price: a.price,
            tags: a.tags,
        }),
        None if request.product_id.is_empty() => Subject::SeedsOnly,
        None => match model.products.ids.find(&request.product_id) {
            Some(row) => Subject::Known(row),
            None => return Err(Problem::UnknownProduct(request.product_id)),
        },
    };
    let (mut seeds, mut unknown) = (Vec::new(), Vec::new());
    for id in request.seed_member_ids {
        match model.members.ids.find(&id) {
            Some(row) => seeds.push(row),
            None => unknown.push(id),
        }
    }
    seeds.sort_unstable();
    seeds.dedup();
    if seeds.is_empty() && subject == Subject::SeedsOnly {
        let mut check = Check::default();
        check.that(false, "seed_member_ids", "must name at least one member that the model knows");
        check.finish()?;
    }
    unknown.truncate(MAX_UNKNOWN_SEEDS);
    let filter = request.filter.unwrap_or_default();
    let filter =
        MemberFilter { stores: filter.store_ids, cities: filter.cities, guides: filter.guide_ids, tags: filter.tags };
    Ok((AudienceRequest { subject, seeds, size, filter }, unknown))
}

fn summary(model: &Model, answer: &Audience, unknown: Vec<String>) -> v1::AudienceSummary {
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
        excluded: Some(v1::ExcludedMembers {
            no_consent_count: answer.excluded.no_consent as i64,
            minor_count: answer.excluded.minor as i64,
            seed_count: answer.excluded.seed as i64,
            filter_count: answer.excluded.filter as i64,
        }),
        expected_buyers: answer.expected.map(|e| e.buyers),
        expected_buyers_low: answer.expected.map(|e| e.low),
        expected_buyers_high: answer.expected.map(|e| e.high),
        horizon_days: expectation.map_or(0, |e| e.horizon_days as i32),
        launch_count: expectation.map_or(0, |e| e.launches as i32),
        reach: reach.collect(),
        traits: answer.traits.iter().map(audience_trait).collect(),
        holdout_count: 0,
        index: index(answer.index).into(),
        model_version: model.info.version.clone(),
        unknown_seed_member_ids: unknown,
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

/// The chunks of an answer, made one at a time as the client reads them.
fn chunks(
    model: Arc<Model>,
    answer: Audience,
    held_out: Vec<bool>,
) -> impl Iterator<Item = v1::FindAudienceResponse> + Send {
    let count = answer.members.len().div_ceil(CHUNK);
    (0..count).map(move |chunk| {
        let rows = (chunk * CHUNK..answer.members.len()).take(CHUNK);
        let members = rows.map(|i| v1::AudienceMember {
            member_id: model.members.ids.get(answer.members[i].row).to_owned(),
            score: answer.members[i].score,
            probability: answer.probabilities.get(i).copied(),
            held_out: held_out[i],
        });
        v1::FindAudienceResponse { payload: Some(Payload::Chunk(v1::AudienceChunk { members: members.collect() })) }
    })
}

/// The index in the API's terms.
pub(super) fn index(kind: IndexKind) -> v1::Index {
    match kind {
        IndexKind::Exact => v1::Index::Exact,
        IndexKind::Hnsw => v1::Index::Hnsw,
    }
}
