//! Flags that name tables.

use std::path::{Path, PathBuf};

use clap::Args;
use kindred_training::tables::table_files;

use crate::config::Config;
use crate::error::Error;

/// Tables given as flags, over those of the config.
#[derive(Clone, Debug, Args)]
pub(super) struct Tables {
    /// Folder that the paths of the config are relative to.
    #[arg(long, value_name = "DIR")]
    pub(super) data_root: Option<PathBuf>,
    /// Events table: a file, a folder of files, or a glob.
    #[arg(long, value_name = "PATH")]
    pub(super) events: Option<PathBuf>,
    /// Products table.
    #[arg(long, value_name = "PATH")]
    pub(super) products: Option<PathBuf>,
    /// Members table.
    #[arg(long, value_name = "PATH")]
    pub(super) members: Option<PathBuf>,
    /// Folder that `kindred state export` wrote: what a server kept since, over the tables.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
}

impl Tables {
    /// Lays the flags over the config.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Error> {
        if let Some(root) = &self.data_root {
            config.data.root.clone_from(root);
        }
        if let Some(folder) = &self.state {
            config.data.state = Some(std::path::absolute(folder)?);
        }
        let root = config.data.root.clone();
        for (flag, table) in [
            (&self.events, &mut config.data.events),
            (&self.products, &mut config.data.products),
            (&self.members, &mut config.data.members),
        ] {
            if let Some(path) = flag {
                table.path = Some(resolve(path, &root)?);
            }
        }
        Ok(())
    }
}

/// A table given as a flag: where the user stands, or, if there is none, under the data root.
fn resolve(path: &Path, root: &Path) -> Result<PathBuf, Error> {
    if path.is_relative() && table_files(path).is_err() && table_files(&root.join(path)).is_ok() {
        return Ok(path.to_owned());
    }
    Ok(std::path::absolute(path)?)
}
