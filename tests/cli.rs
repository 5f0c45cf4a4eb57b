//! The program as a user runs it.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use support::program::{fails, folder, kindred, ok, rows};

#[test]
fn the_main_job_from_the_command_line() {
    let folder = folder();
    let at = folder.path();
    let id = ok(at, "train --config kindred.toml").lines().next().unwrap().to_owned();
    let listed: serde_json::Value = serde_json::from_str(&ok(at, "models list --json")).unwrap();
    assert_eq!(listed[0]["version"], id.as_str());
    assert_eq!(listed[0]["active"], true);
    assert!(ok(at, "models verify").contains(&id));
    assert!(ok(at, "models show").contains("\"checksum\""));
    let feed: serde_json::Value =
        serde_json::from_str(&ok(at, "feed --member t0 --exclude-purchased --top 1 --json")).unwrap();
    assert_eq!(feed["items"][0]["product_id"], "tea9");
    assert!(ok(at, "feed --member t0 --category drinks/coffee").contains("coffee"));
    assert!(ok(at, "similar --product tea1 --top 3").contains("tea no"));
    std::fs::write(at.join("group.csv"), "member_id\nt1\nt2\nnobody\n").unwrap();
    let group: serde_json::Value =
        serde_json::from_str(&ok(at, "group-feed --members group.csv --member t3 --member t1 --top 3 --json")).unwrap();
    assert_eq!((&group["members"], &group["known_members"]), (&4.into(), &3.into()));
    assert!(group["items"][0]["product_id"].as_str().unwrap().starts_with("tea"), "{group}");
    assert!(ok(at, "group-feed --member t1 --member t2").contains("2 of 2"));
    ok(at, "score --out recs.parquet --top 3 --exclude-purchased");
    std::fs::write(at.join("some.csv"), "member_id\nc0\nnobody\n").unwrap();
    ok(at, "score --out some.parquet --top 3 --members some.csv");
    std::fs::write(at.join("new.csv"), "product_id,category,brand\nnew1,drinks/tea,tea house\n").unwrap();
    assert!(
        ok(at, "audience --products new.csv --out audience.parquet --size 50% --holdout 50%")
            .contains("too few past launches")
    );
    let all = ok(at, "audience --products new.csv --out all.parquet --size all --json");
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!((&all[0]["product_id"], &all[0]["members"]), (&"new1".into(), &60.into()));
    assert!(all[0]["expected_buyers"].is_null() && all[0]["reach"][0]["lift"].as_f64().unwrap() > 1.0, "{all}");
    std::fs::write(at.join("later.csv"), "member_id,product_id,time\nt1,new1,1700000000\n").unwrap();
    let report = "campaign-report --config kindred.toml --audience audience.parquet --events later.csv";
    assert!(ok(at, report).contains("new1"));
    ok(at, "score --out again.parquet --members audience.parquet --top 1");
    assert!(std::fs::metadata(at.join("again.parquet")).unwrap().len() > 0);
    assert!(!at.join("recs.parquet.writing").exists());
}

#[test]
fn what_is_sold_already_is_known_by_its_buyers() {
    let folder = folder();
    let at = folder.path();
    ok(at, "train --config kindred.toml --test-days 0");
    // Whoever drinks tea has bought tea1, whatever this table says of it.
    std::fs::write(at.join("sold.csv"), "product_id,category\ntea1,drinks/coffee\n").unwrap();
    ok(at, "audience --products sold.csv --out sold.parquet --size 10");
    let members = rows(&at.join("sold.parquet"), &["member_id"]);
    assert!(members.len() == 10 && members.iter().all(|row| row[0].starts_with('t')), "{members:?}");
}

