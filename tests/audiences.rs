//! Who is in an audience, and who is not: filters, quotas, several launches at once, every way to the same answer.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use kindred::proto::v1;
use kindred::proto::v1::allocate_launches_response::Payload as Allocation;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::launch_to_allocate::Cap;
use kindred_models::Model;
use kindred_models::audience::{
    Audience, AudienceError, AudienceRequest, AudienceSize, Costs, MemberFilter, Quota, Subject, audience, audiences,
};
use kindred_models::content::Attributes;
use kindred_models::index::{IndexKind, IndexParams};
use kindred_models::indexing::build_indexes;
use kindred_models::stop::Stop;
use support::{Tables, Trained, find, serve, trained, trained_with, two_tastes};

/// Two tastes, of whom some were contacted, and some bought long ago for the last time.
fn tables() -> Tables {
    let mut tables = two_tastes();
    // The newest event is of day 200.
    tables.buy("c1", "coffee0", 200);
    for m in 2..12 {
        tables.buy(&format!("t{m}"), "tea1", 190);
    }
    for (member, days) in [("t2", vec![180, 199]), ("t3", vec![150]), ("t4", vec![195]), ("c2", vec![100])] {
        days.into_iter().for_each(|day| tables.event(member, "tea1", day, "contact"));
    }
    tables
}

fn attributes(kind: &str) -> v1::ProductAttributes {
    v1::ProductAttributes { category: format!("drinks/{kind}"), brand: format!("{kind} house"), ..Default::default() }
}

fn all_with(filter: v1::MemberFilter) -> v1::FindAudienceRequest {
    v1::FindAudienceRequest {
        attributes: Some(attributes("tea")),
        size: Some(Size::MemberShare(1.0)),
        filter: Some(filter),
        ..Default::default()
    }
}

fn ids(mut members: Vec<v1::AudienceMember>) -> Vec<String> {
    members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
    members.into_iter().map(|m| m.member_id).collect()
}

