//! Feeds under load, beside an RPC that answers the same bytes from a constant; what becomes of them while versions are
//! swapped, and of accepted calls when twice as many are offered as the server can answer.
//!
//! `cargo bench --profile release --bench load -- REGISTRY [SECONDS]`, with the registry of any model, such as the one
//! that `kindred demo` leaves. Twice the capacity is offered for so many seconds, 30 if it is not said.
#![allow(missing_docs, clippy::unwrap_used)]

/// As the program has it: the constant RPC is answered from here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod generator;
mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use generator::{Outcome, Target};
use kindred::proto::v1;
use kindred_models::Model;
use kindred_models::artifact::{Registry, VersionId, Writer};
use prost::Message;
use prost::bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use server::Server;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use v1::model_service_client::ModelServiceClient;
use v1::recommendation_service_server::{RecommendationService, RecommendationServiceServer};

const FEED: &str = "RecommendationService/RecommendFeed";
const PAGE: i32 = 20;
/// Different members asked for.
const MESSAGES: usize = 100_000;
/// Candidates of an index's walk, where the model has one.
const EF_SEARCH: usize = 100;
const ROUNDS: usize = 3;
/// Calls at once that find out what a server can do; fewer than it lets wait.
const AT_ONCE: usize = 32;
/// Swaps of versions, and the time between two.
const SWAPS: usize = 5;
const SWAP_EVERY: Duration = Duration::from_secs(4);
/// Bytes of a message's length on the wire, and the flag before it.
const PREFIX: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().unwrap()
    };
    match &args[..] {
        [command, answer] if command == "constant" => runtime(2).block_on(serve_constant(answer)),
        [root] => runtime(1).block_on(compare(root, 30)),
        [root, seconds] => runtime(1).block_on(compare(root, seconds.parse().unwrap())),
        _ => panic!("a registry, and seconds"),
    }
}

async fn compare(root: &str, seconds: u64) {
    let registry = Registry::new(root.as_ref(), "default").unwrap();
    let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
    let messages = Arc::new(messages(&model));
    let folder = tempfile::tempdir().unwrap();
    let versions = twice(&model, folder.path());
    drop(model);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    let kindred = Server::spawn(command.args(["serve", "--listen", "127.0.0.1:0", "--registry"]).arg(folder.path()));
    let feeds = Target::connect(kindred.address, FEED, messages.clone()).await;
    let answer = feeds.answer().await;
    println!("an answer has {} bytes; the server {:.0} MB", answer.len(), kindred.memory()[0]);
    let answer = folder.path().join("answer");
    std::fs::write(&answer, &feeds.answer().await[PREFIX..]).unwrap();
    let constant = Server::spawn(Command::new(std::env::current_exe().unwrap()).arg("constant").arg(&answer));
    let constants = Target::connect(constant.address, FEED, messages).await;
    let capacity = beside(&feeds, &constants).await;
    drop((constants, constant));
    swaps(&kindred, &feeds, capacity, &versions).await;
    overload(&kindred, &feeds, capacity, Duration::from_secs(seconds)).await;
}

/// Both by turns: what they can do, and how long a call takes at half of that. Gives what a feed can do, per second.
async fn beside(feeds: &Target, constants: &Target) -> f64 {
    let time = Duration::from_secs(10);
    let mut capacities = Vec::new();
    for _ in 0..ROUNDS {
        let feed = feeds.saturate(AT_ONCE, time).await.per_second();
        let constant = constants.saturate(AT_ONCE, time).await.per_second();
        println!("feeds {feed:.0}/s, constant {constant:.0}/s: {:.2}", feed / constant);
        let (half, same) = (feeds.offer(feed / 2.0, time).await, constants.offer(constant / 2.0, time).await);
        print("  half, feeds", &half);
        print("  half, constant", &same);
        for share in [0.99, 0.999] {
            println!("  {share}: {:.1} times", half.quantile(share) / same.quantile(share));
        }
        capacities.push(feed);
    }
    capacities.sort_by(f64::total_cmp);
    capacities[ROUNDS / 2]
}

/// The same model as two versions of a registry of their own.
fn twice(model: &Model, root: &Path) -> [VersionId; 2] {
    let registry = Registry::new(root, "default").unwrap();
    [0, 60].map(|later| {
        let writer = Writer::create(&registry).unwrap();
        model.publish(writer, EF_SEARCH, model.info.as_of_time.max(0) + later).unwrap()
    })
}

