//! Keys, and the log of what those who hold them did.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{Store, StoreError};
use crate::access::Key;

/// Hash before the first entry.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Something that must be accounted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in unix seconds.
    pub time: i64,
    /// Who.
    pub actor: String,
    /// What: the name of a call or a command.
    pub action: String,
    /// Of what, and how much. No member's id.
    pub detail: String,
}

impl Entry {
    /// The hash of an entry, which holds those of all before it.
    fn hash(&self, previous: &str, number: i64) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths go before texts, so that no two entries read alike.
        for text in [previous, &self.actor, &self.action, &self.detail] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&number.to_le_bytes()).update(&self.time.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

/// What a look at the whole log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It is as it was written: so many entries, and the hash of the last.
    Whole {
        /// How many.
        entries: i64,
        /// The hash of the last one: whoever knows it from elsewhere knows that nothing was taken off the end.
        head: String,
    },
    /// It was changed, at this entry or before the next.
    Broken {
        /// The number of the entry.
        number: i64,
    },
}

impl Store {
    /// Keeps a new key, and who made it.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn create_key(&self, key: &Key, by: Entry) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        let kept = "INSERT INTO keys (id, record) VALUES ($1, $2)";
        sqlx::query(kept).bind(&key.id).bind(text(key)?).execute(&mut *tx).await?;
        append(&mut tx, by).await?;
        Ok(tx.commit().await?)
    }

    /// All keys, those revoked among them, oldest first.
    ///
    /// # Errors
    /// If the database does not answer, or holds what can't be understood.
    pub async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let rows = sqlx::query("SELECT record FROM keys").fetch_all(&self.pool).await?;
        let mut keys: Vec<Key> = rows.iter().map(key).collect::<Result<_, _>>()?;
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    /// Revokes a key; gives whether there is one of that id.
    ///
    /// # Errors
    /// If the database does not answer or can't write.
    pub async fn revoke_key(&self, id: &str, by: Entry) -> Result<bool, StoreError> {
        let mut tx = self.begin_change().await?;
        let known = "SELECT record FROM keys WHERE id = $1";
        let Some(row) = sqlx::query(known).bind(id).fetch_optional(&mut *tx).await? else { return Ok(false) };
        let mut key = key(&row)?;
        key.revoked_at = key.revoked_at.or(Some(by.time));
        let kept = "UPDATE keys SET record = $2 WHERE id = $1";
        sqlx::query(kept).bind(id).bind(text(&key)?).execute(&mut *tx).await?;
        append(&mut tx, by).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A transaction of one change, which others will notice.
    async fn begin_change(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE clock SET seq = seq + 1 WHERE id = 1").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// The last entries of the log, newest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn last_entries(&self, count: i64) -> Result<Vec<Entry>, StoreError> {
        let text = "SELECT * FROM audit ORDER BY number DESC LIMIT $1";
        let rows = sqlx::query(text).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(entry).collect()
    }

    /// Follows the log from its first entry to its last.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn verify_entries(&self) -> Result<Verified, StoreError> {
        use futures_util::TryStreamExt;
        let mut tx = self.begin_read().await?;
        let clock = sqlx::query("SELECT entries, audit_head FROM clock WHERE id = 1").fetch_one(&mut *tx).await?;
        let (entries, head): (i64, String) = (clock.try_get("entries")?, clock.try_get("audit_head")?);
        let (mut number, mut previous) = (0, NOTHING.to_owned());
        let mut rows = sqlx::query("SELECT * FROM audit ORDER BY number").fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            // Values of another type than were written are no entry.
            let kept = entry(&row).and_then(|entry| Ok((entry, row.try_get("number")?, row.try_get("hash")?)));
            let Ok((entry, numbered, kept)): Result<(Entry, i64, String), StoreError> = kept else {
                return Ok(Verified::Broken { number: number + 1 });
            };
            let hash = entry.hash(&previous, number + 1);
            if numbered != number + 1 || kept != hash {
                return Ok(Verified::Broken { number: number + 1 });
            }
            (number, previous) = (numbered, hash);
        }
        let whole = number == entries && (number == 0 || previous == head);
        Ok(if whole { Verified::Whole { entries, head } } else { Verified::Broken { number } })
    }
}

/// Adds an entry to the log, whose end only one transaction at a time holds.
pub(super) async fn append(tx: &mut Transaction<'static, Any>, entry: Entry) -> Result<(), StoreError> {
    let taken = "UPDATE clock SET entries = entries + 1 WHERE id = 1 RETURNING entries, audit_head";
    let row = sqlx::query(taken).fetch_one(&mut **tx).await?;
    let (number, previous): (i64, String) = (row.try_get("entries")?, row.try_get("audit_head")?);
    let previous = if number == 1 { NOTHING.to_owned() } else { previous };
    let hash = entry.hash(&previous, number);
    let kept = "INSERT INTO audit (number, time, actor, action, detail, hash) VALUES ($1, $2, $3, $4, $5, $6)";
    let kept = sqlx::query(kept).bind(number).bind(entry.time).bind(entry.actor).bind(entry.action);
    kept.bind(entry.detail).bind(&hash).execute(&mut **tx).await?;
    sqlx::query("UPDATE clock SET audit_head = $1 WHERE id = 1").bind(hash).execute(&mut **tx).await?;
    Ok(())
}

fn entry(row: &AnyRow) -> Result<Entry, StoreError> {
    Ok(Entry {
        time: row.try_get("time")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        detail: row.try_get("detail")?,
    })
}

fn key(row: &AnyRow) -> Result<Key, StoreError> {
    let text: String = row.try_get("record")?;
    serde_json::from_str(&text).map_err(|e| StoreError::Damaged("keys", e.to_string()))
}

fn text(key: &Key) -> Result<String, StoreError> {
    serde_json::to_string(key).map_err(|e| StoreError::Damaged("keys", e.to_string()))
}
