//! What offline metrics say of bases whose answers are known.
#![allow(clippy::unwrap_used)]

mod support;

use kindred_models::artifact::Registry;
use kindred_models::ranker::ScorerKind;
use kindred_models::stop::Stop;
use kindred_training::TrainError;
use kindred_training::config::{LaunchParams, TrainConfig};
use kindred_training::evaluate::Evaluation;
use kindred_training::progress::Quiet;
use kindred_training::tables::TimeUnit;
use kindred_training::train::evaluate_only;
use support::{TRAINED_AT, Tables, trained_with};

const MEMBERS: u32 = 40;

/// Every member buys the same three products every week; `weeks` of it.
fn regulars(weeks: std::ops::Range<u32>) -> Tables {
    let mut tables = Tables::new();
    for p in 0..60 {
        tables.product(&format!("p{p:02},,{}/all,,,,true", if p < 30 { "food" } else { "drinks" }));
    }
    for m in 0..MEMBERS {
        for week in weeks.clone() {
            (0..3)
                .for_each(|k| tables.buy(&format!("m{m:02}"), &format!("p{:02}", (m + 20 * k) % 60), 7 * week + m % 7));
        }
    }
    tables
}

fn evaluated(tables: &Tables, registry: Option<&Registry>, change: impl FnOnce(&mut TrainConfig)) -> Evaluation {
    try_evaluate(tables, registry, change).unwrap()
}

fn try_evaluate(
    tables: &Tables,
    registry: Option<&Registry>,
    change: impl FnOnce(&mut TrainConfig),
) -> Result<Evaluation, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let mut config = tables.write(folder.path());
    config.evaluate.test_days = 28;
    change(&mut config);
    let empty = Registry::new(folder.path(), "none").unwrap();
    let registry = registry.unwrap_or(&empty);
    evaluate_only(&config.validate().unwrap(), registry, TRAINED_AT, &Quiet, &Stop::default())
}

#[test]
fn regulars_are_known_by_heart() {
    let evaluation = evaluated(&regulars(0..20), None, |_| {});
    let all = &evaluation.tasks[0];
    assert_eq!((all.task.as_str(), all.members), ("all", MEMBERS as usize));
    for ranking in ["feed", "personal frequency"] {
        let metrics = &all.rankings[ranking];
        for name in ["ndcg@10", "recall@10", "hit@10"] {
            let estimate = metrics[name];
            assert_eq!((estimate.value, estimate.low, estimate.high), (1.0, 1.0, 1.0), "{ranking} {name}");
        }
        assert!((metrics["repeats@20"].value - 3.0 / 20.0).abs() < 1e-9, "three of a page were bought before");
    }
    assert!(all.rankings["popularity"]["ndcg@10"].value < 0.5);
    let history: Vec<(&str, usize)> = all.by_history.iter().map(|p| (p.name.as_str(), p.count)).collect();
    assert_eq!(history[0], ("1–5", MEMBERS as usize));
    assert!(history[1..].iter().all(|(_, count)| *count == 0));
    let bought: usize = all.by_category.iter().map(|p| p.count).sum();
    assert_eq!((all.by_category.len(), bought), (2, 3 * MEMBERS as usize));
    assert!(all.by_category.iter().all(|p| p.recall_at_20 == 1.0));
    let new = &evaluation.tasks[1];
    assert_eq!((new.task.as_str(), new.members), ("new", 0), "nobody buys anything new");
    // Four purchases of each in the next four weeks are one that is expected: the chance is nearly certain.
    let calibration = evaluation.calibration.unwrap();
    let expected: f64 = calibration.classes.iter().map(|class| class.expected).sum();
    let observed: f64 = calibration.classes.iter().map(|class| class.observed).sum();
    assert!((expected / observed - 1.0).abs() < 0.1, "{calibration:?}");
    assert_eq!(evaluation.scorers.len(), 2);
    let kinds = [ScorerKind::Blend, ScorerKind::Logistic, ScorerKind::Ftrl, ScorerKind::Boosting, ScorerKind::Mean];
    assert!(evaluation.scorers.iter().all(|s| s.ndcg_at_10.keys().eq(&kinds)), "{:?}", evaluation.scorers);
}

