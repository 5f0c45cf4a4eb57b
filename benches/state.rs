//! What it costs to keep events, beside a bare insert of the same rows; what fresh events cost a feed, and an audience; what
//! it takes to send the whole catalogue again, and to start with the contacts of many weeks.
//!
//! `cargo bench --profile release --bench state -- REGISTRY`, with the registry of any model, such as the one that
//! `kindred demo` leaves.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kindred::config::{Config, StateConfig};
use kindred::proto::v1;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::catalog_service_client::CatalogServiceClient;
use kindred::proto::v1::event_service_client::EventServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred_models::Model;
use kindred_models::artifact::Registry;
use kindred_models::audience::{AudienceRequest, AudienceSize, MemberFilter, Quota, Subject, audience};
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::groups::Segment;
use kindred_models::state::{LiveEvent, NO_CHANNEL, Profile, State};
use kindred_models::stop::Stop;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use sqlx::{AnyPool, Executor};
use tonic::transport::Channel;

const EVENTS: usize = 200_000;
/// Events of a request, and of a statement of the bare insert.
const BATCH: usize = 1000;
/// Statements of a transaction of the bare insert: as many rows as the server commits at once.
const STATEMENTS: usize = 8;
const CLIENTS: usize = 16;
const ROUNDS: usize = 5;
const FRESH: usize = 50;
const MEMBERS: usize = 300;
/// Of so many members one did something since, or was described.
const ACTIVE: usize = 5;
const AUDIENCE: usize = 10_000;
/// Messages that each member got, one a week.
const CONTACTS: usize = 5;

#[tokio::main]
async fn main() {
    let root = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).expect("a registry");
    let registry = Registry::new(root.as_ref(), "default").unwrap();
    let model = Model::load(&registry, &registry.current().unwrap()).unwrap();
    feeds(&model);
    audiences(&model);
    catalogues(&registry, &model).await;
    contacts(&registry, &model).await;
    let events = Arc::new(events(&model));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (bare, served) = (bare(&events).await, served(&registry, &events).await);
        println!("bare insert {:.0} events/s, RecordEvents {:.0} events/s", rate(bare), rate(served));
        ratios.push(bare.div_duration_f64(served));
    }
    ratios.sort_by(f64::total_cmp);
    let (least, middle, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    println!("RecordEvents over a bare insert: {middle:.2} ({least:.2} to {most:.2})");
}

fn rate(took: Duration) -> f64 {
    EVENTS as f64 / took.as_secs_f64()
}

fn events(model: &Model) -> Vec<v1::Event> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let event = |_| v1::Event {
        event_id: format!("{:032x}", rng.random::<u128>()),
        member_id: model.members.ids.get(rng.random_range(0..model.members.len() as u32)).to_owned(),
        product_id: model.products.ids.get(rng.random_range(0..model.products.len() as u32)).to_owned(),
        time: Some(prost_types::Timestamp { seconds: now - rng.random_range(0..86_400), nanos: 0 }),
        kind: rng.random_range(1..=6),
        store_id: "s1".to_owned(),
        ..v1::Event::default()
    };
    (0..EVENTS).map(event).collect()
}

/// The same rows into a table of the same columns and indexes, with the same settings, by one writer.
async fn bare(events: &[v1::Event]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    sqlx::any::install_default_drivers();
    let url = format!("sqlite:{}?mode=rwc", folder.path().join("bare.db").display());
    let pool = AnyPool::connect(&url).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    for setting in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON", TABLE] {
        connection.execute(setting).await.unwrap();
    }
    let sql = format!("INSERT INTO events VALUES {}", vec!["(?,?,?,?,?,?,?,?,?,?,?)"; BATCH].join(","));
    let (mut number, start) = (0i64, Instant::now());
    for transaction in events.chunks(BATCH * STATEMENTS) {
        connection.execute("BEGIN").await.unwrap();
        for statement in transaction.chunks(BATCH) {
            let mut query = sqlx::query(&sql);
            for e in statement {
                number += 1;
                query = query.bind(number).bind(&e.event_id).bind(&e.member_id).bind(&e.product_id);
                query = query.bind(e.kind as i16).bind(e.time.unwrap().seconds).bind(e.quantity).bind(e.amount);
                query = query.bind(&e.store_id).bind(None::<String>).bind(None::<String>);
            }
            query.execute(&mut *connection).await.unwrap();
        }
        connection.execute("COMMIT").await.unwrap();
    }
    start.elapsed()
}

const TABLE: &str = "
CREATE TABLE events (seq BIGINT PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, member_id TEXT NOT NULL,
    product_id TEXT NOT NULL, kind SMALLINT NOT NULL, time BIGINT NOT NULL, quantity DOUBLE PRECISION,
    amount DOUBLE PRECISION, store_id TEXT, channel TEXT, basket_id TEXT);
CREATE INDEX events_by_member ON events (member_id);
CREATE INDEX events_by_time ON events (time);";

