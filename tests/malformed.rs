//! Malformed tables and configs: each gives a clear error, and none a panic. (Requests are in `server.rs`,
//! artifacts in `artifacts.rs`.)
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use kindred::config::Config;
use kindred::error::Error;
use kindred_models::artifact::Registry;
use kindred_models::stop::Stop;
use kindred_training::progress::Quiet;
use support::two_tastes;

/// Trains on the two tastes with one file replaced; gives the exit code and the message.
fn train_with(file: &str, content: &[u8], config: &str) -> Result<(), (u8, String)> {
    let folder = tempfile::tempdir().unwrap();
    two_tastes().write(folder.path());
    std::fs::write(folder.path().join(file), content).unwrap();
    let registry = Registry::new(&folder.path().join("registry"), "default").unwrap();
    let outcome = train(folder.path(), config, &registry);
    if outcome.is_err() {
        assert!(registry.versions().is_err() || registry.versions().unwrap().is_empty(), "nothing is published");
    }
    outcome.map_err(|error| (error.exit_code(), error.to_string()))
}

fn train(folder: &Path, config: &str, registry: &Registry) -> Result<(), Error> {
    let file = folder.join("kindred.toml");
    std::fs::write(&file, config).unwrap();
    let mut config = Config::load(Some(&file))?;
    config.data.root = folder.to_owned();
    let valid = config.training().validate()?;
    kindred_training::train::train(&valid, registry, support::TRAINED_AT, &Quiet, &Stop::default())?;
    Ok(())
}

const TABLES: &str = r#"
[data]
max_bad_row_share = 0.0
[data.events]
path = "events.csv"
time_unit = "s"
[data.products]
path = "products.csv"
[data.members]
path = "members.csv"
[embeddings]
factors = 4
epochs = 2
[evaluate]
test_days = 0
"#;

#[test]
fn malformed_tables() {
    let good = "member_id,product_id,time,kind,quantity\na,p,1700000000,purchase,1\n";
    let event = |row: &str| format!("{good}{row}\n");
    let cases: Vec<(&str, Vec<u8>, u8, &str)> = vec![
        ("events.csv", event(",p,1700000000,purchase,1").into(), 65, "events.csv:3"),
        ("events.csv", event("a,,1700000000,purchase,1").into(), 65, "no product_id"),
        ("events.csv", event("a,p,,purchase,1").into(), 65, "time"),
        ("events.csv", event("a,p,1700000000000,purchase,1").into(), 65, "impossible"),
        ("events.csv", event("a,p,1890000000,purchase,1").into(), 65, "in the future"),
        ("events.csv", event("a,p,-4,purchase,1").into(), 65, "impossible"),
        ("events.csv", event("a,p,noon,purchase,1").into(), 65, "time_unit"),
        ("events.csv", event("a,p,1700000000,steal,1").into(), 65, "unknown kind"),
        ("events.csv", event("a,p,1700000000,purchase,-1").into(), 65, "negative quantity"),
        ("events.csv", event("a,p,1700000000,purchase,lots").into(), 65, "not a number"),
        ("events.csv", event("a,p").into(), 65, "can't be read"),
        ("events.csv", event("a,p,1700000000,purchase,1,extra").into(), 65, "can't be read"),
        ("events.csv", [event("").as_bytes(), b"\xff\xfe,p,1700000000,purchase,1\n"].concat(), 65, "can't be read"),
        ("events.csv", b"".to_vec(), 65, "empty"),
        ("events.csv", good.as_bytes()[..40].to_vec(), 65, "no usable rows"),
        ("events.csv", good.replace("purchase", "view").into(), 65, "no purchase"),
        ("events.csv", b"who,what,time\na,p,1700000000\n".to_vec(), 65, "no column 'member_id'"),
        ("products.csv", b"product_id,price\np,cheap\n".to_vec(), 65, "not a number"),
        ("products.csv", b"product_id,price\np,1e300\n".to_vec(), 65, "not a number"),
        ("products.csv", b"product_id,price\np,1\np,2\n".to_vec(), 65, "products.csv:3"),
        ("products.csv", b"product_id,available\np,perhaps\n".to_vec(), 65, "neither true nor false"),
        ("products.csv", b"product_id,launched_at\np,soon\n".to_vec(), 65, "time"),
        ("products.csv", b"name\np\n".to_vec(), 65, "no column 'product_id'"),
        ("members.csv", b"member_id,minor\na,maybe\n".to_vec(), 65, "minor: neither true nor false"),
        ("members.csv", b"member_id,birthday\na,1999-13-01\n".to_vec(), 65, "time"),
        ("members.csv", b"member_id,city\n,Wuhan\n".to_vec(), 65, "no member_id"),
        ("members.csv", b"member_id\na\na\n".to_vec(), 65, "earlier row"),
    ];
    for (file, content, code, said) in cases {
        let shown = String::from_utf8_lossy(&content).into_owned();
        let (found, message) = train_with(file, &content, TABLES).unwrap_err();
        assert_eq!(found, code, "{file}:\n{shown}\n{message}");
        assert!(message.contains(said), "{file}:\n{shown}\n{message}");
        assert!(message.contains(file), "the file is named: {message}");
    }
}

