//! Pushes: who is told of what, within which caps, and with whose consent.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred_models::outreach::Caps;
use support::live::{add_tea, event, members, now, record, set_consent};
use support::outreach::{claim, client, config, confirm, plan, reasons, serve, shop, tea, try_plan};
use support::serve_configured;
use support::shop::MEMBERS;
use tonic::Code;
use tonic_types::StatusExt;

on_both!(
    each_member_is_told_of_one_product_at_most,
    a_plan_asked_for_again_is_the_same_plan,
    a_plan_that_broke_off_takes_no_more_of_a_product_when_it_goes_on,
    a_plan_that_could_not_be_made_is_none,
    plans_hold_out_others_unless_they_share_a_seed,
    who_bought_a_new_product_is_not_told_of_it,
    whatever_fits_is_what_the_member_likes,
    only_who_consents_is_told_anything_and_until_it_goes_out,
    contacts_are_claimed_once_and_confirmed_in_any_order,
    who_comes_first_takes_the_place_of_who_comes_after,
    a_plan_that_is_called_off_gives_its_places_back,
    contacts_of_nobody_are_unknown,
    who_complains_is_left_alone,
    who_was_told_of_a_product_is_not_told_again,
    what_makes_no_sense_any_more_is_not_sent,
);

async fn each_member_is_told_of_one_product_at_most(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let mut request = tea("p1");
    let coffee = v1::ProductToPush {
        product_id: "coffee3".to_owned(),
        cap: Some(v1::product_to_push::Cap::MaxMembers(7)),
        ..v1::ProductToPush::default()
    };
    request.products.push(coffee);
    request.holdout_share = 0.2;
    let (summary, pushes) = plan(&running, request).await;
    let told: BTreeSet<&str> = pushes.iter().map(|push| push.member_id.as_str()).collect();
    assert_eq!(told.len(), pushes.len());
    let (held_out, sent): (Vec<_>, Vec<_>) = pushes.iter().partition(|push| push.held_out);
    assert_eq!((summary.contact_count, summary.holdout_count), (sent.len() as i64, held_out.len() as i64));
    assert!(!held_out.is_empty() && held_out.iter().all(|push| push.contact_id.is_empty()));
    assert_eq!(pushes.iter().filter(|push| push.product_id == "coffee3").count(), 7);
    assert!(pushes.iter().filter(|push| push.product_id == "tea3").all(|push| push.member_id.starts_with("tea")));
    let times = |push: &v1::Push| (push.time.unwrap().seconds, push.expire_time.unwrap().seconds);
    assert!(pushes.iter().map(times).all(|(from, until)| from <= until && until <= now() + 86_400));
    assert!(pushes.iter().all(|push| push.expected_value > 0.0 && push.reason.is_some()));
    let value: f64 = sent.iter().map(|push| push.expected_value).sum();
    assert!((summary.expected_value - value).abs() < 1e-9 && summary.horizon_days == 14);
    let left = summary.unplanned.unwrap();
    let all = left.unreachable_count + left.capped_count + left.not_worth_count + left.over_budget_count;
    assert_eq!(summary.eligible_count, all + pushes.len() as i64);
    let few = v1::PlanPushesRequest { max_contacts: 3, ..tea("p2") };
    let (summary, pushes) = plan(&running, few).await;
    assert!(
        pushes.len() <= 3
            && pushes.iter().all(|push| !told.contains(push.member_id.as_str())
                || held_out.iter().any(|h| h.member_id == push.member_id))
    );
    assert!(summary.unplanned.unwrap().capped_count >= sent.len() as i64);
    running.end().await.unwrap();
}

