//! Versions on disk: the same bytes on any number of threads, and every kind of damage refused.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kindred_models::Model;
use kindred_models::artifact::{ArtifactError, FORMAT_VERSION, Registry, VersionId};
use kindred_models::audience::{
    AudienceError, AudienceRequest, AudienceSize, MaxContacts, MemberFilter, Quota, Subject, audience,
};
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::index::IndexKind;
use support::{Trained, trained, trained_with, two_tastes};

fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// With graphs over both tables, and metrics.
fn trained_on(threads: usize) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let mut config = two_tastes().write(folder.path());
    config.index.hnsw_min_points = 10;
    config.index.min_recall = 0.0;
    config.evaluate.test_days = 14;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| trained_with(folder, config))
}

#[test]
fn one_and_several_threads_write_the_same_bytes() {
    let (one, two, five) = (trained_on(1), trained_on(2), trained_on(5));
    let expected = bytes(&one.version_folder());
    assert!(expected.contains_key("manifest.json") && expected["product_index.bin"].len() > 100);
    assert_eq!(one.id, two.id);
    assert!(expected == bytes(&two.version_folder()));
    assert!(expected == bytes(&five.version_folder()));
}

#[test]
fn a_loaded_model_answers_like_the_fitted_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = two_tastes().write(folder.path());
    config.index.hnsw_min_points = 10;
    let registry = Registry::new(&folder.path().join("registry"), "default").unwrap();
    let config = config.validate().unwrap();
    let stop = kindred_models::stop::Stop::default();
    let quiet = kindred_training::progress::Quiet;
    let trained = kindred_training::train::train(&config, &registry, support::TRAINED_AT, &quiet, &stop).unwrap();
    let (id, fitted) = (trained.id, trained.model);
    let loaded = Model::load(&registry, &id).unwrap();
    assert_eq!(loaded.product_index.report, fitted.product_index.report);
    for member in 0..fitted.members.len() as u32 {
        let request = FeedRequest::new(Visitor::Member(member), 10);
        assert_eq!(feed(&fitted, &request), feed(&loaded, &request));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let trained = trained_on(2);
    let folder = trained.version_folder();
    for (name, content) in bytes(&folder) {
        let path = folder.join(&name);
        // Every file: its first, middle and last byte.
        for at in [0, content.len() / 2, content.len().saturating_sub(1)] {
            if content.is_empty() {
                continue;
            }
            let mut damaged = content.clone();
            damaged[at] ^= 4;
            fs::write(&path, damaged).unwrap();
            let error = Model::load(&trained.registry, &trained.id).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(name.trim_end_matches(".blake3").trim_end_matches(".json")), "{name} {at}: {shown}");
        }
        fs::write(&path, content).unwrap();
    }
    assert!(Model::load(&trained.registry, &trained.id).is_ok(), "mended");
}

#[test]
fn truncated_missing_and_future_files_are_refused() {
    let trained = trained(&two_tastes());
    let folder = trained.version_folder();
    let load = || Model::load(&trained.registry, &trained.id).unwrap_err();
    for (name, content) in bytes(&folder) {
        let path = folder.join(&name);
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(), ArtifactError::Missing(p) if p == path), "{name}");
        if name.ends_with(".bin") && !content.is_empty() {
            fs::write(&path, &content[..content.len() - 1]).unwrap();
            assert!(matches!(load(), ArtifactError::Size { .. }), "{name}");
            fs::write(&path, [&content[..], &[0]].concat()).unwrap();
            assert!(matches!(load(), ArtifactError::Size { .. }), "{name}");
        }
        fs::write(&path, content).unwrap();
    }
    let path = folder.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    let (now, later) = (FORMAT_VERSION, FORMAT_VERSION + 1);
    let version = |number| format!("\"format_version\": {number}");
    fs::write(&path, manifest.replace(&version(now), &version(later))).unwrap();
    assert!(matches!(load(), ArtifactError::FutureFormat { found, .. } if found == later));
    fs::write(&path, "{").unwrap();
    assert!(matches!(load(), ArtifactError::Checksum(_)));
}

type Change = fn(&mut serde_json::Value);

/// Where the second half of a graph's links stands, most of which are none.
fn links(manifest: &serde_json::Value) -> u64 {
    let array = &manifest["files"]["product_index"]["arrays"]["links"];
    let (offset, len) = (array["offset"].as_u64().unwrap(), array["len"].as_u64().unwrap());
    (offset + 2 * len) / 64 * 64
}

