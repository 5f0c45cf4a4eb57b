//! A state store that fails: what can be answered is, and marked; what can't be kept is refused in whole; and what was
//! acknowledged is there when it is back.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use kindred::store::{Store, sqlite_url};
use support::live::{audience, event, member, members, set_consent};
use support::process::Server;
use support::{new_database, serve_with, trained, two_tastes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

/// How a feed is marked.
async fn mark(channel: &Channel) -> Option<String> {
    let request = v1::RecommendFeedRequest { member_id: "t1".to_owned(), ..v1::RecommendFeedRequest::default() };
    let answer = RecommendationServiceClient::new(channel.clone()).recommend_feed(request).await.unwrap();
    assert!(answer.get_ref().personalized && !answer.get_ref().items.is_empty());
    answer.metadata().get("x-kindred-degraded").map(|mark| mark.to_str().unwrap().to_owned())
}

async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to hold");
}

/// Lets connections through to another address, as long as it lives.
async fn wire(listener: TcpListener, to: String) {
    let mut wires = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let to = to.clone();
        wires.spawn(async move {
            let mut far = TcpStream::connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

#[tokio::test]
#[ignore = "needs KINDRED_TEST_POSTGRES, the URL of a server on which databases can be made"]
async fn while_the_store_is_away_answers_are_marked_and_writes_refused() {
    let trained = trained(&two_tastes());
    let database = new_database().await.url;
    let (user, rest) = database.trim_start_matches("postgres://").split_once('@').unwrap();
    let (far, name) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap();
    let wired = tokio::spawn(wire(listener, far.to_owned()));
    let state = StateConfig { url: format!("postgres://{user}@{near}/{name}"), ..StateConfig::default() };
    let running = serve_with(&trained, state).await;
    set_consent(&running, "t2", None, Some(false)).await;
    assert_eq!(mark(&running.channel).await, None);

    wired.abort();
    let _ = wired.await;
    until(async || mark(&running.channel).await.as_deref() == Some("state-store")).await;
    let refused = v1::SetConsentRequest { member_id: "t3".to_owned(), marketing: Some(false), ..Default::default() };
    let refused = members(&running).set_consent(refused).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let (_, found) = audience(&running, None).await;
    assert!(!found.contains(&"t2".to_owned()) && found.contains(&"t3".to_owned()), "what was kept still holds");

    let listener = TcpListener::bind(near).await.unwrap();
    let wired = tokio::spawn(wire(listener, far.to_owned()));
    until(async || mark(&running.channel).await.is_none()).await;
    assert_eq!(
        member(&running, "t3").await.unwrap().member.unwrap().consent_marketing,
        Some(true),
        "none of it is done"
    );
    set_consent(&running, "t3", None, Some(false)).await;
    let accounted = async || {
        let store = Store::open(&database).await.unwrap();
        let entries = store.last_entries(10).await.unwrap();
        store.close().await;
        entries.iter().any(|entry| entry.action == "FindAudience")
    };
    until(accounted).await;
    running.end().await.unwrap();
    wired.abort();
}

fn purchases(request: usize) -> Vec<v1::Event> {
    let of = |i: usize| event(&format!("{request}-{i:0200}"), "t1", "tea9", v1::EventKind::View);
    (0..200).map(of).collect()
}

/// Records until that fails; gives how many requests were answered, and what the next one was told.
async fn record_all(channel: &Channel) -> (usize, tonic::Status) {
    let mut client = EventServiceClient::new(channel.clone());
    for request in 0..1000 {
        match client.record_events(v1::RecordEventsRequest { events: purchases(request) }).await {
            Ok(kept) => assert_eq!(kept.into_inner().accepted_count, 200),
            Err(status) => return (request, status),
        }
    }
    panic!("the disk never filled up");
}

#[cfg(unix)]
#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let trained = trained(&two_tastes());
    let root = trained.registry.folder().parent().unwrap();
    // No file may grow beyond a few megabytes, and who tries is told so.
    let server = Server::start_after("trap '' XFSZ; ulimit -f 6000", root).await;
    let (answered, status) = record_all(&server.channel).await;
    assert!(answered > 0);
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(mark(&server.channel).await.as_deref(), Some("state-store"), "it can be read, and takes nothing");
    server.kill();

    let server = Server::start_after(":", root).await;
    let mut client = EventServiceClient::new(server.channel.clone());
    for request in 0..=answered {
        let kept = client.record_events(v1::RecordEventsRequest { events: purchases(request) }).await.unwrap();
        let (new, known) = (kept.get_ref().accepted_count, kept.get_ref().duplicate_count);
        let whole = if request < answered { (0, 200) } else { (200, 0) };
        assert_eq!((new, known), whole, "request {request} of {answered}");
    }
    server.kill();
}

/// What a server says that can't start, and its exit code.
fn refused(state_url: &str, root: &std::path::Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--registry"]).arg(root).env("KINDRED_STATE__URL", state_url);
    let mut server = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = server.stderr.take().unwrap();
    let said = std::thread::spawn(move || std::io::read_to_string(&mut said).unwrap());
    let began = Instant::now();
    while server.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            server.kill().unwrap();
        }
        std::thread::yield_now();
    }
    // One that had to be killed has no code.
    let code = server.wait().unwrap().code();
    (code.unwrap_or_default(), said.join().unwrap())
}

#[tokio::test]
async fn a_store_that_can_not_be_used_is_named() {
    let trained = trained(&two_tastes());
    let root = trained.registry.folder().parent().unwrap();
    let file = trained.registry.folder().join("kindred.db");
    let running = support::serve(&trained).await;
    for request in 0..5 {
        support::live::record(&running, purchases(request)).await;
    }
    running.end().await.unwrap();
    let (code, said) = refused(&format!("sqlite:{}?mode=ro", file.display()), root);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("kindred.db") && said.contains("readonly") && !said.contains("panicked"), "{said}");
    let (code, said) = refused("sqlite:/nowhere/at/all.db", root);
    assert!(code == 69 && said.contains("/nowhere/at/all.db"), "{said}");

    // What stands in the log of changes would mend the file.
    let store = Store::open(&sqlite_url(&file)).await.unwrap();
    assert!(store.checkpoint().await.unwrap());
    store.close().await;
    let mut bytes = std::fs::read(&file).unwrap();
    let quarter = bytes.len() / 4;
    bytes[quarter..].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let (code, said) = refused("", root);
    assert!([65, 69].contains(&code), "{code}: {said}");
    assert!(said.contains("malformed") && !said.contains("panicked"), "{said}");
}