async fn a_plan_asked_for_again_is_the_same_plan(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state.clone()).await;
    let request = v1::PlanPushesRequest { holdout_share: 0.3, ..tea("p") };
    let (first, pushes) = plan(&running, request.clone()).await;
    assert!(first.contact_count > 20 && first.holdout_count > 5 && !first.is_repeated);
    running.end().await.unwrap();
    let running = serve(&trained, state.clone()).await;
    // It is told even when its time has passed.
    let past = v1::PlanPushesRequest { end: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }), ..request.clone() };
    let (second, again) = plan(&running, past).await;
    assert!(second.is_repeated && second.contact_count == first.contact_count);
    assert_eq!((second.holdout_count, second.expected_buyers), (first.holdout_count, first.expected_buyers));
    assert_eq!(pushes, again, "who is held out, too");
    let other = v1::PlanPushesRequest { priority: 1, ..request.clone() };
    let refused = client(&running).plan_pushes(other).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "PLAN_DIFFERS");
    let name = v1::PlanPushesRequest { plan_id: "p".to_owned(), ..Default::default() };
    assert_eq!(plan(&running, name.clone()).await.1, pushes, "asked for no more");
    // As if its caller had gone, and another went on without a holdout: who is held out stays so.
    sqlx::any::install_default_drivers();
    let store = sqlx::AnyPool::connect(&state.url(&trained.registry).unwrap()).await.unwrap();
    sqlx::query("UPDATE plans SET state = 0, asked = NULL").execute(&store).await.unwrap();
    store.close().await;
    let (_, again) = plan(&running, v1::PlanPushesRequest { holdout_share: 0.0, ..request }).await;
    let by_member =
        |pushes: &[v1::Push]| pushes.iter().map(|p| (p.member_id.clone(), p.held_out)).collect::<BTreeSet<_>>();
    assert_eq!(by_member(&pushes), by_member(&again));
    let gone = pushes.iter().find(|push| push.held_out).unwrap().member_id.clone();
    let erase = v1::EraseMemberRequest { member_id: gone.clone() };
    members(&running).erase_member(erase).await.unwrap();
    client(&running).cancel_plan(v1::CancelPlanRequest { plan_id: "p".to_owned() }).await.unwrap();
    let (third, again) = plan(&running, name).await;
    assert!(again.iter().all(|push| push.member_id != gone), "nothing is kept of who is erased");
    assert_eq!((third.contact_count, third.holdout_count), (first.contact_count, first.holdout_count - 1));
    assert_eq!(third.expected_buyers, 0.0, "of what is called off");
    running.end().await.unwrap();
}

async fn a_plan_that_broke_off_takes_no_more_of_a_product_when_it_goes_on(state: StateConfig) {
    let trained = shop();
    let capped = |max_contacts: i64| {
        let mut request = v1::PlanPushesRequest { max_contacts, ..tea("p") };
        request.products[0].cap = Some(v1::product_to_push::Cap::MaxMembers(7));
        request
    };
    let running = serve(&trained, state.clone()).await;
    assert_eq!(plan(&running, capped(5)).await.1.len(), 5);
    running.end().await.unwrap();
    // As if its caller had gone before it had all that it may have.
    sqlx::any::install_default_drivers();
    let store = sqlx::AnyPool::connect(&state.url(&trained.registry).unwrap()).await.unwrap();
    sqlx::query("UPDATE plans SET state = 0, asked = NULL").execute(&store).await.unwrap();
    let running = serve(&trained, state).await;
    let full = v1::PlanPushesRequest { holdout_share: 0.5, ..capped(5) };
    let (summary, pushes) = plan(&running, full).await;
    assert_eq!((summary.is_repeated, summary.contact_count, summary.holdout_count), (false, 5, 0), "it is full");
    assert_eq!(pushes.len(), 5);
    sqlx::query("UPDATE plans SET state = 0, asked = NULL").execute(&store).await.unwrap();
    let (summary, pushes) = plan(&running, capped(1000)).await;
    assert_eq!((summary.is_repeated, summary.contact_count, pushes.len()), (false, 7, 7));
    let left = summary.unplanned.unwrap();
    assert!(left.over_budget_count > 0, "{summary:?}");
    let all = left.unreachable_count + left.capped_count + left.not_worth_count + left.over_budget_count;
    assert_eq!(summary.eligible_count, all + 7, "each once, those of the call that broke off too: {summary:?}");
    store.close().await;
    running.end().await.unwrap();
}

async fn plans_hold_out_others_unless_they_share_a_seed(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let held_out = async |plan_id: &str, holdout_seed: u64| {
        let request = v1::PlanPushesRequest { holdout_share: 0.5, holdout_seed, ..tea(plan_id) };
        let (_, pushes) = plan(&running, request).await;
        let request = v1::CancelPlanRequest { plan_id: plan_id.to_owned() };
        client(&running).cancel_plan(request).await.unwrap();
        pushes.into_iter().filter(|push| push.held_out).map(|push| push.member_id).collect::<BTreeSet<_>>()
    };
    assert_ne!(held_out("a", 0).await, held_out("b", 0).await);
    assert_eq!(held_out("c", 7).await, held_out("d", 7).await);
    // However many are held out, as many are told as may be.
    let few = v1::PlanPushesRequest { holdout_share: 0.75, holdout_seed: 7, max_contacts: 3, ..tea("e") };
    let (summary, _) = plan(&running, few).await;
    assert!(summary.contact_count == 3 && summary.holdout_count > 3, "{summary:?}");
    running.end().await.unwrap();
}