#[test]
fn generated_tables_train_without_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ok(at, "generate --members 300 --products 100 --stores 3 --days 120 --out shop");
    ok(at, "generate --members 300 --products 100 --stores 3 --days 120 --out again");
    for name in ["events.parquet", "products.parquet", "members.parquet"] {
        let read = |shop: &str| std::fs::read(at.join(shop).join(name)).unwrap();
        assert!(read("shop") == read("again"), "the same seed gives the same {name}");
    }
    let tables = "--events shop/events.parquet --products shop/products.parquet --members shop/members.parquet";
    let trained: serde_json::Value =
        serde_json::from_str(&ok(at, &format!("train {tables} --registry r --json"))).unwrap();
    let metric = |name: &str| trained["metrics"][name].as_f64().unwrap();
    assert!(metric("feed.all.ndcg@10") > 2.0 * metric("popularity.all.ndcg@10"), "{trained}");
    std::fs::write(at.join("known.csv"), "product_id\np000001\n").unwrap();
    let all = kindred(at, "audience --registry r --products known.csv --out all.parquet --size 1000buyers");
    let said = String::from_utf8(all.stderr).unwrap();
    assert!(all.status.success() && said.contains("fewer than 1000 buyers"), "{said}");
    ok(at, "feed --registry r --member m0000001");
    // What the stage of `train` found is in the version, and `evaluate` alone finds the same.
    let version = at.join("r/default").join(trained["version"].as_str().unwrap());
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(version.join("evaluation.json")).unwrap()).unwrap();
    let page = std::fs::read_to_string(version.join("evaluation.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("http"), "needs nothing else");
    let alone: serde_json::Value =
        serde_json::from_str(&ok(at, &format!("evaluate {tables} --registry other --out report --json"))).unwrap();
    assert_eq!(alone["tasks"], kept["tasks"]);
    assert_eq!(alone["tasks"][0]["rankings"]["feed"]["ndcg@10"]["value"], metric("feed.all.ndcg@10"));
    assert!(at.join("report/evaluation.html").is_file() && !at.join("other/default/current").exists());
    // The served model has seen the days that it would be judged by, and is told apart.
    let beside: serde_json::Value =
        serde_json::from_str(&ok(at, &format!("evaluate {tables} --registry r --json"))).unwrap();
    assert!(beside["served_left_out"].as_str().unwrap().contains("after the cut"), "{beside}");
    std::fs::write(version.join("evaluation.html"), "other").unwrap();
    assert_eq!(fails(at, "models verify --registry r").0, 65);
    assert_eq!(fails(at, &format!("evaluate {tables} --test-days 0")).0, 2);
    std::fs::write(at.join("none.toml"), "[evaluate]\ntest_days = 0\n").unwrap();
    let (code, message) = fails(at, &format!("evaluate {tables} --config none.toml"));
    assert!(code == 64 && message.contains("--test-days"), "{message}");
}

#[test]
fn a_search_that_was_ended_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ok(at, "generate --members 200 --products 60 --stores 2 --days 150 --out shop");
    let tables = "--events shop/events.parquet --products shop/products.parquet --members shop/members.parquet";
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    let tune = format!("tune {tables} --max-factors 16 --test-days 14");
    ok(at, &format!("{tune} --trials 3"));
    let first = read("tune/trials.ndjson");
    assert_eq!(first.lines().count(), 4, "what is searched, and three trials");
    let shown = ok(at, &format!("{tune} --trials 12"));
    assert!(shown.contains("unobserved_weight") && shown.contains("best: tune/best.toml"), "{shown}");
    assert!(read("tune/trials.ndjson").starts_with(&first));
    ok(at, &format!("{tune} --trials 12 --out whole"));
    assert_eq!(read("whole/trials.ndjson"), read("tune/trials.ndjson"), "as if it had never been ended");
    let best: serde_json::Value = serde_json::from_str(&ok(at, &format!("{tune} --trials 12 --json"))).unwrap();
    let parameters = best["trials"][0]["parameters"].as_object().unwrap();
    let config = kindred::config::Config::load(Some(&at.join("tune/best.toml"))).unwrap();
    assert_eq!(parameters["embeddings.factors"], config.embeddings.factors);
    assert_eq!(config.evaluate.test_days, 28, "the search's own days are not the config's");
    assert!(
        (parameters["embeddings.unobserved_weight"].as_f64().unwrap() as f32) == config.embeddings.unobserved_weight
    );
    ok(at, &format!("tune {tables} --config tune/best.toml --source affinity --trials 2 --out affinity"));
    ok(at, "train --config affinity/best.toml --test-days 0");
    let (code, message) = fails(at, &format!("{tune} --validation-days 14"));
    assert!(code == 64 && message.contains("validation_days"), "{code} {message}");
    let (code, message) = fails(at, &format!("{tune} --validation-days 3000 --out other"));
    assert!(code == 65 && message.contains("too short"), "{code} {message}");
}

