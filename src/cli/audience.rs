//! `kindred audience`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use kindred_models::Model;
use kindred_models::audience::{
    Audience as Answer, AudienceRequest, AudienceSize, Excluded, Quota, ReachPoint, Trait, audiences,
};
use kindred_models::catalogue::IdType;
use kindred_training::data::{NewProducts, read_seeds};
use kindred_training::progress::Progress;
use kindred_training::tables::{Column, TableWriter};
use serde::Serialize;

use super::launches::{HoldoutArgs, Launches, ROWS_AT_ONCE, subject, warn_of_sold, warn_of_strange};
use super::{FromVersion, print};
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Products that more is printed of, and traits of each.
const DETAILED: usize = 5;
const TRAITS: usize = 5;

/// Ranks members for new products, into a table.
///
/// Products that were never sold go by their attributes alone. The answer is a Parquet table with the columns
/// product_id, member_id, rank (1 is best), score, probability (of a purchase within the horizon; empty where nothing
/// says how many buy), held_out and day (of the campaign, from 1). Members without consent to marketing and minors are
/// left out. What to expect of each audience is printed as a table, or with --json. The products of the table are
/// answered up to 64 in one scan of the members.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred audience --registry registry --products new.csv --out audience.parquet --size 10%\n  \
    kindred audience --registry registry --products new.parquet --out audience.parquet --size 50000\n  \
    kindred audience --registry registry --products new.csv --out audience.parquet --size 200buyers --holdout 10%\n  \
    kindred audience --registry registry --products new.csv --out audience.parquet --filter filter.toml \
    --per-guide 20 --days 3\n  \
    kindred audience --registry registry --products new.csv --out audience.parquet --seeds first-buyers.csv\n\n\
    The columns may have the names of the products table that the version was trained on, or Kindred's own:\n  \
    title, category (a path a/b/c), brand, price, tags, stores.")]
pub(super) struct Audience {
    #[command(flatten)]
    from: FromVersion,
    #[command(flatten)]
    launches: Launches,
    /// Table to write (Parquet).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Members per product: a count, a share of the eligible members such as 10%, all, those with a chance of
    /// at least so much such as p0.02, or as many as it takes for so many buyers such as 200buyers.
    #[arg(long, default_value = "10%")]
    size: Size,
    /// Table of members known to want the products, such as their first buyers: product_id, member_id. A product of which
    /// the products table says nothing is looked for by them alone.
    #[arg(long, value_name = "PATH")]
    seeds: Option<PathBuf>,
    #[command(flatten)]
    holdout: HoldoutArgs,
    /// Members of each store who are contacted a day, at most.
    #[arg(long, value_name = "N")]
    per_store: Option<u32>,
    /// Members of each guide who are contacted a day, at most.
    #[arg(long, value_name = "N")]
    per_guide: Option<u32>,
    /// Days that the campaign takes, where a store or a guide can take care of so many a day.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// The size as the user gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size(AudienceSize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("'{text}' is no size: give a count such as 50000, a share such as 10%, all, p0.02, or 200buyers")
        };
        if text == "all" {
            return Ok(Self(AudienceSize::Share(1.0)));
        }
        let number = |digits: &str| digits.trim().parse::<f64>().map_err(|_| wrong());
        let size = if let Some(percent) = text.strip_suffix('%') {
            AudienceSize::Share(number(percent)? / 100.0)
        } else if let Some(buyers) = text.strip_suffix("buyers") {
            AudienceSize::ExpectedBuyers(number(buyers)?)
        } else if let Some(least) = text.strip_prefix('p') {
            AudienceSize::MinProbability(number(least)?)
        } else {
            AudienceSize::Count(text.parse().map_err(|_| wrong())?)
        };
        match size {
            AudienceSize::Count(1..) => Ok(Self(size)),
            AudienceSize::Share(share) if share > 0.0 && share <= 1.0 => Ok(Self(size)),
            AudienceSize::MinProbability(least) if least > 0.0 && least <= 1.0 => Ok(Self(size)),
            AudienceSize::ExpectedBuyers(buyers) if buyers > 0.0 && buyers.is_finite() => Ok(Self(size)),
            _ => Err(wrong()),
        }
    }
}

