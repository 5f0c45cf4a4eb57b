//! The largest chain on this machine: what do loading its version, a member's feed and a large audience take?
//!
//! `cargo bench --profile release --bench chain -- FOLDER REGISTRY [MEMBERS [PRODUCTS]]`, 74 million members and 20,000
//! products unless told. Writes a made-up version into FOLDER unless there is one, with the ranker of the registry's
//! model, such as the one that `kindred demo` leaves; reads it in full once, as whoever loads it first must; then loads
//! it as a server that starts does, in a process of its own. Times stand beside a plain sum over the bytes that are read.
#![allow(missing_docs, clippy::unwrap_used)]

mod base;
#[path = "../load/server.rs"]
mod server;
#[path = "../synthetic/mod.rs"]
mod synthetic;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use base::Base;
use kindred::proto::v1;
use kindred_models::Model;
use kindred_models::artifact::Registry;
use kindred_models::audience::{AudienceSize, audience};
use kindred_models::feed::{FeedRequest, Persona, Visitor, feed};
use kindred_models::launch::LaunchQuery;
use kindred_models::ranking::Scored;
use kindred_models::stop::Stop;
use server::Server;
use synthetic::{Read, hash};
use tonic::transport::Channel;
use v1::audience_service_client::AudienceServiceClient;
use v1::find_audience_request::Size;
use v1::recommendation_service_client::RecommendationServiceClient;

const AUDIENCE: usize = 100_000;
const FILTERED: usize = 10_000;
const PAGE: usize = 20;
const FEEDS: u64 = 1000;
const ROUNDS: usize = 3;
/// Entries of a row of an affinity: product and similarity.
const ENTRY: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", folder, like, members, products] => write(folder, like, members, products),
        ["check", folder] => {
            timed("checked in full", || drop(Model::verify(&registry(folder), &current(folder)).unwrap()))
        }
        ["answer", folder] => answer(folder),
        [folder, like] => measure(folder, like, "74000000", "20000"),
        [folder, like, members] => measure(folder, like, members, "20000"),
        [folder, like, members, products] => measure(folder, like, members, products),
        _ => panic!("a folder, a registry, and sizes"),
    }
}

fn registry(folder: &str) -> Registry {
    Registry::new(folder.as_ref(), "default").unwrap()
}

fn current(folder: &str) -> kindred_models::artifact::VersionId {
    registry(folder).current().unwrap()
}

/// Each step in a process of its own, so that none has another's memory.
fn measure(folder: &str, like: &str, members: &str, products: &str) {
    let step =
        |args: &[&str]| assert!(Command::new(std::env::current_exe().unwrap()).args(args).status().unwrap().success());
    if registry(folder).current().is_err() {
        step(&["write", folder, like, members, products]);
        step(&["check", folder]);
    }
    step(&["answer", folder]);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve(folder));
}

fn write(folder: &str, like: &str, members: &str, products: &str) {
    let (from, base) = (registry(like), Base::new(members.parse().unwrap(), products.parse().unwrap()));
    let like = Model::load(&from, &from.current().unwrap()).unwrap();
    timed("written", || base.write(&registry(folder), &like));
    let bytes = std::fs::read_dir(registry(folder).folder().join(current(folder).as_str())).unwrap();
    let bytes: u64 = bytes.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("{members} members, {products} products: {:.1} GB on disk", bytes as f64 / 1e9);
}

/// What loading takes, and what is asked of the loaded model.
fn answer(folder: &str) {
    let start = Instant::now();
    let model = Model::load(&registry(folder), &current(folder)).unwrap();
    println!("loaded in {:.2} s, {:.2} GB resident", start.elapsed().as_secs_f64(), resident("VmRSS"));
    // What has been read from disk and is in memory is what a server has after its first minutes.
    audiences(&model);
    feeds(&model);
    println!("{:.2} GB resident, {:.2} at most", resident("VmRSS"), resident("VmHWM"));
}

fn audiences(model: &Model) {
    let query = LaunchQuery::from_attributes(model, &model.products.attributes(0), |row| row != 0);
    let read = Read::of(model, &query);
    let request = synthetic::request(model, 0, AudienceSize::Count(AUDIENCE));
    let asked = [(&query, synthetic::least(model, &query, 2.0 * AUDIENCE as f32 / model.members.len() as f32))];
    for round in 0..ROUNDS {
        let keep = |_: usize, found: Scored, kept: &mut Vec<Scored>| kept.push(found);
        let stop = Stop::default();
        let sum = seconds(|| read.sum());
        let scan = seconds(|| model.launch.scan_all(&asked, &model.embeddings, &stop, keep).unwrap());
        let whole = seconds(|| audience(model, &request, &stop).unwrap());
        println!(
            "round {round}: an audience of {AUDIENCE} in {whole:.3} s, the bare scan {scan:.4} s; the sum over its {:.2} GB {sum:.3} s ({:.1} GB/s): {:.1} times",
            read.bytes() as f64 / 1e9,
            read.bytes() as f64 / 1e9 / sum,
            whole / sum
        );
    }
}

