//! `kill -9` at any moment: what was acknowledged is there afterwards, no cap is exceeded, and what serves is whole.
//!
//! `KINDRED_KILLS` sets how often (100 if unset).
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use kindred::proto::v1;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::member_service_client::MemberServiceClient;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred::proto::v1::outreach_service_client::OutreachServiceClient;
use kindred::proto::v1::plan_pushes_response::Payload;
use kindred::store::{Store, sqlite_url};
use kindred_models::artifact::VersionId;
use kindred_models::outreach::ContactStatus;
use kindred_models::stop::Stop;
use kindred_training::config::LaunchParams;
use kindred_training::progress::Quiet;
use rand::RngExt;
use support::process::Server;
use support::shop::launches;
use support::{TRAINED_AT, Trained, trained_with};
use tonic::Status;
use tonic::transport::Channel;

/// Clients that record events, each for a member of its own, whose consents it changes as well.
const CLIENTS: usize = 4;
/// Events of a request.
const EVENTS: usize = 5;
/// Answers after which the server is killed, at most.
const MOST_ANSWERS: usize = 60;
/// Clients that plan, claim, confirm and call off.
const PLANNERS: usize = 2;
/// Messages in seven days that a member may get.
const CAP: usize = 2;
/// Weeks that plans look ahead.
const WEEKS: i64 = 4;

/// What was acknowledged, and what was asked and not answered.
#[derive(Default)]
struct Ledger {
    events: Vec<v1::Event>,
    /// By client: the consent that was answered last, and the one that was asked for last.
    consents: [(Option<bool>, Option<bool>); CLIENTS],
    /// The contacts of plans, and what was answered of them last.
    plans: Vec<(String, BTreeMap<String, v1::ContactStatus>)>,
    plan_ids: Vec<String>,
}

fn events(client: usize) -> Vec<v1::Event> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let event = |product: usize| v1::Event {
        event_id: format!("{:032x}", rand::random::<u128>()),
        member_id: member(client),
        product_id: format!("tea{product}"),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..v1::Event::default()
    };
    (0..EVENTS).map(event).collect()
}

fn member(client: usize) -> String {
    format!("tea-{client:02}")
}