impl Audience {
    pub(super) fn run(self) -> Result<(), Error> {
        if self.days > 1 && self.per_store.is_none() && self.per_guide.is_none() {
            return Err(Error::Usage(
                "--days needs --per-store or --per-guide: who is contacted a day, at most".to_owned(),
            ));
        }
        let model = self.from.load()?;
        let (progress, stop) = (Terminal::new(), stop_flag());
        let products = self.launches.read(&model, false, &progress)?;
        let known = "they are known by who bought them, as FindAudience knows them";
        warn_of_sold(&model, &products, known, &progress);
        let mut seeds = self.seeds(&model, &products, &progress)?;
        warn_of_strange(&model, &products, |id| seeds.contains_key(id), &progress);
        let NewProducts { list: products, id_type, .. } = products;
        let filter = self.launches.filter(&model, &progress)?;
        progress.start("audience", products.len() as u64);
        let columns = ["product_id", "member_id", "rank", "score", "probability", "held_out", "day"];
        let mut table = TableWriter::create(&self.out, &columns)?;
        let quota = Quota { per_store: self.per_store, per_guide: self.per_guide, days: self.days };
        let asked = products.iter().map(|product| {
            let (subject, seeds) = subject(&model, product, seeds.remove(&product.id).unwrap_or_default());
            AudienceRequest { subject, seeds, size: self.size.0, filter: filter.clone(), quota }
        });
        let (mut rows, mut summaries) = (0, Vec::new());
        audiences(&model, &asked.collect::<Vec<_>>(), &stop, |i, answer| {
            let id = &products[i].id;
            rows += answer.members.len();
            let held_out = self.holdout.held_out(&model, id, &answer.members, |m| m.row);
            write(&mut table, &model, (id, id_type), &answer, &held_out)?;
            let held_out = held_out.iter().filter(|held| **held).count();
            summaries.push(Summary::of(id.clone(), answer, held_out, model.launch.fit.horizon_days()));
            progress.advance(1);
            Ok::<_, Error>(())
        })?;
        table.finish()?;
        progress.finish(&format!("{} rows in {}", print::count(rows as u64), self.out.display()));
        if let AudienceSize::ExpectedBuyers(wanted) = self.size.0 {
            warn_of_few(&summaries, wanted, &progress);
        }
        if self.json {
            return print::json(&serde_json::to_value(&summaries).unwrap_or_default());
        }
        print_summaries(&summaries, model.launch.fit.horizon_days())?;
        summaries.iter().take(DETAILED).try_for_each(print_details)
    }

    /// The seeds of each product, as FindAudience takes them.
    fn seeds(
        &self,
        model: &Model,
        products: &NewProducts,
        progress: &Terminal,
    ) -> Result<HashMap<String, Vec<u32>>, Error> {
        let Some(path) = &self.seeds else { return Ok(HashMap::new()) };
        let named = read_seeds(path)?;
        let asked: HashSet<&str> = products.list.iter().map(|product| product.id.as_str()).collect();
        if let Some(other) = named.keys().find(|id| !asked.contains(id.as_str())) {
            let path = path.display();
            return Err(Error::Usage(format!("--seeds {path}: no product '{other}' is in the table of the products")));
        }
        let known = |ids: BTreeSet<String>| -> Vec<u32> {
            ids.iter().filter_map(|id| model.state.find_readable(model, id)).collect()
        };
        let total: usize = named.values().map(BTreeSet::len).sum();
        let seeds: HashMap<String, Vec<u32>> = named.into_iter().map(|(id, members)| (id, known(members))).collect();
        let unknown = total - seeds.values().map(Vec::len).sum::<usize>();
        if unknown > 0 {
            progress.warn(&format!("{unknown} of the {total} seeds are nobody whose purchases may be looked at"));
        }
        Ok(seeds)
    }
}

/// What to expect of one audience.
#[derive(Debug, Serialize)]
struct Summary {
    product_id: String,
    eligible: usize,
    members: usize,
    held_out: usize,
    excluded: Excluded,
    over_quota: usize,
    /// Buyers within `horizon_days`, with the 10–90% interval; `null` where nothing says how many.
    expected_buyers: Option<[f64; 3]>,
    horizon_days: Option<u32>,
    /// How many times as likely as the mean eligible member its members are to buy: exactly where chances are known, as the
    /// next larger size of the curve otherwise; `null` of seeds alone.
    lift: Option<f64>,
    reach: Vec<ReachPoint>,
    traits: Vec<Trait>,
}

impl Summary {
    fn of(product_id: String, answer: Answer, held_out: usize, horizon_days: u32) -> Self {
        Self {
            horizon_days: answer.expected.map(|_| horizon_days),
            lift: lift(&answer),
            product_id,
            eligible: answer.eligible,
            members: answer.members.len(),
            held_out,
            excluded: answer.excluded,
            over_quota: answer.over_quota,
            expected_buyers: answer.expected.map(|e| [e.low, e.buyers, e.high]),
            reach: answer.reach,
            traits: answer.traits,
        }
    }
}

/// As [`Summary::lift`].
fn lift(answer: &Answer) -> Option<f64> {
    let all = answer.reach.last().and_then(|point| Some(point.precision? / point.lift));
    let members = answer.members.len();
    match (answer.expected, all) {
        (Some(expected), Some(all)) if members > 0 && all > 0.0 => Some(expected.buyers / members as f64 / all),
        _ => answer.reach.iter().find(|point| point.members >= members).map(|point| point.lift),
    }
}

