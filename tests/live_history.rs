//! What happened since a model learned is counted as training would count it.
#![allow(clippy::unwrap_used)]

mod support;

use kindred_models::Model;
use kindred_models::events::{DAY_SECONDS, Kind};
use kindred_models::history::Past;
use kindred_models::popularity::{Context, Popularity};
use kindred_models::state::{LiveEvent, NO_CHANNEL, State};
use kindred_training::config::TrainConfig;
use kindred_training::data::Event;
use kindred_training::prepare::history;
use kindred_training::slice::Slice;
use proptest::prelude::*;
use support::{Tables, trained_with};

/// Days of the events; a model learns from the first half.
const DAYS: i64 = 60;

/// A model of one member `m` and four products, with parameters under which everything decays.
fn model() -> (Model, TrainConfig) {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = Tables::new();
    (0..4).for_each(|p| tables.buy("m", &format!("p{p}"), 1));
    let mut config = tables.write(folder.path());
    config.embeddings.half_life_days = 40.0;
    config.repeat.half_life_days = 30.0;
    config.ranker.slices = 0;
    config.launch.replays = 0;
    (trained_with(folder, config.clone()).model(), config)
}

fn event((product, time, kind): &(u32, i64, usize)) -> Event {
    let kind = [Kind::Purchase, Kind::Purchase, Kind::View, Kind::Cart, Kind::Contact][*kind];
    Event { member: 0, product: *product, time: *time, store: u32::MAX, channel: u16::MAX, kind, price: 0 }
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * a.abs().max(b.abs()) + 1e-6
}

/// Whether two entries are the same; days that were cut off to whole ones may differ by one.
fn same(a: &Past, b: &Past) -> bool {
    let by_one = |a: u16, b: u16| a.abs_diff(b) <= 1;
    let counts = |p: &Past| (p.product, p.count, p.trips, p.trips_since, p.trips_from);
    counts(a) == counts(b)
        && near(a.weight, b.weight)
        && near(a.decayed, b.decayed)
        && near(a.recent, b.recent)
        && by_one(a.days_since, b.days_since)
        && by_one(a.span_days, b.span_days)
}

#[test]
fn a_state_counts_as_training_does() {
    let (learned, config) = model();
    let moments = 0..DAYS * DAY_SECONDS;
    let events = prop::collection::vec((0u32..4, moments, 0usize..5), 1..60);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    });
    let outcome = runner.run(&events, |events| {
        let mut all: Vec<Event> = events.iter().map(event).collect();
        all.sort();
        let cut = DAYS / 2 * DAY_SECONDS;
        let (before, after): (Vec<Event>, Vec<Event>) = all.iter().copied().partition(|e| e.time < cut);
        let before = Slice::of(before, true);
        let mut model = learned.clone();
        model.history = history(&before, &model.members, &config);
        model.info.as_of_time = before.as_of;
        let mut state = State::of(&model);
        // Shuffled, in a way: by product, not by time.
        for e in &after {
            state.record(
                &model,
                "m",
                LiveEvent { time: e.time, product: e.product, kind: e.kind, channel: NO_CHANNEL },
                None,
            );
        }
        let all = Slice::of(all, true);
        let wanted = history(&all, &model.members, &config);
        let pasts = state.pasts(&model, 0);
        let expected: Vec<Past> = wanted.member(0).collect();
        prop_assert_eq!(pasts.list.len(), expected.len(), "{:?}\n{:?}", pasts.list, expected);
        for (a, b) in pasts.list.iter().zip(&expected) {
            prop_assert!(same(a, b), "{:?}\n{:?}", a, b);
        }
        prop_assert_eq!(pasts.trips, wanted.member_trips[0]);
        Ok(())
    });
    outcome.unwrap();
}

/// The history of the model's member, one product: `(count, days since, trips since)`, with what happened since.
fn with(purchases: &[i64], since: &[(i64, Kind)]) -> Past {
    let (learned, config) = model();
    let before = |days: &i64| event(&(0, days * DAY_SECONDS, 0));
    let mut all: Vec<Event> = purchases.iter().map(before).collect();
    // Shopping on other days, for something else.
    all.extend([20, 24, 28].map(|days| event(&(1, days * DAY_SECONDS, 0))));
    all.sort();
    let slice = Slice::of(all, true);
    let mut model = learned;
    model.history = history(&slice, &model.members, &config);
    model.info.as_of_time = slice.as_of;
    let mut state = State::of(&model);
    for (days, kind) in since {
        let event = LiveEvent { time: days * DAY_SECONDS, product: 0, kind: *kind, channel: NO_CHANNEL };
        state.record(&model, "m", event, None);
    }
    *state.pasts(&model, 0).list.iter().find(|past| past.product == 0).unwrap()
}

