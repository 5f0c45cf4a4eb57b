//! Seconds of training until the vectors are as good as a peer's ever get.
//!
//! `cargo bench --bench training -- FOLDER FACTORS UNOBSERVED_WEIGHT REGULARIZATION EPOCHS,EPOCHS,…`, on what
//! `benches/peers/training.py prepare` wrote to the folder; judges what `training.py fit` left there by the same code.
//! Quality is nDCG@20 over what was held out, of 20,000 members, ranked among all products that they had not yet.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use kindred_models::embeddings::Embeddings;
use kindred_models::kernels::dot;
use kindred_models::ranking::Top;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::stop::Stop;
use kindred_training::config::IalsParams;
use kindred_training::ials;
use kindred_training::progress::Quiet;
use rayon::prelude::*;

const JUDGES: usize = 20_000;
const K: usize = 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [folder, factors, unobserved_weight, regularization, epochs] = &args[..] else {
        let usage = "FOLDER FACTORS UNOBSERVED_WEIGHT REGULARIZATION EPOCHS,EPOCHS,…";
        return println!("usage: cargo bench --bench training -- {usage}");
    };
    let folder = Path::new(folder);
    let (train, held_out) = (rows(folder, "train"), rows(folder, "held_out"));
    let products = train.columns.iter().chain(held_out.columns.iter()).max().map_or(0, |last| *last as usize + 1);
    println!("{} members, {products} products, {} pairs", train.len(), train.columns.len());
    judge_peer(folder, &train, &held_out);
    let weights = Matrix { values: vec![1.0; train.columns.len()].into(), rows: train.clone() };
    for epochs in epochs.split(',').map(|epochs| epochs.parse().unwrap()) {
        let params = IalsParams {
            factors: factors.parse().unwrap(),
            unobserved_weight: unobserved_weight.parse().unwrap(),
            regularization: regularization.parse().unwrap(),
            epochs,
            ..IalsParams::default()
        };
        let since = Instant::now();
        let found = ials::fit(&weights, products, &params.validate().unwrap(), &Quiet, &Stop::default()).unwrap();
        let seconds = since.elapsed().as_secs_f64();
        // What is judged below takes more memory than training.
        let peak = peak_mb();
        let quality = ndcg(&train, &held_out, &members(&found), &found.products, found.factors);
        println!("kindred, {epochs} epochs: {seconds:.2} s, nDCG@{K} {quality:.4}, peak {peak:.0} MB");
    }
}

fn members(found: &Embeddings) -> Vec<f32> {
    found.members.decoded(0..found.members.len() as u32, found.factors)
}

/// `peer.txt` has a line for each pair of files that the peer left: name, iterations, seconds, factors.
fn judge_peer(folder: &Path, train: &Rows, held_out: &Rows) {
    let Ok(lines) = fs::read_to_string(folder.join("peer.txt")) else { return };
    for line in lines.lines() {
        let [name, iterations, seconds, factors] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let [members, products] =
            ["members", "products"].map(|side| numbers(&folder.join(format!("{name}.{side}.f32")), f32::from_le_bytes));
        let quality = ndcg(train, held_out, &members, &products, factors.parse().unwrap());
        println!("{name}, {iterations} iterations: {seconds} s, nDCG@{K} {quality:.4}");
    }
}

fn ndcg(train: &Rows, held_out: &Rows, members: &[f32], products: &[f32], factors: usize) -> f64 {
    let judges: Vec<u32> = (0..train.len() as u32).filter(|row| !held_out.row(*row).is_empty()).collect();
    let judges: Vec<u32> = judges.iter().copied().step_by(judges.len().div_ceil(JUDGES)).collect();
    let of_member = |member: &u32| {
        let vector = &members[*member as usize * factors..][..factors];
        let (had, truth) = (train.row(*member), held_out.row(*member));
        let mut top = Top::new(K);
        for (row, product) in products.chunks_exact(factors).enumerate() {
            if had.binary_search(&(row as u32)).is_err() {
                top.push(row as u32, dot(vector, product));
            }
        }
        let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let ranked = top.into_sorted();
        let hits = ranked.iter().enumerate().filter(|(_, s)| truth.binary_search(&s.row).is_ok());
        hits.map(|(rank, _)| gain(rank)).sum::<f64>() / (0..truth.len().min(K)).map(gain).sum::<f64>()
    };
    judges.par_iter().map(of_member).collect::<Vec<_>>().iter().sum::<f64>() / judges.len() as f64
}

fn rows(folder: &Path, name: &str) -> Rows {
    let offsets = numbers(&folder.join(format!("{name}.offsets.u64")), u64::from_le_bytes);
    Rows {
        offsets: offsets.into(),
        columns: numbers(&folder.join(format!("{name}.columns.u32")), u32::from_le_bytes).into(),
    }
}

fn numbers<T, const N: usize>(path: &Path, number: fn([u8; N]) -> T) -> Vec<T> {
    fs::read(path).unwrap().as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
}

/// The most memory that this process ever had, in megabytes; 0 where that is not known.
fn peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kb| kb / 1e3)
}
