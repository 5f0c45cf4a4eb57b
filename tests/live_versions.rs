//! From one version to the next: what was kept goes on, is learned, and counts once.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::live::{add_tea, event, feed, ids, member, members, now, record, set_consent};
use support::{Running, Trained, serve_with, trained, trained_with, two_tastes};
use tonic::Code;

on_both!(
    versions_are_swapped_by_a_call_and_the_state_goes_with_them,
    what_a_version_learned_is_not_counted_twice,
    what_was_seen_and_wanted_is_known_to_the_next_version,
    what_was_told_of_a_product_before_it_was_described_counts,
    tonight_s_training_takes_in_what_was_kept,
);

/// Two versions of one retailer, the second one active.
fn two_versions() -> (Trained, kindred_models::artifact::VersionId) {
    let trained = trained(&two_tastes());
    let first = trained.id.clone();
    let mut config = two_tastes().write(trained.folder.path());
    config.embeddings.factors = 4;
    let second = trained.again(config, support::TRAINED_AT + 60).unwrap();
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
    trained.again(tables.write(trained.folder.path()), now()).unwrap();
    let running = serve_with(&trained, state.clone()).await;
    let page = feed(&running, "t0", true).await;
    let item = page.items.iter().find(|item| item.product_id == "tea9").unwrap();
    assert_eq!(item.reason.as_ref().unwrap().purchase_count, 1);
    running.end().await.unwrap();
}

/// Whether a product counts as seen lately in a member's feed.
async fn is_seen(running: &Running, member: &str, product: &str) -> bool {
    let score = async |seen_decay: f32| {
        let request = v1::RecommendFeedRequest {
            member_id: member.to_owned(),
            page_size: 100,
            include_purchased: true,
            rules: Some(v1::FeedRules { seen_decay: Some(seen_decay), ..v1::FeedRules::default() }),
            ..v1::RecommendFeedRequest::default()
        };
        let page = RecommendationServiceClient::new(running.channel.clone()).recommend_feed(request).await;
        page.unwrap().into_inner().items.iter().find(|item| item.product_id == product).unwrap().score
    };
    score(0.5).await < score(1.0).await
}

/// How much of a member's feed is coffee, by scores.
async fn share_of_coffee(running: &Running, member: &str) -> f32 {
    let page = feed(running, member, true).await;
    let coffee = page.items.iter().filter(|item| item.product_id.starts_with("coffee"));
    coffee.map(|item| item.score).sum::<f32>() / page.items.iter().map(|item| item.score).sum::<f32>()
}

async fn what_was_seen_and_wanted_is_known_to_the_next_version(state: StateConfig) {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = two_tastes();
    let _ = ["today", "once"].map(|member| tables.member(&format!("{member},s1,Wuhan,g0,true,true,false,")));
    let mut config = tables.write(folder.path());
    // What is put into the cart teaches a version next to nothing: it is the state that knows.
    config.event_weights.cart = 0.001;
    let trained = trained_with(folder, config.clone());
    let running = serve_with(&trained, state.clone()).await;
    let top = ids(&feed(&running, "t1", true).await)[0].to_owned();
    let seen = |i| event(&format!("v{i}"), "t1", &top, v1::EventKind::View);
    record(&running, (0..6).map(seen).collect()).await;
    // One wants coffee now, and one did long ago.
    let wanted = [("today", now()), ("once", now() - 20 * 86_400)];
    let cart = |(member, seconds): (&str, i64)| {
        let time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        v1::Event { time, ..event(member, member, "coffee3", v1::EventKind::Cart) }
    };
    record(&running, wanted.map(cart).to_vec()).await;
    // By what it is trained on, the next version knows all that happened until then.
    for (member, kind, day) in (0..60).map(|i| (i % 6, ["tea", "coffee"][i / 30], i % 7)) {
        let (initial, time) = (&kind[..1], now() - day as i64 * 86_400);
        (0..10).for_each(|p| tables.events.push_str(&format!("{initial}{member},{kind}{p},{time},purchase,\n")));
    }
    let _ = wanted.map(|(member, time)| tables.events.push_str(&format!("{member},coffee3,{time},cart,\n")));
    tables.write(trained.folder.path());
    let next = trained.again(config, now()).unwrap();
    let activate = v1::ActivateModelRequest { version: next.to_string() };
    ModelServiceClient::new(running.channel.clone()).activate_model(activate).await.unwrap();
    assert_eq!(feed(&running, "t1", true).await.model_version, next.to_string());
    assert!(is_seen(&running, "t1", &top).await);
    assert!(!is_seen(&running, "t3", &top).await);
    let [today, once] = [share_of_coffee(&running, "today").await, share_of_coffee(&running, "once").await];
    assert!(today > 1.004 * once, "{today}, of who did once {once}");
    running.end().await.unwrap();
}

