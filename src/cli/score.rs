//! `kindred score`.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use kindred_models::Model;
use kindred_models::catalogue::IdType;
use kindred_models::feed::Visitor;
use kindred_training::data::read_member_ids;
use kindred_training::progress::Progress;
use kindred_training::tables::{Column, TableWriter};
use kindred_training::train::data_config;

use super::{FromVersion, print};
use crate::batch::{self, BatchRequest, By};
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Members scored between two writes at most, and rows.
const CHUNK: usize = 4096;
const CHUNK_ROWS: usize = 1 << 20;

/// Scores the whole member base into a table.
///
/// All members, or those of a table. The answer is a Parquet table with the columns member_id, product_id, rank (1 is
/// best) and score. Members whom the model does not know, or who turned personalization off, get the popular feed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred score --registry registry --out recs.parquet --top 20\n  \
    kindred score --registry registry --out new.parquet --members tonight.csv --exclude-purchased\n  \
    kindred score --registry registry --out fits.parquet --by taste")]
pub(super) struct Score {
    #[command(flatten)]
    from: FromVersion,
    /// Table to write (Parquet).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Products per member, 1 to 10000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    top: u32,
    /// Table of the members to score, with a column member_id [default: all]
    #[arg(long, value_name = "PATH")]
    members: Option<PathBuf>,
    /// Leaves out products that the member bought before.
    #[arg(long)]
    exclude_purchased: bool,
    /// What products are put in order by.
    #[arg(long, value_enum, default_value_t)]
    by: By,
}

impl Score {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let request = BatchRequest { top: self.top as usize, exclude_purchased: self.exclude_purchased, by: self.by };
        let progress = Terminal::new();
        let named = match &self.members {
            Some(path) => Some(named(&model, read_member_ids(path, &data_config(&model.info))?, &progress)),
            None => None,
        };
        let total = named.as_ref().map_or(model.members.len(), Vec::len);
        let stop = stop_flag();
        if request.by == By::Ranker && model.ranker.fit.horizon_days == 0 {
            progress.warn("this version has no ranker: scores put a member's products in order, and are no chances");
        }
        progress.start("score", total as u64);
        let mut table = TableWriter::create(&self.out, &["member_id", "product_id", "rank", "score"])?;
        let (mut rows, mut members) = (0, 0);
        // One type for the whole table.
        let id_type = model.members.id_type.with(named.iter().flatten().map(String::as_str));
        let chunk = (CHUNK_ROWS / request.top).clamp(1, CHUNK);
        for first in (0..total.max(1)).step_by(chunk) {
            let ids: Vec<&str> = (first..(first + chunk).min(total))
                .map(|i| named.as_ref().map_or_else(|| model.members.ids.get(i as u32), |ids| ids[i].as_str()))
                .filter(|id| !batch::is_erased(&model, id))
                .collect();
            let visitors: Vec<Visitor> = ids.iter().map(|id| batch::visitor(&model, id)).collect();
            let scored = batch::score(&model, &visitors, request, &stop).map_err(|_| Error::Stopped)?;
            members += ids.len();
            rows += scored.iter().map(Vec::len).sum::<usize>();
            table.write(columns(&model, id_type, &ids, &scored))?;
            progress.advance(ids.len() as u64);
        }
        table.finish()?;
        progress.finish(&format!("{} rows for {} members", print::count(rows as u64), print::count(members as u64)));
        print::line(self.out.display())
    }
}

/// The members of a table, each once.
fn named(model: &Model, mut ids: Vec<String>, progress: &Terminal) -> Vec<String> {
    let mut seen = HashSet::new();
    let rows = ids.len();
    ids.retain(|id| seen.insert(id.clone()));
    if ids.len() < rows {
        progress.warn(&format!("{} of {rows} rows name a member whom an earlier row names", rows - ids.len()));
    }
    let unknown = ids.iter().filter(|id| matches!(batch::visitor(model, id), Visitor::Unknown)).count();
    if unknown > 0 {
        let all = ids.len();
        progress.warn(&format!(
            "the model does not know {unknown} of {all} members, who get what is popular: are ids written alike?"
        ));
    }
    ids
}

fn columns(
    model: &Model,
    id_type: IdType,
    ids: &[&str],
    scored: &[Vec<kindred_models::feed::FeedItem>],
) -> Vec<Column> {
    let rows = || ids.iter().zip(scored).flat_map(|(id, items)| items.iter().map(move |item| (*id, item)));
    let ranks = scored.iter().flat_map(|items| 1..=items.len() as i32);
    vec![
        Column::ids(id_type, rows().map(|(id, _)| id)),
        Column::ids(model.products.id_type, rows().map(|(_, item)| model.products.ids.get(item.product))),
        Column::Small(ranks.collect()),
        Column::Float(rows().map(|(_, item)| Some(item.score)).collect()),
    ]
}