#[test]
fn integer_ids_and_other_names_come_in_and_go_out_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let event = |m: i64, p: i64| format!("{{\"card\": {m}, \"sku\": {p}, \"day\": \"2026-01-0{}\"}}\n", 1 + p % 9);
    let events: String = (0..40)
        .flat_map(|m| (0..12).map(move |p| (m, p)))
        .filter(|(m, p)| (m + p) % 2 == 0)
        .map(|(m, p)| event(m - 5, 700 + p))
        .collect();
    std::fs::create_dir(at.join("sales")).unwrap();
    std::fs::write(
        at.join("sales/a.ndjson"),
        &events[..events.len() / 2 + events[events.len() / 2..].find('\n').unwrap() + 1],
    )
    .unwrap();
    std::fs::write(
        at.join("sales/b.jsonl"),
        &events[events.len() / 2 + events[events.len() / 2..].find('\n').unwrap() + 1..],
    )
    .unwrap();
    let config = r#"
        [data.events]
        path = "sales"
        time_unit = "date"
        columns = { member_id = "card", product_id = "sku", time = "day" }
        [evaluate]
        test_days = 0
    "#;
    std::fs::write(at.join("kindred.toml"), config).unwrap();
    ok(at, "train --config kindred.toml");
    let registry = kindred_models::artifact::Registry::new(&at.join("registry"), "default").unwrap();
    let model = kindred_models::Model::load(&registry, &registry.current().unwrap()).unwrap();
    let integers = kindred_models::catalogue::IdType::Integer;
    assert_eq!((model.members.id_type, model.products.id_type), (integers, integers));
    assert!(model.members.ids.find("-5").is_some());
    ok(at, "score --out recs.parquet --top 2");
    let files = kindred_training::tables::table_files(&at.join("recs.parquet")).unwrap();
    let names = ["member_id", "product_id", "rank"].map(str::to_owned);
    let mut rows = 0;
    files[0]
        .read(&names, &mut |(_, cells)| {
            use kindred_training::tables::Cell;
            assert!(matches!(cells.unwrap(), [Cell::Integer(-5..), Cell::Integer(700..), Cell::Integer(1..=2)]));
            rows += 1;
        })
        .unwrap();
    assert_eq!(rows, 80);
}

