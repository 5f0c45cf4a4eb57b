//! Whether what the ranker calls a probability is one.

use kindred_models::events::DAY_SECONDS;
use std::collections::HashSet;

use kindred_models::Model;
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::stop::{Stop, Stopped};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::Event;
use crate::slice::kept_products;

/// Items of a feed that are looked at.
const ITEMS: usize = 100;
/// Classes by probability, with the same number of items each.
const CLASSES: usize = 10;

/// How the ranker's probabilities stand against what was bought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankerCalibration {
    /// Mean of −ln of the probability given to what happened.
    pub log_loss: f64,
    /// The same of the base rate alone.
    pub base_log_loss: f64,
    /// Items by falling probability, in ten classes.
    pub classes: Vec<CalibrationClass>,
}

/// One class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationClass {
    /// Items.
    pub items: usize,
    /// Purchases that the probabilities add up to.
    pub expected: f64,
    /// Purchases.
    pub observed: f64,
}

/// Holds the probabilities of the first items of every member's feed against what followed within the
/// ranker's horizon; the members are all who have a history, whether they came back or not. `None` where no
/// ranker was learned, or its horizon is longer than the days that are held out.
pub(super) fn judge(
    model: &Model,
    members: &[u32],
    test: &[Event],
    test_days: u32,
    stop: &Stop,
) -> Result<Option<RankerCalibration>, Stopped> {
    let days = model.ranker.fit.horizon_days;
    if days == 0 || days > test_days {
        return Ok(None);
    }
    let horizon = i64::from(days) * DAY_SECONDS;
    let pairs: Vec<Vec<(f64, bool)>> = members
        .par_iter()
        .map(|member| {
            stop.check()?;
            let first = test.partition_point(|e| e.member < *member);
            let end = model.info.as_of_time + horizon;
            let events = test[first..].iter().take_while(|e| e.member == *member).filter(|e| e.time <= end);
            let events: Vec<Event> = events.copied().collect();
            let bought: HashSet<u32> = kept_products(&events).collect();
            let items = feed(model, &FeedRequest::new(Visitor::Member(*member), ITEMS));
            Ok(items.iter().map(|item| (f64::from(item.score), bought.contains(&item.product))).collect())
        })
        .collect::<Result<_, Stopped>>()?;
    Ok(Some(of_pairs(pairs.into_iter().flatten().collect())))
}

fn of_pairs(mut pairs: Vec<(f64, bool)>) -> RankerCalibration {
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = pairs.len().max(1) as f64;
    let loss = |p: f64, bought: bool| -(if bought { p } else { 1.0 - p }).clamp(1e-9, 1.0).ln();
    let base = pairs.iter().filter(|p| p.1).count() as f64 / n;
    let class = |pairs: &[(f64, bool)]| CalibrationClass {
        items: pairs.len(),
        expected: pairs.iter().map(|p| p.0).sum(),
        observed: pairs.iter().filter(|p| p.1).count() as f64,
    };
    RankerCalibration {
        log_loss: pairs.iter().map(|(p, bought)| loss(*p, *bought)).sum::<f64>() / n,
        base_log_loss: pairs.iter().map(|(_, bought)| loss(base, *bought)).sum::<f64>() / n,
        classes: pairs.chunks(pairs.len().div_ceil(CLASSES).max(1)).map(class).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_worked_by_hand() {
        let pairs = (0..100).map(|i| (f64::from(i) / 100.0, i >= 90)).collect();
        let calibration = of_pairs(pairs);
        assert_eq!(calibration.classes.len(), 10);
        let first = calibration.classes[0];
        assert_eq!((first.items, first.observed), (10, 10.0));
        assert!((first.expected - 9.45).abs() < 1e-9);
        assert_eq!(calibration.classes[9].observed, 0.0);
        // The mean of −ln(1 − i/100) up to 89 and of −ln(i/100) from 90 on; and −.1 ln .1 − .9 ln .9.
        let losses = [calibration.log_loss, calibration.base_log_loss];
        assert!((losses[0] - 0.664_006_802).abs() < 1e-9 && (losses[1] - 0.325_082_973).abs() < 1e-9, "{losses:?}");
    }
}
