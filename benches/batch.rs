//! How many members does a night's batch score per second?
//!
//! `cargo bench --profile release --bench batch -- FOLDER REGISTRY [NAME]`: `kindred score` of the whole base by the
//! vectors alone, and of some members by the ranker, each with loading and writing; and the vectors of both sides in
//! FOLDER, for `benches/peers/batch.py` to find the same inner products.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kindred_models::Model;
use kindred_models::artifact::Registry;

/// Members that the ranker scores.
const RANKED: u32 = 20_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [folder, root] = &args[..] else { panic!("a folder and a registry") };
    let folder = Path::new(folder);
    fs::create_dir_all(folder).unwrap();
    let registry = Registry::new(root.as_ref(), "default").unwrap();
    let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
    let (members, e) = (model.members.len(), &model.embeddings);
    println!("{members} members, {} products, {} factors", model.products.len(), e.factors);
    let mut sample = String::from("member_id\n");
    let step = (members as u32 / RANKED).max(1);
    (0..members as u32).step_by(step as usize).for_each(|row| sample.extend([model.members.ids.get(row), "\n"]));
    let ranked = sample.lines().count() - 1;
    fs::write(folder.join("sample.csv"), sample).unwrap();
    write(&folder.join("products.f32"), &e.products);
    let mut file = BufWriter::new(File::create(folder.join("members.f32")).unwrap());
    for row in 0..members as u32 {
        e.member(row).iter().for_each(|x| file.write_all(&x.to_le_bytes()).unwrap());
    }
    drop((file, model));
    score(folder, root, members, &["--by", "taste"]);
    score(folder, root, ranked, &["--members", folder.join("sample.csv").to_str().unwrap()]);
}

fn write(path: &Path, values: &[f32]) {
    fs::write(path, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

fn score(folder: &Path, root: &str, members: usize, args: &[&str]) {
    let out = folder.join("scored.parquet");
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kindred"));
    let command = command.args(["score", "--top", "20", "--registry", root, "--out", out.to_str().unwrap()]).args(args);
    assert!(command.output().unwrap().status.success());
    let seconds = start.elapsed().as_secs_f64();
    println!("{args:?}: {members} members in {seconds:.1} s: {:.0} per second", members as f64 / seconds);
}