#[test]
fn failures_have_exit_codes_and_say_what_to_do() {
    let folder = folder();
    let at = folder.path();
    assert_eq!(kindred(at, "frobnicate").status.code(), Some(2));
    std::fs::write(at.join("new.csv"), "product_id,category\nnew1,drinks/tea\n").unwrap();
    for (arguments, code, said) in [
        ("train --config none.toml", 78, "none.toml"),
        ("train", 66, "--events"),
        ("train --config kindred.toml --events none.csv", 66, "none.csv"),
        ("feed --member t0", 66, "no version is active"),
        ("serve", 66, "no version is active"),
        ("models verify 20200101T000000Z-00000000", 66, "kindred models list"),
        ("models verify ../x", 64, "not a valid name"),
        ("generate --out x --members 0", 2, "--members"),
        ("generate --out x --purchases-per-year 0", 64, "above 0"),
    ] {
        let (found, message) = fails(at, arguments);
        assert_eq!(found, code, "{arguments}: {message}");
        assert!(message.contains(said), "{arguments}: {message}");
    }
    ok(at, "train --config kindred.toml");
    std::fs::write(at.join("nobody.csv"), "member_id\n").unwrap();
    std::fs::write(at.join("wrong.toml"), "town = [\"Wuhan\"]\n").unwrap();
    std::fs::write(at.join("bad.toml"), "any_of = [{ segments = [\"sleepy\"] }]\n").unwrap();
    std::fs::write(at.join("both.csv"), "product_id,stock,max_members\nn1,5,5\n").unwrap();
    std::fs::write(at.join("below.csv"), "product_id,stock\nn1,-5\n").unwrap();
    for (arguments, code, said) in [
        ("similar --product gin", 66, "gin"),
        ("group-feed", 2, "--member"),
        ("group-feed --member t0 --explore-share 0.5", 64, "--explore-share"),
        ("group-feed --members none.csv", 66, "none.csv"),
        ("group-feed --members nobody.csv", 64, "1 to 500"),
        ("score --out /proc/none/recs.parquet", 74, "/proc/none"),
        ("score --out recs.parquet --members none.csv", 66, "none.csv"),
        ("score --out recs.xlsx", 64, "name it .parquet"),
        ("train --config kindred.toml --state none", 66, "kindred state export"),
        ("keys create --role mall --key-name=", 64, "1 to 200 characters"),
        ("audit verify --registry elsewhere", 66, "no state store"),
        ("audience --products none.csv --out a.parquet", 66, "none.csv"),
        ("audience --products new.csv --out a.parquet --size 5buyers", 64, "by count or by share"),
        ("audience --products new.csv --out a.parquet --holdout half", 2, "percentage"),
        ("audience --products new.csv --out a.parquet --filter none.toml", 66, "none.toml"),
        ("audience --products new.csv --out a.parquet --filter wrong.toml", 64, "unknown field `town`"),
        ("audience --products new.csv --out a.parquet --filter bad.toml", 64, "sleepy"),
        ("allocate --products new.csv --out a.parquet", 64, "launch.min_launches"),
        ("allocate --products new.csv --out a.parquet --contact-cost=-1", 2, "--contact-cost"),
        ("allocate --products both.csv --out a.parquet", 64, "both stock and max_members"),
        ("allocate --products below.csv --out a.parquet", 65, "below 0"),
        ("campaign-report --audience none.parquet --events events.csv", 66, "none.parquet"),
        ("campaign-report --audience a.parquet --events events.csv --days 3", 2, "--since"),
        ("serve --listen 203.0.113.1:1", 69, "--listen"),
        ("feed --member t0 --name other", 66, "other"),
    ] {
        let (found, message) = fails(at, arguments);
        assert_eq!(found, code, "{arguments}: {message}");
        assert!(message.contains(said), "{arguments}: {message}");
    }
}

