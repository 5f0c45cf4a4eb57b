//! Flags of commands that find members for launches.

use std::path::PathBuf;

use clap::Args;
use kindred_models::Model;
use kindred_models::audience::{Holdout, MemberFilter, Subject};
use kindred_models::content::Attributes;
use kindred_training::data::{NewProduct, NewProducts, read_new_products};
use kindred_training::progress::Progress;
use kindred_training::train::data_config;

use crate::error::Error;
use crate::progress::Terminal;

/// Rows of a table that are written at a time.
pub(super) const ROWS_AT_ONCE: usize = 1 << 20;

/// What is launched, and who may get it.
#[derive(Clone, Debug, Args)]
pub(super) struct Launches {
    /// Table of the products: product_id, and any attribute.
    #[arg(long, value_name = "PATH")]
    products: PathBuf,
    /// Which members are wanted (TOML): stores, cities, guides, segments, tags, last_purchases, max_contacts, birthday,
    /// due_for_repeat, any_of, none_of; see docs/audiences.md.
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,
}

impl Launches {
    /// The products of the table, with what they are worth and how much there is of them where that is asked for.
    pub(super) fn read(&self, model: &Model, with_offers: bool, progress: &Terminal) -> Result<NewProducts, Error> {
        let mut tables = data_config(&model.info);
        tables.products.path = Some(std::path::absolute(&self.products)?);
        let products = read_new_products(&tables, with_offers)?;
        let rejects = &products.rejects;
        if rejects.total() > 0 {
            progress.warn(&format!("{} of {} products rejected\n{rejects}", rejects.total(), rejects.rows));
        }
        Ok(products)
    }

    /// The filter of the file. Warns of names that nobody has.
    pub(super) fn filter(&self, model: &Model, progress: &Terminal) -> Result<MemberFilter, Error> {
        let Some(path) = &self.filter else { return Ok(MemberFilter::default()) };
        let wrong = |what: String| Error::Usage(format!("--filter {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let filter: MemberFilter = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        filter.check().map_err(wrong)?;
        let unknown = filter.unknown_names(model).into_iter().collect::<Vec<_>>().join(", ");
        if !unknown.is_empty() {
            progress
                .warn(&format!("--filter: no member or product has {unknown}: it finds nobody, and leaves nobody out"));
        }
        Ok(filter)
    }
}

/// The row of a product that the model knows buyers of.
fn sold(model: &Model, product_id: &str) -> Option<u32> {
    let has_buyers = |row: &u32| match model.products.is_added(*row) {
        true => model.state.buyers(model, *row).next().is_some(),
        false => !model.launch.buyers.row(*row).0.is_empty(),
    };
    model.products.find(product_id).filter(has_buyers)
}

/// What an audience is for, as FindAudience takes it, and the seeds: a product of the table that was sold already is known
/// by its buyers; of one that the table tells nothing of, what the version knows counts, or the seeds alone.
pub(super) fn subject(model: &Model, product: &NewProduct, named: Vec<u32>) -> (Subject, Vec<u32>) {
    let says_nothing = product.attributes == Attributes::default();
    let known = sold(model, &product.id).or_else(|| model.products.find(&product.id).filter(|_| says_nothing));
    let has_bought = |row: &u32| !model.history.rows.range(*row).is_empty();
    let (subject, mut seeds) = match known {
        Some(row) => Subject::now(model, row),
        None if says_nothing && named.iter().any(has_bought) => (Subject::SeedsOnly, Vec::new()),
        None => (Subject::New(product.attributes.clone()), Vec::new()),
    };
    seeds.extend(named);
    seeds.sort_unstable();
    seeds.dedup();
    (subject, seeds)
}

/// Warns of products of which nothing tells what they are like, unless they have seeds.
pub(super) fn warn_of_strange(
    model: &Model,
    products: &NewProducts,
    has_seeds: impl Fn(&str) -> bool,
    progress: &Terminal,
) {
    let is_strange = |product: &&NewProduct| {
        let is_known = |row: u32| !model.launch.buyers.row(row).0.is_empty();
        let features = product.attributes.features();
        !has_seeds(&product.id)
            && model.products.find(&product.id).is_none()
            && model.content.nearest(&features, 1, is_known).is_empty()
    };
    let strange: Vec<&str> = products.list.iter().filter(is_strange).map(|product| product.id.as_str()).collect();
    if let Some(first) = strange.first() {
        progress.warn(&format!(
            "{} of the products, such as {first}, have no category, brand, tag or title like any that was sold: whoever buys \
             most comes first. Are the columns named as those of the products table?",
            strange.len()
        ));
    }
}

/// Warns of products that are sold already, and says how they are taken.
pub(super) fn warn_of_sold(model: &Model, products: &NewProducts, what: &str, progress: &Terminal) {
    let sold: Vec<&str> =
        products.list.iter().map(|product| product.id.as_str()).filter(|id| sold(model, id).is_some()).collect();
    if let Some(first) = sold.first() {
        progress.warn(&format!("{} of the products are sold already, such as {first}: {what}", sold.len()));
    }
}

/// Who is held out.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct HoldoutArgs {
    /// Share of the members that is held out at random, such as 10%: marked, and not to be contacted.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    holdout: f64,
    /// Seed of the holdout: the same seed holds out the same members; 0 stands for one of the products' own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    holdout_seed: u64,
}

impl HoldoutArgs {
    /// Which of some members are held out of what the products are launched by.
    pub(super) fn held_out<T: Sync>(
        self,
        model: &Model,
        products: &str,
        members: &[T],
        row: impl Fn(&T) -> u32 + Sync,
    ) -> Vec<bool> {
        let holdout = Holdout::of(self.holdout, self.holdout_seed, products);
        holdout.among(members, |member| model.members.ids.get(row(member)))
    }
}

/// A share as a percentage.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    let share = percent.map(|percent| percent / 100.0).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is no share: give a percentage from 0% to 100%"))
}
