//! `kindred generate`.

use std::path::PathBuf;

use chrono::{NaiveDate, NaiveTime};
use clap::Args;
use kindred_training::generate::Retailer;
use kindred_training::progress::Progress;

use super::print;
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Makes the tables of a synthetic retailer.
///
/// Writes events.parquet, products.parquet and members.parquet. The same seed gives the same tables.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred generate --out retailer\n  \
    kindred generate --members 1600000 --products 50000 --stores 3000 --out large   (about 100 million events)")]
pub(super) struct Generate {
    /// Members, 1 or more.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    members: u64,
    /// Products, 1 or more.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    products: u64,
    /// Stores, 1 or more.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    stores: u64,
    /// First day of the history.
    #[arg(long, value_name = "DAY", default_value = "2025-01-01")]
    since: NaiveDate,
    /// Days of history.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Mean purchases per member and year.
    #[arg(long, default_value_t = 60.0)]
    purchases_per_year: f64,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Generate {
    pub(super) fn run(self) -> Result<(), Error> {
        if !(self.purchases_per_year > 0.0 && self.purchases_per_year <= 1e5) {
            return Err(Error::Usage("--purchases-per-year must be above 0 and up to 100000".to_owned()));
        }
        let retailer = Retailer {
            members: self.members as usize,
            products: self.products as usize,
            stores: self.stores as usize,
            start: self.since.and_time(NaiveTime::MIN).and_utc().timestamp(),
            days: self.days,
            purchases_per_year: self.purchases_per_year,
            seed: self.seed,
        };
        let progress = Terminal::new();
        progress.start("generate", self.members);
        let events = retailer.write(&self.out, &progress, &stop_flag())?;
        progress.finish(&format!("{} events", print::count(events)));
        print::line(self.out.display())
    }
}
