//! What ranking 500 candidates costs on one core, beside a plain pass over the same bytes.
//!
//! `cargo bench --profile release --bench ranker` ranks random candidates with random trees, whose walks no branch
//! predictor can learn. `-- REGISTRY` ranks real candidates of a model: candidates and features too.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use kindred_models::Model;
use kindred_models::artifact::Registry;
use kindred_models::feed::{FEATURES, Features, FeedRequest, Persona, Signals, Visitor};
use kindred_models::ranker::{Scorer, TREE_DEPTH, Trees};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const CANDIDATES: usize = 500;
const TREES: usize = 200;
const ROUNDS: usize = 300;

fn main() {
    synthetic();
    if let Some(root) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) {
        real(&root);
    }
}

/// Median, and the middle 80%, of a piece of work.
fn timed(mut work: impl FnMut()) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    [times[ROUNDS / 10], times[ROUNDS / 2], times[ROUNDS * 9 / 10]]
}

fn synthetic() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let rows: Vec<Features> = (0..CANDIDATES).map(|_| std::array::from_fn(|_| rng.random_range(0.0..1.0))).collect();
    let (splits, leaves) = (TREES * ((1 << TREE_DEPTH) - 1), TREES << TREE_DEPTH);
    let trees = Scorer::Trees(Trees {
        bias: 0.0,
        features: (0..splits).map(|_| rng.random_range(0..FEATURES.len() as u32)).collect::<Vec<_>>().into(),
        thresholds: (0..splits).map(|_| rng.random_range(0.0..1.0)).collect::<Vec<f32>>().into(),
        leaves: (0..leaves).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>().into(),
    });
    let ranked = timed(|| {
        black_box(trees.log_odds(black_box(&rows)));
    });
    let read = timed(|| {
        black_box(black_box(&rows).iter().flatten().sum::<f32>());
    });
    println!("{CANDIDATES} candidates, {TREES} trees: {:?} (80%: {:?} to {:?})", ranked[1], ranked[0], ranked[2]);
    println!("reading the same features once: {:?}; ratio {:.0}", read[1], ranked[1].div_duration_f64(read[1]));
}

fn real(root: &str) {
    let registry = Registry::new(root.as_ref(), "default").unwrap();
    let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
    let (mut asked, mut features, mut ranked, mut count) = (Duration::ZERO, Duration::ZERO, Duration::ZERO, 0);
    let members = (0..model.members.len() as u32).step_by((model.members.len() / ROUNDS).max(1));
    for member in members {
        let persona = Persona::of(&model, Visitor::Member(member), &[]);
        let request = FeedRequest::new(Visitor::Member(member), 20);
        let start = Instant::now();
        let signals = Signals::new(&model, &persona, &request);
        let candidates = signals.candidates(20, false, &|product| !persona.has_purchased(product));
        let candidates = &candidates[..candidates.len().min(CANDIDATES)];
        asked += start.elapsed();
        let start = Instant::now();
        let rows = signals.features(candidates, |_| true);
        features += start.elapsed();
        let start = Instant::now();
        black_box(model.ranker.fresh.log_odds(&rows));
        ranked += start.elapsed();
        count += rows.len();
    }
    let per_page = |total: Duration| total.mul_f64(CANDIDATES as f64 / count.max(1) as f64);
    let [asked, features, ranked] = [asked, features, ranked].map(per_page);
    println!("per {CANDIDATES} candidates of {root}: sources {asked:?}, features {features:?}, ranker {ranked:?}");
}