#[test]
fn malformed_files_of_other_formats() {
    let config = |path: &str| TABLES.replace("events.csv", path);
    for (file, content, said) in [
        ("events.parquet", &b"not parquet at all"[..], "events.parquet"),
        ("events.parquet", &b""[..], "events.parquet"),
        (
            "events.ndjson",
            &b"{\"member_id\": \"a\", \"product_id\": \"p\", \"time\": 1700000000}\n{oops\n"[..],
            "events.ndjson:2",
        ),
        ("events.ndjson", &b"[1, 2]\n"[..], "member_id"),
        (
            "events.ndjson",
            &b"{\"member_id\": 1.5, \"product_id\": \"p\", \"time\": 1700000000}\n"[..],
            "neither text nor an integer",
        ),
        ("events.xlsx", &b"PK"[..], "format"),
    ] {
        let (code, message) = train_with(file, content, &config(file)).unwrap_err();
        assert_eq!(code, 65, "{file}: {message}");
        assert!(message.contains(said), "{file}: {message}");
    }
    let (code, message) = train_with("x", b"", &config("no/such/*.parquet")).unwrap_err();
    assert_eq!(code, 66, "{message}");
}

#[test]
fn malformed_configs() {
    for (line, said) in [
        ("[embeddings]\nfactors = 0", "embeddings.factors = 0"),
        ("[embeddings]\nfactors = 99999", "1 to 1024"),
        ("[embeddings]\nepochs = 0", "embeddings.epochs"),
        ("[embeddings]\nunobserved_weight = 0.0", "above 0"),
        ("[embeddings]\nregularization = -1.0", "above 0"),
        ("[embeddings]\nregularization = nan", "regularization"),
        ("[embeddings]\nregularization_exponent = 2.0", "0 to 1"),
        ("[repeat]\nhalf_life_days = -1.0", "repeat.half_life_days"),
        ("[event_weights]\nview = 7.0", "event_weights.view"),
        ("[ranker]\nmax_rows = 0", "ranker.max_rows"),
        ("[data.products]\npath = \"products.csv\"\ncolumns = { tags = [\"a\", \"b\"] }", "data.products.columns"),
        ("[index]\nm = 1", "index.m"),
        ("[index]\nmin_recall = 1.5", "index.min_recall"),
        ("[feed]\ntaste = -1.0", "feed.taste"),
        ("[data]\nmax_bad_row_share = 2.0", "data.max_bad_row_share"),
        ("[data.events]\ntime_unit = \"hours\"", "hours"),
        ("[data.events]\ncolumns = { tiem = \"ts\" }\npath = \"events.csv\"", "tiem"),
        ("[data.events]\ncolumns = { time = \"ts\" }\npath = \"events.csv\"", "no column 'ts'"),
        ("[surprise]\nx = 1", "surprise"),
        ("not toml", "kindred.toml"),
    ] {
        let (code, message) = train_with("x", b"", line).unwrap_err();
        assert!(code == 78 || code == 65, "{line}: {code} {message}");
        assert!(message.contains(said), "{line}: {message}");
    }
}

#[test]
fn a_few_bad_rows_are_forgiven_and_counted() {
    let mut content = std::fs::read(two_tastes_events()).unwrap();
    content.extend(b"x,,1700000000,purchase\n");
    let lenient = TABLES.replace("max_bad_row_share = 0.0", "max_bad_row_share = 0.01");
    assert_eq!(train_with("events.csv", &content, &lenient), Ok(()));
    assert!(train_with("events.csv", &content, TABLES).unwrap_err().1.contains("1 of 611 rows"));
}

fn two_tastes_events() -> std::path::PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    two_tastes().write(&folder);
    folder.join("events.csv")
}