async fn what_was_told_of_a_product_before_it_was_described_counts(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let bought = |id: &str, member: &str| event(id, member, "late-tea", v1::EventKind::Purchase);
    record(&running, vec![bought("e1", "t0"), bought("e2", "t0"), bought("e3", "t1")]).await;
    add_tea(&running, "late-tea").await;
    let counted = async {
        loop {
            let page = feed(&running, "t0", true).await;
            let late = page.items.iter().find(|item| item.product_id == "late-tea");
            match late.and_then(|item| item.reason.as_ref()).map(|reason| reason.purchase_count) {
                Some(2) => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), counted).await.expect("soon");
    running.end().await.unwrap();
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
    let top = ids(&feed(&running, "t5", true).await)[0].to_owned();
    record(&running, (0..6).map(|i| event(&format!("v{i}"), "t5", &top, v1::EventKind::View)).collect()).await;
    set_consent(&running, "t1", None, Some(false)).await;
    let erase = v1::EraseMemberRequest { member_id: "t2".to_owned() };
    members(&running).erase_member(erase).await.unwrap();
    let tag = v1::DeleteMemberTagRequest { member_id: "t3".to_owned(), tag: "vip".to_owned() };
    members(&running).delete_member_tag(tag).await.unwrap();
    add_tea(&running, "new-tea").await;

    let folder = trained.folder.path().join("state");
    let exported = kindred(&trained, &state, &["state", "export", "--out", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert!(exported.status.success() && said.starts_with("8 events, 2 members, 1 products, 1 erased"), "{exported:?}");
    let mut config = tables.write(trained.folder.path());
    config.data.state = Some("state".into());
    let train = || trained.again(config.clone(), now());
    let (events, away) = (folder.join("events.parquet"), folder.join("away"));
    std::fs::rename(&events, &away).unwrap();
    assert!(train().unwrap_err().to_string().contains("events.parquet: not there"), "half an export");
    std::fs::rename(&away, &events).unwrap();
    let done = train().unwrap();
    let model = kindred_models::Model::load(&trained.registry, &done).unwrap();
    let row = |id: &str| model.members.ids.find(id).unwrap();
    assert_eq!(model.members.ids.find("t2"), None, "forgotten");
    assert!(!model.members.consent(row("t1")).marketing && model.members.consent(row("t3")).marketing);
    assert!(model.members.tags.row(row("t3")).is_empty() && !model.members.tags.row(row("t6")).is_empty());
    let new_tea = model.products.find("new-tea").unwrap();
    assert!(model.popularity.is_new(new_tea), "told of today, and bought by nobody");
    let tea9 = model.products.find("tea9").unwrap();
    assert_eq!(model.history.pair(row("t0"), tea9).unwrap().count, 1);
    assert_eq!(model.groups.contacts.as_ref().unwrap().of(row("t4"), 30), 1);

    record(&running, vec![event("e3", "t0", "tea9", v1::EventKind::Purchase)]).await;
    let activate = v1::ActivateModelRequest { version: done.to_string() };
    ModelServiceClient::new(running.channel.clone()).activate_model(activate).await.unwrap();
    let page = feed(&running, "t0", true).await;
    let item = page.items.iter().find(|item| item.product_id == "tea9").unwrap();
    assert_eq!(item.reason.as_ref().unwrap().purchase_count, 2, "one that it learned, and one since");
    assert_eq!(member(&running, "t4").await.unwrap().contact_count, 1, "counted once, too");
    assert!(is_seen(&running, "t5", &top).await, "as it learned");
    running.end().await.unwrap();

    let shown = kindred(&trained, &state, &["feed", "--member", "t0", "--json"]);
    assert!(shown.status.success(), "{shown:?}");
    let scored = trained.folder.path().join("scored.parquet");
    let score = ["score", "--out", scored.to_str().unwrap()];
    let scored = kindred(&trained, &state, &score);
    assert!(scored.status.success(), "{scored:?}");
    let elsewhere = kindred(&trained, &StateConfig::default(), &score);
    assert_eq!(elsewhere.status.code(), if state.url.is_empty() { Some(0) } else { Some(64) }, "{elsewhere:?}");
    if state.url.is_empty() {
        std::fs::remove_file(trained.registry.folder().join("kindred.db")).unwrap();
        let refused = |arguments: &[&str], told: &str| {
            let refused = kindred(&trained, &state, arguments);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(refused.status.code() == Some(66) && said.contains(told), "{arguments:?}: {refused:?}");
        };
        let (serve, out) = (["serve", "--listen", "127.0.0.1:0"], folder.to_str().unwrap());
        refused(&serve, "--new-state");
        refused(&["state", "export", "--out", out], "no server kept anything");
        // A key makes one that knows nothing of members.
        let key = kindred(&trained, &state, &["keys", "create", "--key-name", "mall", "--role", "mall"]);
        assert!(key.status.success(), "{key:?}");
        refused(&serve, "--new-state");
        refused(&["state", "export", "--out", out], "opt-outs");
        let warned = kindred(&trained, &state, &["feed", "--member", "t0"]);
        let said = String::from_utf8_lossy(&warned.stderr).into_owned();
        assert!(warned.status.success() && said.contains("nobody's opt-out"), "{warned:?}");
    } else {
        let server = kindred(&trained, &StateConfig::default(), &["serve", "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&server.stderr).into_owned();
        assert!(server.status.code() == Some(64) && said.contains("opt-outs"), "{server:?}");
    }
}
