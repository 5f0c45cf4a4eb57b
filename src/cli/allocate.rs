//! `kindred allocate`.

use std::path::PathBuf;

use clap::Args;
use kindred_models::Model;
use kindred_models::audience::{
    Allocation, AllocationRequest, Cap, Excluded, Launch, LaunchOutcome, MAX_LAUNCHES, allocate,
};
use kindred_training::data::{NewProduct, NewProducts, Offer};
use kindred_training::progress::Progress;
use kindred_training::tables::{Column, TableWriter};
use serde::Serialize;

use super::launches::{HoldoutArgs, Launches, ROWS_AT_ONCE, subject, warn_of_sold, warn_of_strange};
use super::{FromVersion, print};
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Decides which one of several launches, if any, each member gets.
///
/// The value that is expected of all is the greatest that their caps allow. The answer is a Parquet table with the
/// columns product_id, member_id, probability (of a purchase within the horizon) and held_out. Members without consent
/// to marketing and minors get nothing. What to expect of each launch is printed as a table, or with --json.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred allocate --registry registry --products new.csv --out plan.parquet --contact-cost 0.02\n  \
    kindred allocate --registry registry --products new.csv --out plan.parquet --filter filter.toml --holdout 10%\n\n\
    Besides attributes, the products table may have the columns value (of a purchase; the price where empty, 1\n  \
    without), stock (units: no more members get it than are expected to buy so many) or max_members.")]
pub(super) struct Allocate {
    #[command(flatten)]
    from: FromVersion,
    #[command(flatten)]
    launches: Launches,
    /// Table to write (Parquet).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What a contact costs, in the unit of the values: nobody is contacted for less.
    #[arg(long, value_name = "COST", default_value_t = 0.0, value_parser = cost)]
    contact_cost: f64,
    #[command(flatten)]
    holdout: HoldoutArgs,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn cost(text: &str) -> Result<f64, String> {
    let cost = text.parse::<f64>().ok().filter(|cost| *cost >= 0.0 && cost.is_finite());
    cost.ok_or_else(|| format!("'{text}' is no cost: give a number of 0 or above"))
}

impl Allocate {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let (progress, stop) = (Terminal::new(), stop_flag());
        let products = self.launches.read(&model, true, &progress)?;
        warn_of_strange(&model, &products, |_| false, &progress);
        let taken = "how many buy them follows from their sales, and who bought them is not left out";
        warn_of_sold(&model, &products, taken, &progress);
        if products.list.len() > MAX_LAUNCHES {
            let count = products.list.len();
            return Err(Error::Usage(format!("--products: {count} launches, at most {MAX_LAUNCHES} can be allocated")));
        }
        let launches = products.list.iter().map(|product| launch(&model, product));
        let launches = launches.collect::<Result<Vec<Launch>, Error>>()?;
        let subjects = products.list.iter().map(|product| subject(&model, product, Vec::new())).collect();
        let filter = self.launches.filter(&model, &progress)?;
        let request = AllocationRequest { subjects, launches, contact_cost: self.contact_cost, filter };
        progress.start("allocate", 1);
        let answer = allocate(&model, &request, &stop)?;
        let own: Vec<&str> = products.list.iter().map(|product| product.id.as_str()).collect();
        let held_out = self.holdout.held_out(&model, &own.join("\n"), &answer.members, |m| m.member);
        write(&self.out, &model, &products, &answer, &held_out)?;
        progress.finish(&format!("{} rows in {}", print::count(answer.members.len() as u64), self.out.display()));
        print_summary(&Summary::of(&request, &products, &answer, &held_out), self.json)
    }
}

/// A launch as the table has it; its price, where that has none, as the version knows it.
fn launch(model: &Model, product: &NewProduct) -> Result<Launch, Error> {
    let Offer { value, stock, max_members } = product.offer;
    let cap = match (stock, max_members) {
        (Some(_), Some(_)) => {
            let id = &product.id;
            return Err(Error::Usage(format!("--products: '{id}' has both stock and max_members: leave one empty")));
        }
        (Some(units), None) => Cap::Stock(units),
        (None, Some(members)) => Cap::Members(members as usize),
        (None, None) => Cap::None,
    };
    let known = || model.products.find(&product.id).map(|row| model.products.prices[row as usize]);
    Ok(Launch::new(product.attributes.price.or_else(known), value, cap))
}

fn write(
    out: &std::path::Path,
    model: &Model,
    products: &NewProducts,
    answer: &Allocation,
    held_out: &[bool],
) -> Result<(), Error> {
    let mut table = TableWriter::create(out, &["product_id", "member_id", "probability", "held_out"])?;
    let product = |launch: u16| products.list[launch as usize].id.as_str();
    // Of nobody at all it is a table still.
    let empty = answer.members.is_empty().then_some((&answer.members[..], held_out));
    let chunks = answer.members.chunks(ROWS_AT_ONCE).zip(held_out.chunks(ROWS_AT_ONCE));
    for (members, held_out) in chunks.chain(empty) {
        table.write(vec![
            Column::ids(products.id_type, members.iter().map(|m| product(m.launch))),
            Column::ids(model.members.id_type, members.iter().map(|m| model.members.ids.get(m.member))),
            Column::Float(members.iter().map(|m| Some(m.probability)).collect()),
            Column::Boolean(held_out.to_vec()),
        ])?;
    }
    Ok(table.finish()?)
}

/// What to expect of an allocation.
#[derive(Debug, Serialize)]
struct Summary {
    launches: Vec<LaunchSummary>,
    eligible: usize,
    excluded: Excluded,
    members: usize,
    /// Of all, less what contacts cost.
    expected_value: f64,
    /// No allocation could be worth more.
    bound: f64,
}

/// What to expect of one launch.
#[derive(Debug, Serialize)]
struct LaunchSummary {
    product_id: String,
    members: usize,
    held_out: usize,
    expected_buyers: f64,
    expected_value: f64,
}

impl Summary {
    fn of(request: &AllocationRequest, products: &NewProducts, answer: &Allocation, held_out: &[bool]) -> Self {
        let outcomes = answer.by_launch(&request.launches, held_out);
        let of = |(product, outcome): (&NewProduct, LaunchOutcome)| LaunchSummary {
            product_id: product.id.clone(),
            members: outcome.members,
            held_out: outcome.held_out,
            expected_buyers: outcome.expected_buyers,
            expected_value: outcome.expected_value,
        };
        Self {
            launches: products.list.iter().zip(outcomes).map(of).collect(),
            eligible: answer.eligible,
            excluded: answer.excluded,
            members: answer.members.len(),
            expected_value: answer.value,
            bound: answer.bound,
        }
    }
}

fn print_summary(summary: &Summary, json: bool) -> Result<(), Error> {
    if json {
        return print::json(&serde_json::to_value(summary).unwrap_or_default());
    }
    let rows = summary.launches.iter().map(|launch| {
        let counts = [launch.members, launch.held_out].map(|n| print::count(n as u64));
        let expected = [launch.expected_buyers, launch.expected_value].map(|x| format!("{x:.1}"));
        [launch.product_id.clone()].into_iter().chain(counts).chain(expected).collect()
    });
    print::table(&["product", "members", "held out", "buyers", "value"], rows)?;
    let share = if summary.bound > 0.0 { 100.0 * summary.expected_value / summary.bound } else { 100.0 };
    print::line(format!(
        "{} of {} eligible members get something; expected value {:.1} less contacts, {share:.2}% of what is possible",
        print::count(summary.members as u64),
        print::count(summary.eligible as u64),
        summary.expected_value,
    ))
}