/// Ends a training run by a signal after every line that it prints, and looks at what is left.
#[cfg(unix)]
#[test]
fn training_can_be_ended_at_any_stage() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ok(at, "generate --members 600 --products 150 --stores 3 --out shop");
    // Every stage at its smallest: what is tested is how they end.
    std::fs::write(at.join("small.toml"), "[ranker]\nmax_rows = 20000\ntrees = 20\nmax_members = 300\n").unwrap();
    let tables = "--config small.toml --events shop/events.parquet --products shop/products.parquet \
                  --members shop/members.parquet";
    let first = ok(at, &format!("train {tables} --test-days 0")).trim().to_owned();
    for (signal, stage) in
        [("-KILL", "prepare"), ("-KILL", "evaluate"), ("-KILL", "fit"), ("-INT", "prepare"), ("-TERM", "evaluate")]
    {
        let mut training = Command::new(env!("CARGO_BIN_EXE_kindred"))
            .current_dir(at)
            .arg("train")
            .args(tables.split_whitespace())
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(training.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with(stage)), "{stage} ends");
        Command::new("kill").args([signal, &training.id().to_string()]).status().unwrap();
        let code = training.wait().unwrap().code();
        let expected = match (signal, stage) {
            ("-KILL", _) => vec![None],
            // Seconds of work were to come.
            (_, "prepare") => vec![Some(130)],
            // A signal may come after the last look at the flag; then the run ends as if there had been none.
            _ => vec![Some(130), Some(0)],
        };
        assert!(expected.contains(&code), "{signal} {stage}: {code:?}");
        let listed: serde_json::Value = serde_json::from_str(&ok(at, "models list --json")).unwrap();
        for version in listed.as_array().unwrap() {
            ok(at, &format!("models verify {}", version["version"].as_str().unwrap()));
        }
        ok(at, "feed --member m0000001");
    }
    ok(at, &format!("models verify {first}"));
    ok(at, &format!("train {tables}"));
    assert!(!at.join("registry/default/.writing").exists());
}

#[cfg(unix)]
#[test]
fn sigterm_drains_the_server() {
    use std::io::{BufRead, BufReader};
    let folder = folder();
    ok(folder.path(), "train --config kindred.toml");
    // Before a version is loaded there is nothing to drain; as soon as calls are answered there may be.
    for (stage, ended) in [("listening", ["asked to end", "draining"]), ("answering calls", ["draining"; 2])] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_kindred"))
            .current_dir(folder.path())
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(log.any(|line| line.contains(stage)), "{stage}");
        Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
        assert!(log.any(|line| ended.iter().any(|ended| line.contains(ended))), "{stage}");
        assert!(server.wait().unwrap().success(), "{stage}");
    }
}

#[test]
fn a_campaign_is_held_against_its_holdout() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Contacted: 2 of 4 bought in time; held out: 1 of 4. Purchases of others, of another product, brought back, or
    // too late do not count.
    let rows = |held_out: bool, prefix: &str| -> String {
        (0..4).map(|m| format!("tea,{prefix}{m},{held_out},0.25\n")).collect()
    };
    let audience = format!("product_id,member_id,held_out,probability\n{}{}", rows(false, "c"), rows(true, "h"));
    std::fs::write(at.join("audience.csv"), audience).unwrap();
    let events = "member_id,product_id,time,kind\n\
        c0,tea,2026-01-02,purchase\nc1,tea,2026-01-05,purchase\nh0,tea,2026-01-03,purchase\n\
        c2,tea,2026-02-03,purchase\nc3,gin,2026-01-02,purchase\nnobody,tea,2026-01-02,purchase\n\
        h1,tea,2026-01-02,purchase\nh1,tea,2026-01-03,refund\nh2,tea,2026-01-02,view\n\
        h3,tea,2026-01-28,purchase\nh3,tea,2026-02-02,refund\n";
    std::fs::write(at.join("events.csv"), events).unwrap();
    std::fs::write(at.join("kindred.toml"), "[data.events]\ntime_unit = \"date\"\n").unwrap();
    let report = "campaign-report --config kindred.toml --audience audience.csv --events events.csv --json \
        --since 2026-01-01 --days 28";
    let report: serde_json::Value = serde_json::from_str(&ok(at, report)).unwrap();
    let tea = &report[0];
    assert_eq!(
        (&tea["product_id"], &tea["contacted"]["buyers"], &tea["held_out"]["buyers"]),
        (&"tea".into(), &2.into(), &1.into())
    );
    assert!((tea["uplift"]["value"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{tea}");
    assert!((tea["extra_buyers"]["value"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(tea["uplift"]["low"].as_f64().unwrap() < 0.0, "eight members prove nothing: {tea}");
    assert_eq!(tea["expected_buyers"], 2.0);
    assert_eq!(report.as_array().unwrap().len(), 2, "and all products together");
}
