//! What happens between two versions: the next answer counts it, and the server that comes back still does.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::live::{event, feed, ids, member, members, now, record, set_consent};
use support::{Running, Trained, find, serve_with, trained, trained_with, two_tastes};
use tonic::Code;

on_both!(
    the_next_feed_counts_what_was_recorded,
    tastes_move_with_purchases_and_what_was_seen_steps_back,
    bad_events_are_refused_one_by_one,
    a_purchase_on_an_old_version_leaves_popularity_finite,
    a_new_product_is_everywhere_at_once_and_a_retired_one_nowhere,
    versions_are_swapped_by_a_call_and_the_state_goes_with_them,
    what_a_version_learned_is_not_counted_twice,
    tonight_s_training_takes_in_what_was_kept,
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
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("noticed soon");
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
    tokio::time::timeout(std::time::Duration::from_secs(30), moves).await.expect("popularity follows");
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
    let mut client = EventServiceClient::new(running.channel.clone());
    let empty = client.record_events(v1::RecordEventsRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
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

/// Two versions of one retailer, the second one active.
fn two_versions() -> (Trained, kindred_models::artifact::VersionId) {
    let trained = trained(&two_tastes());
    let first = trained.id.clone();
    let mut config = two_tastes().write(trained.folder.path());
    config.embeddings.factors = 4;
    let config = config.validate().unwrap();
    let quiet = kindred_training::progress::Quiet;
    let stop = kindred_models::stop::Stop::default();
    let second =
        kindred_training::train::train(&config, &trained.registry, support::TRAINED_AT + 60, &quiet, &stop).unwrap().id;
    (Trained { id: second, ..trained }, first)
}

async fn versions_are_swapped_by_a_call_and_the_state_goes_with_them(state: StateConfig) {
    let (trained, first) = two_versions();
    let running = serve_with(&trained, state.clone()).await;
    record(&running, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    set_consent(&running, "t1", Some(false), None).await;
    let mut models = ModelServiceClient::new(running.channel.clone());
    let back = models.roll_back_model(v1::RollBackModelRequest {}).await.unwrap().into_inner();
    assert_eq!(back.version, first.to_string());
    let page = feed(&running, "t0", false).await;
    assert_eq!(page.model_version, first.to_string());
    assert!(!ids(&page).contains(&"tea9") && !feed(&running, "t1", true).await.personalized);
    assert_eq!(trained.registry.current().unwrap(), first, "also for whoever starts next");
    let none = models.roll_back_model(v1::RollBackModelRequest {}).await.unwrap_err();
    assert_eq!(none.code(), Code::FailedPrecondition);
    let activate = |version: &str| v1::ActivateModelRequest { version: version.to_owned() };
    let unknown = models.activate_model(activate("20200101T000000Z-00000000")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let damaged = trained.version_folder().join("manifest.json");
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(models.activate_model(activate(trained.id.as_str())).await.unwrap_err().code(), Code::Internal);
    assert_eq!(feed(&running, "t0", false).await.model_version, first.to_string(), "the old one serves on");
    assert_eq!(trained.registry.current().unwrap(), first);
    std::fs::write(&damaged, whole).unwrap();
    models.activate_model(activate(trained.id.as_str())).await.unwrap();
    assert_eq!(feed(&running, "t0", false).await.model_version, trained.id.to_string());
    running.end().await.unwrap();
}

async fn what_a_version_learned_is_not_counted_twice(state: StateConfig) {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = two_tastes();
    let config = tables.write(folder.path());
    let trained = trained_with(folder, config);
    let running = serve_with(&trained, state.clone()).await;
    let time = now() - 60;
    record(&running, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    running.end().await.unwrap();
    // The retailer's own table has it by the night.
    tables.events.push_str(&format!("t0,tea9,{},purchase,\n", time + 1));
    let config = tables.write(trained.folder.path()).validate().unwrap();
    let quiet = kindred_training::progress::Quiet;
    let stop = kindred_models::stop::Stop::default();
    kindred_training::train::train(&config, &trained.registry, now(), &quiet, &stop).unwrap();
    let running = serve_with(&trained, state.clone()).await;
    let page = feed(&running, "t0", true).await;
    let item = page.items.iter().find(|item| item.product_id == "tea9").unwrap();
    assert_eq!(item.reason.as_ref().unwrap().purchase_count, 1);
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
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("each sees what the other wrote");
    }
    let kept = record(&other, vec![event("e1", "t0", "tea9", v1::EventKind::Purchase)]).await;
    assert_eq!(kept.duplicate_count, 1, "whoever is told");
    let kept = record(&one, vec![event("e2", "t2", "tea9", v1::EventKind::Purchase)]).await;
    assert_eq!(kept.refused.len(), 1, "erased elsewhere");
    one.end().await.unwrap();
    other.end().await.unwrap();
}

/// Runs `kindred` on the tables' registry and state.
fn kindred(trained: &Trained, state: &StateConfig, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.args(arguments).arg("--registry").arg(trained.registry.folder().parent().unwrap());
    if !state.url.is_empty() {
        command.env("KINDRED_STATE__URL", &state.url);
    }
    command.output().unwrap()
}

async fn tonight_s_training_takes_in_what_was_kept(state: StateConfig) {
    let tables = two_tastes();
    let trained = trained(&tables);
    let running = serve_with(&trained, state.clone()).await;
    let mut contact = event("k1", "t4", "", v1::EventKind::Contact);
    contact.product_id.clear();
    let bought = event("e1", "t0", "tea9", v1::EventKind::Purchase);
    record(&running, vec![bought, contact, event("e2", "t2", "tea9", v1::EventKind::Purchase)]).await;
    set_consent(&running, "t1", None, Some(false)).await;
    let erase = v1::EraseMemberRequest { member_id: "t2".to_owned() };
    members(&running).erase_member(erase).await.unwrap();
    let tag = v1::DeleteMemberTagRequest { member_id: "t3".to_owned(), tag: "vip".to_owned() };
    members(&running).delete_member_tag(tag).await.unwrap();
    let new = v1::Product {
        product_id: "new-tea".to_owned(),
        category: Some("drinks/tea".to_owned()),
        ..v1::Product::default()
    };
    let mut catalog = CatalogServiceClient::new(running.channel.clone());
    catalog.upsert_products(v1::UpsertProductsRequest { products: vec![new] }).await.unwrap();

    let folder = trained.folder.path().join("state");
    let exported = kindred(&trained, &state, &["state", "export", "--out", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(exported.status.success() && said.starts_with("2 events, 2 members, 1 products, 1 erased"), "{exported:?}");
    let mut config = tables.write(trained.folder.path());
    config.data.state = Some("state".into());
    let config = config.validate().unwrap();
    let quiet = kindred_training::progress::Quiet;
    let stop = kindred_models::stop::Stop::default();
    let train = || kindred_training::train::train(&config, &trained.registry, now(), &quiet, &stop);
    let (events, away) = (folder.join("events.parquet"), folder.join("away"));
    std::fs::rename(&events, &away).unwrap();
    assert!(train().unwrap_err().to_string().contains("events.parquet: not there"), "half an export");
    std::fs::rename(&away, &events).unwrap();
    let done = train().unwrap();
    let model = kindred_models::Model::load(&trained.registry, &done.id).unwrap();
    let row = |id: &str| model.members.ids.find(id).unwrap();
    assert_eq!(model.members.ids.find("t2"), None, "forgotten");
    assert!(!model.members.consent(row("t1")).marketing && model.members.consent(row("t3")).marketing);
    assert!(model.members.tags.row(row("t3")).is_empty() && !model.members.tags.row(row("t6")).is_empty());
    assert!(model.products.find("new-tea").is_some());
    let tea9 = model.products.find("tea9").unwrap();
    assert_eq!(model.history.pair(row("t0"), tea9).unwrap().count, 1);
    assert_eq!(model.groups.contacts.as_ref().unwrap().of(row("t4"), 30), 1);

    record(&running, vec![event("e3", "t0", "tea9", v1::EventKind::Purchase)]).await;
    let activate = v1::ActivateModelRequest { version: done.id.to_string() };
    ModelServiceClient::new(running.channel.clone()).activate_model(activate).await.unwrap();
    let page = feed(&running, "t0", true).await;
    let item = page.items.iter().find(|item| item.product_id == "tea9").unwrap();
    assert_eq!(item.reason.as_ref().unwrap().purchase_count, 2, "one that it learned, and one since");
    assert_eq!(member(&running, "t4").await.unwrap().contact_count, 1, "counted once, too");
    running.end().await.unwrap();

    let shown = kindred(&trained, &state, &["feed", "--member", "t0", "--json"]);
    assert!(shown.status.success(), "{shown:?}");
    let scored = trained.folder.path().join("scored.parquet");
    let score = ["score", "--out", scored.to_str().unwrap()];
    let scored = kindred(&trained, &state, &score);
    assert!(scored.status.success(), "{scored:?}");
    let elsewhere = kindred(&trained, &StateConfig::default(), &score);
    assert_eq!(elsewhere.status.code(), if state.url.is_empty() { Some(0) } else { Some(64) }, "{elsewhere:?}");
    if !state.url.is_empty() {
        let server = kindred(&trained, &StateConfig::default(), &["serve", "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&server.stderr).into_owned();
        assert!(server.status.code() == Some(64) && said.contains("opt-outs"), "{server:?}");
    }
}
