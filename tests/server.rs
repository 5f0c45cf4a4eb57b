//! How the server behaves as a server: validation, deadlines, cancellation, streams, draining, reloading.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kindred::proto::v1;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::batch_service_client::BatchServiceClient;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::{TRAINED_AT, serve, status_with_timeout, trained, two_tastes};
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    assert!(violations.iter().all(|v| !v.description.is_empty()));
    violations.into_iter().map(|v| v.field).collect()
}

#[tokio::test]
async fn of_many_invalid_fields_the_first_are_named() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let product = |i: u32| v1::Product { product_id: format!("p{i}"), price: Some(-1.0), ..Default::default() };
    let request = v1::UpsertProductsRequest { products: (0..1000).map(product).collect() };
    let mut catalog = CatalogServiceClient::new(running.channel.clone());
    let refused = catalog.upsert_products(request).await.unwrap_err();
    let named = fields(&refused);
    assert_eq!((named.len(), named[0].as_str(), named[19].as_str()), (20, "products[0].price", "products[19].price"));
    assert!(refused.message().ends_with("and 995 more"), "{refused:?}");
    running.end().await.unwrap();
}

#[tokio::test]
async fn every_invalid_field_is_named() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let good = v1::RecommendFeedRequest::default;
    let filter = v1::ProductFilter::default;
    let event = |product_id: &str, kind| v1::VisitEvent { product_id: product_id.into(), kind };
    for (request, expected) in [
        (v1::RecommendFeedRequest { page_size: -1, ..good() }, vec!["page_size"]),
        (v1::RecommendFeedRequest { member_id: "x".repeat(257), ..good() }, vec!["member_id"]),
        (
            v1::RecommendFeedRequest { excluded_product_ids: vec![String::new()], page_size: -9, ..good() },
            vec!["excluded_product_ids[0]", "page_size"],
        ),
        (
            v1::RecommendFeedRequest { excluded_product_ids: vec!["p".into(); 10_001], ..good() },
            vec!["excluded_product_ids"],
        ),
        (v1::RecommendFeedRequest { visit_events: vec![event("", 1)], ..good() }, vec!["visit_events[0].product_id"]),
        (v1::RecommendFeedRequest { visit_events: vec![event("p", 99)], ..good() }, vec!["visit_events[0].kind"]),
        (v1::RecommendFeedRequest { visit_events: vec![event("p", 1); 201], ..good() }, vec!["visit_events"]),
        (
            v1::RecommendFeedRequest {
                filter: Some(v1::ProductFilter { min_price: Some(f32::NAN), ..filter() }),
                ..good()
            },
            vec!["filter.min_price"],
        ),
        (
            v1::RecommendFeedRequest {
                filter: Some(v1::ProductFilter { min_price: Some(5.0), max_price: Some(4.0), ..filter() }),
                ..good()
            },
            vec!["filter.max_price"],
        ),
        (
            v1::RecommendFeedRequest {
                filter: Some(v1::ProductFilter { brands: vec!["b".into(); 101], ..filter() }),
                ..good()
            },
            vec!["filter.brands"],
        ),
    ] {
        assert_eq!(fields(&feeds.recommend_feed(request).await.unwrap_err()), expected);
    }
    let group =
        |members: usize| v1::RecommendGroupFeedRequest { member_ids: vec!["m".into(); members], ..Default::default() };
    let explore = v1::FeedRules { explore_share: 0.5, max_per_brand: -1, ..Default::default() };
    for (request, expected) in [
        (group(0), vec!["member_ids"]),
        (group(501), vec!["member_ids"]),
        (
            v1::RecommendGroupFeedRequest { rules: Some(explore), ..group(1) },
            vec!["rules.max_per_brand", "rules.explore_share"],
        ),
    ] {
        assert_eq!(fields(&feeds.recommend_group_feed(request).await.unwrap_err()), expected);
    }
    let empty = feeds.rank_products(v1::RankProductsRequest::default()).await.unwrap_err();
    assert_eq!(fields(&empty), ["product_ids"]);
    let unnamed = feeds.find_similar_products(v1::FindSimilarProductsRequest::default()).await.unwrap_err();
    assert_eq!(fields(&unnamed), ["product_id"]);

    let mut audiences = AudienceServiceClient::new(running.channel.clone());
    let good = || v1::FindAudienceRequest {
        product_id: "tea1".into(),
        size: Some(Size::MemberCount(5)),
        ..Default::default()
    };
    let attributes = v1::ProductAttributes::default;
    for (request, expected) in [
        (v1::FindAudienceRequest::default(), vec!["product_id", "size"]),
        (v1::FindAudienceRequest { size: Some(Size::MemberCount(0)), ..good() }, vec!["member_count"]),
        (v1::FindAudienceRequest { size: Some(Size::MemberShare(1.5)), ..good() }, vec!["member_share"]),
        (v1::FindAudienceRequest { size: Some(Size::MemberShare(f64::NAN)), ..good() }, vec!["member_share"]),
        (v1::FindAudienceRequest { attributes: Some(attributes()), ..good() }, vec!["attributes", "attributes"]),
        (
            v1::FindAudienceRequest {
                product_id: String::new(),
                attributes: Some(v1::ProductAttributes { price: Some(-1.0), ..attributes() }),
                ..good()
            },
            vec!["attributes.price"],
        ),
        (
            v1::FindAudienceRequest { product_id: String::new(), seed_member_ids: vec!["who".into()], ..good() },
            vec!["seed_member_ids"],
        ),
        // One whose purchases may not be used is like nobody.
        (
            v1::FindAudienceRequest { product_id: String::new(), seed_member_ids: vec!["shy".into()], ..good() },
            vec!["seed_member_ids"],
        ),
        (
            v1::FindAudienceRequest {
                filter: Some(v1::MemberFilter { cities: vec![String::new()], ..Default::default() }),
                ..good()
            },
            vec!["filter.cities[0]"],
        ),
    ] {
        assert_eq!(fields(&audiences.find_audience(request).await.unwrap_err()), expected);
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let request = v1::FindSimilarProductsRequest { product_id: "gin".into(), ..Default::default() };
    let status = feeds.find_similar_products(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNKNOWN_PRODUCT");
    let mut audiences = AudienceServiceClient::new(running.channel.clone());
    let request =
        v1::FindAudienceRequest { product_id: "gin".into(), size: Some(Size::MemberCount(5)), ..Default::default() };
    assert_eq!(audiences.find_audience(request).await.unwrap_err().code(), Code::NotFound);
    let mut models = ModelServiceClient::new(running.channel.clone());
    for version in ["20000101T000000Z-00000000", "../../etc"] {
        let request = v1::GetModelRequest { version: version.into() };
        assert_eq!(models.get_model(request).await.unwrap_err().code(), Code::NotFound);
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn large_pages_are_capped_and_small_catalogues_do_not_fill_them() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let request = v1::RecommendFeedRequest { page_size: i32::MAX, include_purchased: true, ..Default::default() };
    let answer = feeds.recommend_feed(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.items.len(), 20, "all there is");
    let again = feeds.recommend_feed(request).await.unwrap().into_inner();
    assert_eq!(again.items, answer.items);
    assert_ne!(again.attribution_token, answer.attribution_token);
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_passed_deadline_is_deadline_exceeded() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    const DEADLINE_EXCEEDED: &str = "4";
    let feed = v1::RecommendFeedRequest::default();
    let ask = async |timeout| {
        status_with_timeout(running.address, "RecommendationService/RecommendFeed", &feed, timeout, false).await
    };
    // A nanosecond has passed before anything could be computed.
    assert_eq!(ask("1n").await, DEADLINE_EXCEEDED);
    assert_eq!(ask("1H").await, "0");
    let audience =
        v1::FindAudienceRequest { product_id: "tea1".into(), size: Some(Size::MemberCount(5)), ..Default::default() };
    let method = "AudienceService/FindAudience";
    assert_eq!(status_with_timeout(running.address, method, &audience, "1n", false).await, DEADLINE_EXCEEDED);
    // More members never come, so only the deadline can end the stream.
    let batch = v1::ScoreMembersRequest { member_ids: vec!["t1".into()], ..Default::default() };
    let method = "BatchService/ScoreMembers";
    assert_eq!(status_with_timeout(running.address, method, &batch, "200m", true).await, DEADLINE_EXCEEDED);
    running.end().await.unwrap();
}

#[tokio::test]
async fn batch_answers_in_order_and_like_the_feed() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let ids: Vec<String> = (0..700).map(|i| format!("{}{}", if i % 2 == 0 { "t" } else { "c" }, i % 31)).collect();
    let messages: Vec<v1::ScoreMembersRequest> = ids
        .chunks(300)
        .map(|ids| v1::ScoreMembersRequest { member_ids: ids.to_vec(), top: 3, exclude_purchased: true })
        .collect();
    let mut batch = BatchServiceClient::new(running.channel.clone());
    let answers = batch.score_members(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let answers: Vec<v1::ScoreMembersResponse> = answers.map(Result::unwrap).collect().await;
    let members: Vec<&v1::MemberScores> = answers.iter().flat_map(|a| &a.members).collect();
    assert_eq!(members.iter().map(|m| &m.member_id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    for member in &members[..4] {
        let request =
            v1::RecommendFeedRequest { member_id: member.member_id.clone(), page_size: 3, ..Default::default() };
        let feed = feeds.recommend_feed(request).await.unwrap().into_inner();
        let feed: Vec<(&str, f32)> = feed.items.iter().map(|i| (i.product_id.as_str(), i.score)).collect();
        let scored: Vec<(&str, f32)> = member.products.iter().map(|p| (p.product_id.as_str(), p.score)).collect();
        assert_eq!(feed, scored);
    }
    let wrong = vec![v1::ScoreMembersRequest { member_ids: Vec::new(), top: -1, exclude_purchased: false }];
    let mut answers = batch.score_members(tokio_stream::iter(wrong)).await.unwrap().into_inner();
    assert_eq!(fields(&answers.message().await.unwrap_err()), ["member_ids", "top"]);
    running.end().await.unwrap();
}

#[tokio::test]
async fn batch_takes_in_no_more_than_it_can_answer() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let (taken, mut count) = tokio::sync::watch::channel(0);
    let endless = futures_like_counter(taken);
    let mut batch = BatchServiceClient::new(running.channel.clone());
    let mut answers = batch.score_members(endless).await.unwrap().into_inner();
    // Nobody reads the answers: the members taken in must come to rest. They have when nothing moves
    // for a while; a server without flow control would never let this end.
    let mut last = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), count.changed()).await {
        last = *count.borrow();
        assert!(last < 100_000, "the server takes in members without end");
    }
    assert!(last > 0);
    // Reading sets it going again.
    for _ in 0..50 {
        answers.message().await.unwrap().unwrap();
    }
    tokio::time::timeout(Duration::from_secs(20), count.wait_for(|n| *n > last)).await.unwrap().unwrap();
    running.end().await.unwrap();
}

/// Messages without end, counted as they are asked for.
fn futures_like_counter(
    taken: tokio::sync::watch::Sender<usize>,
) -> impl tokio_stream::Stream<Item = v1::ScoreMembersRequest> {
    tokio_stream::iter(std::iter::repeat_with(move || {
        taken.send_modify(|n| *n += 1);
        v1::ScoreMembersRequest { member_ids: vec!["t1".into(); 256], top: 20, exclude_purchased: false }
    }))
}

#[tokio::test]
async fn the_model_describes_itself() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut models = ModelServiceClient::new(running.channel.clone());
    let model = models.get_model(v1::GetModelRequest::default()).await.unwrap().into_inner().model.unwrap();
    assert_eq!(model.version, trained.id.as_str());
    assert_eq!(model.train_time.unwrap().seconds, TRAINED_AT);
    assert_eq!(model.counts["members"], 62);
    assert_eq!(model.counts["products"], 20);
    assert_eq!(model.checksum.len(), 64);
    assert!(model.version.ends_with(&model.checksum[..8]));
    assert!(model.parameters.unwrap().fields.contains_key("embeddings"));
    assert_eq!(model.product_index.unwrap().index(), v1::Index::Exact);
    let by_name = models.get_model(v1::GetModelRequest { version: model.version.clone() }).await.unwrap();
    assert_eq!(by_name.into_inner().model.unwrap().checksum, model.checksum);
    let list = models.list_models(v1::ListModelsRequest {}).await.unwrap().into_inner().models;
    assert_eq!(list.len(), 1);
    assert!(list[0].active && list[0].serving);
    running.end().await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut health = HealthClient::new(running.channel.clone());
    for service in ["", "kindred.v1.RecommendationService", "kindred.v1.AudienceService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(running.channel.clone());
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<&str> = list.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["RecommendationService", "AudienceService", "BatchService", "ModelService"] {
        assert!(names.contains(&format!("kindred.v1.{name}").as_str()), "{names:?}");
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn draining_lets_open_calls_finish() {
    let trained = trained(&two_tastes());
    let mut running = serve(&trained).await;
    let mut batch = BatchServiceClient::new(running.channel.clone());
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let members = tokio_stream::wrappers::ReceiverStream::new(receive);
    let message = v1::ScoreMembersRequest { member_ids: vec!["t1".into()], top: 2, exclude_purchased: false };
    send.send(message.clone()).await.unwrap();
    let mut answers = batch.score_members(members).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    running.ask_to_end();
    // The open stream still answers.
    send.send(message).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.members[0].products.len(), 2);
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    drop((answers, batch));
    running.end().await.unwrap();
}

#[tokio::test]
async fn another_active_version_is_swapped_in() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut tables = two_tastes();
    tables.buy("t0", "tea9", 61);
    let config = tables.write(trained.folder.path()).validate().unwrap();
    let id = kindred_training::train::train(
        &config,
        &trained.registry,
        TRAINED_AT + 60,
        &kindred_training::progress::Quiet,
        &kindred_models::stop::Stop::default(),
    )
    .unwrap()
    .id;
    assert_ne!(id, trained.id);
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let swapped = async {
        loop {
            let answer = feeds.recommend_feed(v1::RecommendFeedRequest::default()).await.unwrap().into_inner();
            if answer.model_version == id.as_str() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(90), swapped).await.unwrap();
    running.end().await.unwrap();
}