#[tokio::test]
async fn filters_let_in_whom_they_describe() {
    let trained = trained(&tables());
    let running = serve(&trained).await;
    let last = |category: &str, min_days, max_days| v1::LastPurchase { category: category.into(), min_days, max_days };
    let contacts = |count, days| Some(v1::MaxContacts { count, days });
    let any = v1::MemberFilter::default;
    let tagged = |tag: &str| v1::MemberFilter { tags: vec![tag.into()], ..any() };
    let in_city = |city: &str| v1::MemberFilter { cities: vec![city.into()], ..any() };
    let segment = |name: &str| v1::MemberFilter { segments: vec![name.into()], ..any() };
    let bought = |last| v1::MemberFilter { last_purchases: vec![last], ..any() };
    // 60 members, half of each taste and of each city, every third with a tag; guides g0 to g3 own 16, 16, 14, 14.
    for (filter, count) in [
        (any(), 60),
        (v1::MemberFilter { guide_ids: vec!["g1".into(), "g3".into(), "g9".into()], ..any() }, 30),
        (tagged("vip"), 20),
        (v1::MemberFilter { any_of: vec![tagged("vip"), in_city("Wuhan")], ..any() }, 40),
        (v1::MemberFilter { none_of: vec![tagged("vip"), in_city("Wuhan")], ..any() }, 20),
        (v1::MemberFilter { none_of: vec![v1::MemberFilter { none_of: vec![tagged("vip")], ..any() }], ..any() }, 20),
        (v1::MemberFilter { tags: vec!["vip".into()], none_of: vec![in_city("Wuhan")], ..any() }, 10),
        (bought(last("", None, Some(30))), 11),
        (bought(last("drinks/tea", None, Some(30))), 10),
        (bought(last("drinks", Some(31), None)), 49),
        (bought(last("drinks/te", None, None)), 0),
        (v1::MemberFilter { none_of: vec![bought(last("drinks/tea", None, None))], ..any() }, 30),
        (v1::MemberFilter { max_contacts: contacts(0, 30), ..any() }, 58),
        (v1::MemberFilter { max_contacts: contacts(1, 30), ..any() }, 59),
        (v1::MemberFilter { max_contacts: contacts(0, 90), ..any() }, 57),
        (v1::MemberFilter { max_contacts: contacts(0, 5), ..any() }, 59),
        (segment("active"), 11),
        (segment("asleep"), 49),
        (segment("new"), 0),
    ] {
        let (summary, members) = find(&running, all_with(filter.clone())).await;
        assert_eq!((members.len(), summary.eligible_count), (count, count as i64), "{filter:?}");
        assert_eq!(summary.excluded.unwrap().filter_count, 60 - count as i64, "{filter:?}");
        let named = format!("{filter:?}");
        let slips: Vec<&str> = ["drinks/te\"", "g9"].into_iter().filter(|name| named.contains(name)).collect();
        assert_eq!(summary.unknown_filter_names, slips.iter().map(|s| s.trim_matches('"')).collect::<Vec<_>>());
    }
    let (_, members) = find(&running, all_with(bought(last("drinks/tea", None, Some(30))))).await;
    assert_eq!(ids(members), ["t10", "t11", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"]);
    running.end().await.unwrap();
}

#[tokio::test]
async fn everybody_who_is_left_out_is_counted_once() {
    let trained = trained(&tables());
    let running = serve(&trained).await;
    let filter = v1::MemberFilter {
        store_ids: vec!["s1".into()],
        tags: vec!["vip".into()],
        last_purchases: vec![v1::LastPurchase { max_days: Some(30), ..Default::default() }],
        max_contacts: Some(v1::MaxContacts { count: 0, days: 90 }),
        ..Default::default()
    };
    let request = v1::FindAudienceRequest { seed_member_ids: vec!["t0".into()], ..all_with(filter) };
    let (summary, members) = find(&running, request).await;
    let e = summary.excluded.unwrap();
    assert_eq!((e.no_consent_count, e.minor_count, e.seed_count), (1, 1, 1));
    // 29 of the other 59 are at s1, 9 of them with the tag, t6 alone of these bought lately.
    assert_eq!((e.store_count, e.tag_count, e.last_purchase_count, e.contact_count), (30, 20, 8, 0));
    assert_eq!((e.city_count, e.guide_count, e.segment_count, e.any_of_count, e.none_of_count), (0, 0, 0, 0, 0));
    assert_eq!(e.filter_count, 58);
    assert_eq!(ids(members), ["t6"]);
    running.end().await.unwrap();
}

#[tokio::test]
async fn quotas_spread_an_audience_over_days() {
    let trained = trained(&tables());
    let running = serve(&trained).await;
    let quota = v1::Quota { per_store: None, per_guide: Some(2), days: 3 };
    let request = v1::FindAudienceRequest { quota: Some(quota), ..all_with(v1::MemberFilter::default()) };
    let (summary, members) = find(&running, request.clone()).await;
    // Four guides, two a day, three days.
    assert_eq!((summary.eligible_count, members.len()), (60, 24));
    let mut by_guide = BTreeMap::<(u32, i32), u32>::new();
    for member in &members {
        let guide = member.member_id[1..].parse::<u32>().unwrap() % 4;
        *by_guide.entry((guide, member.day)).or_default() += 1;
    }
    assert!(by_guide.len() == 12 && by_guide.values().all(|n| *n == 2), "{by_guide:?}");
    assert!(members.windows(2).all(|w| w[0].score >= w[1].score), "best first");
    assert!(members.iter().all(|m| m.member_id.starts_with('t')), "24 of those who drink tea");
    let few = v1::FindAudienceRequest { size: Some(Size::MemberCount(3)), ..request.clone() };
    let (summary, few) = find(&running, few).await;
    assert_eq!(few, members[..3]);
    let most = summary.reach.last().unwrap();
    assert_eq!(most.member_count, 24, "more can't be reached");
    assert!(most.lift > 1.0, "they are the best 24 of 60: {most:?}");
    let none = v1::Quota { per_store: Some(0), per_guide: None, days: 0 };
    let (summary, members) = find(&running, v1::FindAudienceRequest { quota: Some(none), ..request }).await;
    assert_eq!((members.len(), summary.reach.len()), (0, 0));
    running.end().await.unwrap();
}

fn request(kind: &str, size: AudienceSize, filter: MemberFilter) -> AudienceRequest {
    let attributes = Attributes {
        category: Some(format!("drinks/{kind}")),
        brand: Some(format!("{kind} house")),
        ..Attributes::default()
    };
    AudienceRequest { subject: Subject::New(attributes), seeds: vec![], size, filter, quota: Quota::default() }
}

fn rows(answer: &Audience) -> Vec<u32> {
    answer.members.iter().map(|m| m.row).collect()
}

#[test]
fn one_scan_for_several_launches_gives_what_each_alone_gives() {
    let trained = trained(&tables());
    let model = trained.model();
    let wuhan = MemberFilter { cities: vec!["Wuhan".into()], ..MemberFilter::default() };
    let asked = [
        request("tea", AudienceSize::Share(0.5), MemberFilter::default()),
        request("coffee", AudienceSize::Count(7), MemberFilter::default()),
        request("coffee", AudienceSize::Share(1.0), wuhan),
    ];
    let (stop, mut count) = (Stop::default(), 0);
    audiences(&model, &asked, &stop, |i, answer| {
        let alone = audience(&model, &asked[i], &stop)?;
        assert_eq!((i, &answer.members), (count, &alone.members));
        assert_eq!((answer.eligible, answer.excluded), (alone.eligible, alone.excluded));
        assert_eq!((&answer.reach, &answer.traits), (&alone.reach, &alone.traits));
        count += 1;
        Ok::<_, AudienceError>(())
    })
    .unwrap();
    assert_eq!(count, 3);
}

/// A model with a graph over its members, for which one way is made the cheapest.
fn with_costs(trained: &Trained, scanned: f64, picked: f64, walked: f64) -> Model {
    let mut model = trained.model();
    model.audience_costs = Costs { scanned, picked, walked };
    model
}

#[test]
fn every_way_leads_to_the_same_audience() {
    const RECALL: f32 = 0.95;
    let folder = tempfile::tempdir().unwrap();
    let mut tables = Tables::new();
    for p in 0..40 {
        tables.product(&format!("p{p:02},no {p},kind{}/sort{},brand{},{},,true", p % 4, p % 8, p % 5, 10 + p));
    }
    for m in 0..2000u32 {
        for k in 0..6 {
            tables.buy(&format!("m{m:04}"), &format!("p{:02}", (m * 7 + k * (4 + m % 3 * 4)) % 40), (m + k) % 90);
        }
    }
    let mut config = tables.write(folder.path());
    config.index.hnsw_min_points = 100;
    config.index.min_recall = RECALL;
    config.ranker.slices = 0;
    let trained = trained_with(folder, config.clone());
    // What not even a look at all vectors finds is worth no graph.
    let (mut without, asked) = (trained.model(), config.validate().unwrap().index);
    build_indexes(&mut without, &IndexParams { min_recall: 1.1, ..asked });
    let report = &without.member_index.report;
    assert!(report.kind == IndexKind::Exact && report.why.contains("by all vectors"), "{report:?}");
    assert_eq!(report.recall_at_10, None);
    let graph = with_costs(&trained, 1e9, 1e6, -1e9);
    assert_eq!(graph.member_index.report.kind, IndexKind::Hnsw, "{:?}", graph.member_index.report);
    let (scan, pick) = (with_costs(&trained, 0.0, 1e9, 1e9), with_costs(&trained, 1e9, 0.0, 1e9));
    let (stop, mut found) = (Stop::default(), 0.0);
    for kind in 0..8 {
        let attributes = Attributes {
            category: Some(format!("kind{}/sort{kind}", kind % 4)),
            brand: Some(format!("brand{}", kind % 5)),
            ..Attributes::default()
        };
        let request = AudienceRequest {
            subject: Subject::New(attributes),
            ..request("tea", AudienceSize::Count(20), MemberFilter::default())
        };
        let answer = |model: &Model| audience(model, &request, &stop).unwrap();
        let (scanned, picked, walked) = (answer(&scan), answer(&pick), answer(&graph));
        assert_eq!((scanned.index, scanned.scored), (IndexKind::Exact, 2000));
        assert_eq!((rows(&scanned), scanned.index), (rows(&picked), picked.index));
        assert_eq!((walked.index, walked.members.len()), (IndexKind::Hnsw, 20));
        // Ties at the border count as found.
        let worst = scanned.members[19].score - 1e-4;
        found += walked.members.iter().filter(|m| m.score >= worst).count() as f32 / 20.0 / 8.0;
        // With a filter, and for many, only the exact ways answer.
        let many = AudienceRequest { size: AudienceSize::Share(0.5), ..request.clone() };
        assert_eq!(audience(&graph, &many, &stop).unwrap().index, IndexKind::Exact);
        let filter = MemberFilter { tags: vec!["none".into()], ..MemberFilter::default() };
        let filtered = audience(&graph, &AudienceRequest { filter, ..request }, &stop).unwrap();
        assert_eq!((filtered.index, filtered.members.len()), (IndexKind::Exact, 0));
    }
    assert!(found >= RECALL, "{found}");
}

/// Launches of tea and coffee every two weeks, so that chances are known.
fn with_launches() -> Trained {
    let mut tables = Tables::new();
    for (kind, offset) in [("tea", 0), ("coffee", 1)] {
        (0..10).for_each(|p| tables.product(&format!("{kind}{p},,drinks/{kind},{kind} house,30,,true")));
        for week in (offset..30).step_by(2) {
            tables.product(&format!("new-{kind}-{week:02},,drinks/{kind},{kind} house,30,,true"));
        }
        for m in 0..60 {
            tables.member(&format!("{kind}-{m:02},,,,true,true,false,"));
            for week in 0..30 {
                tables.buy(&format!("{kind}-{m:02}"), &format!("{kind}{}", (m + week) % 10), 7 * week + m % 7);
                if week % 2 == offset && m % 3 == 0 {
                    tables.buy(&format!("{kind}-{m:02}"), &format!("new-{kind}-{week:02}"), 7 * week + 1 + m % 5);
                }
            }
        }
    }
    // Who would buy it first, and must not be asked.
    for (id, marketing, minor) in [("shy", false, false), ("kid", true, true)] {
        tables.member(&format!("{id},,,,true,{marketing},{minor},"));
        for week in 0..30 {
            tables.buy(id, &format!("tea{}", week % 10), 7 * week);
            tables.buy(id, &format!("new-tea-{:02}", week / 2 * 2), 7 * week + 1);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = tables.write(folder.path());
    config.launch.horizon_days = 14;
    config.launch.min_launches = 8;
    config.ranker.slices = 0;
    trained_with(folder, config)
}

#[tokio::test]
async fn launches_are_allocated_under_their_caps() {
    let trained = with_launches();
    let running = serve(&trained).await;
    let mut client = AudienceServiceClient::new(running.channel.clone());
    let launch = |kind: &str, value, cap| v1::LaunchToAllocate {
        attributes: Some(attributes(kind)),
        value,
        cap,
        ..Default::default()
    };
    let request = v1::AllocateLaunchesRequest {
        launches: vec![
            launch("tea", 5.0, Some(Cap::MaxMembers(15))),
            launch("coffee", 3.0, Some(Cap::Stock(4.0))),
            launch("tea", 2.0, None),
        ],
        contact_cost: 0.2,
        holdout_share: 0.5,
        ..Default::default()
    };
    let mut stream = client.allocate_launches(request.clone()).await.unwrap().into_inner();
    let Some(Allocation::Summary(summary)) = stream.message().await.unwrap().unwrap().payload else {
        panic!("the summary comes first")
    };
    let mut members = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(Allocation::Chunk(chunk)) = message.payload else { panic!("one summary") };
        members.extend(chunk.members);
    }
    assert!(members.windows(2).all(|w| w[0].member_id < w[1].member_id), "each at most one");
    assert!(members.iter().all(|m| m.member_id != "shy" && m.member_id != "kid"));
    let excluded = summary.excluded.unwrap();
    assert_eq!((excluded.no_consent_count, excluded.minor_count), (1, 1));
    let of = |launch: i32| members.iter().filter(move |m| m.launch == launch);
    assert_eq!((of(0).count(), summary.eligible_count, summary.horizon_days), (15, 120, 14));
    assert!(of(0).chain(of(2)).all(|m| m.member_id.starts_with("tea")));
    let coffee: f32 = of(1).map(|m| m.probability).sum();
    assert!((3.0..=4.001).contains(&coffee), "{coffee}");
    let values = [5.0, 3.0, 2.0];
    for member in &members {
        let worth = values[member.launch as usize] * f64::from(member.probability);
        assert!(worth > 0.2, "nobody is contacted for less than it costs: {member:?}");
    }
    let value: f64 = members.iter().map(|m| values[m.launch as usize] * f64::from(m.probability) - 0.2).sum();
    assert!((value - summary.expected_value).abs() < 1e-3);
    assert!(summary.expected_value_bound >= value && value > 0.97 * summary.expected_value_bound, "{summary:?}");
    for (number, described) in summary.launches.iter().enumerate() {
        let held_out = of(number as i32).filter(|m| m.held_out).count() as i64;
        assert_eq!((described.member_count, described.holdout_count), (of(number as i32).count() as i64, held_out));
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let trained = with_launches();
    let running = serve(&trained).await;
    let mut client = AudienceServiceClient::new(running.channel.clone());
    let violations = |status: tonic::Status| -> Vec<String> {
        use tonic_types::StatusExt;
        let details = status.get_details_bad_request().unwrap_or_else(|| panic!("{status:?}"));
        details.field_violations.into_iter().map(|v| v.field).collect()
    };
    let any = v1::MemberFilter::default;
    let mut deep = any();
    for _ in 0..5 {
        deep = v1::MemberFilter { none_of: vec![deep], ..any() };
    }
    for (filter, field) in [
        (v1::MemberFilter { segments: vec!["sleepy".into()], ..any() }, "filter.segments"),
        (
            v1::MemberFilter { max_contacts: Some(v1::MaxContacts { count: 0, days: 91 }), ..any() },
            "filter.max_contacts.days",
        ),
        (
            v1::MemberFilter {
                last_purchases: vec![v1::LastPurchase { min_days: Some(9), max_days: Some(8), ..Default::default() }],
                ..any()
            },
            "filter.last_purchases[0]",
        ),
        (
            v1::MemberFilter { any_of: vec![v1::MemberFilter { tags: vec![String::new()], ..any() }], ..any() },
            "filter.any_of[0].tags[0]",
        ),
        (deep, "filter.none_of[0].none_of[0].none_of[0].none_of[0]"),
    ] {
        assert_eq!(violations(client.find_audience(all_with(filter)).await.unwrap_err()), [field]);
    }
    let wide = v1::MemberFilter { any_of: vec![any(); 200], ..any() };
    assert!(!violations(client.find_audience(all_with(wide)).await.unwrap_err()).is_empty());
    let quota = v1::Quota { per_store: Some(-1), per_guide: Some(-1), days: 367 };
    let request = v1::FindAudienceRequest { quota: Some(quota), ..all_with(any()) };
    let expected = ["quota.per_store", "quota.per_guide", "quota.days"];
    assert_eq!(violations(client.find_audience(request).await.unwrap_err()), expected);

    let launch = || v1::LaunchToAllocate { attributes: Some(attributes("tea")), value: 1.0, ..Default::default() };
    let of =
        |launch: v1::LaunchToAllocate| v1::AllocateLaunchesRequest { launches: vec![launch], ..Default::default() };
    for (request, field) in [
        (v1::AllocateLaunchesRequest::default(), "launches"),
        (of(v1::LaunchToAllocate { attributes: None, ..launch() }), "launches[0].attributes"),
        (of(v1::LaunchToAllocate { product_id: "tea1".into(), ..launch() }), "launches[0].attributes"),
        (of(v1::LaunchToAllocate { value: -1.0, ..launch() }), "launches[0].value"),
        (of(v1::LaunchToAllocate { cap: Some(Cap::Stock(f64::NAN)), ..launch() }), "launches[0].stock"),
        (v1::AllocateLaunchesRequest { contact_cost: -1.0, ..of(launch()) }, "contact_cost"),
        (v1::AllocateLaunchesRequest { holdout_share: 2.0, ..of(launch()) }, "holdout_share"),
    ] {
        assert_eq!(violations(client.allocate_launches(request).await.unwrap_err()), [field]);
    }
    running.end().await.unwrap();
}
