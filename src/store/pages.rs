//! Reading many rows: a page of them is one text of JSON, as a row of its own costs the library several times what it
//! costs the database.

use serde::de::DeserializeOwned;
use sqlx::{Any, Row, Transaction};

use super::{Backend, StoreError, in_time};

/// Rows of a page, and those that share its last number.
const ROWS: usize = 2000;

/// The rows of a table that changed after a number and up to another, in order of their numbers, a page at a time.
#[derive(Debug)]
pub(super) struct Pages {
    table: &'static str,
    boundary: String,
    page: String,
    after: i64,
    last: i64,
    since: Option<i64>,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) table: &'static str,
    pub(super) columns: &'static str,
    /// A condition that rows must meet, as pages are made of those alone.
    pub(super) only: Option<&'a str>,
    /// A condition that rows must meet, of a moment, `$3`.
    pub(super) since: Option<(&'a str, i64)>,
}

impl Pages {
    /// Those with a number above the first, and up to the second.
    pub(super) fn new(backend: Backend, Of { table, columns, only, since }: Of<'_>, (after, last): (i64, i64)) -> Self {
        let list = match backend {
            Backend::Sqlite => format!("json_group_array(json_array({columns}))"),
            Backend::Postgres => format!("CAST(json_agg(json_build_array({columns})) AS TEXT)"),
        };
        let and = |condition: Option<&str>| condition.map(|condition| format!(" AND {condition}")).unwrap_or_default();
        let within = format!("FROM {table} WHERE seq > $1 AND seq <= $2{}", and(only));
        let numbers = format!("SELECT seq {within} ORDER BY seq LIMIT {ROWS}");
        let rows = format!("SELECT {columns} {within}{} ORDER BY seq", and(since.map(|(condition, _)| condition)));
        Self {
            table,
            boundary: format!("SELECT max(seq) FROM ({numbers}) AS numbers"),
            page: format!("SELECT {list} FROM ({rows}) AS rows"),
            after,
            last,
            since: since.map(|(_, moment)| moment),
        }
    }

    /// The next page, which may be empty; `None` once there is no more.
    pub(super) async fn next<T: DeserializeOwned>(
        &mut self,
        tx: &mut Transaction<'static, Any>,
    ) -> Result<Option<Vec<T>>, StoreError> {
        in_time(self.read_next(tx)).await
    }

    async fn read_next<T: DeserializeOwned>(
        &mut self,
        tx: &mut Transaction<'static, Any>,
    ) -> Result<Option<Vec<T>>, StoreError> {
        let boundary = sqlx::query(&self.boundary).bind(self.after).bind(self.last).fetch_one(&mut **tx).await?;
        let Some(upto) = boundary.try_get::<Option<i64>, _>(0)? else { return Ok(None) };
        let mut page = sqlx::query(&self.page).bind(self.after).bind(upto);
        if let Some(moment) = self.since {
            page = page.bind(moment);
        }
        let page = page.fetch_one(&mut **tx).await?;
        self.after = upto;
        // PostgreSQL makes nothing of no rows.
        let Some(text) = page.try_get::<Option<String>, _>(0)? else { return Ok(Some(Vec::new())) };
        let rows = serde_json::from_str(&text).map_err(|e| StoreError::Damaged(self.table, e.to_string()))?;
        Ok(Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::super::{Change, From, Store, Write, sqlite_url};
    use super::*;
    use crate::store::StoredEvent;
    use kindred_models::events::{DAY_SECONDS, Kind};

    #[tokio::test]
    async fn every_row_is_on_one_page() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&sqlite_url(&folder.path().join("kindred.db"))).await.unwrap();
        // Numbers of one row, of as many as a page has, of more, and of none.
        let numbers = [vec![1; 3], vec![2; 2 * ROWS], (5..5 + ROWS as i64).collect(), vec![9000; ROWS], vec![9001]];
        let numbers: Vec<i64> = numbers.concat();
        for (i, numbers) in numbers.chunks(500).enumerate() {
            let rows: Vec<String> = numbers.iter().enumerate().map(|(k, seq)| format!("('{i}-{k}', {seq})")).collect();
            store.pool.execute(format!("INSERT INTO tombstones VALUES {}", rows.join(", ")).as_str()).await.unwrap();
        }
        let mut tx = store.pool.begin().await.unwrap();
        for (after, last) in [(0, 9001), (0, 9000), (1, 9000), (2, 100), (9001, 9001)] {
            let of = Of { table: "tombstones", columns: "hash, seq", only: None, since: None };
            let (mut pages, mut read) = (Pages::new(Backend::Sqlite, of, (after, last)), Vec::new());
            while let Some(page) = pages.next::<(String, i64)>(&mut tx).await.unwrap() {
                assert!(page.len() <= 3 * ROWS);
                read.extend(page.into_iter().map(|(_, seq)| seq));
            }
            let wanted: Vec<i64> = numbers.iter().copied().filter(|seq| *seq > after && *seq <= last).collect();
            assert_eq!(read, wanted, "after {after} to {last}");
        }
        drop(tx);
        store.close().await;
    }

    #[tokio::test]
    async fn what_was_written_is_read_to_the_letter() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&sqlite_url(&folder.path().join("kindred.db"))).await.unwrap();
        let event = |id: &str, time: i64, store: Option<&str>| StoredEvent {
            event_id: format!("{id} {time}"),
            member_id: id.to_owned(),
            product_id: "雪饼 \"大\" \\ 🍘".to_owned(),
            kind: Kind::Refund,
            time,
            quantity: None,
            amount: Some(0.1),
            store_id: store.map(str::to_owned),
            channel: None,
            basket_id: None,
        };
        let day = |day: i64| day * DAY_SECONDS;
        // One of later comes before others of earlier.
        let events = vec![
            event("early", day(3), None),
            event("m'1\"\n\t\u{1}", day(9), Some("")),
            event("too early", day(4), None),
            event("👩‍👧", day(8), Some("店, 1")),
        ];
        store.commit(&[Write::Events(events.clone())]).await.unwrap();
        let read = store.changes(0, i64::MAX, From::Moment(day(5))).await.unwrap();
        let wanted = events.iter().filter(|event| event.time > day(5)).map(|event| Change::Event {
            member_id: event.member_id.clone(),
            product_id: event.product_id.clone(),
            kind: event.kind,
            time: event.time,
            store: event.store_id.clone(),
            channel: None,
        });
        assert_eq!(read.list, wanted.collect::<Vec<_>>());
        assert_eq!(store.changes(0, i64::MAX, From::Moment(day(9))).await.unwrap().list, []);
        assert_eq!(store.changes(0, i64::MAX, From::Moment(0)).await.unwrap().list.len(), 4, "a version without times");
        assert_eq!(store.changes(1, i64::MAX, From::Number(3)).await.unwrap().list.len(), 1);
        store.pool.execute("UPDATE events SET kind = 99 WHERE member_id = 'early'").await.unwrap();
        let damaged = store.changes(0, i64::MAX, From::Number(0)).await.unwrap_err();
        assert_eq!(damaged.to_string(), "the state store holds what can't be understood, in events: kind 99");
        store.close().await;
    }
}