/// Bytes that have their checksum, and still make no sense: what a broken writer would leave.
#[test]
fn arrays_that_do_not_fit_are_refused() {
    let trained = trained_on(2);
    let folder = trained.version_folder();
    let path = folder.join("manifest.json");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let changes: [(&str, Change); 14] = [
        ("embeddings", |m| m["sections"]["embeddings"]["factors"] = 9.into()),
        ("embeddings", |m| m["sections"]["embeddings"]["factors"] = 0.into()),
        ("history", |m| m["files"]["history"]["arrays"]["weights"]["len"] = 3.into()),
        ("history", |m| m["files"]["history"]["arrays"]["weights"]["dtype"] = "u8".into()),
        ("products", |m| m["files"]["products"]["arrays"]["prices"]["offset"] = u64::MAX.into()),
        ("popularity", |m| m["files"]["popularity"]["arrays"]["order"]["offset"] = 1.into()),
        ("groups", |m| m["files"]["groups"]["arrays"]["cities.bytes"]["len"] = 3.into()),
        ("groups", |m| m["sections"]["groups"] = serde_json::json!(["other"])),
        ("launch", |m| drop(m["files"].as_object_mut().unwrap().remove("launch"))),
        ("launch", |m| m["files"]["launch"]["arrays"]["leanings"]["len"] = 3.into()),
        ("product_index", |m| m["sections"]["product_index"]["degree"] = 31.into()),
        ("product_index", |m| m["sections"]["product_index"]["degree"] = 0.into()),
        // Links in place of rows, and of starts.
        ("product_index", |m| m["files"]["product_index"]["arrays"]["order"]["offset"] = links(m).into()),
        ("product_index", |m| m["files"]["product_index"]["arrays"]["starts"]["offset"] = links(m).into()),
    ];
    for (named, change) in changes {
        let mut changed = manifest.clone();
        change(&mut changed);
        let json = serde_json::to_vec(&changed).unwrap();
        fs::write(&path, &json).unwrap();
        fs::write(folder.join("manifest.blake3"), blake3::hash(&json).to_hex().as_str()).unwrap();
        let error = Model::load(&trained.registry, &trained.id).unwrap_err();
        assert!(matches!(error, ArtifactError::Malformed { .. } | ArtifactError::Missing(_)), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_run_that_dies_leaves_the_current_version_and_no_half_one() {
    let trained = trained(&two_tastes());
    // What a killed writer leaves: a folder aside.
    let aside = trained.registry.folder().join(".writing");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("products.bin"), "half").unwrap();
    assert_eq!(trained.registry.current().unwrap(), trained.id);
    assert_eq!(trained.registry.versions().unwrap(), std::slice::from_ref(&trained.id));
    // The next run clears it away.
    let id = trained.again(two_tastes().write(trained.folder.path()), support::TRAINED_AT + 77).unwrap();
    assert!(!aside.exists());
    assert_eq!(trained.registry.current().unwrap(), id);
    // One that is stopped publishes nothing.
    let config = two_tastes().write(trained.folder.path()).validate().unwrap();
    let stop = kindred_models::stop::Stop::default();
    let quiet = kindred_training::progress::Quiet;
    stop.raise();
    assert!(
        kindred_training::train::train(&config, &trained.registry, support::TRAINED_AT + 99, &quiet, &stop).is_err()
    );
    assert_eq!(trained.registry.versions().unwrap().len(), 2);
}

#[test]
fn versions_are_activated_and_deleted() {
    let trained = trained(&two_tastes());
    let registry = &trained.registry;
    let config = two_tastes().write(trained.folder.path()).validate().unwrap();
    let (stop, quiet) = (kindred_models::stop::Stop::default(), kindred_training::progress::Quiet);
    let second = kindred_training::train::train(&config, registry, 2_000_000_000, &quiet, &stop).unwrap().id;
    assert_eq!(registry.versions().unwrap(), [trained.id.clone(), second.clone()]);
    assert!(matches!(registry.delete(&second), Err(ArtifactError::DeleteCurrent(_))));
    registry.activate(&trained.id).unwrap();
    registry.delete(&second).unwrap();
    assert_eq!(registry.versions().unwrap(), std::slice::from_ref(&trained.id));
    assert!(matches!(registry.activate(&second), Err(ArtifactError::NoSuchVersion { .. })));
    let nowhere = Registry::new(&trained.folder.path().join("registry"), "nowhere").unwrap();
    for refused in [nowhere.activate(&second), nowhere.delete(&second)] {
        assert!(matches!(refused, Err(ArtifactError::NoSuchVersion { .. })));
    }
    assert!(VersionId::parse("../escape").is_err());
    assert_eq!(trained.id.trained_at(), Some(support::TRAINED_AT));
}

/// Writes the frozen version of the next test; run by hand when a format is new:
/// `cargo test --release --workspace --test artifacts freeze -- --ignored`.
#[test]
#[ignore = "writes into tests/assets"]
fn freeze() {
    let format = format!("tests/assets/format-{}", FORMAT_VERSION);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(format);
    let folder = tempfile::tempdir().unwrap();
    let mut config = two_tastes().write(folder.path());
    config.index.hnsw_min_points = 10;
    config.index.min_recall = 0.5;
    let registry = Registry::new(&root, "two-tastes").unwrap();
    let (stop, quiet) = (kindred_models::stop::Stop::default(), kindred_training::progress::Quiet);
    kindred_training::train::train(&config.validate().unwrap(), &registry, support::TRAINED_AT, &quiet, &stop).unwrap();
}

/// A version of every format still loads and answers.
#[test]
fn frozen_versions_still_load() {
    for format in 1..=FORMAT_VERSION {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/assets/format-{format}"));
        let registry = Registry::new(&root, "two-tastes").unwrap();
        let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
        let index = (model.product_index.serving().kind(), &model.product_index.report);
        assert_eq!(index.0, if format < 15 { IndexKind::Exact } else { IndexKind::Hnsw }, "{index:?}");
        let t0 = model.members.ids.find("t0").unwrap();
        let mut request = FeedRequest::new(Visitor::Member(t0), 1);
        request.include_purchased = false;
        assert_eq!(model.products.ids.get(feed(&model, &request)[0].product), "tea9");
        // Whom older versions do not know to have been contacted, nobody may assume not to have been.
        let filter = MemberFilter { max_contacts: Some(MaxContacts { count: 0, days: 7 }), ..MemberFilter::default() };
        let asked = AudienceRequest {
            subject: Subject::Known(0),
            seeds: Vec::new(),
            size: AudienceSize::Share(1.0),
            filter,
            quota: Quota::default(),
        };
        let answer = audience(&model, &asked, &kindred_models::stop::Stop::default());
        assert_eq!(answer.err(), (format < 5).then_some(AudienceError::NoContacts), "format {format}");
    }
}
