//! What is said of members and products: one text for each, into which what is said later is merged.

use std::collections::{BTreeMap, HashMap};

use kindred_models::state::{ProductPatch, Profile};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;

use super::StoreError;
use super::commit::{ROWS, Tx, values};
use super::rows::Change;

/// What is said of something, kept as a text.
pub(super) trait Text: Clone + Default + Serialize + DeserializeOwned {
    /// The table that keeps it.
    const TABLE: &'static str;
    /// Its column of names.
    const NAME: &'static str;
    /// Its column of texts, in JSON.
    const TEXT: &'static str;

    /// Takes over what is said later.
    fn merge(&mut self, later: Self);

    /// The change that it is.
    fn change(id: String, said: Self) -> Change;
}

impl Text for Profile {
    const TABLE: &'static str = "members";
    const NAME: &'static str = "member_id";
    const TEXT: &'static str = "profile";

    fn merge(&mut self, later: Self) {
        self.merge(later);
    }

    fn change(id: String, said: Self) -> Change {
        Change::Member(id, said)
    }
}

impl Text for ProductPatch {
    const TABLE: &'static str = "products";
    const NAME: &'static str = "product_id";
    const TEXT: &'static str = "patch";

    fn merge(&mut self, later: Self) {
        self.merge(later);
    }

    fn change(id: String, said: Self) -> Change {
        Change::Product(id, said)
    }
}

impl Tx {
    /// Keeps what is said now, merged into what was said before; gives for each whether anything was.
    pub(super) async fn keep_said<S: Text>(&mut self, said: &[(&String, &S)]) -> Result<Vec<bool>, StoreError> {
        let mut was_known = Vec::with_capacity(said.len());
        for chunk in said.chunks(ROWS) {
            let known = self.known_of::<S>(chunk).await?;
            // One that is named twice is kept once, as it is in the end.
            let mut kept = BTreeMap::<&str, (i64, S)>::new();
            for (id, later) in chunk {
                was_known.push(known.contains_key(*id) || kept.contains_key(id.as_str()));
                let (number, said) =
                    kept.entry(id.as_str()).or_insert_with(|| (0, known.get(*id).cloned().unwrap_or_default()));
                said.merge((*later).clone());
                *number = self.number();
            }
            let mut kept: Vec<(i64, &str, S)> =
                kept.into_iter().map(|(id, (number, said))| (number, id, said)).collect();
            kept.sort_unstable_by_key(|(number, ..)| *number);
            self.insert_said(&kept).await?;
            self.changes.extend(kept.into_iter().map(|(_, id, said)| S::change(id.to_owned(), said)));
        }
        Ok(was_known)
    }

    async fn known_of<S: Text>(&mut self, chunk: &[(&String, &S)]) -> Result<HashMap<String, S>, StoreError> {
        let (table, name, text) = (S::TABLE, S::NAME, S::TEXT);
        let names = values(self.backend, 1, chunk.len());
        let asked = format!("SELECT {name}, {text} FROM {table} WHERE {name} IN {names}");
        let query = chunk.iter().fold(sqlx::query(&asked), |query, (id, _)| query.bind(id.as_str()));
        let mut known = HashMap::new();
        for row in query.fetch_all(&mut *self.transaction).await? {
            let said: String = row.try_get(1)?;
            let said = serde_json::from_str(&said).map_err(|e| StoreError::Damaged(table, e.to_string()))?;
            known.insert(row.try_get(0)?, said);
        }
        Ok(known)
    }

    async fn insert_said<S: Text>(&mut self, kept: &[(i64, &str, S)]) -> Result<(), StoreError> {
        let (table, name, text) = (S::TABLE, S::NAME, S::TEXT);
        let rows = values(self.backend, kept.len(), 3);
        let sql = format!(
            "INSERT INTO {table} ({name}, seq, {text}) VALUES {rows} \
             ON CONFLICT ({name}) DO UPDATE SET seq = excluded.seq, {text} = excluded.{text}"
        );
        let mut query = sqlx::query(&sql);
        for (number, id, said) in kept {
            let said = serde_json::to_string(said).map_err(|e| StoreError::Damaged(table, e.to_string()))?;
            query = query.bind(*id).bind(*number).bind(said);
        }
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, Write, sqlite_url};
    use super::*;

    #[tokio::test]
    async fn a_name_is_kept_once_as_it_is_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&sqlite_url(&folder.path().join("kindred.db"))).await.unwrap();
        let said = |id: &str, city: Option<&str>, guide: Option<&str>| {
            let text = |text: &str| text.to_owned();
            (text(id), Profile { city: city.map(text), guide: guide.map(text), ..Profile::default() })
        };
        store.commit(&[Write::Members(vec![said("a", Some("Wuhan"), None)])]).await.unwrap();
        let many = (0..ROWS + 1).map(|m| said(&format!("m{m}"), None, Some("g")));
        let twice = [said("a", None, Some("g1")), said("b", Some("Wuhan"), None), said("a", None, Some("g2"))];
        let committed = store.commit(&[Write::Members(twice.into_iter().chain(many).collect())]).await.unwrap();
        let changed = |id: &str| {
            committed.changes.iter().filter(|change| matches!(change, Change::Member(name, _) if name == id)).collect()
        };
        let (_, a) = said("a", Some("Wuhan"), Some("g2"));
        let changes: Vec<&Change> = changed("a");
        assert_eq!(changes, [&Change::Member("a".to_owned(), a.clone())]);
        let kept = store.kept().await.unwrap();
        assert_eq!((kept.members.len(), &kept.members["a"]), (ROWS + 3, &a));
        let patch = |available| ProductPatch { available: Some(available), ..ProductPatch::default() };
        let products = |list: &[(&str, bool)]| {
            Write::Products(list.iter().map(|(id, available)| ((*id).to_owned(), patch(*available))).collect())
        };
        let writes = [products(&[("p", true), ("q", true)]), products(&[("p", false), ("r", true)])];
        let new: Vec<Vec<usize>> =
            store.commit(&writes).await.unwrap().outcomes.into_iter().map(|outcome| outcome.new).collect();
        assert_eq!(new, [vec![0, 1], vec![1]]);
        store.close().await;
    }
}
