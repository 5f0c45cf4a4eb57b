//! What happens between two versions: the next answer counts it, and the server that comes back still does.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::live::{event, feed, ids, member, members, now, record, set_consent};
use support::{Running, find, serve_with, trained, two_tastes};
use tonic::Code;

on_both!(
    the_next_feed_counts_what_was_recorded,
    tastes_move_with_purchases_and_what_was_seen_steps_back,
    bad_events_are_refused_one_by_one,
    a_purchase_on_an_old_version_leaves_popularity_finite,
    a_new_product_is_everywhere_at_once_and_a_retired_one_nowhere,
    replicas_see_what_each_other_wrote,
    a_store_that_was_restored_serves_what_it_holds_then,
);

async fn the_next_feed_counts_what_was_recorded(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    assert_eq!(ids(&feed(&running, "t0", false).await)[0], "tea9", "all others were bought");
    let bought = event("e1", "t0", "tea9", v1::EventKind::Purchase);
    let kept = record(&running, vec![bought.clone()]).await;
    assert_eq!((kept.accepted_count, kept.duplicate_count, kept.refused.len()), (1, 0, 0));
    assert!(!ids(&feed(&running, "t0", false).await).contains(&"tea9"), "it is not new any more");
    let again = feed(&running, "t0", true).await;
    let item = again.items.iter().find(|item| item.product_id == "tea9").unwrap();
    assert_eq!(item.source(), v1::Source::Repeat);
    assert_eq!(item.reason.as_ref().unwrap().purchase_count, 1);
    let kept = record(&running, vec![bought]).await;
    assert_eq!((kept.accepted_count, kept.duplicate_count), (0, 1), "told twice, counted once");
    record(&running, vec![event("e2", "t0", "tea9", v1::EventKind::Refund)]).await;
    assert!(ids(&feed(&running, "t0", false).await).contains(&"tea9"), "brought back");
    running.end().await.unwrap();
}

