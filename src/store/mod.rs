//! The state store: what was acknowledged, in SQL. SQLite, embedded, by default; PostgreSQL where replicas share it.
//! One schema and one code path for both.
//!
//! Every change has a number of the one row of `clock`. A writer takes its numbers first, which makes others wait until
//! it is done: numbers are committed in order, and whoever follows them misses none.

mod commit;
mod contacts;
mod file;
mod keys;
mod pages;
mod plans;
mod read;
mod reserve;
mod rows;
mod said;
mod schema;

use std::borrow::Cow;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgListener;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Transaction};

pub use commit::{Committed, Outcome, Write};
pub use contacts::{Claim, Refusal, Said};
pub use file::{Rewritten, sqlite_url};
pub use keys::{Entry, Verified};
pub use plans::{ContactSubject, NewPlan, Plan, PlanState};
pub use read::{Changes, From};
pub use reserve::{Budget, Learned, Reservation, Wanted};
pub use rows::{Change, ContactNow, StoredContact, StoredEvent};

use file::{StoreFile, lock, make, sqlite_path};

/// Channel on which PostgreSQL tells of changes.
const CHANNEL: &str = "kindred_state";
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);
/// What a URL of SQLite ends in where nobody says otherwise: a file that is not there is made.
const MADE: &str = "?mode=rwc";
/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be opened.
    #[error("the state store {0} can't be opened: {1}")]
    Open(String, sqlx::Error),
    /// It is broken, or something else.
    #[error("the state store {0} is damaged, or not a state store: {1}; restore it from a backup, or name another")]
    Broken(String, sqlx::Error),
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
    /// Its file is gone, or another: what was written to the one that is open would be lost.
    #[error("the state store's file {0} was removed or replaced while it was in use; start the server again")]
    Gone(String),
    /// It does not answer in time.
    #[error("the state store has not answered for {0} s")]
    TooSlow(u64),
    /// It holds something that this program did not write.
    #[error("the state store holds what can't be understood, in {0}: {1}")]
    Damaged(&'static str, String),
    /// What it holds could not be taken over.
    #[error("what the state store holds could not be taken over; the log says more")]
    NotTakenOver,
}

/// Time after which a store that has not answered is taken for down.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the store answers, unless that takes longer than anybody waits.
pub(crate) async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(StoreError::TooSlow(PATIENCE.as_secs())))
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
    file: Option<StoreFile>,
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
            Backend::Sqlite if !url.contains('?') => format!("{url}{MADE}"),
            _ => url.to_owned(),
        };
        let shown = || without_password(&url);
        // SQLite's own locks do not make one of two who begin at once wait.
        let refused = |e: std::io::Error| StoreError::Open(shown(), e.into());
        let path = sqlite_path(&url);
        let _alone = match &path {
            Some(path) => Some(lock(&path.with_extension("lock")).await.map_err(refused)?),
            None => None,
        };
        if let Some(path) = path.as_deref().filter(|_| url.ends_with(MADE)) {
            make(path).map_err(refused)?;
        }
        if backend == Backend::Sqlite {
            // A pool tries again what can't come right, and says nothing of why.
            let alone = async { settle(&mut AnyConnection::connect(&url).await?, backend).await };
            alone.await.map_err(|e| unusable(shown(), backend, e))?;
        }
        let options = AnyPoolOptions::new().max_connections(8).acquire_timeout(ACQUIRE);
        let options = options.after_connect(move |connection, _| Box::pin(settle(connection, backend)));
        // What failed may have left a transaction behind: SQLite rolls back by itself where a disk is full, the library still
        // counts it, and whoever came next would be answered before anything is durable.
        let options = options.after_release(move |connection, _| {
            Box::pin(async move {
                if backend == Backend::Sqlite {
                    // Until then, what was to be rolled back may wait for it.
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        });
        let pool = options.connect(&url).await.map_err(|e| unusable(shown(), backend, e))?;
        let migrator = Migrator { migrations: Cow::Owned(schema::migrations()), ..Migrator::DEFAULT };
        migrator.run(&pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer(shown(), version),
            MigrateError::Execute(error) => unusable(shown(), backend, error),
            error => StoreError::Migrate(shown(), error),
        })?;
        // One in memory has none.
        let file = path.and_then(|path| StoreFile::of(path).ok());
        let store = Self { pool, backend, url: url.clone(), file };
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

    /// Whether something can be kept.
    ///
    /// # Errors
    /// If not.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        // SQLite writes nothing where a value stays what it was.
        for step in ["seq + 1", "seq - 1"] {
            tx.execute(format!("UPDATE clock SET seq = {step} WHERE id = 1").as_str()).await?;
        }
        tx.commit().await?;
        self.is_in_place()
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

/// Tells a connection how to behave.
async fn settle(connection: &mut AnyConnection, backend: Backend) -> Result<(), sqlx::Error> {
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
        let settings = ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON"];
        for setting in [busy.as_str()].into_iter().chain(settings) {
            connection.execute(setting).await?;
        }
    }
    Ok(())
}

/// Why a store can't be opened: whether it is broken or can't be reached.
fn unusable(shown: String, backend: Backend, error: sqlx::Error) -> StoreError {
    // SQLite's own, whose lowest byte says what they are of: the file is malformed, or no database.
    let is_broken = |code: &str| code.parse::<u32>().is_ok_and(|code| [11, 26].contains(&(code & 0xff)));
    match error.as_database_error().and_then(|e| e.code()) {
        Some(code) if backend == Backend::Sqlite && is_broken(&code) => StoreError::Broken(shown, error),
        _ => StoreError::Open(shown, error),
    }
}

fn busy_timeout() -> String {
    format!("PRAGMA busy_timeout = {}", BUSY.as_millis())
}

/// A URL as it may be shown.
pub fn without_password(url: &str) -> String {
    let (secret, shown) = url.rsplit_once('@').map_or((None, url), |(secret, host)| (Some(secret), host));
    // What follows a question mark may be settings, or more of a password.
    let shown = match secret {
        Some(secret) if secret.contains('?') => "",
        _ => shown.split('?').next().unwrap_or(shown),
    };
    match secret.map(|secret| secret.split_once(':')) {
        Some(Some((scheme, _))) => format!("{scheme}://…@{shown}"),
        Some(None) => format!("…@{shown}"),
        None => shown.to_owned(),
    }
}

#[cfg(test)]
mod tests;
