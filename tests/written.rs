//! What the tables hold that the program writes.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use kindred_models::audience::Holdout;
use support::program::{CONFIG, folder, ok, rows};
use support::shop::launches;

fn members_of(answer: &str) -> u64 {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    answer[0]["members"].as_u64().unwrap()
}

/// Whether exactly those are held out whom a holdout of half, with the seed 7, has.
fn are_held_out(rows: &[Vec<String>], id: usize, held_out: usize) -> bool {
    let holdout = Holdout { share: 0.5, seed: 7 };
    let flags: BTreeSet<&str> = rows.iter().map(|row| row[held_out].as_str()).collect();
    flags.len() == 2 && rows.iter().all(|row| row[held_out] == holdout.contains(&row[id]).to_string())
}

#[test]
fn an_audience_has_whom_it_was_asked_for() {
    let folder = folder();
    let at = folder.path();
    ok(at, "train --config kindred.toml --test-days 0");
    std::fs::write(at.join("new.csv"), "product_id,category,brand\nnew1,drinks/tea,tea house\n").unwrap();
    std::fs::write(at.join("filter.toml"), "cities = [\"Wuhan\"]\n").unwrap();
    let ask = |more: &str| ok(at, &format!("audience --products new.csv --out a.parquet --size all --json {more}"));
    let table = |columns: &[&str]| rows(&at.join("a.parquet"), columns);
    assert_eq!(members_of(&ask("--filter filter.toml")), 30, "every other of sixty");
    assert!(table(&["member_id"]).iter().all(|row| row[0][1..].parse::<u32>().unwrap() % 2 == 0));
    // Two of each of four guides on each of three days; five of each of two stores.
    assert_eq!(members_of(&ask("--per-guide 2 --days 3")), 24);
    let days: Vec<String> = table(&["day"]).into_iter().flatten().collect();
    assert!(["1", "2", "3"].iter().all(|day| days.iter().filter(|d| d == day).count() == 8), "{days:?}");
    assert_eq!(members_of(&ask("--per-store 5")), 10);
    assert_eq!(members_of(&ask("--holdout 50% --holdout-seed 7")), 60);
    let table = table(&["member_id", "rank", "score", "held_out", "product_id"]);
    assert!(are_held_out(&table, 0, 3), "{table:?}");
    assert!(table.iter().enumerate().all(|(at, row)| row[1] == (at + 1).to_string() && row[4] == "new1"));
    let scores: Vec<f64> = table.iter().map(|row| row[2].parse().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && table[..30].iter().all(|row| row[0].starts_with('t')));
    std::fs::write(at.join("seeds.csv"), "product_id,member_id\nnew1,c1\nnew1,t1\n").unwrap();
    assert_eq!(members_of(&ask("--seeds seeds.csv")), 58, "who is known to want it needs no telling");
}

#[test]
fn an_allocation_gives_each_member_one_launch_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    launches().write(at);
    let of_launches = "[launch]\nhorizon_days = 14\nstep_days = 14\nmin_launches = 8\n[ranker]\nslices = 1\n";
    let config = format!("{}{of_launches}", CONFIG.replace("[data.members]\npath = \"members.csv\"\n", ""));
    std::fs::write(at.join("kindred.toml"), config).unwrap();
    ok(at, "train --config kindred.toml --test-days 0");
    let products =
        "product_id,category,brand,value,max_members\na,drinks/tea,tea house,10,\nb,drinks/coffee,coffee house,10,7\n";
    std::fs::write(at.join("new.csv"), products).unwrap();
    std::fs::write(at.join("filter.toml"), "[[last_purchases]]\ncategory = \"drinks/tea\"\n").unwrap();
    let allocated = |more: &str| {
        ok(at, &format!("allocate --products new.csv --out plan.parquet {more}"));
        rows(&at.join("plan.parquet"), &["product_id", "member_id", "probability", "held_out"])
    };
    let all = allocated("--holdout 50% --holdout-seed 7");
    assert!(are_held_out(&all, 1, 3), "{all:?}");
    assert_eq!(all.iter().map(|row| &row[1]).collect::<BTreeSet<_>>().len(), all.len(), "each once");
    assert!(all.iter().any(|row| row[0] == "a") && all.iter().filter(|row| row[0] == "b").count() == 7);
    assert!(all.iter().all(|row| (0.0..=1.0).contains(&row[2].parse::<f64>().unwrap())));
    let of_tea = allocated("--filter filter.toml");
    assert!(!of_tea.is_empty() && of_tea.iter().all(|row| row[1].starts_with("tea-")), "{of_tea:?}");
    assert!(allocated("--contact-cost 11").is_empty(), "no purchase is worth it");
}

#[test]
fn scores_leave_out_what_was_bought_where_asked_to() {
    let folder = folder();
    let at = folder.path();
    ok(at, "train --config kindred.toml --test-days 0");
    for by in ["ranker", "taste"] {
        ok(at, &format!("score --out s.parquet --by {by} --top 1 --exclude-purchased"));
        let table = rows(&at.join("s.parquet"), &["member_id", "product_id", "rank"]);
        let of = |member: &str| table.iter().find(|row| row[0] == member).unwrap()[1].clone();
        assert_eq!((of("t0"), of("c0")), ("tea9".to_owned(), "coffee9".to_owned()), "by {by}");
        assert!(table.iter().all(|row| row[2] == "1"));
        ok(at, &format!("score --out s.parquet --by {by} --top 30"));
        let bought = |row: &&Vec<String>| row[0] == "t0" && row[1] == "tea1";
        assert_eq!(
            rows(&at.join("s.parquet"), &["member_id", "product_id"]).iter().filter(bought).count(),
            1,
            "by {by}"
        );
    }
    assert!(!at.join("s.parquet.writing").exists());
}
