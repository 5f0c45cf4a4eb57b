//! Launches of a shop whose members are known by heart: who buys what is new, and how many.
#![allow(clippy::unwrap_used)]

mod support;

use kindred::proto::v1;
use kindred::proto::v1::allocate_launches_response::Payload as Allocation;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::member_service_client::MemberServiceClient;
use kindred_models::artifact::Registry;
use kindred_models::stop::Stop;
use kindred_training::config::{LaunchParams, TrainConfig};
use kindred_training::progress::Quiet;
use kindred_training::train::evaluate_only;
use support::shop::{MEMBERS, WEEKS, launches};
use support::{TRAINED_AT, Tables, Trained, find, serve, trained, trained_with, two_tastes};
use tonic::Code;

fn params(config: &mut TrainConfig) {
    config.launch = LaunchParams { horizon_days: 14, step_days: 14, min_launches: 8, ..TrainConfig::default().launch };
    config.ranker.slices = 0;
}

fn trained_shop() -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    params(&mut config);
    trained_with(folder, config)
}

fn new_tea(size: Size) -> v1::FindAudienceRequest {
    let attributes = v1::ProductAttributes {
        category: "drinks/tea".into(),
        brand: "tea house".into(),
        price: Some(30.0),
        ..Default::default()
    };
    v1::FindAudienceRequest { attributes: Some(attributes), size: Some(size), ..Default::default() }
}

#[tokio::test]
async fn the_number_of_buyers_is_foretold() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let (summary, members) = find(&running, new_tea(Size::MemberShare(1.0))).await;
    // Of 120, every third of 60.
    let expected = summary.expected_buyers.unwrap();
    assert!((expected / 20.0 - 1.0).abs() < 0.25, "{expected}");
    assert!(summary.expected_buyers_low() <= expected && expected <= summary.expected_buyers_high());
    assert!(summary.expected_buyers_low() > 10.0 && summary.expected_buyers_high() < 40.0, "{summary:?}");
    assert_eq!((summary.horizon_days, members.len()), (14, 120));
    assert!(summary.launch_count >= 8);
    let by_member: f64 = members.iter().map(|m| f64::from(m.probability.unwrap())).sum();
    assert!((by_member - expected).abs() < 0.01 * expected);
    // Those who always buy what is new come first.
    let adopters = members[..20].iter().filter(|m| m.member_id.starts_with("tea"));
    let adopters = adopters.filter(|m| m.member_id[4..].parse::<u32>().unwrap().is_multiple_of(3)).count();
    assert!(adopters >= 18, "{adopters} of 20: {members:?}");
    let reach = &summary.reach;
    assert!(reach.windows(2).all(|w| w[0].member_count < w[1].member_count));
    assert!(reach.windows(2).all(|w| w[0].lift >= w[1].lift - 1e-9), "best first: {reach:?}");
    let last = reach.last().unwrap();
    assert_eq!(last.member_count, 120);
    assert!((last.lift - 1.0).abs() < 1e-9 && (last.expected_buyers.unwrap() - expected).abs() < 1e-6);
    running.end().await.unwrap();
}

#[tokio::test]
async fn where_too_few_were_launched_what_sells_teaches_who_tries_things() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    params(&mut config);
    config.launch.min_launches = 10_000;
    let trained = trained_with(folder, config);
    let fit = trained.model().launch.fit;
    assert!(fit.learned.is_some() && fit.expectation.is_none(), "{fit:?}");
    let running = serve(&trained).await;
    let (summary, members) = find(&running, new_tea(Size::MemberCount(20))).await;
    assert_eq!((summary.expected_buyers, summary.launch_count, summary.horizon_days), (None, 0, 0));
    let tea = members.iter().filter(|m| m.member_id.starts_with("tea") && m.probability.is_none());
    assert_eq!(tea.count(), 20);
    // Of two tastes one buys it: the best sixth is no more than about twice as likely as the mean.
    let lifts: Vec<f64> = summary.reach.iter().map(|point| point.lift).collect();
    assert!(lifts.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9) && lifts[0] > 1.2, "{lifts:?}");
    // What sells says how much it will, whether or not others were launched.
    let known =
        v1::FindAudienceRequest { product_id: "tea0".into(), attributes: None, ..new_tea(Size::MemberShare(1.0)) };
    let (summary, members) = find(&running, known).await;
    assert!(summary.expected_buyers() > 1.0 && summary.horizon_days == 14, "{summary:?}");
    assert!(members.iter().all(|m| m.probability.is_some()));
    // An allocation says the same of it, and nothing of what is new.
    let mut client = AudienceServiceClient::new(running.channel.clone());
    let launch = v1::LaunchToAllocate { product_id: "tea0".into(), value: 1.0, ..Default::default() };
    let of = |launch| v1::AllocateLaunchesRequest { launches: vec![launch], ..Default::default() };
    let mut stream = client.allocate_launches(of(launch.clone())).await.unwrap().into_inner();
    let Some(Allocation::Summary(allocated)) = stream.message().await.unwrap().unwrap().payload else { panic!() };
    assert!((allocated.launches[0].expected_buyers - summary.expected_buyers()).abs() < 0.01, "{allocated:?}");
    for (launch, code) in [
        (v1::LaunchToAllocate { product_id: "nothing".into(), ..launch.clone() }, Code::NotFound),
        (
            v1::LaunchToAllocate {
                product_id: String::new(),
                attributes: new_tea(Size::MemberCount(1)).attributes,
                ..launch
            },
            Code::FailedPrecondition,
        ),
    ] {
        assert_eq!(client.allocate_launches(of(launch)).await.unwrap_err().code(), code);
    }
    running.end().await.unwrap();
}

