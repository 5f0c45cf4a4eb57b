//! What a campaign did: buyers among the members who were contacted against those who were held out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;

use crate::config::DataConfig;
use crate::data::{AudienceRow, read_audience, read_purchases};
use crate::progress::Progress;
use crate::tables::TableError;

/// Standard normal quantile of 97.5%.
const Z: f64 = 1.959_963_984_540_054;

/// Members, and those of them who bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub members: usize,
    /// How many of them bought the product.
    pub buyers: usize,
}

impl Group {
    fn add(&mut self, bought: bool) {
        self.members += 1;
        self.buyers += usize::from(bought);
    }

    fn rate(self) -> f64 {
        self.buyers as f64 / self.members.max(1) as f64
    }

    /// The rate as if one more member had bought and one had not, and its variance.
    fn shrunk(self) -> (f64, f64) {
        let n = self.members as f64 + 2.0;
        let rate = (self.buyers as f64 + 1.0) / n;
        (rate, rate * (1.0 - rate) / n)
    }
}

/// A difference with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// What a campaign did for one product, or for all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The product; empty for all of which somebody was held out, or all, where nobody was of any.
    pub product_id: String,
    /// Who was contacted.
    pub contacted: Group,
    /// Who was held out.
    pub held_out: Group,
    /// Share of the contacted who bought, less that of those held out; `None` where nobody was.
    pub uplift: Option<Difference>,
    /// Buyers who would not have bought without the campaign: the uplift times the contacted.
    pub extra_buyers: Option<Difference>,
    /// Buyers that the model expected of both, where it said so.
    pub expected_buyers: Option<f64>,
}

/// Holds an audience against the purchases of its products within `times` (unix seconds), of shops whose clocks are
/// `utc_offset_minutes` ahead of UTC; the last outcome is of all products.
///
/// # Errors
/// If a table can't be read, or lacks a column.
pub fn report(
    audience: &Path,
    data: &DataConfig,
    utc_offset_minutes: i32,
    times: &RangeInclusive<i64>,
    now: i64,
    progress: &dyn Progress,
) -> Result<Vec<Outcome>, TableError> {
    let rows = read_audience(audience)?;
    let purchases = read_purchases(data, utc_offset_minutes, times, now, progress)?;
    if !rows.iter().any(|(_, row)| purchases.knows(&row.member_id)) {
        progress
            .warn("no event names a member of the audience: are ids written alike, and not 0042 here and 42 there?");
    }
    if !purchases.any() {
        progress.warn("no event is of the days asked for: nobody can have bought anything");
    }
    let mut launches = BTreeMap::<String, Vec<(AudienceRow, bool)>>::new();
    for (product, row) in rows {
        let bought = purchases.contains(&row.member_id, &product);
        launches.entry(product).or_default().push((row, bought));
    }
    let mut outcomes: Vec<Outcome> = launches.into_iter().map(|(product, rows)| outcome(product, &rows)).collect();
    if purchases.any() && outcomes.iter().all(|outcome| outcome.contacted.buyers + outcome.held_out.buyers == 0) {
        progress.warn("nobody of the audience bought what it is for in these days: are ids of products written alike?");
    }
    outcomes.push(total(&outcomes));
    Ok(outcomes)
}

fn outcome(product_id: String, rows: &[(AudienceRow, bool)]) -> Outcome {
    let (mut contacted, mut held_out) = (Group::default(), Group::default());
    for (row, bought) in rows {
        let group = if row.held_out { &mut held_out } else { &mut contacted };
        group.add(*bought);
    }
    let expected: Option<f64> = rows.iter().map(|(row, _)| row.probability).sum();
    let uplift = uplift(contacted, held_out);
    let extra_buyers = uplift.map(|d| times(d, contacted.members as f64));
    Outcome { product_id, contacted, held_out, uplift, extra_buyers, expected_buyers: expected }
}

fn times(d: Difference, factor: f64) -> Difference {
    Difference { value: d.value * factor, low: d.low * factor, high: d.high * factor }
}

/// The difference of two rates; its interval is that of Agresti and Caffo 2000, "Simple and effective confidence
/// intervals for proportions and differences of proportions", which holds for few members and rare buyers.
fn uplift(contacted: Group, held_out: Group) -> Option<Difference> {
    if contacted.members == 0 || held_out.members == 0 {
        return None;
    }
    let ((a, variance_a), (b, variance_b)) = (contacted.shrunk(), held_out.shrunk());
    let (middle, half) = (a - b, Z * (variance_a + variance_b).sqrt());
    // The interval is around a shrunken difference; it always holds the one that was seen.
    let value = contacted.rate() - held_out.rate();
    Some(Difference { value, low: (middle - half).min(value), high: (middle + half).max(value) })
}

