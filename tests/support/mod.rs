//! What the integration tests share: small tables, a trained registry, a server on a real socket.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

#[macro_use]
pub mod live;
pub mod outreach;
pub mod process;
pub mod program;
pub mod shop;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kindred::config::{Config, ServeConfig, StateConfig};
use kindred::proto::v1;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::find_audience_response::Payload;
use kindred::server;
use kindred_models::Model;
use kindred_models::artifact::{Registry, VersionId};
use kindred_models::stop::Stop;
use kindred_training::TrainError;
use kindred_training::config::{IalsParams, TrainConfig};
use kindred_training::progress::Quiet;
use kindred_training::tables::TimeUnit;
use tempfile::TempDir;
use tonic::transport::Channel;

/// A moment that every test trains at.
pub const TRAINED_AT: i64 = 1_790_000_000;

/// Tables of a retailer, as text.
#[derive(Default)]
pub struct Tables {
    pub events: String,
    pub products: String,
    pub members: String,
}

impl Tables {
    pub fn new() -> Self {
        Self {
            events: "member_id,product_id,time,kind,store_id\n".to_owned(),
            products: "product_id,title,category,brand,price,stores,available\n".to_owned(),
            members: "member_id,store_id,city,guide_id,consent_personalization,consent_marketing,minor,tags\n"
                .to_owned(),
        }
    }

    pub fn event(&mut self, member: &str, product: &str, day: u32, kind: &str) {
        self.event_in(member, product, day, kind, "");
    }

    pub fn event_in(&mut self, member: &str, product: &str, day: u32, kind: &str, store: &str) {
        let time = 1_700_000_000 + i64::from(day) * 86_400;
        writeln!(self.events, "{member},{product},{time},{kind},{store}").unwrap();
    }

    pub fn buy(&mut self, member: &str, product: &str, day: u32) {
        self.event(member, product, day, "purchase");
    }

    pub fn product(&mut self, row: &str) {
        writeln!(self.products, "{row}").unwrap();
    }

    pub fn member(&mut self, row: &str) {
        writeln!(self.members, "{row}").unwrap();
    }

    /// Writes the tables as CSV; gives a config that reads them.
    pub fn write(&self, folder: &Path) -> TrainConfig {
        std::fs::write(folder.join("events.csv"), &self.events).unwrap();
        std::fs::write(folder.join("products.csv"), &self.products).unwrap();
        std::fs::write(folder.join("members.csv"), &self.members).unwrap();
        let mut config = TrainConfig::default();
        config.data.root = folder.to_owned();
        config.data.events.path = Some("events.csv".into());
        config.data.events.time_unit = TimeUnit::S;
        config.data.products.path = Some("products.csv".into());
        // A header alone would ask everybody for consent, and nobody would have answered.
        config.data.members.path = (self.members.lines().count() > 1).then(|| "members.csv".into());
        config.embeddings = IalsParams { factors: 8, epochs: 10, ..config.embeddings };
        config.evaluate.test_days = 0;
        config
    }
}

/// Two tastes: members t0… buy tea, members c0… buy coffee; one of each has not bought one product yet.
/// `t0` has not bought `tea9`, `c0` has not bought `coffee9`; `shy` drinks tea and allows nothing.
pub fn two_tastes() -> Tables {
    let mut tables = Tables::new();
    for (kind, price) in [("tea", 30), ("coffee", 60)] {
        for p in 0..10 {
            let store = if p < 5 { "s1" } else { "s1|s2" };
            tables.product(&format!("{kind}{p},{kind} no {p},drinks/{kind},{kind} house,{price},{store},true"));
        }
        let initial = &kind[..1];
        for m in 0..30 {
            let (city, store) = if m % 2 == 0 { ("Wuhan", "s1") } else { ("Chengdu", "s2") };
            let tag = if m % 3 == 0 { "vip" } else { "" };
            tables.member(&format!("{initial}{m},{store},{city},g{},true,true,false,{tag}", m % 4));
            for p in (0..10).filter(|p| m != 0 || *p != 9) {
                tables.buy(&format!("{initial}{m}"), &format!("{kind}{p}"), (m + 3 * p) % 60);
            }
        }
    }
    tables.member("shy,s1,Wuhan,g0,false,false,false,");
    tables.member("kid,s1,Wuhan,g0,true,true,true,");
    for p in 0..6 {
        tables.buy("shy", &format!("tea{p}"), 10);
        tables.buy("kid", &format!("tea{p}"), 12);
    }
    tables
}

/// A registry in a folder of its own.
pub struct Trained {
    pub folder: TempDir,
    pub registry: Registry,
    pub id: VersionId,
}