#[tokio::test]
async fn audiences_are_sized_by_chances_and_by_buyers() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let (all, everyone) = find(&running, new_tea(Size::MemberShare(1.0))).await;
    let (summary, members) = find(&running, new_tea(Size::ExpectedBuyers(5.0))).await;
    let chances: Vec<f64> = members.iter().map(|m| f64::from(m.probability.unwrap())).collect();
    assert!(chances.iter().sum::<f64>() >= 5.0 && chances[1..].iter().sum::<f64>() < 5.0, "no more than it takes");
    assert!((summary.expected_buyers() - chances.iter().sum::<f64>()).abs() < 1e-3);
    let least = everyone[9].probability.unwrap();
    let (_, members) = find(&running, new_tea(Size::MinProbability(f64::from(least) - 1e-6))).await;
    let above = everyone.iter().filter(|m| m.probability.unwrap() >= least).count();
    assert_eq!(members.len(), above);
    // What is out of reach is everyone.
    let (summary, _) = find(&running, new_tea(Size::ExpectedBuyers(1e6))).await;
    assert_eq!(summary.audience_count, all.eligible_count);
    let mut client = AudienceServiceClient::new(running.channel.clone());
    let question = new_tea(Size::ExpectedBuyers(5.0));
    let (found, _) = find(&running, question.clone()).await;
    let estimate = v1::EstimateAudienceRequest { audience: Some(question) };
    let estimated = client.estimate_audience(estimate).await.unwrap().into_inner().summary.unwrap();
    assert_eq!(estimated, found, "an estimate is the summary alone");
    running.end().await.unwrap();
}

#[tokio::test]
async fn buyers_of_a_product_that_sells_follow_from_its_sales() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let of = |product: &str| v1::FindAudienceRequest {
        product_id: product.into(),
        size: Some(Size::MemberShare(1.0)),
        ..Default::default()
    };
    // Six members a week, others each week, buy it again and again.
    let (summary, members) = find(&running, of("tea3")).await;
    let expected = summary.expected_buyers.unwrap();
    assert!((expected / 12.0 - 1.0).abs() < 0.2, "{summary:?}");
    assert!(summary.expected_buyers_low() < 12.0 && 12.0 < summary.expected_buyers_high());
    assert_eq!(summary.horizon_days, 14);
    assert!(members[..60].iter().all(|m| m.member_id.starts_with("tea") && m.probability.unwrap() > 0.0));
    // What was bought in its first week alone, long ago, is not bought now.
    assert!(find(&running, of("new-tea-00")).await.0.expected_buyers.unwrap() < 1.0);
    running.end().await.unwrap();
}

#[tokio::test]
async fn buyers_who_are_known_are_no_longer_expected() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let seeds = |n: u32| (0..n).map(|m| format!("tea-{:02}", 3 * m)).collect();
    let with = |n| v1::FindAudienceRequest { seed_member_ids: seeds(n), ..new_tea(Size::MemberShare(1.0)) };
    let (summary, members) = find(&running, with(10)).await;
    let expected = summary.expected_buyers.unwrap();
    assert!((expected / 10.0 - 1.0).abs() < 0.3, "twenty buy, ten of whom are known: {summary:?}");
    let by_member: f64 = members.iter().map(|m| f64::from(m.probability.unwrap())).sum();
    assert!((by_member - expected).abs() < 0.01 * expected);
    // Of seeds alone no number is made up.
    let alone = v1::FindAudienceRequest { attributes: None, ..with(10) };
    assert_eq!(find(&running, alone).await.0.expected_buyers, None);
    running.end().await.unwrap();
}