#[test]
fn late_purchases_and_refunds_worked_by_hand() {
    let past = with(&[10, 18], &[]);
    assert_eq!((past.count, past.days_since, past.trips_since), (2, 10, 3));
    let late = with(&[10, 18], &[(15, Kind::Purchase)]);
    assert_eq!((late.count, late.days_since, late.trips_since), (3, 10, 3), "the last one is still the last");
    let refunded = with(&[10, 18], &[(29, Kind::Refund)]);
    assert_eq!(refunded.count, 1);
    let (half, whole) = (refunded.weight, with(&[10, 18], &[(29, Kind::Contact)]).weight);
    assert!(half > 0.0 && half < whole, "{half} of {whole}");
}

/// What is popular in each part of the chain: shares of all products.
fn shares(popularity: &Popularity) -> Vec<f32> {
    let named = |name: &str| Some(name.to_owned());
    let contexts = [
        Context::default(),
        Context { store: named("s1"), ..Context::default() },
        Context { store: named("s2"), ..Context::default() },
        Context { city: named("Wuhan"), ..Context::default() },
        Context { channel: named("mall"), ..Context::default() },
        Context { hour: Some(20), ..Context::default() },
        Context { store: named("s2"), channel: named("till"), hour: Some(9), ..Context::default() },
    ];
    contexts.iter().flat_map(|context| popularity.here(context).shares(&[0, 1, 2, 3])).collect()
}

#[test]
fn popularity_by_store_city_channel_and_daypart_is_what_training_would_count() {
    // Member, product, day, hour, store, channel, kind.
    let all: Vec<(&str, usize, i64, i64, &str, &str, Kind)> = (0..200usize)
        .map(|i| {
            let kind = if i % 17 == 16 { Kind::Refund } else { Kind::Purchase };
            let (store, channel) = (["s1", "s2"][i / 3 % 2], ["mall", "till"][i % 2]);
            (["m", "n"][i / 2 % 2], (i * 7 / 3) % 4, i as i64 / 4, 3 + i as i64 % 20, store, channel, kind)
        })
        .collect();
    let time = |day: i64, hour: i64| 1_700_006_400 + day * DAY_SECONDS + hour * 3600;
    let learn = |days: std::ops::Range<i64>| {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = Tables::new();
        tables.events = "member_id,product_id,time,kind,store_id,channel\n".to_owned();
        for (member, product, day, hour, store, channel, kind) in all.iter().filter(|e| days.contains(&e.2)) {
            let row = format!("{member},p{product},{},{},{store},{channel}\n", time(*day, *hour), kind.name());
            tables.events.push_str(&row);
        }
        tables.member("m,s1,Wuhan,g0,true,true,false,");
        tables.member("n,s1,,g0,true,true,false,");
        let mut config = tables.write(folder.path());
        config.popularity.utc_offset_minutes = 480;
        config.ranker.slices = 0;
        config.launch.replays = 0;
        trained_with(folder, config).model()
    };
    let mut model = learn(0..25);
    let before = shares(&model.popularity);
    let mut state = State::of(&model);
    for (member, product, day, hour, store, channel, kind) in all.iter().filter(|e| e.2 >= 25) {
        let channel = state.channel(Some(channel));
        let product = model.products.find(&format!("p{product}")).unwrap();
        let event = LiveEvent { time: time(*day, *hour), product, kind: *kind, channel };
        state.record(&model, member, event, Some(store));
    }
    model.state = state;
    let (live, learned) = (shares(&model.with_popularity(&model).popularity), shares(&learn(0..100).popularity));
    for ((live, learned), before) in live.iter().zip(&learned).zip(&before) {
        assert!((live - learned).abs() < 1e-3 * learned, "{live} live, {learned} learned, {before} before");
    }
    assert!(live.iter().zip(&before).any(|(live, before)| (live - before).abs() > 0.03), "there is something to learn");
}
