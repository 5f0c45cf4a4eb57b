//! Audiences of a tenth of the members: the buyers that were expected, and those that came.

use kindred_models::events::DAY_SECONDS;
use std::collections::HashMap;

use kindred_models::Model;
use kindred_models::audience::{AudienceError, AudienceRequest, AudienceSize, MemberFilter, Quota, Subject, audience};
use kindred_models::stop::{Stop, Stopped};
use serde::{Deserialize, Serialize};

use super::launches::Launch;
use super::thin;
use crate::config::LaunchParams;
use crate::data::{Dataset, Event, Kind};
use crate::launches::{Foretold, SEED_COUNTS, choose_seeds, summary};
use crate::slice::{kept_purchases, pairs};

/// Size of the audiences, as a share of the members.
const SHARE: f64 = 0.1;
/// Products that sold before the cut that are asked for, at most.
const KNOWN_PRODUCTS: usize = 200;

/// How audiences of some sort were foretold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpectedReport {
    /// What they were for: `launches`, `launches with 3 seeds`, …, `known products`.
    pub subject: String,
    /// How many were asked for.
    pub audiences: usize,
    /// The middle one's expected over actual buyers.
    pub median_ratio: f64,
    /// Share of them whose buyers were within the 10–90% interval.
    pub coverage: f64,
    /// Share of all buyers, but for the seeds, who were in them, averaged over the audiences.
    #[serde(default)]
    pub recall: f64,
    /// The same of as many members who bought most of the product before, and of all others who buy most; `None` for launches.
    #[serde(default)]
    pub recall_of_own_buyers: Option<f64>,
}

/// Asks for launches of the test days, with and without seeds, and for products that sold before; those whose horizon
/// ends within the test days. Of the `active` members to rank, those count who may be contacted, as nobody else is in an audience.
pub(super) fn judge(
    model: &Model,
    dataset: &Dataset,
    launches: &[Launch],
    active: &[u32],
    test: &[Event],
    params: &LaunchParams,
    stop: &Stop,
) -> Result<Vec<ExpectedReport>, Stopped> {
    let eligible: Vec<u32> = (0..model.members.len() as u32).filter(|row| may_be_contacted(model, *row)).collect();
    let active: Vec<u32> = active.iter().copied().filter(|row| eligible.binary_search(row).is_ok()).collect();
    let (horizon, end) = (i64::from(params.horizon_days) * DAY_SECONDS, test.iter().map(|e| e.time).max().unwrap_or(0));
    let mut first_sold = HashMap::<u32, i64>::new();
    for event in test.iter().filter(|event| event.kind == Kind::Purchase) {
        first_sold.entry(event.product).and_modify(|at| *at = event.time.min(*at)).or_insert(event.time);
    }
    let within = |product: u32, from: i64| -> Option<(u32, i64)> { (from + horizon <= end).then_some((product, from)) };
    // From the moment that replayed launches are counted from: that of their table, or the first sale before it.
    let from = |product: u32| -> Option<i64> {
        let first = *first_sold.get(&product)?;
        Some(dataset.launched_at[product as usize].map_or(first, |launched| launched.min(first)))
    };
    let asked = launches.iter().filter_map(|launch| within(launch.product, from(launch.product)?)).collect();
    let launched = buyers(test, &active, asked, horizon);
    let launched: Vec<(u32, Vec<u32>)> =
        launched.into_iter().filter(|(_, buyers)| params.counts(buyers.len())).collect();
    let mut reports = Vec::new();
    let counts = model.launch.fit.expectation.iter().flat_map(|_| [0].into_iter().chain(SEED_COUNTS));
    for seeds in counts {
        let name = if seeds == 0 { "launches".to_owned() } else { format!("launches with {seeds} seeds") };
        let with_others = launched.iter().filter(|(_, buyers)| buyers.len() > seeds);
        let asked = with_others.map(|(product, buyers)| {
            let is_seed = choose_seeds(*product, buyers, seeds);
            let seeds = buyers.iter().zip(&is_seed).filter(|(_, is)| **is).map(|(member, _)| *member).collect();
            (Subject::New(model.products.attributes(*product)), seeds, buyers)
        });
        reports.extend(report(model, name, asked, stop)?);
    }
    let known = buyers(test, &active, known_products(model, params, |p| within(p, model.info.as_of_time)), horizon);
    let asked = known.iter().map(|(product, buyers)| (Subject::Known(*product), Vec::new(), buyers));
    if let Some(report) = report(model, "known products".to_owned(), asked, stop)? {
        let own = known.iter().map(|(product, buyers)| recall_of_own_buyers(model, *product, &eligible, buyers));
        reports.push(ExpectedReport { recall_of_own_buyers: Some(own.sum::<f64>() / known.len() as f64), ..report });
    }
    Ok(reports)
}

