//! How near to the speed of memory is the scan for an audience?
//!
//! `cargo bench --bench scan -- [MEMBERS]`, 10 million unless told. The best hundredth of a base, by vectors of 64
//! bytes, six numbers and two tags per member, and the sparse rows of who buys the product's category, brand and
//! price band, and the products like it. On 1 and on 2 threads, against a plain sum over the very bytes that the scan
//! reads; and eight launches in one pass against one.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "synthetic/mod.rs"]
mod synthetic;

use std::hint::black_box;
use std::time::Instant;

use kindred_models::Model;
use kindred_models::audience::{AudienceError, AudienceRequest, AudienceSize, audience, audiences};
use kindred_models::launch::LaunchQuery;
use kindred_models::ranking::Scored;
use kindred_models::stop::Stop;
use synthetic::Read;

const PRODUCTS: usize = 2000;
const FACTORS: usize = 64;
const PURCHASES: f64 = 12.0;
const ROUNDS: usize = 5;
const LAUNCHES: u32 = 8;
const SIZE: AudienceSize = AudienceSize::Share(0.01);
/// Share of the members that a scan keeps for such an audience: a sample says who can't be in it, and lets twice as many pass.
const KEPT: f32 = 0.02;

fn main() {
    let members = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(10_000_000);
    let model = synthetic::launch_model(members, PRODUCTS, FACTORS, PURCHASES);
    let query = LaunchQuery::from_attributes(&model, &model.products.attributes(0), |row| row != 0);
    let read = Read::of(&model, &query);
    println!("{members} members, {:.1} bytes read per member", read.bytes() as f64 / members as f64);
    println!("milliseconds, and the share of the sum's speed:");
    println!("threads  sum GB/s     sum    scan share  audience share   eight  to one");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| measure(threads, &model, &query, &read));
    }
}

fn measure(threads: usize, model: &Model, query: &LaunchQuery, read: &Read<'_>) {
    let stop = Stop::default();
    let sum = best(|| read.sum());
    let asked = [(query, synthetic::least(model, query, KEPT))];
    let keep = |_: usize, found: Scored, kept: &mut Vec<Scored>| kept.push(found);
    let scan = best(|| model.launch.scan_all(&asked, &model.embeddings, &stop, keep).unwrap());
    let one = best(|| audience(model, &synthetic::request(model, 0, SIZE), &stop).unwrap());
    let requests: Vec<AudienceRequest> =
        (0..LAUNCHES).map(|product| synthetic::request(model, product, SIZE)).collect();
    let eight = best(|| {
        let each = |_, audience| {
            black_box(audience);
            Ok::<(), AudienceError>(())
        };
        audiences(model, &requests, &stop, each).unwrap();
    });
    println!(
        "{threads:>7} {:>9.1} {:>7.1} {:>7.1} {:>5.2} {:>9.1} {:>5.2} {:>7.1} {:>7.2}",
        read.bytes() as f64 / sum / 1e9,
        sum * 1e3,
        scan * 1e3,
        sum / scan,
        one * 1e3,
        sum / one,
        eight * 1e3,
        eight / one
    );
}

/// Seconds of the fastest of some rounds: what else the machine does only ever adds to them.
fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let timed = (0..ROUNDS).map(|_| {
        let since = Instant::now();
        black_box(work());
        since.elapsed().as_secs_f64()
    });
    timed.fold(f64::INFINITY, f64::min)
}
