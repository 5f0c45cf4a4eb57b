//! Feeds over the network: of visits, baskets and caps, and why each product is there.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use kindred::proto::v1;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::live::{event, ids, record, set_consent};
use support::{Tables, serve, trained, two_tastes};

#[tokio::test]
async fn a_visit_sharpens_the_feed_of_a_stranger() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut client = RecommendationServiceClient::new(running.channel.clone());
    let request = |events| v1::RecommendFeedRequest {
        member_id: "never seen".into(),
        page_size: 5,
        visit_events: events,
        ..Default::default()
    };
    let plain = client.recommend_feed(request(Vec::new())).await.unwrap().into_inner();
    assert!(!plain.personalized && plain.items.iter().all(|i| i.source() == v1::Source::Popular));
    let seen = vec![
        v1::VisitEvent { product_id: "coffee1".into(), kind: v1::VisitEventKind::Cart.into() },
        v1::VisitEvent { product_id: "unknown".into(), kind: 0 },
    ];
    let sharpened = client.recommend_feed(request(seen)).await.unwrap().into_inner();
    assert!(sharpened.personalized);
    assert!(sharpened.items.iter().all(|i| i.product_id.starts_with("coffee")), "{sharpened:?}");
    assert_eq!(sharpened.items[1].reason.as_ref().unwrap().code(), v1::ReasonCode::LikedByBuyersOf, "another coffee");
    let cart = || vec![v1::VisitEvent { product_id: "coffee1".into(), kind: v1::VisitEventKind::Cart.into() }];
    record(&running, vec![event("e", "never seen", "tea1", v1::EventKind::View)]).await;
    let known_now = client.recommend_feed(request(cart())).await.unwrap().into_inner();
    assert_eq!(ids(&known_now), ids(&sharpened), "what they did before is theirs, and this visit ours");
    set_consent(&running, "never seen", Some(false), None).await;
    let opted_out = client.recommend_feed(request(cart())).await.unwrap().into_inner();
    assert!(!opted_out.personalized && ids(&opted_out) == ids(&plain));
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_basket_that_nobody_knows_goes_with_nothing() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut client = RecommendationServiceClient::new(running.channel.clone());
    let request = v1::RecommendFeedRequest {
        member_id: "t1".into(),
        basket_product_ids: vec!["nothing".into()],
        ..Default::default()
    };
    assert_eq!(client.recommend_feed(request).await.unwrap().into_inner().items, []);
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_product_ranked_by_itself_has_the_score_and_reason_that_it_has_in_a_feed() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let mut client = RecommendationServiceClient::new(running.channel.clone());
    let request = v1::RecommendFeedRequest {
        member_id: "t0".into(),
        page_size: 20,
        include_purchased: true,
        ..Default::default()
    };
    let page = client.recommend_feed(request).await.unwrap().into_inner().items;
    assert!(page.len() == 20 && page.iter().any(|item| item.source() == v1::Source::Affinity), "{page:?}");
    for item in page {
        let alone = v1::RankProductsRequest {
            member_id: "t0".into(),
            product_ids: vec![item.product_id.clone()],
            ..Default::default()
        };
        assert_eq!(client.rank_products(alone).await.unwrap().into_inner().items, [item]);
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn reasons_of_what_is_popular_are_true() {
    // All of s1 buy tea, all of s2 coffee, which are more.
    let mut tables = Tables::new();
    for m in 0..300 {
        let (product, store) = if m < 100 { ("tea", "s1") } else { ("coffee", "s2") };
        tables.event_in(&format!("m{m}"), product, 1, "purchase", store);
    }
    let trained = trained(&tables);
    let running = serve(&trained).await;
    let mut client = RecommendationServiceClient::new(running.channel.clone());
    let new = v1::Product { product_id: "new".into(), ..Default::default() };
    let mut products = CatalogServiceClient::new(running.channel.clone());
    products.upsert_products(v1::UpsertProductsRequest { products: vec![new] }).await.unwrap();
    let mut reasons = async |store: &str| {
        let rules = Some(v1::FeedRules { launch_share: 0.5, ..Default::default() });
        let context = Some(v1::FeedContext { store_id: store.into(), ..Default::default() });
        let request = v1::RecommendFeedRequest { context, rules, ..Default::default() };
        let items = client.recommend_feed(request).await.unwrap().into_inner().items;
        items.into_iter().map(|i| (i.product_id, i.reason.map(|reason| reason.code()))).collect::<BTreeMap<_, _>>()
    };
    use v1::ReasonCode::{New, Popular, PopularHere};
    let of = |tea, coffee| {
        [("coffee", coffee), ("new", Some(New)), ("tea", tea)].map(|(id, code)| (id.to_owned(), code)).into()
    };
    assert_eq!(reasons("").await, of(None, Some(Popular)), "tea is a third of what is bought, of two products");
    assert_eq!(reasons("s1").await, of(Some(PopularHere), Some(Popular)));
    assert_eq!(reasons("s2").await, of(None, Some(PopularHere)));
    assert_eq!(reasons("s3").await, of(None, Some(Popular)), "nobody knows that store");
    running.end().await.unwrap();
}

#[tokio::test]
async fn caps_are_filled_from_all_that_is_sold() {
    // Two hundred products of one brand sell more than each of the thirty of others.
    let mut tables = Tables::new();
    for p in 0..230 {
        let brand = if p < 200 { "own".to_owned() } else { format!("b{p}") };
        let category = if p < 227 { "any" } else { "other" };
        tables.product(&format!("p{p:03},title,{category},{brand},,,"));
        for m in 0..if p < 200 { 3 } else { 1 } {
            // The last are bought by somebody who is like nobody.
            let m = if p < 227 { m } else { 9 };
            tables.buy(&format!("m{m}"), &format!("p{p:03}"), 1);
        }
    }
    let trained = trained(&tables);
    let running = serve(&trained).await;
    let mut client = RecommendationServiceClient::new(running.channel.clone());
    let rules = Some(v1::FeedRules { max_per_brand: 1, ..Default::default() });
    let request = v1::RecommendFeedRequest { page_size: 20, rules, ..Default::default() };
    let items = client.recommend_feed(request).await.unwrap().into_inner().items;
    assert_eq!((items.len(), items.iter().filter(|i| i.product_id.as_str() < "p200").count()), (20, 1), "{items:?}");
    // All best sellers are of one category, which this member buys.
    let rules = Some(v1::FeedRules { explore_share: 0.5, ..Default::default() });
    let request = v1::RecommendFeedRequest {
        member_id: "m0".into(),
        page_size: 20,
        include_purchased: true,
        rules,
        ..Default::default()
    };
    let items = client.recommend_feed(request).await.unwrap().into_inner().items;
    assert_eq!(items.iter().filter(|i| i.rule() == v1::Rule::Explore).count(), 3, "all that there are: {items:?}");
    running.end().await.unwrap();
}
