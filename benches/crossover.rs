//! From how many points is the graph faster than the exact scan?
//!
//! `cargo bench --bench crossover`. Prints, per table size, how many vectors an exact search looks at, the median time
//! of one query on one thread for both, their ratio, the graph's recall, and the time to build it. The two take turns
//! query by query, so that a change of the machine's speed meets both.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kindred_models::index::{ExactIndex, Graph, HnswIndex, HnswParams, Table, VectorIndex, recall};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const SIZES: [usize; 6] = [2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
const DIMENSION: usize = 64;
const CLUSTERS: usize = 200;
const QUERIES: usize = 300;
/// As many as a feed asks for.
const K: usize = 300;
const PARAMS: HnswParams = HnswParams { m: 16, ef_construction: 100, ef_search: 200 };

/// Clustered vectors with norms as spread as those of products, a few best sellers and a long tail, or all alike.
fn table(rows: usize, is_alike: bool, seed: u64) -> Table {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut centres = Xoshiro256PlusPlus::seed_from_u64(7);
    let centres: Vec<f32> = (0..CLUSTERS * DIMENSION).map(|_| centres.random_range(-1.0..1.0)).collect();
    let mut values = Vec::with_capacity(rows * DIMENSION);
    for _ in 0..rows {
        let centre = &centres[rng.random_range(0..CLUSTERS) * DIMENSION..][..DIMENSION];
        let norm: f32 = if is_alike { 1.0 } else { rng.random_range(0.05f32..1.0).powi(2) };
        values.extend(centre.iter().map(|x| norm * (x + rng.random_range(-0.7..0.7))));
    }
    Table { values: values.into(), dimension: DIMENSION }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    for (is_alike, lengths) in [(false, "lengths as of products"), (true, "lengths alike")] {
        println!("{lengths}:");
        compare(is_alike);
    }
}

fn compare(is_alike: bool) {
    let queries = table(QUERIES, is_alike, 2);
    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>12} {:>10} {:>10}",
        "points", "looked at", "exact µs", "graph µs", "exact/graph", "recall@10", "build s"
    );
    for size in SIZES {
        let table = table(size, is_alike, 1);
        let exact = ExactIndex::by_length(table);
        let since = Instant::now();
        let (graph, _) = Graph::build(&exact, PARAMS);
        let build = since.elapsed().as_secs_f64();
        let hnsw = HnswIndex::new(exact.clone(), graph, PARAMS.ef_search);
        let (mut exact_times, mut graph_times) = (Vec::new(), Vec::new());
        for row in 0..QUERIES as u32 {
            let query = queries.row(row);
            for (index, times) in [(&exact as &dyn VectorIndex, &mut exact_times), (&hnsw, &mut graph_times)] {
                let since = Instant::now();
                std::hint::black_box(index.search(query, K, &|_| true));
                times.push(since.elapsed());
            }
        }
        let rows: Vec<&[f32]> = (0..QUERIES as u32).map(|row| queries.row(row)).collect();
        let looked_at = rows.iter().map(|row| exact.looked_at(row, K)).sum::<usize>() / rows.len();
        let (exact_us, graph_us) = (median(exact_times), median(graph_times));
        println!(
            "{size:>8} {looked_at:>10} {exact_us:>10.0} {graph_us:>10.0} {:>12.2} {:>10.4} {build:>10.1}",
            exact_us / graph_us,
            recall(&hnsw, &exact, &rows, 10)
        );
    }
}