/// Trains and publishes.
pub fn trained(tables: &Tables) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let config = tables.write(folder.path());
    trained_with(folder, config)
}

pub fn trained_with(folder: TempDir, config: TrainConfig) -> Trained {
    let registry = Registry::new(&folder.path().join("registry"), "default").unwrap();
    let config = config.validate().unwrap();
    let id = kindred_training::train::train(&config, &registry, TRAINED_AT, &Quiet, &Stop::default()).unwrap().id;
    Trained { folder, registry, id }
}

impl Trained {
    /// Trains and publishes another version, which is the current one then.
    pub fn again(&self, config: TrainConfig, trained_at: i64) -> Result<VersionId, TrainError> {
        let config = config.validate().unwrap();
        Ok(kindred_training::train::train(&config, &self.registry, trained_at, &Quiet, &Stop::default())?.id)
    }

    pub fn model(&self) -> Model {
        Model::load(&self.registry, &self.id).unwrap()
    }

    pub fn version_folder(&self) -> PathBuf {
        self.registry.folder().join(self.id.as_str())
    }
}

/// A server on a free port of loopback, and how to end it.
pub struct Running {
    pub address: SocketAddr,
    pub channel: Channel,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<Result<(), kindred::error::Error>>,
}

pub async fn serve(trained: &Trained) -> Running {
    serve_with(trained, StateConfig::default()).await
}

pub async fn serve_with(trained: &Trained, state: StateConfig) -> Running {
    serve_as(trained, ServeConfig::default(), state).await
}

pub async fn serve_as(trained: &Trained, serve: ServeConfig, state: StateConfig) -> Running {
    serve_configured(trained, Config { serve, state, ..Config::default() }).await
}

pub async fn serve_configured(trained: &Trained, mut config: Config) -> Running {
    config.serve = ServeConfig { threads: 2, reload_seconds: 1, drain_seconds: 5, ..config.serve };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel();
    let registry = trained.registry.clone();
    let ended = async move { drop(ended.await) };
    let server = tokio::spawn(async move { server::serve(registry, &config, listener, ended).await });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    Running { address, channel, end: Some(end), server }
}

/// A new database on the server of `KINDRED_TEST_POSTGRES`, such as `postgres://postgres@127.0.0.1:5432`.
pub async fn new_database() -> StateConfig {
    let server = std::env::var("KINDRED_TEST_POSTGRES").expect("KINDRED_TEST_POSTGRES names a PostgreSQL server");
    let name = format!("kindred_{:032x}", rand::random::<u128>());
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&format!("{server}/postgres")).await.unwrap();
    sqlx::query(&format!("CREATE DATABASE {name}")).execute(&pool).await.unwrap();
    pool.close().await;
    StateConfig { url: format!("{server}/{name}"), ..StateConfig::default() }
}

/// Calls a method with a `grpc-timeout`, over HTTP/2 by hand: tonic's own client has a timer that would
/// answer in the server's place. Gives the `grpc-status` of the answer. The request is left open if `open`.
pub async fn status_with_timeout(
    address: SocketAddr,
    method: &str,
    message: &impl prost::Message,
    timeout: &str,
    open: bool,
) -> String {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = tonic::codegen::http::Request::post(format!("http://{address}/kindred.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    body.send_data(frame.into(), !open).unwrap();
    let answer = answer.await.unwrap();
    let status = |headers: &tonic::codegen::http::HeaderMap| {
        headers.get("grpc-status").map(|value| value.to_str().unwrap().to_owned())
    };
    if let Some(status) = status(answer.headers()) {
        return status;
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    status(&body.trailers().await.unwrap().unwrap()).unwrap()
}

impl Running {
    /// Asks the server to end, as a signal would.
    pub fn ask_to_end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Ends the server and waits for it.
    pub async fn end(mut self) -> Result<(), kindred::error::Error> {
        self.ask_to_end();
        drop(self.channel);
        self.server.await.unwrap()
    }
}

/// The summary and the members of an audience.
pub async fn find(
    running: &Running,
    request: v1::FindAudienceRequest,
) -> (v1::AudienceSummary, Vec<v1::AudienceMember>) {
    let mut client = AudienceServiceClient::new(running.channel.clone());
    let mut stream = client.find_audience(request).await.unwrap().into_inner();
    let Some(Payload::Summary(summary)) = stream.message().await.unwrap().unwrap().payload else {
        panic!("the summary comes first")
    };
    let mut members = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(Payload::Chunk(chunk)) = message.payload else { panic!("one summary") };
        members.extend(chunk.members);
    }
    (summary, members)
}
