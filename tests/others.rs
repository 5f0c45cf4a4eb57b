//! What others write and send: messages of other tools, and changes of other servers.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::store::{Store, StoredEvent, Write, sqlite_url};
use kindred_models::events::Kind;
use kindred_models::outreach::Caps;
use kindred_training::config::LaunchParams;
use support::live::{audience, event, feed, ids, member, now, record, set_consent};
use support::outreach::{claim, config, confirm, plan, reasons, serve, shop, tea};
use support::shop::launches;
use support::{Trained, serve_configured, serve_with, trained, two_tastes};

on_both!(
    messages_that_others_sent_count,
    what_others_told_of_meanwhile_is_not_told_again,
    what_others_told_of_is_known_to_the_next_version,
    a_plan_that_comes_first_takes_the_same_product_over,
    who_complained_is_in_no_audience,
    what_is_said_holds_however_much_others_wrote,
);

/// The shop's server, which caps nothing.
async fn uncapped(trained: &Trained, state: StateConfig) -> support::Running {
    let mut config = config(state);
    config.outreach.caps = Caps::default();
    serve_configured(trained, config).await
}

fn told_of_tea(id: &str, member: &str) -> v1::Event {
    event(id, member, "tea3", v1::EventKind::Contact)
}

async fn messages_that_others_sent_count(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let mut message = event("k1", "tea-06", "", v1::EventKind::Contact);
    message.product_id.clear();
    record(&running, vec![message]).await;
    let (summary, pushes) = plan(&running, tea("p")).await;
    let mut late = event("k2", &pushes[1].member_id, "", v1::EventKind::Contact);
    late.product_id.clear();
    record(&running, vec![late]).await;
    assert_eq!(reasons(&claim(&running, &[&pushes[1]]).await), [v1::RefusalReason::Capped], "since it was planned");
    assert!(!pushes.iter().any(|push| push.member_id == "tea-06"));
    assert_eq!(summary.unplanned.unwrap().capped_count, 1);
    let rested =
        v1::MemberFilter { max_contacts: Some(v1::MaxContacts { count: 0, days: 7 }), ..v1::MemberFilter::default() };
    let before = audience(&running, Some(rested.clone())).await.1.len();
    confirm(&running, &pushes[0], v1::ContactStatus::Sent).await;
    assert_eq!(audience(&running, Some(rested)).await.1.len(), before - 1, "and what was planned counts for others");
    running.end().await.unwrap();
}

async fn what_others_told_of_meanwhile_is_not_told_again(state: StateConfig) {
    let trained = shop();
    let running = uncapped(&trained, state).await;
    let (_, pushes) = plan(&running, tea("p")).await;
    let [told, told_of_other, not_told] = [0, 1, 2].map(|at| &pushes[at]);
    let other = event("k2", &told_of_other.member_id, "tea4", v1::EventKind::Contact);
    record(&running, vec![told_of_tea("k1", &told.member_id), other]).await;
    assert_eq!(reasons(&claim(&running, &[told]).await), [v1::RefusalReason::Capped]);
    assert_eq!(claim(&running, &[told_of_other, not_told]).await.claimed_count, 2);
    running.end().await.unwrap();
}

async fn what_others_told_of_is_known_to_the_next_version(state: StateConfig) {
    let trained = shop();
    let running = uncapped(&trained, state).await;
    record(&running, vec![told_of_tea("k1", "tea-06")]).await;
    let mut tables = launches();
    tables.events.push_str(&format!("tea-06,tea3,{},contact,\n", now() - 60));
    let mut config = tables.write(trained.folder.path());
    config.launch = LaunchParams { horizon_days: 14, step_days: 14, min_launches: 8, ..config.launch };
    let next = trained.again(config, now()).unwrap();
    let activate = v1::ActivateModelRequest { version: next.to_string() };
    ModelServiceClient::new(running.channel.clone()).activate_model(activate).await.unwrap();
    let product = |id: &str| vec![v1::ProductToPush { product_id: id.to_owned(), value: 1e6, ..Default::default() }];
    let of = |id: &str, name: &str| v1::PlanPushesRequest { products: product(id), ..tea(name) };
    let named = async |request| plan(&running, request).await.1.iter().any(|push| push.member_id == "tea-06");
    assert!(!named(of("tea3", "same")).await, "told of a minute ago");
    assert!(named(of("tea4", "other")).await);
    running.end().await.unwrap();
}