/// Asks until the server does not answer any more.
async fn load(client: usize, channel: Channel, ledger: Arc<Mutex<Ledger>>, answers: Arc<AtomicUsize>) {
    let (mut recorder, mut members) = (EventServiceClient::new(channel.clone()), MemberServiceClient::new(channel));
    loop {
        let events = events(client);
        let Ok(kept) = recorder.record_events(v1::RecordEventsRequest { events: events.clone() }).await else { return };
        assert_eq!(kept.into_inner().accepted_count, EVENTS as i64);
        ledger.lock().unwrap().events.extend(events);
        answers.fetch_add(1, Ordering::Relaxed);
        let marketing = Some(rand::random::<bool>());
        ledger.lock().unwrap().consents[client].1 = marketing;
        let consent = v1::SetConsentRequest { member_id: member(client), personalization: None, marketing };
        let Ok(_) = members.set_consent(consent).await else { return };
        ledger.lock().unwrap().consents[client] = (marketing, marketing);
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Plans messages for some members, on some day, and lets them go out or calls them off, until the server does not answer
/// any more.
async fn plan(channel: Channel, ledger: Arc<Mutex<Ledger>>, answers: Arc<AtomicUsize>) {
    let mut outreach = OutreachServiceClient::new(channel);
    loop {
        let plan_id = format!("{:032x}", rand::random::<u128>());
        ledger.lock().unwrap().plan_ids.push(plan_id.clone());
        let Ok(mut contacts) = planned(&mut outreach, request(&plan_id)).await else { return };
        // What follows outdates what was answered, as soon as it is asked.
        ledger.lock().unwrap().plans.push((plan_id.clone(), contacts.clone()));
        answers.fetch_add(1, Ordering::Relaxed);
        let contact_ids: Vec<String> = contacts.keys().cloned().collect();
        if contact_ids.is_empty() {
            continue;
        }
        if rand::random() {
            let Ok(_) = outreach.cancel_plan(v1::CancelPlanRequest { plan_id: plan_id.clone() }).await else { return };
            contacts.values_mut().for_each(|status| *status = v1::ContactStatus::Cancelled);
        } else {
            let claim = v1::ClaimContactsRequest { contact_ids: contact_ids.clone() };
            let Ok(claimed) = outreach.claim_contacts(claim).await else { return };
            let refused = claimed.into_inner().refused;
            let may_go_out = contact_ids.iter().filter(|id| refused.iter().all(|refused| refused.contact_id != **id));
            let sent = |id: &String| v1::ContactOutcome {
                contact_id: id.clone(),
                status: v1::ContactStatus::Sent.into(),
                time: None,
            };
            let outcomes: Vec<v1::ContactOutcome> = may_go_out.map(sent).collect();
            if outcomes.is_empty() {
                continue;
            }
            let request = v1::ConfirmContactsRequest { outcomes: outcomes.clone() };
            let Ok(_) = outreach.confirm_contacts(request).await else { return };
            outcomes.iter().for_each(|sent| *contacts.get_mut(&sent.contact_id).unwrap() = v1::ContactStatus::Sent);
        }
        ledger.lock().unwrap().plans.push((plan_id, contacts));
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

fn request(plan_id: &str) -> v1::PlanPushesRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let seconds = now + 7 * 86_400 * rand::rng().random_range(0..WEEKS);
    let tea = v1::ProductToPush {
        product_id: format!("tea{}", rand::rng().random_range(0..10)),
        ..v1::ProductToPush::default()
    };
    v1::PlanPushesRequest {
        plan_id: plan_id.to_owned(),
        products: vec![tea],
        priority: rand::rng().random_range(0..3),
        max_contacts: 5,
        start: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..v1::PlanPushesRequest::default()
    }
}

/// The contacts of a new plan.
async fn planned(
    outreach: &mut OutreachServiceClient<Channel>,
    request: v1::PlanPushesRequest,
) -> Result<BTreeMap<String, v1::ContactStatus>, Status> {
    let (mut stream, mut contacts) = (outreach.plan_pushes(request).await?.into_inner(), BTreeMap::new());
    while let Some(message) = stream.message().await? {
        if let Some(Payload::Chunk(chunk)) = message.payload {
            contacts.extend(chunk.pushes.iter().map(|push| (push.contact_id.clone(), push.status())));
        }
    }
    Ok(contacts)
}

/// Whether a contact may be so after something was answered of it, others having asked since.
fn follows(answered: v1::ContactStatus, now: v1::ContactStatus) -> bool {
    use v1::ContactStatus::{Cancelled, Reserved, Sent};
    match answered {
        Reserved => true,
        Cancelled | Sent => now == answered || (answered == Cancelled && now == v1::ContactStatus::Displaced),
        _ => now >= answered,
    }
}

/// No member has more messages, out or with a place, than they may have.
async fn caps_hold(root: &Path, plan_ids: &[String]) -> usize {
    let store = Store::open(&sqlite_url(&root.join("default/kindred.db"))).await.unwrap();
    let mut days = BTreeMap::<String, Vec<i64>>::new();
    for plan_id in plan_ids {
        for contact in store.plan(plan_id).await.unwrap() {
            if contact.status == ContactStatus::Reserved || contact.status.is_out() {
                days.entry(contact.member_id).or_default().push(contact.times.from.div_euclid(86_400));
            }
        }
    }
    for (member, days) in &mut days {
        days.sort_unstable();
        let is_full = |run: &[i64]| run[run.len() - 1] - run[0] < 7;
        assert!(!days.windows(CAP + 1).any(is_full), "{member} gets more than {CAP} in 7 days: {days:?}");
    }
    store.close().await;
    days.values().map(Vec::len).sum()
}

/// Swaps versions until the server does not answer any more.
async fn swap(channel: Channel, versions: [String; 2], answers: Arc<AtomicUsize>) {
    let mut models = ModelServiceClient::new(channel);
    for version in versions.iter().cycle() {
        let request = v1::ActivateModelRequest { version: version.clone() };
        let Ok(_) = models.activate_model(request).await else { return };
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything that was acknowledged since the last look is there.
async fn verify(server: &Server, root: &Path, ledger: &Mutex<Ledger>, versions: &[String; 2]) -> usize {
    let (acknowledged, consents, plans) = {
        let mut ledger = ledger.lock().unwrap();
        (std::mem::take(&mut ledger.events), ledger.consents, std::mem::take(&mut ledger.plans))
    };
    // Of members who opted out meanwhile the server tells nothing.
    let store = Store::open(&sqlite_url(&root.join("default/kindred.db"))).await.unwrap();
    for (plan_id, answered) in &plans {
        let now = store.plan(plan_id).await.unwrap();
        for (contact, answered) in answered {
            let now = now.iter().find(|now| now.contact_id == *contact);
            let now = now.unwrap_or_else(|| panic!("a contact of {plan_id} is gone"));
            let now = v1::ContactStatus::try_from(now.status as i32 + 1).unwrap();
            assert!(follows(*answered, now), "{answered:?}, and then {now:?}");
        }
    }
    store.close().await;
    let mut recorder = EventServiceClient::new(server.channel.clone());
    for events in acknowledged.chunks(1000) {
        let request = v1::RecordEventsRequest { events: events.to_vec() };
        let kept = recorder.record_events(request).await.unwrap().into_inner();
        assert_eq!((kept.accepted_count, kept.duplicate_count), (0, events.len() as i64), "{:?}", kept.refused);
    }
    for (client, (answered, asked)) in consents.into_iter().enumerate() {
        let request = v1::GetMemberRequest { member_id: member(client) };
        let known = MemberServiceClient::new(server.channel.clone()).get_member(request).await.unwrap().into_inner();
        let now = known.member.unwrap().consent_marketing;
        assert!(answered.is_none() || now == answered || now == asked, "{answered:?} or {asked:?}, not {now:?}");
        ledger.lock().unwrap().consents[client] = (now, now);
    }
    let model = ModelServiceClient::new(server.channel.clone()).get_model(v1::GetModelRequest::default()).await;
    assert!(versions.contains(&model.unwrap().into_inner().model.unwrap().version));
    acknowledged.len() + plans.iter().map(|(_, contacts)| contacts.len()).sum::<usize>()
}

fn two_versions() -> (Trained, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    config.launch = LaunchParams { horizon_days: 14, step_days: 14, min_launches: 8, ..config.launch };
    config.ranker.slices = 0;
    let trained = trained_with(folder, config.clone());
    config.embeddings.factors = 4;
    let config = config.validate().unwrap();
    let second: VersionId =
        kindred_training::train::train(&config, &trained.registry, TRAINED_AT + 60, &Quiet, &Stop::default())
            .unwrap()
            .id;
    let versions = [trained.id.to_string(), second.to_string()];
    (trained, versions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_at_random_moments() {
    let kills: usize = std::env::var("KINDRED_KILLS").map_or(100, |kills| kills.parse().unwrap());
    let (trained, versions) = two_versions();
    let root = trained.registry.folder().parent().unwrap().to_owned();
    let caps = format!("caps = {{ per_7_days = {CAP} }}");
    let outreach = format!(
        "[outreach]\nquiet_from = 0\nquiet_until = 0\nsame_product_days = 0\n{caps}\n[outreach.channels.wecom]\n"
    );
    std::fs::write(root.join("kindred.toml"), outreach).unwrap();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut found = 0;
    for _ in 0..kills {
        let server = Server::start(&root).await;
        found += verify(&server, &root, &ledger, &versions).await;
        let (answers, channel) = (Arc::new(AtomicUsize::new(0)), server.channel.clone());
        let clients = (0..CLIENTS).map(|i| tokio::spawn(load(i, channel.clone(), ledger.clone(), answers.clone())));
        let mut clients: Vec<_> = clients.collect();
        clients.extend((0..PLANNERS).map(|_| tokio::spawn(plan(channel.clone(), ledger.clone(), answers.clone()))));
        clients.push(tokio::spawn(swap(channel, versions.clone(), answers.clone())));
        let enough = rand::rng().random_range(1..=MOST_ANSWERS);
        while answers.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        server.kill();
        for client in clients {
            client.await.unwrap();
        }
    }
    let server = Server::start(&root).await;
    found += verify(&server, &root, &ledger, &versions).await;
    server.kill();
    let plan_ids = std::mem::take(&mut ledger.lock().unwrap().plan_ids);
    let contacts = caps_hold(&root, &plan_ids).await;
    println!(
        "{kills} kills; {found} acknowledged events and contacts, all there; {contacts} contacts, no cap exceeded"
    );
    assert!(found >= kills, "events were acknowledged between kills");
}