/// A server on loopback, with a state of its own.
struct Running {
    channel: Channel,
    end: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Running {
    async fn start(registry: &Registry) -> Self {
        Self::start_in(registry, tempfile::tempdir().unwrap()).await
    }

    /// With the state in a folder, if there is one.
    async fn start_in(registry: &Registry, folder: tempfile::TempDir) -> Self {
        let state = StateConfig { url: sqlite(folder.path()), ..StateConfig::default() };
        let config = Config { state, ..Config::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let registry = registry.clone();
        let ended = async move { drop(ended.await) };
        let server = tokio::spawn(async move {
            kindred::server::serve(registry, &config, listener, ended).await.unwrap();
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, end, server, folder }
    }

    async fn end(self) -> tempfile::TempDir {
        drop(self.channel);
        let _ = self.end.send(());
        self.server.await.unwrap();
        self.folder
    }
}

/// Through a server, each request answered when its events are kept and count.
async fn served(registry: &Registry, events: &Arc<Vec<v1::Event>>) -> Duration {
    let running = Running::start(registry).await;
    let channel = &running.channel;
    let mut warm = EventServiceClient::new(channel.clone());
    let _ = warm.record_events(v1::RecordEventsRequest { events: vec![v1::Event::default()] }).await.unwrap();
    let (next, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let clients = (0..CLIENTS).map(|_| tokio::spawn(record(channel.clone(), events.clone(), next.clone())));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let took = start.elapsed();
    drop(warm);
    running.end().await;
    took
}

/// All products again, as the version knows them and with other prices; and one more after each.
async fn catalogues(registry: &Registry, model: &Model) {
    let running = Running::start(registry).await;
    let mut client = CatalogServiceClient::new(running.channel.clone());
    for (what, dearer) in [("as they were", 1.0), ("with other prices", 1.01)] {
        let product = |row: u32| v1::Product {
            product_id: model.products.ids.get(row).to_owned(),
            title: Some(model.products.titles.get(row).to_owned()),
            category: model.products.categories.get(row).map(str::to_owned),
            price: Some(dearer * model.products.prices[row as usize]).filter(|price| *price > 0.0),
            ..v1::Product::default()
        };
        let rows: Vec<u32> = (0..model.products.len() as u32).collect();
        let start = Instant::now();
        for rows in rows.chunks(BATCH) {
            let products = rows.iter().map(|row| product(*row)).collect();
            client.upsert_products(v1::UpsertProductsRequest { products }).await.unwrap();
        }
        let (all, start) = (start.elapsed(), Instant::now());
        let one = v1::Product { product_id: format!("{what}, new"), ..v1::Product::default() };
        client.upsert_products(v1::UpsertProductsRequest { products: vec![one] }).await.unwrap();
        println!("all {} products again {what}: {all:.1?}; one more after them: {:.0?}", rows.len(), start.elapsed());
    }
    drop(client);
    running.end().await;
}

/// Starts with messages of some weeks to every member, and asks for those who got few of them lately.
async fn contacts(registry: &Registry, model: &Model) {
    let start = async |folder| {
        let start = Instant::now();
        let running = Running::start_in(registry, folder).await;
        let mut client = AudienceServiceClient::new(running.channel.clone());
        let mut ask = async |max_contacts| {
            let filter = Some(v1::MemberFilter { max_contacts, ..v1::MemberFilter::default() });
            let size = Some(Size::MemberCount(AUDIENCE as i64));
            let product_id = model.products.ids.get(0).to_owned();
            let request = v1::FindAudienceRequest { product_id, size, filter, ..Default::default() };
            let start = Instant::now();
            client.estimate_audience(v1::EstimateAudienceRequest { audience: Some(request) }).await.unwrap();
            start.elapsed()
        };
        ask(None).await;
        let started = start.elapsed();
        let (plain, few) = (ask(None).await, ask(Some(v1::MaxContacts { count: 2, days: 30 })).await);
        println!(
            "started in {started:.1?}; an estimate {plain:.1?}, of who got two of them in 30 days at most {few:.1?}"
        );
        running.end().await
    };
    let folder = start(tempfile::tempdir().unwrap()).await;
    let pool = AnyPool::connect(&sqlite(folder.path())).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    connection.execute("BEGIN").await.unwrap();
    let sql =
        format!("INSERT INTO contacts VALUES {}", vec!["(?,?,?,'c',?,?,'app',1,?,?,2,?,0.01,0.1)"; BATCH].join(","));
    let rows: Vec<u32> = (0..model.members.len() as u32).collect();
    let mut number = 1i64;
    for week in 1..=CONTACTS as i64 {
        for rows in rows.chunks_exact(BATCH) {
            let (mut query, time) = (sqlx::query(&sql), now - 7 * week * DAY_SECONDS);
            number += 1;
            for row in rows {
                let id = format!(
                    "{:032x}",
                    (u128::from(*row) << 64 | week as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                );
                let product = model.products.ids.get(*row % model.products.len() as u32);
                query = query.bind(id).bind(number).bind(format!("plan {week}")).bind(model.members.ids.get(*row));
                query = query.bind(product).bind(time).bind(time).bind(time);
            }
            query.execute(&mut *connection).await.unwrap();
        }
    }
    let moved = format!("UPDATE clock SET seq = {number}");
    connection.execute(moved.as_str()).await.unwrap();
    connection.execute("COMMIT").await.unwrap();
    drop(connection);
    pool.close().await;
    println!("{} contacts:", CONTACTS * (rows.len() / BATCH * BATCH));
    start(folder).await;
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("state.db").display())
}

async fn record(channel: Channel, events: Arc<Vec<v1::Event>>, next: Arc<AtomicUsize>) {
    let mut client = EventServiceClient::new(channel);
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        let Some(batch) = events.get(first..(first + BATCH).min(EVENTS)).filter(|batch| !batch.is_empty()) else {
            return;
        };
        let kept = client.record_events(v1::RecordEventsRequest { events: batch.to_vec() }).await.unwrap().into_inner();
        assert_eq!(kept.accepted_count as usize, batch.len());
    }
}

/// A page for members with so many fresh events, beside one for the same members without.
fn feeds(model: &Model) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let (mut fresh, step) = (model.clone(), (model.members.len() / MEMBERS).max(1));
    fresh.state = State::of(model);
    let members: Vec<u32> = (0..model.members.len() as u32).step_by(step).take(MEMBERS).collect();
    let mut state = std::mem::take(&mut fresh.state);
    for member in &members {
        for i in 0..FRESH {
            let kind = [Kind::View, Kind::View, Kind::Cart, Kind::Purchase][i % 4];
            let product = rng.random_range(0..model.products.len() as u32);
            let time = model.info.as_of_time + 60 * i as i64;
            state.record(
                model,
                model.members.ids.get(*member),
                LiveEvent { time, product, kind, channel: NO_CHANNEL },
                model.members.stores.get(*member),
            );
        }
    }
    fresh.state = state;
    fresh = fresh.with_popularity(model);
    let page = |model: &Model, member: u32| {
        let start = Instant::now();
        black_box(feed(model, &FeedRequest::new(Visitor::Member(member), 20)));
        start.elapsed()
    };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for member in &members {
            without.push(page(model, *member));
            with.push(page(&fresh, *member));
        }
    }
    without.sort();
    with.sort();
    let middle = |times: &[Duration]| times[times.len() / 2];
    let (without, with) = (middle(&without), middle(&with));
    println!(
        "a feed with {FRESH} fresh events: {with:?}; without: {without:?}; ratio {:.2}",
        with.div_duration_f64(without)
    );
}

/// An audience of two segments, where a part of the members bought something a day later, or were described as the version
/// knows them, beside one where nothing happened.
fn audiences(model: &Model) {
    let with = |each: &dyn Fn(&mut State, u32)| {
        let (mut changed, mut state) = (model.clone(), State::of(model));
        (0..model.members.len() as u32).step_by(ACTIVE).for_each(|row| each(&mut state, row));
        changed.state = state;
        changed.with_popularity(model)
    };
    let bought = with(&|state, row| {
        let (time, product) = (model.info.as_of_time + DAY_SECONDS, row % model.products.len() as u32);
        let event = LiveEvent { time, product, kind: Kind::Purchase, channel: NO_CHANNEL };
        state.record(model, model.members.ids.get(row), event, None);
    });
    let described = with(&|state, row| {
        let text = |labels: &kindred_models::strings::Labels| labels.get(row).map(str::to_owned);
        let (store, city) = (text(&model.members.stores), text(&model.members.cities));
        let marketing = Some(model.members.consent(row).marketing);
        let said = Profile { store, city, marketing, ..Profile::default() };
        state.describe(model, model.members.ids.get(row), said);
    });
    let moved = with(&|state, row| {
        let said = Profile { city: Some("elsewhere".to_owned()), ..Profile::default() };
        state.describe(model, model.members.ids.get(row), said);
    });
    let retagged = with(&|state, row| {
        let tag = (row as usize / ACTIVE) % model.members.tag_names.len().max(1);
        let tags = BTreeSet::from([model.members.tag_names.get(tag as u32).to_owned()]);
        state.describe(model, model.members.ids.get(row), Profile { tags, ..Profile::default() });
    });
    let request = AudienceRequest {
        subject: Subject::Known(0),
        seeds: Vec::new(),
        size: AudienceSize::Count(AUDIENCE),
        filter: MemberFilter { segments: vec![Segment::New, Segment::Active], ..MemberFilter::default() },
        quota: Quota::default(),
    };
    let middle = |model: &Model| {
        let once = || {
            let start = Instant::now();
            black_box(audience(model, &request, &Stop::default()).unwrap());
            start.elapsed()
        };
        // What is worked out once a day.
        once();
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| once()).collect();
        times.sort();
        times[ROUNDS / 2]
    };
    let plain = middle(model);
    for (what, model) in [
        ("bought something a day later", &bought),
        ("were described as they were known", &described),
        ("moved elsewhere", &moved),
        ("got a tag", &retagged),
    ] {
        let took = middle(model);
        println!(
            "an audience where one in {ACTIVE} {what}: {took:.1?}; where nothing happened: {plain:.1?}; ratio {:.2}",
            took.div_duration_f64(plain)
        );
    }
}
