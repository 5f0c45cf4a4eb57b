//! What a monitor sees: metrics, health, readiness, and ids of calls.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use kindred::config::{ServeConfig, StateConfig};
use kindred::proto::v1;
use kindred::proto::v1::recommendation_service_client::RecommendationServiceClient;
use support::{find, serve_as, trained, two_tastes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Status and body of a page of the admin port.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A port that nobody listens to.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn metrics_in(text: &str) -> BTreeSet<&str> {
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    names.filter(|name| name.starts_with("kindred_")).collect()
}

#[tokio::test]
async fn a_monitor_sees_what_the_dashboard_asks_for() {
    let trained = trained(&two_tastes());
    let admin = free();
    let config = ServeConfig { admin: Some(admin), ..ServeConfig::default() };
    let running = serve_as(&trained, config, StateConfig::default()).await;
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    let mut request = tonic::Request::new(v1::RecommendFeedRequest::default());
    request.metadata_mut().insert("x-request-id", "mall-7".parse().unwrap());
    let answer = feeds.recommend_feed(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mall-7");
    let answer = feeds.recommend_feed(v1::RecommendFeedRequest::default()).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap().len(), 16, "one of our own");
    feeds.recommend_feed(v1::RecommendFeedRequest { page_size: -1, ..Default::default() }).await.unwrap_err();
    let size = Some(v1::find_audience_request::Size::MemberCount(5));
    let seeds = vec!["t1".to_owned()];
    find(&running, v1::FindAudienceRequest { seed_member_ids: seeds, size, ..Default::default() }).await;

    let (status, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    let calls =
        |code: u32| format!("kindred_calls_total{{method=\"RecommendationService/RecommendFeed\",code=\"{code}\"}}");
    assert!(text.contains(&format!("{} 2", calls(0))) && text.contains(&format!("{} 1", calls(3))), "{text}");
    assert!(text.contains("kindred_calls_total{method=\"AudienceService/FindAudience\",code=\"0\"} 1"), "{text}");
    assert!(text.contains("stage=\"commit\"") && text.contains("kindred_store_up 1"), "{text}");
    assert!(text.contains(&format!("version=\"{}\"", trained.id)), "{text}");
    let shown = metrics_in(include_str!("../docs/grafana.json"));
    let given = metrics_in(&text);
    assert!(shown.len() > 8 && shown.is_subset(&given), "{:?}", shown.difference(&given));
    let families =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|line| line.split(' ').next().unwrap());
    for family in families {
        assert!(shown.iter().any(|name| name.starts_with(family)), "{family} is on no dashboard");
    }
    assert_eq!(get(admin, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, ready) = get(admin, "/readyz").await;
    assert_eq!((status, ready.contains("state store up")), (200, true), "{ready}");
    assert_eq!(get(admin, "/elsewhere").await.0, 404);
    running.end().await.unwrap();
    assert!(tokio::net::TcpStream::connect(admin).await.is_err(), "closed with the server");
}

#[tokio::test]
async fn a_monitor_sees_that_the_current_version_cannot_be_loaded() {
    let trained = trained(&two_tastes());
    let manifest = trained.version_folder().join("manifest.json");
    trained.again(two_tastes().write(trained.folder.path()), support::TRAINED_AT + 60).unwrap();
    let admin = free();
    let config = ServeConfig { admin: Some(admin), ..ServeConfig::default() };
    let running = serve_as(&trained, config, StateConfig::default()).await;
    // Once it answers, the admin port does.
    let mut feeds = RecommendationServiceClient::new(running.channel.clone());
    feeds.recommend_feed(v1::RecommendFeedRequest::default()).await.unwrap();
    let shows = async |value: u8| {
        let line = format!("kindred_version_refused {value}\n");
        let shown = async {
            while !get(admin, "/metrics").await.1.contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), shown).await.expect("within some seconds");
    };
    shows(0).await;
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    trained.registry.activate(&trained.id).unwrap();
    shows(1).await;
    std::fs::write(&manifest, whole).unwrap();
    shows(0).await;
    running.end().await.unwrap();
}
