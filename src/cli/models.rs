//! `kindred models`.

use clap::{Args, Subcommand};
use kindred_models::Model;
use kindred_models::artifact::{Registry, VersionId};
use serde_json::json;

use super::{Common, print};
use crate::error::Error;

/// What to do with versions.
#[derive(Debug, Subcommand)]
pub(super) enum Models {
    /// Lists the versions, oldest first.
    List(List),
    /// Shows what a version holds.
    Show(OneVersion),
    /// Checks every byte of a version against its checksums.
    Verify(OneVersion),
    /// Makes a version the one that serves.
    Activate(NamedVersion),
    /// Deletes a version that is not active.
    Delete(NamedVersion),
}

/// All versions.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One version, the active one unless named.
#[derive(Debug, Args)]
pub(super) struct OneVersion {
    #[command(flatten)]
    common: Common,
    /// Version [default: the active one]
    version: Option<String>,
}

/// One version by name.
#[derive(Debug, Args)]
pub(super) struct NamedVersion {
    #[command(flatten)]
    common: Common,
    /// Version.
    version: String,
}

impl OneVersion {
    fn find(&self) -> Result<(Registry, VersionId), Error> {
        let registry = self.common.load()?.registry()?;
        let id = match &self.version {
            Some(id) => VersionId::parse(id)?,
            None => registry.current()?,
        };
        Ok((registry, id))
    }
}

impl Models {
    pub(super) fn run(self) -> Result<(), Error> {
        match self {
            Self::List(command) => list(&command),
            Self::Show(command) => show(&command),
            Self::Verify(command) => {
                let (registry, id) = command.find()?;
                let model = Model::verify(&registry, &id)?;
                print::line(format!("{id}: every byte is as published, checksum {}", model.info.checksum))
            }
            Self::Activate(command) => {
                let registry = command.common.load()?.registry()?;
                let id = VersionId::parse(&command.version)?;
                // What serves next must load.
                Model::load(&registry, &id)?;
                registry.activate(&id)?;
                print::line(format!("{id} is active"))
            }
            Self::Delete(command) => {
                let registry = command.common.load()?.registry()?;
                let id = VersionId::parse(&command.version)?;
                registry.delete(&id)?;
                print::line(format!("{id} is deleted"))
            }
        }
    }
}

fn list(command: &List) -> Result<(), Error> {
    let registry = command.common.load()?.registry()?;
    let active = registry.current().ok();
    let versions = registry.versions()?;
    if command.json {
        let entry = |id: &VersionId| json!({ "version": id.as_str(), "active": active.as_ref() == Some(id) });
        return print::json(&versions.iter().map(entry).collect::<Vec<_>>());
    }
    let row = |id: &VersionId| {
        let mark = if active.as_ref() == Some(id) { "active" } else { "" };
        let (members, products, quality) = match registry.manifest(id) {
            Ok((manifest, _)) => {
                let count = |name: &str| manifest.counts.get(name).map_or_else(String::new, |n| print::count(*n));
                // Of events without times, none of what is held out was bought before.
                let has_times = manifest.parameters["data"]["events"]["time_unit"] != "none";
                let ndcg = manifest.metrics.get(if has_times { "feed.all.ndcg@10" } else { "feed.new.ndcg@10" });
                let ndcg = ndcg.map_or_else(String::new, |x| format!("{x:.4}"));
                (count("members"), count("products"), ndcg)
            }
            Err(error) => (String::new(), String::new(), error.to_string()),
        };
        vec![id.to_string(), mark.to_owned(), members, products, quality]
    };
    print::table(&["version", "", "members", "products", "nDCG@10"], versions.iter().map(row))
}

fn show(command: &OneVersion) -> Result<(), Error> {
    let (registry, id) = command.find()?;
    let (manifest, checksum) = registry.manifest(&id)?;
    let files = manifest.files.iter().map(|(name, file)| (name.clone(), json!(file.bytes)));
    print::json(&json!({
        "version": id.as_str(),
        "trained_at": id.trained_at(),
        "as_of_time": manifest.as_of_time,
        "checksum": checksum,
        "counts": manifest.counts,
        "metrics": manifest.metrics,
        "parameters": manifest.parameters,
        "product_index": manifest.sections.get("product_index"),
        "member_index": manifest.sections.get("member_index"),
        "bytes": serde_json::Map::from_iter(files),
    }))
}
