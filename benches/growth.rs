//! How does each cost grow with members, products and purchases?
//!
//! `cargo bench --profile release --bench growth -- FOLDER [MEMBERS PRODUCTS PURCHASES]`: 10,000 members, 1,000 products
//! and 20 purchases per member and year unless told, then ten and a hundred times as many of each, the others as they
//! were. The program itself makes and trains each base, in FOLDER, two launch replays and one slice of the ranker; a
//! process of its own loads the version and answers. Beside each cost stand its exponents, from 1 to 10 and from 10 to
//! 100 times: 1 where it grows as the size does.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "synthetic/mod.rs"]
mod synthetic;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kindred_models::Model;
use kindred_models::artifact::Registry;
use kindred_models::audience::{AudienceSize, audience};
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::stop::Stop;
use synthetic::hash;

const AXES: [&str; 3] = ["members", "products", "purchases per member"];
const COSTS: [&str; 7] = [
    "training, s",
    "training, GB at its peak",
    "version, GB",
    "first loading, ms",
    "then resident, GB",
    "a feed, µs",
    "an audience of 1%, ms",
];
const FEEDS: u64 = 1000;
const ROUNDS: usize = 5;

type Costs = [f64; COSTS.len()];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["answer", folder] => println!("{}", answer(folder).map(|cost| cost.to_string()).join(" ")),
        [folder] => measure(folder, [10_000, 1000, 20]),
        [folder, members, products, purchases] => {
            measure(folder, [members, products, purchases].map(|n| n.parse().unwrap()))
        }
        _ => panic!("a folder, and sizes"),
    }
}

fn measure(folder: &str, once: [u64; 3]) {
    let base = costs(folder, once);
    for (axis, name) in AXES.into_iter().enumerate() {
        let times = |factor: u64| {
            let mut size = once;
            size[axis] *= factor;
            costs(folder, size)
        };
        let (ten, hundred) = (times(10), times(100));
        println!("\n{name}: {} and ten and a hundred times as many", once[axis]);
        for (k, cost) in COSTS.into_iter().enumerate() {
            let exponents = [(ten[k] / base[k]).log10(), (hundred[k] / ten[k]).log10()];
            println!(
                "{cost:<26}{:>10.3}{:>10.3}{:>10.3}   {:.2} {:.2}",
                base[k], ten[k], hundred[k], exponents[0], exponents[1]
            );
        }
    }
}

/// Makes and trains a base, and asks it.
fn costs(folder: &str, [members, products, purchases]: [u64; 3]) -> Costs {
    let base = Path::new(folder).join(format!("{members}-{products}-{purchases}"));
    let registry = base.join("registry");
    if registry.exists() {
        std::fs::remove_dir_all(&registry).unwrap();
    }
    let mut generate = kindred();
    generate.args(["generate", "--members", &members.to_string(), "--products", &products.to_string()]);
    generate.args(["--purchases-per-year", &purchases.to_string(), "--out"]).arg(&base);
    assert!(generate.status().unwrap().success());
    let tables = ["events", "products", "members"].map(|t| format!("[data.{t}]\npath = \"{t}.parquet\"\n")).concat();
    let settings = "[launch]\nreplays = 2\n[ranker]\nslices = 1\n";
    let config = base.join("kindred.toml");
    std::fs::write(&config, tables + settings).unwrap();
    let mut train = kindred();
    train.args(["train", "--test-days", "0", "--config"]).arg(&config);
    train.arg("--data-root").arg(&base).arg("--registry").arg(&registry);
    let (seconds, peak) = watched(&mut train);
    let path = registry.to_str().unwrap();
    let bytes = std::fs::read_dir(registry_of(path).folder().join(current(path).as_str())).unwrap();
    let bytes: u64 = bytes.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let answered = Command::new(std::env::current_exe().unwrap()).args(["answer", path]).output().unwrap();
    assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stderr));
    let answered = String::from_utf8(answered.stdout).unwrap();
    let answered: Vec<f64> = answered.split_whitespace().map(|cost| cost.parse().unwrap()).collect();
    eprintln!("{members} members, {products} products, {purchases} purchases: trained in {seconds:.1} s");
    std::array::from_fn(|k| match k {
        0 => seconds,
        1 => peak,
        2 => bytes as f64 / 1e9,
        k => answered[k - 3],
    })
}

fn kindred() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Seconds that a command takes, and its most memory in gigabytes.
fn watched(command: &mut Command) -> (f64, f64) {
    let (start, mut peak) = (Instant::now(), 0f64);
    let mut child = command.spawn().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?}: {status}");
            return (start.elapsed().as_secs_f64(), peak);
        }
        peak = peak.max(memory(&child.id().to_string(), "VmHWM"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Loading in milliseconds, with all that is checked at first, what is resident then in gigabytes, a feed in microseconds, an audience in milliseconds.
fn answer(folder: &str) -> [f64; 4] {
    let stamp = registry_of(folder).folder().join(current(folder).as_str()).join("checked.json");
    let load = || {
        // Without it, all is read and checked, as where a version is loaded first.
        let _ = std::fs::remove_file(&stamp);
        Model::load(&registry_of(folder), &current(folder)).unwrap()
    };
    let loading = best(load);
    let model = load();
    let resident = memory("self", "VmRSS");
    let members = (0..FEEDS).map(|k| (hash(k) % model.members.len() as u64) as u32);
    let requests: Vec<FeedRequest> = members.map(|member| FeedRequest::new(Visitor::Member(member), 20)).collect();
    let feeds = best(|| requests.iter().for_each(|request| drop(black_box(feed(&model, request)))));
    let request = synthetic::request(&model, 0, AudienceSize::Share(0.01));
    let audience = best(|| audience(&model, &request, &Stop::default()).unwrap());
    [loading * 1e3, resident, feeds / FEEDS as f64 * 1e6, audience * 1e3]
}

fn registry_of(folder: &str) -> Registry {
    Registry::new(folder.as_ref(), "default").unwrap()
}

fn current(folder: &str) -> kindred_models::artifact::VersionId {
    registry_of(folder).current().unwrap()
}

/// A line of a process's memory, in gigabytes; 0 of one that has just ended.
fn memory(process: &str, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    value.map_or(0.0, |value| value.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e6)
}

/// Seconds of the fastest of some rounds.
fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let timed = (0..ROUNDS).map(|_| {
        let since = Instant::now();
        black_box(work());
        since.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min)
}