async fn a_plan_that_could_not_be_made_is_none(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let mut typo = v1::PlanPushesRequest { max_contacts: 3, ..tea("p") };
    typo.products[0].product_id = "tea-typo".to_owned();
    assert_eq!(try_plan(client(&running), typo).await.unwrap_err().code(), Code::NotFound);
    let (summary, pushes) = plan(&running, tea("p")).await;
    assert!(!summary.is_repeated && pushes.len() > 20, "{summary:?}");
    running.end().await.unwrap();
}

async fn who_bought_a_new_product_is_not_told_of_it(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    add_tea(&running, "tea-new").await;
    let of = |plan_id: &str| {
        let mut request = v1::PlanPushesRequest { max_contacts: 1, ..tea(plan_id) };
        request.products[0].product_id = "tea-new".to_owned();
        request
    };
    let (_, first) = plan(&running, of("p")).await;
    assert_eq!(first.len(), 1);
    let cancel = v1::CancelPlanRequest { plan_id: "p".to_owned() };
    client(&running).cancel_plan(cancel).await.unwrap();
    record(&running, vec![event("e", &first[0].member_id, "tea-new", v1::EventKind::Purchase)]).await;
    let (_, second) = plan(&running, of("q")).await;
    assert!(second.len() == 1 && second[0].member_id != first[0].member_id, "{second:?}");
    running.end().await.unwrap();
}

async fn whatever_fits_is_what_the_member_likes(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let request = v1::PlanPushesRequest { products: Vec::new(), ..tea("p") };
    let (summary, pushes) = plan(&running, request).await;
    assert!(summary.contact_count > i64::from(MEMBERS), "{summary:?}");
    for push in &pushes {
        let taste = push.member_id.split('-').next().unwrap();
        assert!(push.product_id.contains(taste), "{} for {}", push.product_id, push.member_id);
    }
    let nothing = v1::ProductFilter { max_price: Some(1.0), ..v1::ProductFilter::default() };
    let request = v1::PlanPushesRequest { products: Vec::new(), product_filter: Some(nothing), ..tea("q") };
    assert_eq!(plan(&running, request).await.1, []);
    running.end().await.unwrap();
}

async fn only_who_consents_is_told_anything_and_until_it_goes_out(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    set_consent(&running, "tea-01", None, Some(false)).await;
    set_consent(&running, "tea-02", Some(false), None).await;
    let minor = v1::Member { member_id: "tea-03".to_owned(), minor: Some(true), ..v1::Member::default() };
    members(&running).upsert_members(v1::UpsertMembersRequest { members: vec![minor] }).await.unwrap();
    let erase = |id: &str| v1::EraseMemberRequest { member_id: id.to_owned() };
    members(&running).erase_member(erase("tea-04")).await.unwrap();
    let request = v1::PlanPushesRequest { holdout_share: 0.3, ..tea("p") };
    let (summary, pushes) = plan(&running, request.clone()).await;
    let refused = ["tea-01", "tea-02", "tea-03", "tea-04"];
    assert!(pushes.iter().all(|push| !refused.contains(&push.member_id.as_str())), "neither told nor held out");
    let excluded = summary.excluded.unwrap();
    assert_eq!((excluded.no_consent_count, excluded.minor_count, excluded.erased_count), (2, 1, 1));
    let sent: Vec<&v1::Push> = pushes.iter().filter(|push| !push.held_out).collect();
    set_consent(&running, &sent[0].member_id, None, Some(false)).await;
    members(&running).erase_member(erase(&sent[1].member_id)).await.unwrap();
    let told = plan(&running, request).await.1;
    assert!(sent[..2].iter().all(|gone| told.iter().all(|push| push.member_id != gone.member_id)), "nor again");
    let answer = claim(&running, &sent[..2]).await;
    assert_eq!(reasons(&answer), [v1::RefusalReason::NotAllowed, v1::RefusalReason::Unknown]);
    set_consent(&running, &sent[0].member_id, None, Some(true)).await;
    assert_eq!(reasons(&claim(&running, &sent[..1]).await), [v1::RefusalReason::Cancelled], "it was called off then");
    running.end().await.unwrap();
}

