//! The largest inner products of many vectors: queries per second, build and memory, beside a scan of all.
//!
//! `cargo bench --bench index -- FOLDER [REGISTRY NAME POINTS]`. With a registry, first writes `vectors.f32` and
//! `queries.f32` to the folder: as many vectors as are asked for, mixed from those of the model's products, as long as
//! these are; and vectors of members. `benches/peers/index.py FOLDER` measures others on the same files.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use kindred_models::Model;
use kindred_models::artifact::Registry;
use kindred_models::index::{ExactIndex, Graph, HnswIndex, HnswParams, Table, VectorIndex, recall};
use kindred_models::kernels::dot;
use kindred_models::ranking::Top;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const QUERIES: usize = 2000;
const DIMENSION: usize = 64;
const K: usize = 10;
const ROUNDS: usize = 3;
/// As by default.
const PARAMS: HnswParams = HnswParams { m: 16, ef_construction: 100, ef_search: 0 };
/// Candidates kept while a query walks.
const EF_SEARCH: [usize; 12] = [10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 640];
/// Rows of which one is allowed, in the filtered searches.
const ONE_IN: [u32; 4] = [2, 10, 100, 1000];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(folder) = args.first().map(Path::new) else {
        return println!("usage: cargo bench --bench index -- FOLDER [REGISTRY NAME POINTS]");
    };
    if let [_, registry, name, points] = &args[..] {
        write(folder, registry, name, points.parse().unwrap());
    }
    let [table, queries] = ["vectors.f32", "queries.f32"].map(|file| read(&folder.join(file)));
    let queries: Vec<&[f32]> = (0..queries.len() as u32).map(|row| queries.row(row)).collect();
    let since = Instant::now();
    let index = ExactIndex::by_length(table.clone());
    let built = since.elapsed().as_secs_f64();
    let looked_at: usize = queries.iter().map(|query| index.looked_at(query, K)).sum();
    println!(
        "{} vectors of {DIMENSION}, built in {built:.2} s, {} bytes per vector beside the table",
        table.len(),
        DIMENSION + 16
    );
    println!(
        "looks at {:.2}% of the vectors per query",
        100.0 * looked_at as f64 / (queries.len() * table.len()) as f64
    );
    println!(
        "all allowed, recall@{K} 1: {:.0} queries per second",
        per_second(&queries, |q| index.search(q, K, &|_| true).len())
    );
    graph(&index, &queries);
    println!("{:>12} {:>14} {:>16} {:>8}", "allowed", "per second", "scan of allowed", "ratio");
    for one_in in ONE_IN {
        let allowed = |row: u32| row.wrapping_mul(2_654_435_761) >> 7 < (1 << 25) / one_in;
        let few = &queries[..200];
        let ours = per_second(few, |q| index.search(q, K, &allowed).len());
        let scan = per_second(few, |q| {
            let mut top = Top::new(K);
            (0..table.len() as u32).filter(|row| allowed(*row)).for_each(|row| top.push(row, dot(table.row(row), q)));
            top.into_sorted().len()
        });
        println!("{:>11.1}% {ours:>14.0} {scan:>16.0} {:>8.1}", 100.0 / f64::from(one_in), ours / scan);
    }
}

/// A graph over the same vectors: what each number of candidates finds, up to a recall of .99.
fn graph(exact: &ExactIndex, queries: &[&[f32]]) {
    let since = Instant::now();
    let (graph, reachable) = Graph::build(exact, PARAMS);
    println!(
        "graph: built in {:.1} s, {} bytes per vector beside the table, {:.4}% reachable before all were linked in",
        since.elapsed().as_secs_f64(),
        DIMENSION + 16 + 4 * graph.degree(),
        100.0 * reachable
    );
    for ef in EF_SEARCH {
        let index = HnswIndex::new(exact.clone(), graph.clone(), ef);
        let found = recall(&index, exact, queries, K);
        let walks = per_second(queries, |q| index.search(q, K, &|_| true).len());
        println!("  ef {ef:>4}  recall@{K} {found:.4}  {walks:>8.0} queries per second");
        if found >= 0.99 {
            break;
        }
    }
}

/// Of the best of some rounds.
fn per_second(queries: &[&[f32]], search: impl Fn(&[f32]) -> usize) -> f64 {
    let round = |_| {
        let since = Instant::now();
        queries.iter().for_each(|query| assert!(std::hint::black_box(search(query)) > 0));
        since.elapsed().as_secs_f64()
    };
    queries.len() as f64 / (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Between the directions of two products, nearer to one of them, and as long as that one, about.
fn write(folder: &Path, registry: &str, name: &str, points: usize) {
    let registry = Registry::new(registry.as_ref(), name).unwrap();
    let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
    let e = &model.embeddings;
    assert_eq!(e.factors, DIMENSION, "vectors of {DIMENSION}");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let length = |v: &[f32]| dot(v, v).sqrt();
    let products: Vec<u32> = (0..model.products.len() as u32).filter(|row| length(e.product(*row)) > 1e-9).collect();
    let mut vectors: Vec<f32> = Vec::with_capacity(points * DIMENSION);
    for _ in 0..points {
        let [near, far] = [0; 2].map(|_: i32| e.product(products[rng.random_range(0..products.len())]));
        let mut mixed = [0.0; DIMENSION];
        for i in 0..DIMENSION {
            mixed[i] = near[i] / length(near) + 0.5 * far[i] / length(far) + 0.06 * rng.random_range(-1.0f32..1.0);
        }
        let scale = length(near) * rng.random_range(0.9f32..1.1) / length(&mixed);
        vectors.extend(mixed.iter().map(|x| x * scale));
    }
    let members: Vec<u32> = (0..model.members.len() as u32).filter(|row| length(&e.member(*row)) > 1e-9).collect();
    let step = (members.len() / QUERIES).max(1);
    let queries: Vec<f32> = members.iter().step_by(step).take(QUERIES).flat_map(|row| e.member(*row)).collect();
    fs::create_dir_all(folder).unwrap();
    for (file, values) in [("vectors.f32", &vectors), ("queries.f32", &queries)] {
        fs::write(folder.join(file), values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
}

fn read(path: &Path) -> Table {
    let bytes = fs::read(path).unwrap();
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
    Table { values: values.into(), dimension: DIMENSION }
}
