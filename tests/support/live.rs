//! What the tests of the live service share.
#![allow(dead_code, unused_macros, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use kindred::proto::v1;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::member_service_client::MemberServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;

use super::{Running, find};

/// Runs tests on SQLite, and on PostgreSQL where `KINDRED_TEST_POSTGRES` names a server on which databases can be made.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(kindred::config::StateConfig::default()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            #[ignore = "needs KINDRED_TEST_POSTGRES, the URL of a server on which databases can be made"]
            async fn $test() {
                super::$test(super::support::new_database().await).await;
            })*
        }
    };
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn event(id: &str, member: &str, product: &str, kind: v1::EventKind) -> v1::Event {
    v1::Event {
        event_id: id.to_owned(),
        member_id: member.to_owned(),
        product_id: product.to_owned(),
        time: Some(prost_types::Timestamp { seconds: now() - 60, nanos: 0 }),
        kind: kind.into(),
        ..v1::Event::default()
    }
}

pub async fn record(running: &Running, events: Vec<v1::Event>) -> v1::RecordEventsResponse {
    let mut client = EventServiceClient::new(running.channel.clone());
    client.record_events(v1::RecordEventsRequest { events }).await.unwrap().into_inner()
}

pub async fn feed(running: &Running, member: &str, include_purchased: bool) -> v1::RecommendFeedResponse {
    let request = v1::RecommendFeedRequest {
        member_id: member.to_owned(),
        page_size: 20,
        include_purchased,
        ..v1::RecommendFeedRequest::default()
    };
    RecommendationServiceClient::new(running.channel.clone()).recommend_feed(request).await.unwrap().into_inner()
}

pub fn ids(feed: &v1::RecommendFeedResponse) -> Vec<&str> {
    feed.items.iter().map(|item| item.product_id.as_str()).collect()
}

pub fn members(running: &Running) -> MemberServiceClient<tonic::transport::Channel> {
    MemberServiceClient::new(running.channel.clone())
}

pub async fn set_consent(running: &Running, member: &str, personalization: Option<bool>, marketing: Option<bool>) {
    let request = v1::SetConsentRequest { member_id: member.to_owned(), personalization, marketing };
    members(running).set_consent(request).await.unwrap();
}

pub async fn member(running: &Running, member: &str) -> Result<v1::GetMemberResponse, tonic::Status> {
    let request = v1::GetMemberRequest { member_id: member.to_owned() };
    members(running).get_member(request).await.map(tonic::Response::into_inner)
}

/// Describes a tea that nobody knows.
pub async fn add_tea(running: &Running, id: &str) {
    let category = Some("drinks/tea".to_owned());
    let tea = v1::Product { product_id: id.to_owned(), category, ..v1::Product::default() };
    let mut catalog = CatalogServiceClient::new(running.channel.clone());
    catalog.upsert_products(v1::UpsertProductsRequest { products: vec![tea] }).await.unwrap();
}

/// Everyone who may be in an audience for a tea.
pub async fn audience(running: &Running, filter: Option<v1::MemberFilter>) -> (v1::AudienceSummary, Vec<String>) {
    let attributes = v1::ProductAttributes { category: "drinks/tea".to_owned(), ..v1::ProductAttributes::default() };
    let (summary, found) = find(
        running,
        v1::FindAudienceRequest {
            attributes: Some(attributes),
            size: Some(Size::MemberShare(1.0)),
            filter,
            ..v1::FindAudienceRequest::default()
        },
    )
    .await;
    (summary, found.into_iter().map(|m| m.member_id).collect())
}