async fn contacts_are_claimed_once_and_confirmed_in_any_order(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state.clone()).await;
    let end = Some(prost_types::Timestamp { seconds: now() + 60, nanos: 0 });
    let (_, pushes) = plan(&running, v1::PlanPushesRequest { end, ..tea("p") }).await;
    let [a, b] = [&pushes[0], &pushes[1]];
    assert_eq!(claim(&running, &[a, b]).await.claimed_count, 2);
    assert_eq!(reasons(&claim(&running, &[a]).await), [v1::RefusalReason::Claimed]);
    let counts = |answer: v1::ConfirmContactsResponse| (answer.accepted_count, answer.duplicate_count);
    assert_eq!(counts(confirm(&running, a, v1::ContactStatus::Clicked).await), (1, 0));
    assert_eq!(counts(confirm(&running, a, v1::ContactStatus::Opened).await), (0, 1), "what came before is known");
    assert_eq!(counts(confirm(&running, b, v1::ContactStatus::Failed).await), (1, 0));
    let known = support::live::member(&running, &a.member_id).await.unwrap();
    assert_eq!(known.contact_count, 1);
    let (_, again) = plan(&running, tea("q")).await;
    assert!(!again.iter().any(|push| push.member_id == a.member_id));
    assert!(again.iter().any(|push| push.member_id == b.member_id), "what failed did not disturb");
    let later = Some(prost_types::Timestamp { seconds: now() + 3 * 86_400, nanos: 0 });
    let rest = v1::PlanPushesRequest { start: later, products: Vec::new(), ..tea("later") };
    let (_, early) = plan(&running, rest).await;
    assert_eq!(reasons(&claim(&running, &[&early[0]]).await), [v1::RefusalReason::Early]);
    running.end().await.unwrap();
    let running = serve(&trained, state).await;
    let statuses: BTreeMap<String, i32> =
        plan(&running, tea("p")).await.1.into_iter().map(|push| (push.member_id, push.status)).collect();
    assert_eq!(statuses[&a.member_id], i32::from(v1::ContactStatus::Clicked));
    assert_eq!(statuses[&b.member_id], i32::from(v1::ContactStatus::Failed));
    running.end().await.unwrap();
}

async fn who_comes_first_takes_the_place_of_who_comes_after(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let soon = |plan: v1::PlanPushesRequest| {
        let end = Some(prost_types::Timestamp { seconds: now() + 60, nanos: 0 });
        v1::PlanPushesRequest { end, ..plan }
    };
    let (_, low) = plan(&running, soon(tea("low"))).await;
    let claimed = &low[0];
    assert_eq!(claim(&running, &[claimed]).await.claimed_count, 1);
    let rival = |id: &str, priority| {
        let product = v1::ProductToPush { product_id: "tea4".to_owned(), ..v1::ProductToPush::default() };
        soon(v1::PlanPushesRequest { products: vec![product], priority, ..tea(id) })
    };
    assert!(plan(&running, rival("same", 0)).await.1.iter().all(|p| !low.iter().any(|l| l.member_id == p.member_id)));
    let (_, high) = plan(&running, rival("high", 1)).await;
    assert!(!high.iter().any(|push| push.member_id == claimed.member_id), "what may be out stays");
    let both: Vec<&v1::Push> = low.iter().filter(|l| high.iter().any(|h| h.member_id == l.member_id)).collect();
    assert!(both.len() > 10);
    let answer = claim(&running, &both).await;
    assert!(reasons(&answer).iter().all(|reason| *reason == v1::RefusalReason::Displaced) && answer.claimed_count == 0);
    running.end().await.unwrap();
}

async fn contacts_of_nobody_are_unknown(state: StateConfig) {
    let trained = shop();
    let running = serve_configured(&trained, config(state)).await;
    let unknown = v1::ClaimContactsRequest { contact_ids: vec!["0".repeat(32)] };
    let answer = client(&running).claim_contacts(unknown).await.unwrap().into_inner();
    assert_eq!(reasons(&answer), [v1::RefusalReason::Unknown]);
    running.end().await.unwrap();
}

async fn a_plan_that_is_called_off_gives_its_places_back(state: StateConfig) {
    let trained = shop();
    let running = serve(&trained, state).await;
    let (first, pushes) = plan(&running, tea("p")).await;
    let request = v1::CancelPlanRequest { plan_id: "p".to_owned() };
    let cancelled = client(&running).cancel_plan(request.clone()).await.unwrap().into_inner().cancelled_count;
    assert_eq!(cancelled, first.contact_count);
    assert_eq!(client(&running).cancel_plan(request).await.unwrap().into_inner().cancelled_count, 0);
    assert_eq!(reasons(&claim(&running, &[&pushes[0]]).await), [v1::RefusalReason::Cancelled]);
    let (again, _) = plan(&running, tea("p")).await;
    assert!(again.is_repeated, "what was called off stays so");
    assert_eq!(plan(&running, tea("q")).await.0.contact_count, first.contact_count);
    running.end().await.unwrap();
}