#[test]
fn what_was_sold_before_its_catalogue_says_so_is_shown() {
    let mut tables = regulars(0..20);
    // A catalogue that was imported a week before the last sale.
    let rows: Vec<&str> = tables.products.lines().collect();
    let dated: Vec<String> = rows[1..].iter().map(|row| format!("{row},{}", 1_700_000_000 + 133 * 86_400)).collect();
    tables.products = format!("{},launched_at\n{}\n", rows[0], dated.join("\n"));
    let evaluation = evaluated(&tables, None, |config| config.data.products.time_unit = TimeUnit::S);
    assert_eq!(evaluation.tasks[0].rankings["feed"]["ndcg@10"].value, 1.0);
}

#[test]
fn where_nobody_came_back_there_is_nothing_to_judge_by() {
    let mut tables = Tables::new();
    for day in 0..10 {
        tables.buy("early", "p", day);
        tables.buy("late", "p", 40 + day);
    }
    let refused = try_evaluate(&tables, None, |_| {}).unwrap_err();
    assert!(matches!(refused, TrainError::NothingToJudgeBy), "{refused}");
}

#[test]
fn the_model_that_was_served_is_judged_beside_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = regulars(0..10).write(folder.path());
    let before = trained_with(folder, config);
    let evaluation = evaluated(&regulars(0..20), Some(&before.registry), |_| {});
    assert_eq!(evaluation.served_left_out, None);
    let served = &evaluation.tasks[0].rankings["served before"];
    assert_eq!(served["ndcg@10"].value, 1.0, "it knew the regulars too");
    // One that has seen the test window is left out, and the report says why.
    let folder = tempfile::tempdir().unwrap();
    let config = regulars(0..20).write(folder.path());
    let cheat = trained_with(folder, config);
    let evaluation = evaluated(&regulars(0..20), Some(&cheat.registry), |_| {});
    assert!(evaluation.served_left_out.unwrap().contains("after the cut"));
    assert!(!evaluation.tasks[0].rankings.contains_key("served before"));
}

#[test]
fn without_a_time_a_share_of_each_members_products_is_held_out() {
    let mut tables = Tables::new();
    for m in 0..MEMBERS {
        (0..20).for_each(|p| tables.buy(&format!("m{m:02}"), &format!("p{:02}", (m % 2) * 20 + p), 0));
    }
    let evaluation = evaluated(&tables, None, |config| {
        config.data.events.time_unit = kindred_training::tables::TimeUnit::None;
    });
    assert_eq!(evaluation.cut_time, 0);
    let [new] = &evaluation.tasks[..] else { panic!("what is held out was never bought before") };
    assert_eq!(new.rankings.keys().collect::<Vec<_>>(), ["feed", "popularity"], "nothing is recent, or bought again");
    // Each taste has 20 products, of which a member lacks those that are held out.
    assert!(new.rankings["feed"]["recall@10"].value > 0.95, "{:?}", new.rankings["feed"]);
    assert!(evaluation.calibration.is_none());
}

/// Every week a toy is launched that some of the young buy, and a tool that some of the old do; most of either bought
/// none of its kind before. All buy food.
fn young_and_old() -> Tables {
    const WEEKS: u32 = 22;
    let mut tables = Tables::new();
    (0..6).for_each(|p| tables.product(&format!("food{p},,food,,,,true")));
    for week in 4..WEEKS {
        tables.product(&format!("toy{week},,fun/toys,,,,true"));
        tables.product(&format!("tool{week},,home/tools,,,,true"));
    }
    for m in 0..320 {
        let (tag, kind) = if m % 2 == 0 { ("young", "toy") } else { ("old", "tool") };
        tables.member(&format!("m{m},,,,true,true,false,{tag}"));
        for week in 0..WEEKS {
            tables.buy(&format!("m{m}"), &format!("food{}", (m / 2 + week) % 6), 7 * week + m % 7);
            if week >= 4 && (m / 2 * 7919 + week * 104_729) % 1000 % 16 == 0 {
                tables.buy(&format!("m{m}"), &format!("{kind}{week}"), 7 * week + m % 7);
            }
        }
    }
    tables
}

#[test]
fn launches_find_who_shares_tags_with_buyers() {
    let tables = young_and_old();
    let auc = |member_tags: bool| {
        let evaluation = evaluated(&tables, None, |config| {
            let few = LaunchParams { horizon_days: 14, step_days: 14, min_buyers: 6, min_launches: 8, ..config.launch };
            config.launch = LaunchParams { member_tags, ..few };
            config.ranker.slices = 0;
        });
        evaluation.launches["launch.auc"]
    };
    let (with, without) = (auc(true), auc(false));
    // Tags tell the right half of the members, and nothing more: three quarters.
    assert!(with > 0.7 && with > without + 0.02, "{with} {without}");
}
