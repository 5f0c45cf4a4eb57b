//! `kindred audience`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use kindred_models::Model;
use kindred_models::audience::{Audience as Answer, AudienceRequest, AudienceSize, MemberFilter, Subject, audience};
use kindred_models::catalogue::IdType;
use kindred_training::data::{NewProducts, read_new_products};
use kindred_training::progress::Progress;
use kindred_training::tables::{Column, TableWriter};
use kindred_training::train::data_config;

use super::{FromVersion, print};
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Rows written at a time.
const CHUNK: usize = 1 << 20;

/// Ranks members for products that were never sold, by their attributes alone, into a Parquet table with
/// the columns product_id, member_id, rank (1 is best) and score. Members without consent to marketing and
/// minors are left out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred audience --registry registry --products new.csv --out audience.parquet --size 10%\n  \
    kindred audience --registry registry --products new.parquet --out audience.parquet --size 50000\n\n\
    The columns may have the names of the products table that the version was trained on, or Kindred's own:\n  \
    title, category (a path a/b/c), brand, price, tags.")]
pub(super) struct Audience {
    #[command(flatten)]
    from: FromVersion,
    /// Table of the products: product_id, and any attribute.
    #[arg(long, value_name = "PATH")]
    products: PathBuf,
    /// Table to write (Parquet).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Members per product: a count, a share of the eligible members such as 10%, or all.
    #[arg(long, default_value = "10%")]
    size: Size,
}

/// The size as the user gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size(AudienceSize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no size: give a count such as 50000, a share such as 10%, or all");
        if text == "all" {
            return Ok(Self(AudienceSize::Share(1.0)));
        }
        let size = match text.strip_suffix('%') {
            Some(percent) => AudienceSize::Share(percent.trim().parse::<f64>().map_err(|_| wrong())? / 100.0),
            None => AudienceSize::Count(text.parse().map_err(|_| wrong())?),
        };
        match size {
            AudienceSize::Count(1..) => Ok(Self(size)),
            AudienceSize::Share(share) if share > 0.0 && share <= 1.0 => Ok(Self(size)),
            _ => Err(wrong()),
        }
    }
}

impl Audience {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let mut tables = data_config(&model.info);
        tables.products.path = Some(std::path::absolute(&self.products)?);
        let NewProducts { list: products, id_type, rejects } = read_new_products(&tables)?;
        let (progress, stop) = (Terminal::new(), stop_flag());
        if rejects.total() > 0 {
            progress.warn(&format!("{} of {} products rejected\n{rejects}", rejects.total(), rejects.rows));
        }
        progress.start("audience", products.len() as u64);
        let mut table = TableWriter::create(&self.out, &["product_id", "member_id", "rank", "score"])?;
        let (mut rows, mut expected) = (0, 0.0);
        for (id, attributes) in products {
            let request = AudienceRequest {
                subject: Subject::New(attributes),
                seeds: Vec::new(),
                size: self.size.0,
                filter: MemberFilter::default(),
            };
            let answer = audience(&model, &request, &stop).map_err(|_| Error::Stopped)?;
            rows += answer.members.len();
            expected += answer.expected_buyers.unwrap_or(0.0);
            write(&mut table, &model, (&id, id_type), &answer)?;
            progress.advance(1);
        }
        table.finish()?;
        let buyers = match &model.launch.fit.expectation {
            Some(c) => format!(", {expected:.0} buyers expected within {} days", c.horizon_days),
            None => String::new(),
        };
        progress.finish(&format!("{} rows{buyers}", print::count(rows as u64)));
        print::line(self.out.display())
    }
}

fn write(table: &mut TableWriter, model: &Model, (id, id_type): (&str, IdType), answer: &Answer) -> Result<(), Error> {
    // An audience that nobody is in still makes a table.
    let empty = answer.members.is_empty().then_some(&answer.members[..]);
    for (chunk, members) in answer.members.chunks(CHUNK).chain(empty).enumerate() {
        let first = (chunk * CHUNK) as i32;
        table.write(vec![
            Column::ids(id_type, members.iter().map(|_| id)),
            Column::ids(model.members.id_type, members.iter().map(|m| model.members.ids.get(m.row))),
            Column::Small((0..members.len() as i32).map(|i| first + i + 1).collect()),
            Column::Float(members.iter().map(|m| Some(m.score)).collect()),
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counts_shares_or_all() {
        assert_eq!("50000".parse(), Ok(Size(AudienceSize::Count(50_000))));
        assert_eq!("10%".parse(), Ok(Size(AudienceSize::Share(0.1))));
        assert_eq!("all".parse(), Ok(Size(AudienceSize::Share(1.0))));
        for wrong in ["0", "-3", "0%", "101%", "NaN%", "ten", "", "%"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