#[tokio::test]
async fn an_audience_says_what_sets_it_apart() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let (summary, members) = find(&running, new_tea(Size::MemberCount(60))).await;
    assert!(members.iter().all(|m| m.member_id.starts_with("tea")));
    let habit = |kind: v1::TraitKind, name: &str| {
        summary.traits.iter().find(|t| t.kind() == kind && t.name == name).unwrap_or_else(|| panic!("{summary:?}"))
    };
    // All 60 of them, and nobody of the 60 others.
    for (kind, name) in [(v1::TraitKind::Category, "drinks/tea"), (v1::TraitKind::Brand, "tea house")] {
        let found = habit(kind, name);
        assert_eq!((found.member_count, found.share), (60, 1.0));
        assert!((found.lift - 2.0).abs() < 1e-6, "{found:?}");
    }
    assert!(summary.traits.iter().all(|t| t.name != "drinks" && !t.name.contains("coffee")), "{summary:?}");
    // What every third member has is had by fewer than 50, and not told.
    assert!(summary.traits.iter().all(|t| t.member_count >= 50));
    let (summary, _) = find(&running, new_tea(Size::MemberCount(49))).await;
    assert_eq!(summary.traits, []);
    running.end().await.unwrap();
}

#[tokio::test]
async fn tags_set_an_audience_apart_as_members_have_them_now() {
    let folder = tempfile::tempdir().unwrap();
    let mut tables = launches();
    let ids = |kind: &str| (0..MEMBERS).map(|m| format!("{kind}-{m:02}")).collect::<Vec<_>>();
    ids("tea").iter().chain(&ids("coffee")).for_each(|id| tables.member(&format!("{id},,,,true,true,false,vip")));
    let mut config = tables.write(folder.path());
    params(&mut config);
    let trained = trained_with(folder, config);
    let running = serve(&trained).await;
    let vip = |summary: v1::AudienceSummary| summary.traits.into_iter().find(|t| t.kind() == v1::TraitKind::Tag);
    assert_eq!(vip(find(&running, new_tea(Size::MemberCount(60))).await.0), None, "all have it");
    let mut members = MemberServiceClient::new(running.channel.clone());
    for member_id in ids("coffee") {
        members.delete_member_tag(v1::DeleteMemberTagRequest { member_id, tag: "vip".into() }).await.unwrap();
    }
    let found = vip(find(&running, new_tea(Size::MemberCount(60))).await.0).unwrap();
    assert_eq!((found.name.as_str(), found.member_count, found.share, found.lift), ("vip", 60, 1.0, 2.0));
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_holdout_is_marked_and_stays_the_same() {
    let trained = trained_shop();
    let running = serve(&trained).await;
    let question =
        |seed| v1::FindAudienceRequest { holdout_share: 0.5, holdout_seed: seed, ..new_tea(Size::MemberCount(80)) };
    let held = |members: &[v1::AudienceMember]| -> Vec<String> {
        members.iter().filter(|m| m.held_out).map(|m| m.member_id.clone()).collect()
    };
    let (summary, members) = find(&running, question(1)).await;
    assert_eq!((summary.holdout_count as usize, members.len()), (held(&members).len(), 80));
    assert!((20..60).contains(&held(&members).len()));
    assert_eq!(held(&members), held(&find(&running, question(1)).await.1));
    assert_ne!(held(&members), held(&find(&running, question(2)).await.1));
    running.end().await.unwrap();
}

#[tokio::test]
async fn without_launches_no_chances_are_made_up() {
    let trained = trained(&two_tastes());
    let running = serve(&trained).await;
    let (summary, members) = find(&running, new_tea(Size::MemberCount(10))).await;
    assert_eq!((summary.expected_buyers, summary.horizon_days, summary.launch_count), (None, 0, 0));
    assert!(members.iter().all(|m| m.probability.is_none()));
    assert!(!summary.reach.is_empty() && summary.reach.iter().all(|r| r.expected_buyers.is_none() && r.lift > 0.0));
    let mut client = AudienceServiceClient::new(running.channel.clone());
    for size in [Size::MinProbability(0.1), Size::ExpectedBuyers(5.0)] {
        let status = client.find_audience(new_tea(size)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains("by count or by share"));
    }
    running.end().await.unwrap();
}

#[test]
fn one_and_several_threads_learn_the_same_of_launches() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    params(&mut config);
    let config = config.validate().unwrap();
    let learned = |threads: usize| {
        let registry = Registry::new(folder.path(), &format!("on-{threads}")).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let run = || kindred_training::train::train(&config, &registry, TRAINED_AT, &Quiet, &Stop::default());
        pool.install(run).unwrap().model.launch.fit
    };
    let one = learned(1);
    assert!(one.learned.is_some() && one.expectation.is_some());
    assert!(!one.seeds.is_empty(), "20 buyers leave others beside 3 and 10 seeds");
    assert_eq!(one, learned(3));
}