async fn a_plan_that_comes_first_takes_the_same_product_over(state: StateConfig) {
    let trained = shop();
    let running = uncapped(&trained, state).await;
    let soon = |id: &str, priority| {
        let end = Some(prost_types::Timestamp { seconds: now() + 60, nanos: 0 });
        v1::PlanPushesRequest { end, priority, ..tea(id) }
    };
    let (_, low) = plan(&running, soon("low", 0)).await;
    assert_eq!(claim(&running, &[&low[0]]).await.claimed_count, 1);
    let (same, none) = plan(&running, soon("same", 0)).await;
    assert!(none.iter().all(|push| low.iter().all(|l| l.member_id != push.member_id)));
    assert_eq!(same.unplanned.unwrap().capped_count, low.len() as i64, "they were told of it");
    let (_, high) = plan(&running, soon("high", 9)).await;
    let is_in = |push: &v1::Push| high.iter().any(|h| h.member_id == push.member_id);
    assert!(low[1..].iter().all(is_in) && !is_in(&low[0]), "what may be out stays");
    let refused = claim(&running, &low[1..].iter().collect::<Vec<_>>()).await;
    assert!(reasons(&refused).iter().all(|reason| *reason == v1::RefusalReason::Displaced));
    assert_eq!(claim(&running, &[&high[0]]).await.claimed_count, 1);
    running.end().await.unwrap();
}

async fn who_complained_is_in_no_audience(state: StateConfig) {
    let trained = shop();
    let running = uncapped(&trained, state.clone()).await;
    let (_, pushes) = plan(&running, tea("p")).await;
    let annoyed = &pushes[0];
    let before = audience(&running, None).await;
    assert!(before.1.contains(&annoyed.member_id));
    confirm(&running, annoyed, v1::ContactStatus::Complained).await;
    let (summary, after) = audience(&running, None).await;
    assert!(!after.contains(&annoyed.member_id) && after.len() + 1 == before.1.len());
    assert_eq!(summary.excluded.unwrap().contact_count, 1);
    running.end().await.unwrap();
    let again = uncapped(&trained, state).await;
    assert_eq!(audience(&again, None).await.1.len(), after.len(), "also to the server after it");
    again.end().await.unwrap();
}

async fn what_is_said_holds_however_much_others_wrote(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let url = match state.url.is_empty() {
        true => sqlite_url(&trained.registry.folder().join("kindred.db")),
        false => state.url.clone(),
    };
    let other = Store::open(&url).await.unwrap();
    let looked_at = |i: usize| StoredEvent {
        event_id: format!("other-{i}"),
        member_id: format!("other-{}", i % 1000),
        product_id: "tea1".to_owned(),
        kind: Kind::View,
        time: now() - 60,
        quantity: None,
        amount: None,
        store_id: None,
        channel: None,
        basket_id: None,
    };
    let bought = StoredEvent {
        kind: Kind::Purchase,
        product_id: "tea9".to_owned(),
        member_id: "t0".to_owned(),
        ..looked_at(50_000)
    };
    // At once, and more than two parts of what is taken over at once.
    let written = (0..50_000).map(looked_at).chain([bought]).collect();
    other.commit(&[Write::Events(written)]).await.unwrap();
    set_consent(&running, "t4", None, Some(false)).await;
    assert!(!audience(&running, None).await.1.contains(&"t4".to_owned()), "at once");
    assert_eq!(record(&running, vec![event("own", "t2", "tea9", v1::EventKind::Purchase)]).await.accepted_count, 1);
    let all = async {
        while ids(&feed(&running, "t0", false).await).contains(&"tea9") || member(&running, "other-999").await.is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("soon");
    assert!(!audience(&running, None).await.1.contains(&"t4".to_owned()), "and still");
    other.close().await;
    running.end().await.unwrap();
}