async fn who_complains_is_left_alone(state: StateConfig) {
    let trained = shop();
    let mut config = config(state);
    config.outreach.caps = Caps::default();
    let running = serve_configured(&trained, config).await;
    let (_, first) = plan(&running, tea("p")).await;
    let product = v1::ProductToPush { product_id: "tea4".to_owned(), ..v1::ProductToPush::default() };
    let other = |id: &str| v1::PlanPushesRequest { products: vec![product.clone()], ..tea(id) };
    let (_, second) = plan(&running, other("q")).await;
    let annoyed = first.iter().find(|a| second.iter().any(|b| b.member_id == a.member_id)).unwrap();
    let next = second.iter().find(|push| push.member_id == annoyed.member_id).unwrap();
    // What is called off so has not failed, though both are said at once.
    let said = [(annoyed, v1::ContactStatus::Complained), (next, v1::ContactStatus::Failed)];
    let said = said.map(|(push, status)| v1::ContactOutcome {
        contact_id: push.contact_id.clone(),
        status: status.into(),
        time: None,
    });
    let request = v1::ConfirmContactsRequest { outcomes: said.to_vec() };
    let answer = client(&running).confirm_contacts(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted_count, answer.duplicate_count), (1, 1));
    assert_eq!(reasons(&claim(&running, &[next]).await), [v1::RefusalReason::Cancelled]);
    let product = v1::ProductToPush { product_id: "tea5".to_owned(), ..v1::ProductToPush::default() };
    let (_, third) = plan(&running, v1::PlanPushesRequest { products: vec![product], ..tea("r") }).await;
    assert!(!third.is_empty() && third.iter().all(|push| push.member_id != annoyed.member_id));
    running.end().await.unwrap();
}

async fn who_was_told_of_a_product_is_not_told_again(state: StateConfig) {
    let trained = shop();
    let mut config = config(state);
    config.outreach.caps = Caps::default();
    let running = serve_configured(&trained, config).await;
    let (_, first) = plan(&running, v1::PlanPushesRequest { max_contacts: 5, ..tea("p") }).await;
    let (_, second) = plan(&running, tea("q")).await;
    assert!(first.len() == 5 && second.len() > 5, "others are");
    assert!(second.iter().all(|push| !first.iter().any(|f| f.member_id == push.member_id)));
    running.end().await.unwrap();
}

async fn what_makes_no_sense_any_more_is_not_sent(state: StateConfig) {
    let trained = shop();
    let mut config = config(state);
    config.outreach.channels.values_mut().for_each(|channel| channel.tag = Some("follows".to_owned()));
    let running = serve_configured(&trained, config).await;
    let tagged =
        |member: String| v1::Member { member_id: member, tags: vec!["follows".to_owned()], ..Default::default() };
    let followers = (0..40).map(|i| tagged(format!("tea-{i:02}"))).collect();
    members(&running).upsert_members(v1::UpsertMembersRequest { members: followers }).await.unwrap();
    let (_, pushes) = plan(&running, v1::PlanPushesRequest { max_contacts: 4, ..tea("p") }).await;
    let [sent, bought, left, sold_out] = &pushes[..] else { panic!("four followers: {pushes:?}") };
    assert!(claim(&running, &[sent]).await.refused.is_empty());
    record(&running, vec![event("e", &bought.member_id, "tea3", v1::EventKind::Purchase)]).await;
    let tag = v1::DeleteMemberTagRequest { member_id: left.member_id.clone(), tag: "follows".to_owned() };
    members(&running).delete_member_tag(tag).await.unwrap();
    assert_eq!(reasons(&claim(&running, &[bought, left]).await), [v1::RefusalReason::NotAllowed; 2]);
    let (_, others) = plan(&running, v1::PlanPushesRequest { holdout_share: 0.0, ..tea("q") }).await;
    assert!(
        others.iter().all(|push| push.member_id != bought.member_id),
        "who bought it since is told of something else"
    );
    let retire = v1::RetireProductsRequest { product_ids: vec!["tea3".to_owned()] };
    CatalogServiceClient::new(running.channel.clone()).retire_products(retire).await.unwrap();
    assert_eq!(reasons(&claim(&running, &[sold_out]).await), [v1::RefusalReason::NotAllowed]);
    running.end().await.unwrap();
}
