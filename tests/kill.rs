//! `kill -9` at any moment: what was acknowledged is there afterwards, and what serves is whole.
//!
//! `KINDRED_KILLS` sets how often (100 if unset).
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use kindred::proto::v1;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::member_service_client::MemberServiceClient;
use kindred::proto::v1::model_service_client::ModelServiceClient;
use kindred_models::artifact::VersionId;
use kindred_models::stop::Stop;
use kindred_training::progress::Quiet;
use rand::RngExt;
use support::{TRAINED_AT, Trained, trained, two_tastes};
use tonic::transport::Channel;

/// Clients that record events, each for a member of its own, whose consents it changes as well.
const CLIENTS: usize = 4;
/// Events of a request.
const EVENTS: usize = 5;
/// Answers after which the server is killed, at most.
const MOST_ANSWERS: usize = 60;

/// A server process.
struct Server {
    process: Child,
    channel: Channel,
}

impl Server {
    async fn start(root: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kindred"))
            .args(["serve", "--listen", "127.0.0.1:0", "--registry"])
            .arg(root)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = listening.split("address=").nth(1).unwrap().trim().to_owned();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { process, channel }
    }

    fn kill(mut self) {
        // SIGKILL, on Unix.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What was acknowledged, and what was asked and not answered.
#[derive(Default)]
struct Ledger {
    events: Vec<v1::Event>,
    /// By client: the consent that was answered last, and the one that was asked for last.
    consents: [(Option<bool>, Option<bool>); CLIENTS],
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
    format!("t{}", client + 1)
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
async fn verify(server: &Server, ledger: &Mutex<Ledger>, versions: &[String; 2]) -> usize {
    let (acknowledged, consents) = {
        let mut ledger = ledger.lock().unwrap();
        (std::mem::take(&mut ledger.events), ledger.consents)
    };
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
    acknowledged.len()
}

fn two_versions() -> (Trained, [String; 2]) {
    let trained = trained(&two_tastes());
    let mut config = two_tastes().write(trained.folder.path());
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
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut found = 0;
    for _ in 0..kills {
        let server = Server::start(&root).await;
        found += verify(&server, &ledger, &versions).await;
        let (answers, channel) = (Arc::new(AtomicUsize::new(0)), server.channel.clone());
        let clients = (0..CLIENTS).map(|i| tokio::spawn(load(i, channel.clone(), ledger.clone(), answers.clone())));
        let mut clients: Vec<_> = clients.collect();
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
    found += verify(&server, &ledger, &versions).await;
    server.kill();
    println!("{kills} kills; {found} acknowledged events, all there");
    assert!(found >= kills, "events were acknowledged between kills");
}