async fn a_store_that_was_restored_serves_what_it_holds_then(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let offers = async || ids(&feed(&running, "t0", false).await).contains(&"tea9");
    record(&running, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    assert!(!offers().await);
    sqlx::any::install_default_drivers();
    let store = sqlx::AnyPool::connect(&state.url(&trained.registry).unwrap()).await.unwrap();
    // Without a word to the server, and with a number that it knows for something else.
    let restore = async || {
        for change in ["DELETE FROM events", "UPDATE clock SET seq = 0"] {
            sqlx::query(change).execute(&store).await.unwrap();
        }
    };
    let until = async |offered: bool| {
        let wait = async {
            while offers().await != offered {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("noticed soon");
    };
    restore().await;
    until(true).await;
    // And where the first word after it is a write.
    record(&running, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    assert!(!offers().await);
    restore().await;
    record(&running, vec![event("e2", "t1", "tea9", v1::EventKind::Purchase)]).await;
    until(true).await;
    store.close().await;
    running.end().await.unwrap();
}

async fn tastes_move_with_purchases_and_what_was_seen_steps_back(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let before = feed(&running, "t1", true).await;
    let top = ids(&before)[0].to_owned();
    let seen = (0..6).map(|i| event(&format!("v{i}"), "t1", &top, v1::EventKind::View)).collect();
    record(&running, seen).await;
    assert_ne!(ids(&feed(&running, "t1", true).await)[0], top, "seen six times, and not bought");
    let coffee = |p: &str| p.starts_with("coffee");
    let coffees = |feed: &v1::RecommendFeedResponse| ids(feed).iter().take(5).filter(|p| coffee(p)).count();
    assert_eq!(coffees(&feed(&running, "t2", true).await), 0);
    let drinks = |p: usize| {
        (0..4).map(move |i| event(&format!("c{p}.{i}"), "t2", &format!("coffee{p}"), v1::EventKind::Purchase))
    };
    record(&running, (0..9).flat_map(drinks).collect()).await;
    assert!(coffees(&feed(&running, "t2", true).await) > 2, "a tea drinker who turned to coffee");
    running.end().await.unwrap();
}

async fn a_purchase_on_an_old_version_leaves_popularity_finite(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let popular = ids(&feed(&running, "nobody", true).await).len();
    record(&running, (0..40).map(|i| event(&format!("p{i}"), "t0", "coffee7", v1::EventKind::Purchase)).collect())
        .await;
    let moves = async {
        while ids(&feed(&running, "nobody", true).await)[0] != "coffee7" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), moves).await.expect("popularity follows");
    for visitor in ["nobody", "t5", "c5"] {
        let page = feed(&running, visitor, true).await;
        assert_eq!(page.items.len(), popular);
        assert!(page.items.iter().all(|item| item.score.is_finite() && item.score >= 0.0), "{visitor}: {page:?}");
    }
    running.end().await.unwrap();
}

async fn bad_events_are_refused_one_by_one(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let good = event("g", "t0", "tea1", v1::EventKind::View);
    let mut late = event("l", "t0", "tea1", v1::EventKind::View);
    late.time = Some(prost_types::Timestamp { seconds: now() - 40 * 86_400, nanos: 0 });
    let events = vec![event("", "t0", "tea1", v1::EventKind::View), good.clone(), late];
    let kept = record(&running, events).await;
    assert_eq!(kept.accepted_count, 1);
    let refused: Vec<i64> = kept.refused.iter().map(|r| r.index).collect();
    assert_eq!(refused, [0, 2]);
    assert!(kept.refused[0].reason.starts_with("event_id") && kept.refused[1].reason.contains("accept_days"));
    let named: Vec<_> = kept.refused.iter().map(|r| (r.code(), r.field.as_str())).collect();
    assert_eq!(named, [(v1::RefusedEventCode::Invalid, "event_id"), (v1::RefusedEventCode::TooOld, "time")]);
    let mut client = EventServiceClient::new(running.channel.clone());
    let empty = client.record_events(v1::RecordEventsRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    // A hundred kilobytes, of which a hundred times as much would be made.
    let many = v1::RecordEventsRequest { events: vec![v1::Event::default(); 50_001] };
    assert_eq!(client.record_events(many).await.unwrap_err().code(), Code::OutOfRange);
    let messages = (0..3).map(move |i| v1::StreamEventsRequest {
        events: vec![
            event(&format!("s{i}"), "t0", "tea1", v1::EventKind::View),
            event("", "t0", "tea1", v1::EventKind::View),
            good.clone(),
        ],
    });
    let streamed = client.stream_events(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!((streamed.accepted_count, streamed.duplicate_count, streamed.refused_count), (3, 3, 3));
    assert_eq!(streamed.refused.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 4, 7]);
    running.end().await.unwrap();
}

async fn a_new_product_is_everywhere_at_once_and_a_retired_one_nowhere(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let mut catalog = CatalogServiceClient::new(running.channel.clone());
    let new = v1::Product {
        product_id: "aaa-tea".to_owned(),
        title: Some("tea no 77".to_owned()),
        category: Some("drinks/tea".to_owned()),
        brand: Some("tea house".to_owned()),
        price: Some(30.0),
        ..v1::Product::default()
    };
    let upsert = v1::UpsertProductsRequest { products: vec![new] };
    assert_eq!(catalog.upsert_products(upsert.clone()).await.unwrap().into_inner().added_count, 1);
    assert_eq!(catalog.upsert_products(upsert).await.unwrap().into_inner().added_count, 0);
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let request = v1::RecommendFeedRequest {
        member_id: "t0".to_owned(),
        page_size: 2,
        rules: Some(v1::FeedRules { launch_share: 0.5, ..v1::FeedRules::default() }),
        ..v1::RecommendFeedRequest::default()
    };
    let page = feeds.recommend_feed(request.clone()).await.unwrap().into_inner();
    assert!(ids(&page).contains(&"aaa-tea"), "{:?}", ids(&page));
    let similar = v1::FindSimilarProductsRequest {
        product_id: "tea1".to_owned(),
        page_size: 20,
        ..v1::FindSimilarProductsRequest::default()
    };
    let alike = feeds.find_similar_products(similar).await.unwrap().into_inner();
    assert!(alike.items.iter().any(|s| s.product_id == "aaa-tea"));
    let (summary, found) = find(
        &running,
        v1::FindAudienceRequest {
            product_id: "aaa-tea".to_owned(),
            size: Some(Size::MemberCount(20)),
            ..v1::FindAudienceRequest::default()
        },
    )
    .await;
    assert!(found.iter().all(|m| m.member_id.starts_with('t')), "{found:?}");
    assert_eq!(summary.audience_count, 20);
    record(&running, vec![event("n1", "t0", "aaa-tea", v1::EventKind::Purchase)]).await;
    assert!(!ids(&feed(&running, "t0", false).await).contains(&"aaa-tea"), "bought already");
    let retire = v1::RetireProductsRequest { product_ids: vec!["aaa-tea".to_owned(), "tea9".to_owned()] };
    catalog.retire_products(retire).await.unwrap();
    running.end().await.unwrap();
    let running = serve_with(&trained, state.clone()).await;
    let page = feed(&running, "t0", true).await;
    assert!(!ids(&page).contains(&"aaa-tea") && !ids(&page).contains(&"tea9"), "also after a restart");
    // One that the version does not know, one of which it knows all that is said, and one more: rows stay what they are.
    let mut catalog = CatalogServiceClient::new(running.channel.clone());
    let known = |id: &str| v1::Product { product_id: id.to_owned(), available: Some(true), ..v1::Product::default() };
    for products in [vec![known("aaa-tea"), known("tea9")], vec![known("a-new-one")], vec![known("tea9")]] {
        catalog.upsert_products(v1::UpsertProductsRequest { products }).await.unwrap();
    }
    let page = feed(&running, "t0", true).await;
    assert!(ids(&page).contains(&"tea9"), "sold again");
    let repeat = page.items.iter().find(|item| item.product_id == "aaa-tea").unwrap();
    assert_eq!(repeat.source(), v1::Source::Repeat, "what was bought of it is still known");
    running.end().await.unwrap();
}

async fn replicas_see_what_each_other_wrote(state: StateConfig) {
    let trained = trained(&two_tastes());
    let (one, other) = (serve_with(&trained, state.clone()).await, serve_with(&trained, state.clone()).await);
    record(&one, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    set_consent(&other, "t1", Some(false), None).await;
    let erase = v1::EraseMemberRequest { member_id: "t2".to_owned() };
    members(&other).erase_member(erase).await.unwrap();
    // What databases write of an id in their own way.
    let odd = "m'1\" \\u0041 👩‍👧 店 %_";
    let of_odd = v1::Member { member_id: odd.to_owned(), city: Some(odd.to_owned()), ..v1::Member::default() };
    let upsert = v1::UpsertMembersRequest { members: vec![of_odd] };
    members(&other).upsert_members(upsert).await.unwrap();
    let retire = v1::RetireProductsRequest { product_ids: vec!["tea8".to_owned()] };
    CatalogServiceClient::new(one.channel.clone()).retire_products(retire).await.unwrap();
    let follows = async |running: &Running| {
        let page = feed(running, "t0", true).await;
        let bought = page.items.iter().find(|item| item.product_id == "tea9").map(|item| item.source());
        bought == Some(v1::Source::Repeat)
            && !ids(&page).contains(&"tea8")
            && !feed(running, "t1", true).await.personalized
            && member(running, "t2").await.is_err()
            && member(running, odd).await.is_ok_and(|found| found.member.unwrap().city() == odd)
    };
    for running in [&one, &other] {
        let wait = async {
            while !follows(running).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("each sees what the other wrote");
    }
    let kept = record(&other, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    assert_eq!(kept.duplicate_count, 1, "whoever is told");
    let kept = record(&one, vec![event("e2", "t2", "tea9", v1::EventKind::Purchase)]).await;
    assert_eq!(kept.refused.len(), 1, "erased elsewhere");
    one.end().await.unwrap();
    other.end().await.unwrap();
}
