//! The state store: what was acknowledged, in SQL. SQLite, embedded, by default; PostgreSQL where replicas share it.
//! One schema and one code path for both.
//!
//! Every change has a number of the one row of `clock`. A writer takes its numbers first, which makes others wait until
//! it is done: numbers are committed in order, and whoever follows them misses none.

mod commit;
mod contacts;
mod keys;
mod pages;
mod plans;
mod read;
mod reserve;
mod rows;
mod said;
mod schema;

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgListener;
use sqlx::{Any, AnyPool, Executor, Row, Transaction};

pub use commit::{Committed, Outcome, Write};
pub use contacts::{Claim, Refusal, Said};
pub use keys::{Entry, Verified};
pub use plans::{Plan, PlanState};
pub use read::{Changes, From};
pub use reserve::{Budget, Learned, Reservation, Wanted};
pub use rows::{Change, ContactNow, StoredContact, StoredEvent};

/// Channel on which PostgreSQL tells of changes.
const CHANNEL: &str = "kindred_state";
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);
/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened.
    #[error("the state store {0} can't be opened: {1}")]
    Open(String, sqlx::Error),
    /// A later version of Kindred changed its schema.
    #[error(
        "the state store {0} was last used by a later version of kindred (schema {1}); use that one, or another store"
    )]
    Newer(String, i64),
    /// Its schema can't be brought up to date.
    #[error("the state store {0} can't be brought up to date: {1}")]
    Migrate(String, MigrateError),
    /// It does not answer, or can't write. What was asked was done in whole or not at all; asked again, it is done once.
    #[error("the state store does not answer: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// It does not answer in time.
    #[error("the state store has not answered for {0} s")]
    TooSlow(u64),
    /// It holds something that this program did not write.
    #[error("the state store holds what can't be understood, in {0}: {1}")]
    Damaged(&'static str, String),
}

/// Who runs the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

/// The state store.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    backend: Backend,
    url: String,
}

/// The URL of an SQLite file.
pub fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