/// Whether a member may be told of anything.
fn may_be_contacted(model: &Model, row: u32) -> bool {
    let consent = model.members.consent(row);
    consent.allows_contact(consent)
}

/// The share of a product's buyers whom one finds who asks a tenth of the members who may be asked: its buyers, who bought most
/// lately first, and then those who buy most of anything.
fn recall_of_own_buyers(model: &Model, product: u32, eligible: &[u32], buyers: &[u32]) -> f64 {
    let activity = &model.launch.statics.activity;
    let of = |member: &u32| {
        let bought = model.history.pair(*member, product).map_or(0.0, |past| past.decayed);
        (bought, activity[*member as usize])
    };
    let mut ranked: Vec<(u32, (f32, f32))> = eligible.iter().map(|member| (*member, of(member))).collect();
    ranked.sort_by(|(_, a), (_, b)| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let head = &ranked[..(SHARE * eligible.len() as f64).ceil() as usize];
    let came = head.iter().filter(|(member, _)| buyers.binary_search(member).is_ok()).count();
    came as f64 / buyers.len().max(1) as f64
}

/// Some of the products that enough members are expected to buy.
fn known_products(model: &Model, params: &LaunchParams, within: impl Fn(u32) -> Option<(u32, i64)>) -> Vec<(u32, i64)> {
    let members = model.launch.active as f32;
    let enough = |share: &f32| share * members >= params.min_buyers as f32;
    let mut products: Vec<(u32, i64)> = (0..)
        .zip(model.launch.selling.iter())
        .filter(|(product, share)| enough(share) && !model.launch.buyers.rows.range(*product).is_empty())
        .filter_map(|(product, _)| within(product))
        .collect();
    thin(&mut products, KNOWN_PRODUCTS);
    products
}

/// Who of the members to rank bought a product within the horizon from a moment, and kept it, sorted.
fn buyers(test: &[Event], active: &[u32], products: Vec<(u32, i64)>, horizon: i64) -> Vec<(u32, Vec<u32>)> {
    let place: HashMap<u32, usize> = products.iter().enumerate().map(|(i, (product, _))| (*product, i)).collect();
    let mut buyers: Vec<(u32, Vec<u32>)> = products.iter().map(|(product, _)| (*product, Vec::new())).collect();
    for pair in pairs(test) {
        let Some(i) = place.get(&pair[0].product) else { continue };
        let in_time = &pair[..pair.partition_point(|e| e.time <= products[*i].1 + horizon)];
        if active.binary_search(&pair[0].member).is_ok() && !kept_purchases(in_time).is_empty() {
            buyers[*i].1.push(pair[0].member);
        }
    }
    buyers
}

fn report<'a>(
    model: &Model,
    subject: String,
    asked: impl Iterator<Item = (Subject, Vec<u32>, &'a Vec<u32>)>,
    stop: &Stop,
) -> Result<Option<ExpectedReport>, Stopped> {
    let (mut foretold, mut recall) = (Vec::new(), 0.0);
    for (subject, seeds, buyers) in asked {
        let size = AudienceSize::Share(SHARE);
        let sought = buyers.len() - seeds.len();
        let request =
            AudienceRequest { subject, seeds, size, filter: MemberFilter::default(), quota: Quota::default() };
        let audience = match audience(model, &request, stop) {
            Ok(audience) => audience,
            Err(AudienceError::Stopped(stopped)) => return Err(stopped),
            Err(_) => continue,
        };
        let Some(expected) = audience.expected else { continue };
        let came = audience.members.iter().filter(|m| buyers.binary_search(&m.row).is_ok()).count();
        recall += came as f64 / sought.max(1) as f64;
        let interval = [expected.low, expected.high];
        foretold.push(Foretold { expected: expected.buyers, interval, actual: came as f64 });
    }
    let (median_ratio, coverage) = summary(&foretold);
    let audiences = foretold.len();
    let recall = recall / audiences.max(1) as f64;
    let report = ExpectedReport { subject, audiences, median_ratio, coverage, recall, recall_of_own_buyers: None };
    Ok((!foretold.is_empty()).then_some(report))
}