/// Warns where more buyers are asked for than can be expected.
fn warn_of_few(summaries: &[Summary], wanted: f64, progress: &Terminal) {
    let has_few = |s: &&Summary| s.expected_buyers.is_some_and(|[_, buyers, _]| buyers < 0.999 * wanted);
    let few: Vec<&Summary> = summaries.iter().filter(has_few).collect();
    if let Some(first) = few.first() {
        progress.warn(&format!(
            "of {} of the products, such as {}, fewer than {wanted} buyers can be expected: everybody who may is in the audience",
            few.len(),
            first.product_id
        ));
    }
}

fn print_summaries(summaries: &[Summary], horizon_days: u32) -> Result<(), Error> {
    let rows = summaries.iter().map(|s| {
        let [low, buyers, high] = s
            .expected_buyers
            .map_or_else(|| ["?"; 3].map(str::to_owned), |values| values.map(|value| format!("{value:.1}")));
        let lift = s.lift.map_or_else(|| "?".to_owned(), |lift| format!("{lift:.1}"));
        let counts = [s.eligible, s.members, s.held_out].map(|n| print::count(n as u64));
        [s.product_id.clone()].into_iter().chain(counts).chain([buyers, low, high, lift]).collect()
    });
    let columns = ["product", "eligible", "members", "held out", "buyers", "10%", "90%", "lift"];
    print::table(&columns, rows)?;
    if summaries.iter().any(|s| s.expected_buyers.is_some()) {
        print::line(format!(
            "buyers within {horizon_days} days, as many as the middle one of past products had: one in ten had fewer than the \
             column 10% says, one in ten more than the column 90%"
        ))?;
    }
    if summaries.iter().any(|s| s.expected_buyers.is_none()) {
        print::line("?: of seeds alone, or with too few past launches or sales, how many buy is not known")?;
    }
    Ok(())
}

/// Who is not in it, what audiences of other sizes would do, and what sets this one apart.
fn print_details(summary: &Summary) -> Result<(), Error> {
    print::line(format!("\n{}", summary.product_id))?;
    let excluded = serde_json::to_value(summary.excluded).unwrap_or_default();
    let of = |(why, members): (&String, &serde_json::Value)| {
        let members = members.as_u64().filter(|members| *members > 0)?;
        Some(format!("{} {}", print::count(members), why.replace('_', " ")))
    };
    let excluded: Vec<String> = excluded.as_object().into_iter().flatten().filter_map(of).collect();
    if !excluded.is_empty() {
        print::line(format!("not eligible: {}", excluded.join(", ")))?;
    }
    let number = |value: Option<f64>, digits| value.map_or_else(|| "?".to_owned(), |x| format!("{x:.digits$}"));
    let reach = summary.reach.iter().skip(3).step_by(4);
    let reach = reach.map(|point| {
        let precision = number(point.precision.map(|share| 100.0 * share), 2);
        let members = print::count(point.members as u64);
        vec![members, number(point.expected_buyers, 1), precision, format!("{:.1}", point.lift)]
    });
    if reach.len() > 0 {
        print::table(&["of members", "buyers", "of them %", "lift"], reach)?;
    }
    let traits = summary.traits.iter().take(TRAITS).map(|of| {
        let kind = format!("{:?}", of.kind).to_lowercase();
        vec![kind, of.name.clone(), format!("{:.0}%", 100.0 * of.share), format!("{:.1}", of.lift)]
    });
    if traits.len() == 0 {
        return Ok(());
    }
    print::table(&["what sets them apart", "", "have it", "times as many as elsewhere"], traits)
}

fn write(
    table: &mut TableWriter,
    model: &Model,
    (id, id_type): (&str, IdType),
    answer: &Answer,
    held_out: &[bool],
) -> Result<(), Error> {
    // An audience that nobody is in still makes a table.
    let empty = answer.members.is_empty().then_some(&answer.members[..]);
    for (chunk, members) in answer.members.chunks(ROWS_AT_ONCE).chain(empty).enumerate() {
        let places = chunk * ROWS_AT_ONCE..chunk * ROWS_AT_ONCE + members.len();
        let probability = |i: usize| answer.probabilities.get(i).copied();
        let day = |i: usize| answer.days.get(i).map_or(1, |day| i32::from(*day));
        table.write(vec![
            Column::ids(id_type, members.iter().map(|_| id)),
            Column::ids(model.members.id_type, members.iter().map(|m| model.members.ids.get(m.row))),
            Column::Small(places.clone().map(|i| i as i32 + 1).collect()),
            Column::Float(members.iter().map(|m| Some(m.score)).collect()),
            Column::Float(places.clone().map(probability).collect()),
            Column::Boolean(held_out[places.clone()].to_vec()),
            Column::Small(places.map(day).collect()),
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
        assert_eq!("p0.02".parse(), Ok(Size(AudienceSize::MinProbability(0.02))));
        assert_eq!("200buyers".parse(), Ok(Size(AudienceSize::ExpectedBuyers(200.0))));
        for wrong in
            ["0", "-3", "0%", "101%", "NaN%", "ten", "", "%", "p2", "p0", "p", "0buyers", "buyers", "infbuyers"]
        {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