impl Store {
    /// Opens the store of a URL, `sqlite:path` or `postgres://…`, and brings its schema up to date.
    ///
    /// # Errors
    /// If it can't be opened, or is of a later version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = if url.starts_with("sqlite:") { Backend::Sqlite } else { Backend::Postgres };
        let url = match backend {
            Backend::Sqlite if !url.contains('?') => format!("{url}?mode=rwc"),
            _ => url.to_owned(),
        };
        let shown = || without_password(&url);
        // SQLite's own locks do not make one of two who begin at once wait.
        let _alone = match sqlite_path(&url) {
            Some(path) => {
                Some(lock(path.with_extension("lock")).await.map_err(|e| StoreError::Open(shown(), e.into()))?)
            }
            None => None,
        };
        let options = AnyPoolOptions::new().max_connections(8).acquire_timeout(ACQUIRE);
        let options = options.after_connect(move |connection, _| {
            Box::pin(async move {
                if backend == Backend::Postgres {
                    // Whoever dies in the middle must not hold up the others, and what is answered is on disk.
                    let wait = format!("SET lock_timeout = {}", BUSY.as_millis());
                    let idle = format!("SET idle_in_transaction_session_timeout = {}", 3 * BUSY.as_millis());
                    for setting in [wait.as_str(), &idle, "SET synchronous_commit = on"] {
                        connection.execute(setting).await?;
                    }
                } else {
                    let busy = busy_timeout();
                    // What is acknowledged is on disk, even if the power fails, and what is deleted is overwritten.
                    let settings =
                        ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON"];
                    for setting in [busy.as_str()].into_iter().chain(settings) {
                        connection.execute(setting).await?;
                    }
                }
                Ok(())
            })
        });
        let pool = options.connect(&url).await.map_err(|e| StoreError::Open(shown(), e))?;
        let migrator = Migrator { migrations: Cow::Owned(schema::migrations()), ..Migrator::DEFAULT };
        migrator.run(&pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer(shown(), version),
            error => StoreError::Migrate(shown(), error),
        })?;
        let store = Self { pool, backend, url: url.clone() };
        store.begin_clock().await.map_err(|e| StoreError::Open(shown(), e))?;
        Ok(store)
    }

    /// Opens the store if there is one, without making it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_existing(url: &str) -> Result<Option<Self>, StoreError> {
        match sqlite_path(url) {
            Some(path) if !path.exists() => Ok(None),
            _ => Self::open(url).await.map(Some),
        }
    }

    /// The first of those who use a store gives it the key of its hashes.
    async fn begin_clock(&self) -> Result<(), sqlx::Error> {
        let key: String = blake3::Hash::from(rand::random::<[u8; 32]>()).to_hex().to_string();
        let begun = "INSERT INTO clock (id, seq, erasures, hash_key, entries, audit_head) \
            VALUES (1, 0, 0, $1, 0, '') ON CONFLICT (id) DO NOTHING";
        sqlx::query(begun).bind(key).execute(&self.pool).await?;
        Ok(())
    }

    /// Hears of changes by others; `None` where nobody tells, and one has to look.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn listener(&self) -> Result<Option<PgListener>, StoreError> {
        if self.backend == Backend::Sqlite {
            return Ok(None);
        }
        let mut listener = PgListener::connect(&self.url).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(listener))
    }

    /// A transaction that sees the store as it stands now, and goes on seeing it so.
    async fn begin_read(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.pool.begin().await?;
        if self.backend == Backend::Postgres {
            tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
            // It holds up nobody, and may wait for whoever takes what it reads.
            tx.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'").await?;
        }
        Ok(tx)
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

    /// Numbers changes from above a number on: a version learned up to it, from what this store held before it was
    /// restored.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn number_above(&self, seq: i64) -> Result<(), StoreError> {
        let raised = "UPDATE clock SET seq = $1 WHERE id = 1 AND seq < $1";
        sqlx::query(raised).bind(seq).execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections; what SQLite kept aside goes into its file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn busy_timeout() -> String {
    format!("PRAGMA busy_timeout = {}", BUSY.as_millis())
}

/// The file of an SQLite URL.
fn sqlite_path(url: &str) -> Option<&Path> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.split('?').next().unwrap_or(rest);
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
}

/// Waits until nobody else holds a lock; it is let go with the file.
async fn lock(path: PathBuf) -> std::io::Result<File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock().map(|()| file)
    });
    locked.await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

/// A URL as it may be shown.
pub fn without_password(url: &str) -> String {
    let url = url.split('?').next().unwrap_or(url);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("postgres://kindred:secret@db:5432/state"), "postgres://…@db:5432/state");
        assert_eq!(without_password("sqlite:/var/kindred.db?mode=rwc"), "sqlite:/var/kindred.db");
    }

    #[tokio::test]
    async fn stores_of_earlier_schemas_are_brought_up_to_date() {
        sqlx::any::install_default_drivers();
        for steps in 1..schema::migrations().len() {
            let folder = tempfile::tempdir().unwrap();
            let url = sqlite_url(&folder.path().join("kindred.db"));
            let pool = sqlx::AnyPool::connect(&format!("{url}?mode=rwc")).await.unwrap();
            let earlier = Cow::Owned(schema::migrations()[..steps].to_vec());
            Migrator { migrations: earlier, ..Migrator::DEFAULT }.run(&pool).await.unwrap();
            pool.execute("INSERT INTO members VALUES ('m1', 0, '{\"city\":\"Wuhan\"}')").await.unwrap();
            pool.close().await;
            for what in ["brought up to date", "as it is"] {
                let store = Store::open(&url).await.unwrap();
                let kept = store.kept().await.unwrap();
                assert_eq!(kept.members["m1"].city.as_deref(), Some("Wuhan"), "{what}, from {steps}");
                store.close().await;
            }
        }
    }
}