/// Offers most of what the server can do, without and with versions swapped meanwhile.
async fn swaps(server: &Server, feeds: &Target, capacity: f64, versions: &[VersionId]) {
    let (rate, time) = (0.8 * capacity, SWAP_EVERY * (SWAPS as u32 + 1));
    let without = feeds.offer(rate, time).await;
    print(&format!("offered {rate:.0}/s"), &without);
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let mut models = ModelServiceClient::new(channel);
    let swap = async {
        for version in versions.iter().cycle().take(SWAPS) {
            tokio::time::sleep(SWAP_EVERY).await;
            let version = version.to_string();
            models.activate_model(v1::ActivateModelRequest { version }).await.unwrap();
        }
    };
    let (with, ()) = tokio::join!(feeds.offer(rate, time), swap);
    print(&format!("offered {rate:.0}/s, {SWAPS} swaps"), &with);
    println!("  .99: {:.2} times that without", with.quantile(0.99) / without.quantile(0.99));
}

/// Offers what the server can do, and then twice as much, and looks at its memory meanwhile.
async fn overload(server: &Server, feeds: &Target, capacity: f64, time: Duration) {
    let full = feeds.offer(capacity, time.min(Duration::from_secs(60))).await;
    print(&format!("offered {capacity:.0}/s"), &full);
    let mut memory = Vec::new();
    let watch = async {
        loop {
            tokio::time::sleep(time / 20).await;
            memory.push(server.memory()[0]);
        }
    };
    let twice = tokio::select! {
        twice = feeds.offer(2.0 * capacity, time) => twice,
        () = watch => unreachable!("it watches until all is answered"),
    };
    print(&format!("offered {:.0}/s for {} s", 2.0 * capacity, time.as_secs()), &twice);
    println!("  .99: {:.2} times that at capacity", twice.quantile(0.99) / full.quantile(0.99));
    let memory: Vec<String> = memory.iter().map(|megabytes| format!("{megabytes:.0}")).collect();
    println!("  memory in MB: {}", memory.join(" "));
}

fn print(what: &str, outcome: &Outcome) {
    let (half, most, nearly_all) = (outcome.quantile(0.5), outcome.quantile(0.99), outcome.quantile(0.999));
    println!(
        "{what}: {:.0}/s accepted, {} shed, {} failed; ms at .5 {half:.2}, .99 {most:.2}, .999 {nearly_all:.2}",
        outcome.per_second(),
        outcome.shed,
        outcome.failed
    );
}

/// Members at random, each asked for a page.
fn messages(model: &Model) -> Vec<Bytes> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let message = |_| {
        let member_id = model.members.ids.get(rng.random_range(0..model.members.len() as u32)).to_owned();
        let request = v1::RecommendFeedRequest { member_id, page_size: PAGE, ..Default::default() }.encode_to_vec();
        let mut framed = vec![0];
        framed.extend((request.len() as u32).to_be_bytes());
        framed.extend(request);
        Bytes::from(framed)
    };
    (0..MESSAGES).map(message).collect()
}

/// Answers every feed with the same.
struct Constant(v1::RecommendFeedResponse);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RecommendationService for Constant {
    async fn recommend_feed(&self, _: Request<v1::RecommendFeedRequest>) -> Answer<v1::RecommendFeedResponse> {
        Ok(Response::new(self.0.clone()))
    }

    async fn recommend_group_feed(
        &self,
        _: Request<v1::RecommendGroupFeedRequest>,
    ) -> Answer<v1::RecommendGroupFeedResponse> {
        Err(Status::unimplemented("a constant"))
    }

    async fn rank_products(&self, _: Request<v1::RankProductsRequest>) -> Answer<v1::RankProductsResponse> {
        Err(Status::unimplemented("a constant"))
    }

    async fn find_similar_products(
        &self,
        _: Request<v1::FindSimilarProductsRequest>,
    ) -> Answer<v1::FindSimilarProductsResponse> {
        Err(Status::unimplemented("a constant"))
    }
}

async fn serve_constant(answer: &str) {
    let answer = v1::RecommendFeedResponse::decode(&std::fs::read(answer).unwrap()[..]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("listening address={}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = RecommendationServiceServer::new(Constant(answer));
    tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
}