/// All products together, of which somebody was held out, if any was of any. Each is compared with its own held-out members, and the extra buyers are added up:
/// launches that differ in size and in the share held out do not mix. The interval is as wide as those of the products
/// make it, where nobody bought, too; of several it is around what was seen, as what each is shrunk by would add up.
/// Products count as independent, though a member who is held out of several campaigns by one seed is the same member
/// in each.
fn total(outcomes: &[Outcome]) -> Outcome {
    let with_holdout: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.uplift.is_some()).collect();
    let summed = if with_holdout.is_empty() { outcomes.iter().collect() } else { with_holdout };
    if let [only] = summed[..] {
        return Outcome { product_id: String::new(), ..only.clone() };
    }
    let sum = |of: fn(&Outcome) -> Group| {
        summed.iter().map(|outcome| of(outcome)).fold(Group::default(), |sum, group| Group {
            members: sum.members + group.members,
            buyers: sum.buyers + group.buyers,
        })
    };
    let (contacted, held_out) = (sum(|o| o.contacted), sum(|o| o.held_out));
    let (mut compared, mut extra, mut variance) = (0.0, 0.0, 0.0);
    for outcome in summed.iter().filter(|outcome| outcome.uplift.is_some()) {
        let n = outcome.contacted.members as f64;
        compared += n;
        extra += n * (outcome.contacted.rate() - outcome.held_out.rate());
        variance += n * n * (outcome.contacted.shrunk().1 + outcome.held_out.shrunk().1);
    }
    let half = Z * variance.sqrt();
    let extra_buyers = (compared > 0.0).then_some(Difference { value: extra, low: extra - half, high: extra + half });
    Outcome {
        product_id: String::new(),
        contacted,
        held_out,
        uplift: extra_buyers.map(|d| times(d, 1.0 / compared)),
        extra_buyers,
        expected_buyers: summed.iter().map(|outcome| outcome.expected_buyers).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplift_worked_by_hand() {
        let (contacted, held_out) = (Group { members: 998, buyers: 99 }, Group { members: 98, buyers: 4 });
        let d = uplift(contacted, held_out).unwrap();
        assert!((d.value - (99.0 / 998.0 - 4.0 / 98.0)).abs() < 1e-12);
        // 100 of 1000 and 5 of 100: .1 − .05 ± 1.96 √(.1 · .9 / 1000 + .05 · .95 / 100).
        let half = Z * (0.09f64 / 1000.0 + 0.0475 / 100.0).sqrt();
        assert!((d.low - (0.05 - half)).abs() < 1e-12 && (d.high - (0.05 + half)).abs() < 1e-12, "{d:?}");
    }

    #[test]
    fn without_a_holdout_nothing_is_claimed() {
        let row = AudienceRow { member_id: "m".to_owned(), held_out: false, probability: Some(0.5) };
        let outcome = outcome("p".to_owned(), &[(row, true)]);
        assert_eq!((outcome.uplift, outcome.extra_buyers), (None, None));
        assert_eq!(outcome.expected_buyers, Some(0.5));
        assert_eq!(total(std::slice::from_ref(&outcome)).uplift, None);
        assert_eq!(total(&[outcome.clone(), outcome]).uplift, None);
    }

    fn of(contacted: (usize, usize), held_out: (usize, usize)) -> Outcome {
        let group = |(members, buyers)| Group { members, buyers };
        let (contacted, held_out) = (group(contacted), group(held_out));
        let uplift = uplift(contacted, held_out);
        let extra_buyers = uplift.map(|d| times(d, contacted.members as f64));
        Outcome { product_id: String::new(), contacted, held_out, uplift, extra_buyers, expected_buyers: None }
    }

    #[test]
    fn where_nobody_held_out_bought_all_products_together_prove_no_more_than_they_can() {
        let one = of((1000, 5), (100, 0));
        assert_eq!(total(std::slice::from_ref(&one)), one, "one product is all of them");
        let all = total(&[one.clone(), one]).uplift.unwrap();
        assert!((all.value - 0.005).abs() < 1e-12 && all.low < 0.0, "one of 200 might have bought by chance: {all:?}");
        let nobody = of((1000, 0), (100, 0));
        let all = total(&[nobody.clone(), nobody]).uplift.unwrap();
        assert!(all.low < 0.0 && all.high > 0.0, "{all:?}");
    }

    #[test]
    fn products_are_compared_with_their_own_holdouts() {
        // A best-seller that nobody was held out of much, and a slow one that half were: no campaign did anything.
        let all = total(&[of((900, 450), (100, 50)), of((500, 5), (500, 5))]);
        assert_eq!((all.contacted.members, all.held_out.members), (1400, 600));
        let extra = all.extra_buyers.unwrap();
        assert!(extra.value.abs() < 1e-9 && extra.low < 0.0 && extra.high > 0.0, "{extra:?}");
        assert!(all.uplift.unwrap().value.abs() < 1e-9, "though 32% of the contacted bought, and 9% of the others");
        let with_others = total(&[of((900, 450), (100, 50)), of((500, 5), (500, 5)), of((800, 8), (0, 0))]);
        assert_eq!(with_others, all, "of a product without a holdout nothing can be said");
        let [one, none] = [of((900, 450), (100, 50)), of((800, 8), (0, 0))];
        assert_eq!(total(&[one.clone(), none]).uplift, one.uplift, "all with a holdout is this one");
    }
}