/// Feeds of members at random, once as they are first asked for and once more; and what reading their bytes takes.
fn feeds(model: &Model) {
    let members: Vec<u32> = (0..FEEDS).map(|k| (hash(k) % model.members.len() as u64) as u32).collect();
    let bytes = members.iter().map(|member| read_by_feed(model, *member)).sum::<usize>() / members.len();
    let words: Vec<u64> = vec![1; 1 << 26];
    let sum = seconds(|| words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    let limit = bytes as f64 * sum / (8 << 26) as f64;
    for what in ["first", "again"] {
        let mut times: Vec<f64> =
            members.iter().map(|m| seconds(|| feed(model, &FeedRequest::new(Visitor::Member(*m), PAGE)))).collect();
        times.sort_by(f64::total_cmp);
        let (middle, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "a feed, {what}: {:.0} µs, p99 {:.0} µs; its {:.0} kB take {:.1} µs to read: {:.0} times",
            middle * 1e6,
            late * 1e6,
            bytes as f64 / 1e3,
            limit * 1e6,
            middle / limit
        );
    }
}

/// Bytes that a feed must read at least: the rows of what the member bought, and the vectors of a page's candidates.
fn read_by_feed(model: &Model, member: u32) -> usize {
    let persona = Persona::of(model, Visitor::Member(member), &[]);
    let bought = model.history.rows.row(member).iter().filter(|product| persona.has_purchased(**product));
    let spread: usize =
        bought.map(|p| model.affinity.by_member.row(*p).0.len() + model.affinity.by_basket.row(*p).0.len()).sum();
    let candidates = 500 * (4 * model.embeddings.factors);
    ENTRY * spread + candidates
}

/// The same of a server, over the wire.
async fn serve(folder: &str) {
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    let server = Server::spawn(command.args(["serve", "--listen", "127.0.0.1:0", "--registry", folder]));
    let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
    let mut feeds = RecommendationServiceClient::new(channel.clone());
    let mut times = Vec::new();
    let members: u64 = registry(folder).manifest(&current(folder)).unwrap().0.counts["members"];
    for k in 0..FEEDS {
        let member_id = format!("m{:08}", hash(k) % members);
        let request = v1::RecommendFeedRequest { member_id, page_size: PAGE as i32, ..Default::default() };
        let since = Instant::now();
        assert!(!feeds.recommend_feed(request).await.unwrap().into_inner().items.is_empty());
        times.push(since.elapsed().as_secs_f64());
        if k == 0 {
            let after = start.elapsed().as_secs_f64();
            println!("a server answers {after:.2} s after its start, {}", memory(&server));
        }
    }
    times.sort_by(f64::total_cmp);
    println!("RecommendFeed, one after the other: {:.0} µs, p99 {:.0} µs", times[500] * 1e6, times[990] * 1e6);
    let mut audiences = AudienceServiceClient::new(channel);
    let segments = ["new", "active"].map(str::to_owned).to_vec();
    let filters = [v1::MemberFilter::default(), v1::MemberFilter { segments, ..Default::default() }];
    for ((count, filter), what) in [AUDIENCE, FILTERED].into_iter().zip(filters).zip(["", ", of two segments of four"])
    {
        let request = v1::FindAudienceRequest {
            product_id: "p00000".to_owned(),
            size: Some(Size::MemberCount(count as i64)),
            filter: Some(filter),
            ..Default::default()
        };
        for _ in 0..ROUNDS {
            let since = Instant::now();
            let mut answer = audiences.find_audience(request.clone()).await.unwrap().into_inner();
            black_box(answer.message().await.unwrap());
            let first = since.elapsed().as_secs_f64();
            while answer.message().await.unwrap().is_some() {}
            let last = since.elapsed().as_secs_f64();
            println!("FindAudience of {count}{what}: first message after {first:.4} s, the last after {last:.4} s");
        }
    }
    println!("{}", memory(&server));
}

fn memory(server: &Server) -> String {
    let [all, own] = server.memory().map(|megabytes| megabytes / 1e3);
    format!("{all:.2} GB resident, {own:.2} of it not pages of the version")
}

fn timed(what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{what} in {:.1} s, {:.2} GB at most", start.elapsed().as_secs_f64(), resident("VmHWM"));
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

/// A line of this process's memory, in gigabytes.
fn resident(line: &str) -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e6
}