/// Members of two stores; what is new is carried by one of them, in turn, and bought there alone.
#[tokio::test]
async fn who_can_t_buy_it_at_home_comes_last() {
    let mut tables = Tables::new();
    (0..10).for_each(|p| tables.product(&format!("tea{p},,drinks/tea,tea house,30,,true")));
    for week in 0..WEEKS {
        tables.product(&format!("new{week:02},,drinks/tea,tea house,30,s{},true", week % 2));
    }
    for m in 0..2 * MEMBERS {
        tables.member(&format!("m{m:03},s{},,,true,true,false,", m % 2));
        for week in 0..WEEKS {
            tables.buy(&format!("m{m:03}"), &format!("tea{}", (m + week) % 10), 7 * week + m % 7);
            if week % 2 == m % 2 && m % 3 == 0 {
                tables.buy(&format!("m{m:03}"), &format!("new{week:02}"), 7 * week + 1 + m % 5);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = tables.write(folder.path());
    params(&mut config);
    let trained = trained_with(folder, config);
    let running = serve(&trained).await;
    for store in 0..2 {
        let mut request = new_tea(Size::MemberCount(20));
        request.attributes.as_mut().unwrap().store_ids = vec![format!("s{store}"), "elsewhere".into()];
        let (_, members) = find(&running, request).await;
        let at_home = members.iter().filter(|m| m.member_id[1..].parse::<u32>().unwrap() % 2 == store);
        assert_eq!(at_home.count(), 20, "of 40 who buy what is new, those come first who can");
    }
    running.end().await.unwrap();
}

#[test]
fn launches_of_the_held_out_days_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    params(&mut config);
    config.evaluate.test_days = 28;
    let registry = Registry::new(folder.path(), "none").unwrap();
    let evaluation =
        evaluate_only(&config.validate().unwrap(), &registry, TRAINED_AT, &Quiet, &Stop::default()).unwrap();
    let metric = |name: &str| evaluation.launches[name];
    assert!(metric("launch.launches") >= 3.0);
    assert!(metric("launch.auc") > 0.98, "{:?}", evaluation.launches);
    assert!(metric("launch.auc") >= metric("launch_prior.auc"), "{:?}", evaluation.launches);
    let replays = &evaluation.launch_replays;
    assert!(replays.launches >= 8 && replays.foretold > 0, "{replays:?}");
    assert!((0.75..1.33).contains(&replays.median_ratio) && replays.coverage > 0.7, "{replays:?}");
    let seeds: Vec<usize> = evaluation.launch_seeds.iter().map(|s| s.seeds).collect();
    assert_eq!(seeds, [3, 10], "no launch has more than 30 buyers");
    assert!(evaluation.launch_seeds.iter().all(|s| s.auc_gain.value > -0.01), "{:?}", evaluation.launch_seeds);
    let subjects: Vec<&str> = evaluation.expected.iter().map(|e| e.subject.as_str()).collect();
    assert_eq!(subjects, ["launches", "launches with 3 seeds", "launches with 10 seeds", "known products"]);
    assert!(evaluation.expected.iter().all(|e| e.audiences > 0), "{:?}", evaluation.expected);
    // Members here come back to a product after ten weeks, who bought it last last of all: that a score can't know.
    let launches = evaluation.expected.iter().filter(|e| e.subject.starts_with("launches"));
    assert!(launches.clone().all(|e| (0.7..1.4).contains(&e.median_ratio)), "{:?}", evaluation.expected);
}
