//! RecommendationService.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use kindred_models::Model;
use kindred_models::feed::{self, FeedItem, Persona, Reason, Reasons, Rule, Source};
use kindred_models::similar::similar;
use tonic::{Request, Response, Status};

use super::Shared;
use super::feed_request::FeedQuestion;
use super::status::Problem;
use super::validate::{Check, visit_events};
use crate::batch::visitor;
use crate::proto::v1;
use crate::proto::v1::recommendation_service_server::{RecommendationService, RecommendationServiceServer};

/// Products to leave out, or to put in order, at most.
pub(super) const MAX_PRODUCTS: usize = 10_000;

/// The service.
pub(super) fn service(shared: Shared) -> RecommendationServiceServer<Recommendation> {
    RecommendationServiceServer::new(Recommendation { shared, tokens: Tokens::default() })
        .max_decoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Recommendation {
    shared: Shared,
    tokens: Tokens,
}

#[tonic::async_trait]
impl RecommendationService for Recommendation {
    async fn recommend_feed(
        &self,
        request: Request<v1::RecommendFeedRequest>,
    ) -> Result<Response<v1::RecommendFeedResponse>, Status> {
        let request = request.into_inner();
        let question = FeedQuestion::check(&request)?;
        let model = self.shared.live.snapshot();
        let attribution_token = self.tokens.next(&model);
        let answer = self.shared.compute.run(move |_| {
            let question = question.resolve(&model, &request);
            let persona = Persona::of(&model, question.visitor, &question.visit).with_basket(&question.basket);
            let items = if question.basket.is_empty() && !request.basket_product_ids.is_empty() {
                // What goes with what nobody knows, nobody knows; the visitor's own feed is another answer.
                Vec::new()
            } else {
                feed::feed_for(&model, &question, &persona)
            };
            let reasons = Reasons::of(&model, &persona, &question);
            Ok(v1::RecommendFeedResponse {
                items: items.iter().map(|i| item(&model, &reasons, i)).collect(),
                model_version: model.info.version.clone(),
                attribution_token,
                personalized: persona.is_personal(),
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn recommend_group_feed(
        &self,
        request: Request<v1::RecommendGroupFeedRequest>,
    ) -> Result<Response<v1::RecommendGroupFeedResponse>, Status> {
        let request = request.into_inner();
        let question = FeedQuestion::check_group(&request)?;
        let model = self.shared.live.snapshot();
        let attribution_token = self.tokens.next(&model);
        let answer = self.shared.compute.run(move |stop| {
            let group = feed::group_feed(&model, &question.resolve_group(&model, &request), stop)?;
            let item = |item: &feed::GroupItem| v1::GroupItem {
                product_id: model.products.ids.get(item.product).to_owned(),
                score: item.score,
                liked_by_count: item.liked_by,
                minded_by_count: item.minded_by,
                source: source(item.source).into(),
                rule: rule(item.rule).into(),
            };
            Ok(v1::RecommendGroupFeedResponse {
                items: group.items.iter().map(item).collect(),
                model_version: model.info.version.clone(),
                attribution_token,
                known_member_count: group.known_members as u32,
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn rank_products(
        &self,
        request: Request<v1::RankProductsRequest>,
    ) -> Result<Response<v1::RankProductsResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::default();
        check.text("member_id", &request.member_id, 256);
        check.that(!request.product_ids.is_empty(), "product_ids", "is required");
        check.ids("product_ids", &request.product_ids, MAX_PRODUCTS);
        check.visit(&request.visit_events);
        check.finish()?;
        let model = self.shared.live.snapshot();
        let attribution_token = self.tokens.next(&model);
        let answer = self.shared.compute.run(move |stop| {
            let (mut known, mut unknown, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
            for id in request.product_ids {
                match model.products.find(&id) {
                    Some(row) if seen.insert(row) => known.push(row),
                    Some(_) => {}
                    None => unknown.push(id),
                }
            }
            let visit = visit_events(&model, &request.visit_events);
            let persona = Persona::of(&model, visitor(&model, &request.member_id), &visit);
            let reasons = Reasons::at_home(&model, &persona);
            // Each looks at all that the member bought, and the visit.
            let with_reason = |i: &FeedItem| {
                stop.check()?;
                Ok(item(&model, &reasons, i))
            };
            let items = feed::rank(&model, &persona, &known);
            Ok(v1::RankProductsResponse {
                items: items.iter().map(with_reason).collect::<Result<_, Problem>>()?,
                unknown_product_ids: unknown,
                model_version: model.info.version.clone(),
                attribution_token,
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn find_similar_products(
        &self,
        request: Request<v1::FindSimilarProductsRequest>,
    ) -> Result<Response<v1::FindSimilarProductsResponse>, Status> {
        let request = request.into_inner();
        let mut check = Check::default();
        check.id("product_id", &request.product_id);
        let page_size = check.page_size("page_size", request.page_size);
        let filter = check.filter("filter", request.filter.clone());
        check.finish()?;
        let model = self.shared.live.snapshot();
        let answer = self.shared.compute.run(move |_| {
            let product = model.products.find(&request.product_id);
            let product = product.ok_or_else(|| Problem::UnknownProduct(request.product_id.clone()))?;
            let items = similar(&model, product, page_size, &filter)
                .into_iter()
                .map(|s| v1::SimilarProduct { product_id: model.products.ids.get(s.row).to_owned(), score: s.score });
            Ok(v1::FindSimilarProductsResponse { items: items.collect(), model_version: model.info.version.clone() })
        });
        Ok(Response::new(answer.await?))
    }
}

fn item(model: &Model, reasons: &Reasons<'_>, item: &FeedItem) -> v1::Item {
    v1::Item {
        product_id: model.products.ids.get(item.product).to_owned(),
        score: item.score,
        source: source(item.source).into(),
        rule: rule(item.rule).into(),
        reason: reasons.reason(item).map(|why| reason(model, why)),
    }
}

fn source(source: Source) -> v1::Source {
    match source {
        Source::Repeat => v1::Source::Repeat,
        Source::Affinity => v1::Source::Affinity,
        Source::Neighbours => v1::Source::Neighbours,
        Source::Taste => v1::Source::Taste,
        Source::Popular => v1::Source::Popular,
        Source::Basket => v1::Source::Basket,
    }
}

fn rule(rule: Option<Rule>) -> v1::Rule {
    match rule {
        None => v1::Rule::Unspecified,
        Some(Rule::Launch) => v1::Rule::Launch,
        Some(Rule::Explore) => v1::Rule::Explore,
        Some(Rule::Diversity) => v1::Rule::Diversity,
    }
}

/// A reason as answers tell it.
pub(crate) fn reason(model: &Model, reason: Reason) -> v1::Reason {
    let id = |product: u32| model.products.ids.get(product).to_owned();
    let (mut answer, code) = (v1::Reason::default(), code(reason));
    match reason {
        Reason::BoughtRegularly { every_days, days_since } => {
            answer.every_days = every_days.into();
            answer.days_since = Some(days_since.into());
        }
        Reason::BoughtBefore { count, days_since } => {
            answer.purchase_count = count.into();
            answer.days_since = days_since.map(u32::from);
        }
        Reason::GoesWith(product) | Reason::GoesWithVisit(product) | Reason::LikedByBuyersOf(product) => {
            answer.product_id = id(product);
        }
        Reason::NewInCategory(node) => model.tree.path(node).clone_into(&mut answer.category),
        Reason::PopularHere | Reason::Popular | Reason::New => {}
    }
    answer.code = code.into();
    answer
}

fn code(reason: Reason) -> v1::ReasonCode {
    match reason {
        Reason::BoughtRegularly { .. } => v1::ReasonCode::BoughtRegularly,
        Reason::BoughtBefore { .. } => v1::ReasonCode::BoughtBefore,
        Reason::GoesWith(_) => v1::ReasonCode::GoesWith,
        Reason::GoesWithVisit(_) => v1::ReasonCode::GoesWithVisit,
        Reason::LikedByBuyersOf(_) => v1::ReasonCode::LikedByBuyersOf,
        Reason::NewInCategory(_) => v1::ReasonCode::NewInCategory,
        Reason::PopularHere => v1::ReasonCode::PopularHere,
        Reason::Popular => v1::ReasonCode::Popular,
        Reason::New => v1::ReasonCode::New,
    }
}

/// Tokens that tell answers apart: the version, and a number that no other process counts with.
#[derive(Debug, Default)]
struct Tokens {
    count: AtomicU64,
    process: RandomState,
}

impl Tokens {
    fn next(&self, model: &Model) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{}.{:016x}", model.info.version, self.process.hash_one(count))
    }
}
