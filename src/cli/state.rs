//! `kindred state`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kindred_models::artifact::VersionId;
use kindred_models::model::ModelInfo;
use kindred_models::state::{KEPT_EVENTS, KEPT_FILE};
use kindred_training::tables::{Column, TableWriter};

use super::serve::runtime;
use super::{Common, print};
use crate::config::Config;
use crate::error::Error;
use crate::live::{ensure_known, unlearned};
use crate::store::{From, Rewritten, Store, StoredEvent, without_password};

/// Events of a batch of the table.
const BATCH: usize = 1 << 16;
/// Columns of the table.
const COLUMNS: [&str; 10] =
    ["event_id", "member_id", "product_id", "kind", "time", "quantity", "amount", "store_id", "channel", "basket_id"];

/// What to do with what a server kept.
#[derive(Debug, Subcommand)]
pub(super) enum State {
    Export(Export),
    Vacuum(Vacuum),
}

/// Writes what a server kept into a folder that `kindred train --state` takes in.
///
/// Writes the events as Parquet, and what was said of members and products beside them. A server may be running.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred state export --registry registry --out state\n  \
    kindred train --config kindred.toml --state state\n  \
    kindred state export --registry registry --out new --since 20261121T193139Z-1f2e3d4c")]
pub(super) struct Export {
    #[command(flatten)]
    common: Common,
    /// Folder to write to; what it holds of an earlier export is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Version that knows the events before; of those kept, all are written if not given.
    #[arg(long, value_name = "VERSION")]
    since: Option<String>,
}

impl State {
    pub(super) fn run(self) -> Result<(), Error> {
        match self {
            Self::Export(command) => runtime()?.block_on(command.run()),
            Self::Vacuum(command) => runtime()?.block_on(command.run()),
        }
    }
}

/// Writes the SQLite file anew, so that nothing of erased members is left in it.
///
/// It does so if anybody was erased since that was done last. A server does so within the hour where the
/// file has up to 256 MB. What a server is told meanwhile may be answered with UNAVAILABLE, and has to be told again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kindred state vacuum --config kindred.toml")]
pub(super) struct Vacuum {
    #[command(flatten)]
    common: Common,
}

impl Vacuum {
    async fn run(self) -> Result<(), Error> {
        let config = self.common.load()?;
        let (store, url) = existing(&config).await?;
        let rewritten = store.rewrite_erased(u64::MAX).await?;
        store.close().await;
        match rewritten {
            Rewritten::Busy | Rewritten::TooLarge => {
                Err(Error::Serve(format!("{url}: somebody reads an older state of it; try again")))
            }
            Rewritten::NoFile => Err(Error::Usage(format!("{url} is no file of SQLite: its own vacuum does it"))),
            Rewritten::Done => print::line(format!("{url}: nothing of erased members is left")),
        }
    }
}

/// The store of a config, and its URL.
async fn existing(config: &Config) -> Result<(Store, String), Error> {
    let url = config.state.url(&config.registry()?)?;
    let (store, shown) = (Store::open_existing(&url).await?, without_password(&url));
    let store = store.ok_or_else(|| Error::NotFound(format!("{shown}: no server kept anything there yet")))?;
    Ok((store, shown))
}

impl Export {
    async fn run(self) -> Result<(), Error> {
        let config = self.common.load()?;
        let registry = config.registry()?;
        let info = |version: &String| -> Result<ModelInfo, Error> {
            let id = VersionId::parse(version)?;
            let (manifest, checksum) = registry.manifest(&id)?;
            Ok(ModelInfo::of(&id, &manifest, &checksum))
        };
        let since = self.since.as_ref().map(info).transpose()?;
        let (store, url) = existing(&config).await?;
        // An empty one in place of that which a version learned from would be learned as if nobody had opted out.
        ensure_known(&registry, &store, &url).await?;
        let (mut after, mut later_than) = (0, i64::MIN);
        if let Some(info) = since {
            match unlearned(&info, &store.hash_key().await?) {
                From::Number(seq) => after = seq,
                From::Moment(moment) => later_than = moment,
            }
        }
        let mut kept = store.kept().await?;
        folder(&self.out).map_err(|e| Error::file(&self.out, e))?;
        // Without it the folder is no export: events of one must not be taken for those of another.
        match std::fs::remove_file(self.out.join(KEPT_FILE)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&self.out, e)),
            _ => {}
        }
        let mut table = Events::create(&self.out.join(KEPT_EVENTS))?;
        store
            .each_event(after, kept.seq, |event| if event.time > later_than { table.add(event) } else { Ok(()) })
            .await?;
        let events = table.finish()?;
        kept.events = Some(events);
        let json = serde_json::to_vec_pretty(&kept).map_err(|e| Error::Usage(e.to_string()))?;
        write_whole(&self.out.join(KEPT_FILE), &json)?;
        store.close().await;
        print::line(format!(
            "{} events, {} members, {} products, {} erased, in {}",
            print::count(events),
            print::count(kept.members.len() as u64),
            print::count(kept.products.len() as u64),
            print::count(kept.erased.len() as u64),
            self.out.display()
        ))
    }
}

/// Makes a folder; a new one is its owner's alone, as what members did is in it.
fn folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file beside its place, and renames it there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = path.with_extension("writing");
    let write = || {
        std::fs::write(&aside, bytes)?;
        std::fs::File::open(&aside)?.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().map_err(|e| Error::file(path, e))
}

/// The events table in the making.
struct Events {
    path: PathBuf,
    writer: TableWriter,
    waiting: Vec<StoredEvent>,
    count: u64,
}

impl Events {
    fn create(path: &Path) -> Result<Self, Error> {
        let writer = TableWriter::create(path, &COLUMNS)?;
        Ok(Self { path: path.to_owned(), writer, waiting: Vec::new(), count: 0 })
    }

    fn add(&mut self, event: StoredEvent) -> Result<(), Error> {
        self.waiting.push(event);
        self.count += 1;
        if self.waiting.len() == BATCH { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        let events = std::mem::take(&mut self.waiting);
        let text =
            |of: fn(&StoredEvent) -> Option<&String>| Column::Text(events.iter().map(|e| of(e).cloned()).collect());
        let number = |of: fn(&StoredEvent) -> Option<f64>| Column::Double(events.iter().map(of).collect());
        let columns = vec![
            text(|e| Some(&e.event_id)),
            text(|e| Some(&e.member_id)),
            text(|e| Some(&e.product_id).filter(|id| !id.is_empty())),
            Column::Text(events.iter().map(|e| Some(e.kind.name().to_owned())).collect()),
            Column::Moment(events.iter().map(|e| Some(e.time)).collect()),
            number(|e| e.quantity),
            number(|e| e.amount),
            text(|e| e.store_id.as_ref()),
            text(|e| e.channel.as_ref()),
            text(|e| e.basket_id.as_ref()),
        ];
        Ok(self.writer.write(columns)?)
    }

    /// Completes the table; where there is no event, there is none.
    fn finish(mut self) -> Result<u64, Error> {
        if self.count == 0 && self.path.exists() {
            std::fs::remove_file(&self.path).map_err(|e| Error::file(&self.path, e))?;
        }
        if !self.waiting.is_empty() {
            self.write()?;
        }
        self.writer.finish()?;
        Ok(self.count)
    }
}
