//! Tests of the store as a whole.

use super::*;
use kindred_models::events::Kind;
use kindred_models::state::Profile;

#[test]
fn passwords_are_not_shown() {
    assert_eq!(without_password("postgres://kindred:secret@db:5432/state"), "postgres://…@db:5432/state");
    assert_eq!(without_password("postgres:kindred:secret@db/state"), "postgres://…@db/state");
    assert_eq!(without_password("kindred secret@db/state"), "…@db/state");
    assert_eq!(without_password("postgres://kindred:s?cret@db/state"), "postgres://…@");
    assert_eq!(without_password("postgres://db/state?user=kindred&password=s@cret"), "postgres://…@");
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

#[tokio::test]
async fn what_a_failed_write_leaves_behind_loses_none_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite_url(&folder.path().join("kindred.db"));
    let store = Store::open(&url).await.unwrap();
    let said = |id: &str| [Write::Members(vec![(id.to_owned(), Profile::default())])];
    // Where a disk is full, SQLite rolls back by itself; of other errors, whoever asked has to.
    for (id, how) in [("by itself", "ROLLBACK"), ("not by itself", "ABORT")] {
        let fails = format!(
            "CREATE TRIGGER fails_{how} BEFORE INSERT ON members WHEN NEW.member_id = '{id}' \
             BEGIN SELECT RAISE({how}, 'fails'); END"
        );
        store.pool.execute(fails.as_str()).await.unwrap();
    }
    let mut kept = Vec::new();
    for round in 0..4 {
        for fails in ["by itself", "not by itself", "by itself", "by itself", "not by itself"] {
            store.commit(&said(fails)).await.unwrap_err();
            let id = format!("{round} after {fails} {}", kept.len());
            store.commit(&said(&id)).await.unwrap();
            kept.push(id);
            assert_eq!(store.kept().await.unwrap().members.len(), kept.len());
        }
    }
    // Another program sees them, and can write.
    let other = Store::open(&url).await.unwrap();
    other.commit(&said("another")).await.unwrap();
    let members = other.kept().await.unwrap().members;
    assert!(members.len() == kept.len() + 1 && kept.iter().all(|id| members.contains_key(id)), "{members:?}");
    store.close().await;
    other.close().await;
}

#[tokio::test]
async fn stores_are_where_their_folders_are_and_broken_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["r%41", "a?b=c#d", "of a shop", "店"] {
        let path = folder.path().join(name).join("kindred.db");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let url = sqlite_url(&path);
        assert!(Store::open_existing(&url).await.unwrap().is_none(), "{url}");
        Store::open(&url).await.unwrap().close().await;
        assert!(path.exists() && Store::open_existing(&url).await.unwrap().is_some(), "{url}");
    }
    let path = folder.path().join("broken.db");
    std::fs::write(&path, [7; 20_000]).unwrap();
    let broken = Store::open(&sqlite_url(&path)).await.unwrap_err();
    assert!(matches!(broken, StoreError::Broken(..)) && broken.to_string().contains("not a database"), "{broken}");
}

#[tokio::test]
async fn events_are_kept_for_their_days_and_contacts_for_as_long_as_budgets_look_back() {
    const DAY: i64 = kindred_models::events::DAY_SECONDS;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(&folder.path().join("kindred.db"))).await.unwrap();
    let now = crate::clock::unix_now();
    let at = |kind, days_ago: i64| StoredEvent {
        event_id: format!("{kind:?} of {days_ago} days ago"),
        member_id: "m".to_owned(),
        product_id: "p".to_owned(),
        kind,
        time: now - days_ago * DAY,
        quantity: None,
        amount: None,
        store_id: None,
        channel: None,
        basket_id: None,
    };
    let events = [at(Kind::Purchase, 29), at(Kind::Purchase, 31), at(Kind::Contact, 31), at(Kind::Contact, 101)];
    store.commit(&[Write::Events(events.to_vec())]).await.unwrap();
    assert_eq!(store.delete_some_older(30 * DAY).await.unwrap(), 2);
    let left = sqlx::query_scalar("SELECT event_id FROM events ORDER BY event_id").fetch_all(&store.pool).await;
    let left: Vec<String> = left.unwrap();
    assert_eq!(left, ["Contact of 31 days ago", "Purchase of 29 days ago"]);
    store.close().await;
}

#[tokio::test]
async fn a_store_that_was_restored_numbers_what_comes_above_what_a_version_learned() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(&folder.path().join("kindred.db"))).await.unwrap();
    let said = |id: &str| [Write::Members(vec![(id.to_owned(), Profile::default())])];
    store.commit(&said("before")).await.unwrap();
    store.number_above(100).await.unwrap();
    store.commit(&said("after")).await.unwrap();
    store.number_above(50).await.unwrap();
    store.commit(&said("later")).await.unwrap();
    let numbers = sqlx::query_scalar("SELECT seq FROM members ORDER BY seq").fetch_all(&store.pool).await;
    let numbers: Vec<i64> = numbers.unwrap();
    assert_eq!(numbers, [1, 101, 102]);
    store.close().await;
}
