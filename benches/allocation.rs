//! How does the time to allocate launches grow with the members?
//!
//! `cargo bench --bench allocation`. Eight launches, half of them with a stock, half with a number of members, that a
//! tenth of the base can get in all. Prints, per number of members, the time, the time per member against that of the
//! smallest base, the share of the bound that was reached, and the time against one pass over the chances.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;

use kindred_models::audience::{Cap, Launch, assign};
use kindred_models::stop::Stop;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

const MEMBERS: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
const LAUNCHES: usize = 8;

/// Chances as they are: most small, some members likely to buy anything, tastes apart.
fn chances(members: usize) -> Vec<Vec<f32>> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let activity: Vec<f32> = (0..members).map(|_| rng.random_range(0.0f32..1.0).powi(4)).collect();
    let of = |rng: &mut Xoshiro256PlusPlus| {
        activity.iter().map(|a| 0.2 * a * rng.random_range(0.0f32..1.0).powi(3) + 0.001).collect()
    };
    (0..LAUNCHES).map(|_| of(&mut rng)).collect()
}

fn main() {
    println!("{:>10} {:>8} {:>12} {:>10} {:>12}", "members", "s", "per member", "of bound", "passes");
    let mut first = None;
    for members in MEMBERS {
        let chances = chances(members);
        let cap = |i: usize| match i % 2 {
            0 => Cap::Members(members / 10 / LAUNCHES),
            _ => Cap::Stock(members as f64 / 10.0 / LAUNCHES as f64 * 0.05),
        };
        let launch = |i| Launch { value: 1.0 + i as f64 / LAUNCHES as f64, cap: cap(i) };
        let launches: Vec<Launch> = (0..LAUNCHES).map(launch).collect();
        let since = Instant::now();
        let sum: f32 = chances.par_iter().map(|of| of.par_iter().sum::<f32>()).sum();
        std::hint::black_box(sum);
        let pass = since.elapsed().as_secs_f64();
        let since = Instant::now();
        let found = assign(&chances, &launches, &vec![0.005; chances[0].len()], &Stop::default()).unwrap();
        let seconds = since.elapsed().as_secs_f64();
        let each = seconds / members as f64;
        println!(
            "{members:>10} {seconds:>8.2} {:>12.2} {:>10.6} {:>12.0}",
            each / *first.get_or_insert(each),
            found.value / found.bound,
            seconds / pass
        );
    }
}
