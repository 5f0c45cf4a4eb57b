//! A synthetic retailer, with the structure that real purchase history has: tastes, repeat purchase with
//! gaps of each product's own, few best sellers and a long tail, store assortments, seasons, channels and
//! hours, launches, refunds, consents, tags, and titles in Chinese and English.
//!
//! Every member is drawn from a random stream of its own, so that the tables do not depend on the number of
//! threads, and are written as they are drawn: memory does not grow with the events.

mod catalogue;
mod members;
mod shopping;
mod words;

use std::path::Path;

use kindred_models::stop::Stop;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rayon::prelude::*;

use crate::error::TrainError;
use crate::progress::Progress;
use crate::tables::{Column, TableWriter};
use catalogue::Catalogue;
use members::Member;
use shopping::Event;

/// Members drawn between two writes.
const CHUNK: usize = 4096;

/// How large a retailer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retailer {
    /// Members.
    pub members: usize,
    /// Products.
    pub products: usize,
    /// Stores.
    pub stores: usize,
    /// Beginning of the history's first day, in unix seconds.
    pub start: i64,
    /// Days of history.
    pub days: u32,
    /// Mean purchases per member and year.
    pub purchases_per_year: f64,
    /// Seed.
    pub seed: u64,
}

/// Which random stream.
#[derive(Clone, Copy)]
enum Stream {
    Catalogue,
    Member(usize),
    Shopping(usize),
}

impl Retailer {
    fn rng(&self, stream: Stream) -> Xoshiro256PlusPlus {
        let number = match stream {
            Stream::Catalogue => 0,
            Stream::Member(i) => 2 * i as u64 + 1,
            Stream::Shopping(i) => 2 * i as u64 + 2,
        };
        Xoshiro256PlusPlus::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number)
    }

    /// Writes `products.parquet`, `members.parquet` and `events.parquet` into a folder; gives the number
    /// of events.
    ///
    /// # Errors
    /// If a table can't be written, or `stop` was raised.
    pub fn write(&self, folder: &Path, progress: &dyn Progress, stop: &Stop) -> Result<u64, TrainError> {
        let catalogue = Catalogue::draw(self, &mut self.rng(Stream::Catalogue));
        let products = catalogue.write(&folder.join("products.parquet"), self.start)?;
        let mut members = TableWriter::create(&folder.join("members.parquet"), &members::COLUMNS)?;
        let mut events = TableWriter::create(&folder.join("events.parquet"), &shopping::COLUMNS)?;
        let mut count = 0;
        for first in (0..self.members).step_by(CHUNK) {
            stop.check()?;
            let rows: Vec<(Member, Vec<Event>)> = (first..(first + CHUNK).min(self.members))
                .into_par_iter()
                .map(|i| {
                    let member = Member::draw(i, self, &catalogue, &mut self.rng(Stream::Member(i)));
                    let events = shopping::shop(&member, self, &catalogue, &mut self.rng(Stream::Shopping(i)));
                    (member, events)
                })
                .collect();
            members.write(members::columns(rows.iter().map(|(member, _)| member), self, &catalogue))?;
            let chunk: Vec<(&Member, &Event)> =
                rows.iter().flat_map(|(m, events)| events.iter().map(move |e| (m, e))).collect();
            count += chunk.len() as u64;
            events.write(shopping::columns(&chunk, &catalogue))?;
            progress.advance(rows.len() as u64);
        }
        // All at the end, so that a run that is interrupted leaves none beside those of an earlier one.
        for table in [products, members, events] {
            table.finish()?;
        }
        Ok(count)
    }

    /// Purchases that a member of average activity makes in the whole history.
    fn purchases(&self) -> f64 {
        self.purchases_per_year * f64::from(self.days) / 365.0
    }
}

fn texts<'a, T: 'a>(rows: impl Iterator<Item = &'a T>, text: impl Fn(&T) -> String) -> Column {
    Column::Text(rows.map(|row| Some(text(row))).collect())
}
