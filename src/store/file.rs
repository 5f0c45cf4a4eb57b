//! The file of an SQLite store.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use sqlx::{Executor, Row};

use super::{BUSY, Backend, Store, StoreError, busy_timeout};

/// Time between two looks at whether another program is done with opening it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// What means something in a URL of SQLite.
const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// The URL of an SQLite file.
pub fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", utf8_percent_encode(&path.to_string_lossy(), RESERVED))
}

/// The file of an SQLite URL.
pub(super) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.split('?').next().unwrap_or(rest);
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(PathBuf::from(&*percent_decode_str(path).decode_utf8_lossy()))
}

/// A file that is in use.
#[derive(Clone, Debug)]
pub(super) struct StoreFile {
    pub(super) path: PathBuf,
    id: (u64, u64),
}

impl StoreFile {
    /// The file of a path. Only looked at: whoever closes a file that SQLite has open drops its locks.
    pub(super) fn of(path: PathBuf) -> std::io::Result<Self> {
        Ok(Self { id: identity(&path.metadata()?), path })
    }

    /// Whether its path still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        self.path.metadata().is_ok_and(|metadata| identity(&metadata) == self.id)
    }
}

/// Makes the file of a store, where there is none; what SQLite keeps beside it may be read by whom this may.
pub(super) fn make(path: &Path) -> std::io::Result<()> {
    if path.exists() { Ok(()) } else { private(path).map(drop) }
}

/// Opens a file for writing; a new one is its owner's alone.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Where files have no number that can be asked for, one is taken for another of its path.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

impl Store {
    /// That what is written can be found again.
    ///
    /// # Errors
    /// If not.
    pub(super) fn is_in_place(&self) -> Result<(), StoreError> {
        match &self.file {
            Some(file) if !file.is_in_place() => Err(StoreError::Gone(file.path.display().to_string())),
            _ => Ok(()),
        }
    }

    /// Writes SQLite's log of changes into its file, and empties it, so that what was erased stands in neither. Gives
    /// whether that could be done: not while somebody reads an older state.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn checkpoint(&self) -> Result<bool, StoreError> {
        if self.backend == Backend::Postgres {
            return Ok(true);
        }
        let mut connection = self.pool.acquire().await?;
        // Writers wait as long as it waits.
        connection.execute("PRAGMA busy_timeout = 20").await?;
        let outcome = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
        connection.execute(busy_timeout().as_str()).await?;
        Ok(outcome?.try_get::<i64, _>(0)? == 0)
    }

    /// Writes SQLite's file anew if anybody was erased since that was done: what is deleted is overwritten, but not the copies that
    /// it leaves between rows when it moves them from page to page. Others can't write meanwhile, so that a file of more than
    /// `most_bytes` is left as it is.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn rewrite_erased(&self, most_bytes: u64) -> Result<Rewritten, StoreError> {
        let Some(file) = self.file.as_ref().filter(|_| self.backend == Backend::Sqlite) else {
            return Ok(Rewritten::NoFile);
        };
        let mut connection = self.pool.acquire().await?;
        let clock = sqlx::query("SELECT erasures FROM clock WHERE id = 1").fetch_one(&mut *connection).await?;
        let erasures: i64 = clock.try_get(0)?;
        let rewritten: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *connection).await?.try_get(0)?;
        if erasures == rewritten {
            return Ok(Rewritten::Done);
        }
        if std::fs::metadata(&file.path).is_ok_and(|metadata| metadata.len() > most_bytes) {
            return Ok(Rewritten::TooLarge);
        }
        connection.execute("VACUUM").await?;
        // What was written anew stands in the log until then.
        drop(connection);
        if !self.checkpoint().await? {
            return Ok(Rewritten::Busy);
        }
        self.pool.execute(format!("PRAGMA user_version = {erasures}").as_str()).await?;
        Ok(Rewritten::Done)
    }
}

/// What became of the file after erasures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// Nothing of erased members is left in it.
    Done,
    /// Somebody reads an older state of it, which is still there.
    Busy,
    /// It is larger than may be rewritten.
    TooLarge,
    /// It is none.
    NoFile,
}

/// Waits until nobody else holds a lock, for as long as a writer waits; it is let go with the file.
pub(super) async fn lock(path: &Path) -> std::io::Result<File> {
    let file = private(path)?;
    for _ in 0..BUSY.div_duration_f32(LOCK_PAUSE) as u32 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(std::io::Error::other("another program is opening it, and does not come to an end"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kindred_models::state::Profile;

    use super::super::{Entry, Write};
    use super::*;

    #[tokio::test]
    async fn nothing_of_the_erased_stays_between_the_rows_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kindred.db");
        let store = Store::open(&sqlite_url(&path)).await.unwrap();
        // In no order, and longer each time, so that rows move from page to page.
        let id = |i: u64| format!("member-{}", blake3::hash(&i.to_le_bytes()).to_hex());
        for round in 1..4 {
            for some in (0..3000).collect::<Vec<u64>>().chunks(300) {
                let profile = Profile { guide: Some("g".repeat(20 * round)), ..Profile::default() };
                let said = some.iter().map(|i| (id(*i), profile.clone())).collect();
                store.commit(&[Write::Members(said)]).await.unwrap();
            }
        }
        let by = Entry { time: 0, actor: "a".into(), action: "EraseMember".into(), detail: String::new() };
        let erasures: Vec<Write> = (0..400).map(|i| Write::Erase(id(i), by.clone())).collect();
        store.commit(&erasures).await.unwrap();
        assert_eq!(store.rewrite_erased(0).await.unwrap(), Rewritten::TooLarge);
        assert_eq!(store.rewrite_erased(u64::MAX).await.unwrap(), Rewritten::Done);
        let bytes = [path.clone(), path.with_extension("db-wal")].map(|path| std::fs::read(path).unwrap_or_default());
        let bytes = bytes.concat();
        let mentions: HashSet<&[u8]> = bytes.windows(64 + 7).filter(|at| at.starts_with(b"member-")).collect();
        assert!(mentions.contains(id(400).as_bytes()), "whoever was not erased is there");
        assert!((0..400).all(|i| !mentions.contains(id(i).as_bytes())));
        assert_eq!(store.kept().await.unwrap().members.len(), 2600);
        store.close().await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_goes_into_a_file_that_is_gone_is_not_kept() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kindred.db");
        let store = Store::open(&sqlite_url(&path)).await.unwrap();
        let said = |id: &str| [Write::Members(vec![(id.to_owned(), Profile::default())])];
        store.commit(&said("a")).await.unwrap();
        for name in ["kindred.db", "kindred.db-wal"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}: what members did is nobody else's");
        }
        std::fs::rename(&path, folder.path().join("away.db")).unwrap();
        assert!(matches!(store.commit(&said("b")).await, Err(StoreError::Gone(_))));
        std::fs::write(&path, "another").unwrap();
        assert!(matches!(store.last().await, Err(StoreError::Gone(_))));
        assert!(matches!(store.can_write().await, Err(StoreError::Gone(_))));
        store.close().await;
    }
}
