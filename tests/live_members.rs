//! What members say holds at once, and what is said of them: consent, erasure, profiles, contacts.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::proto::v1::audience_service_client::AudienceServiceClient;
use kindred::proto::v1::batch_service_client::BatchServiceClient;
use kindred::proto::v1::find_audience_request::Size;
use kindred::proto::v1::find_audience_response::Payload;
use support::live::{audience, event, feed, ids, member, members, record, set_consent};
use support::{Running, serve_with, trained, two_tastes};
use tonic::Code;
use tonic::transport::Endpoint;

on_both!(
    what_members_without_consent_do_chooses_nobody,
    consent_holds_at_once_in_both_directions,
    an_audience_that_is_being_read_names_nobody_who_opted_out,
    an_erased_member_is_gone_at_once_and_stays_so,
    an_erased_member_whom_no_version_knows_is_not_scored,
    members_are_what_was_last_said_of_them,
    a_slip_in_an_id_is_told,
    contacts_count_at_once,
    who_was_asleep_and_buys_is_active_at_once,
    nothing_of_an_erased_member_stays_in_the_file,
);

async fn consent_holds_at_once_in_both_directions(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    assert!(feed(&running, "t1", true).await.personalized);
    set_consent(&running, "t1", Some(false), None).await;
    let stranger = feed(&running, "nobody", true).await;
    let opted_out = feed(&running, "t1", true).await;
    assert!(!opted_out.personalized);
    assert_eq!(ids(&opted_out), ids(&stranger), "the popular feed");
    let (_, found) = audience(&running, None).await;
    assert!(!found.contains(&"t1".to_owned()), "what the version knows of them may not choose them either");
    assert!(found.contains(&"t2".to_owned()) && !found.contains(&"shy".to_owned()));
    set_consent(&running, "t2", None, Some(false)).await;
    set_consent(&running, "shy", None, Some(true)).await;
    let (summary, found) = audience(&running, None).await;
    assert!(!found.contains(&"t2".to_owned()) && found.contains(&"shy".to_owned()));
    assert_eq!(summary.excluded.unwrap().no_consent_count, 2);
    assert!(feed(&running, "t2", true).await.personalized, "feeds may still know them");
    set_consent(&running, "t1", Some(true), None).await;
    assert!(feed(&running, "t1", true).await.personalized);
    running.end().await.unwrap();
}

async fn an_audience_that_is_being_read_names_nobody_who_opted_out(state: StateConfig) {
    let mut tables = two_tastes();
    (0..3000).for_each(|m| tables.member(&format!("quiet{m},s1,Wuhan,g0,true,true,false,")));
    let trained = trained(&tables);
    let running = serve_with(&trained, state).await;
    let (_, mut before) = audience(&running, None).await;
    // The server makes one chunk at most beyond what the client has room for.
    let endpoint = Endpoint::from_shared(format!("http://{}", running.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(64).connect().await.unwrap();
    let request = v1::FindAudienceRequest {
        attributes: Some(v1::ProductAttributes { category: "drinks/tea".to_owned(), ..Default::default() }),
        size: Some(Size::MemberShare(1.0)),
        ..Default::default()
    };
    let mut stream = AudienceServiceClient::new(channel).find_audience(request).await.unwrap().into_inner();
    set_consent(&running, &before.pop().unwrap(), None, Some(false)).await;
    let erase = v1::EraseMemberRequest { member_id: before.pop().unwrap() };
    members(&running).erase_member(erase).await.unwrap();
    let mut named = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(Payload::Chunk(chunk)) = message.payload {
            named.extend(chunk.members.into_iter().map(|member| member.member_id));
        }
    }
    assert!(named == before, "{} of {}", named.len(), before.len());
    running.end().await.unwrap();
}

async fn an_erased_member_is_gone_at_once_and_stays_so(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    record(&running, vec![event("e1", "t1", "tea9", v1::EventKind::Purchase)]).await;
    let request = v1::EraseMemberRequest { member_id: "t1".to_owned() };
    members(&running).erase_member(request.clone()).await.unwrap();
    members(&running).erase_member(request).await.unwrap();
    let gone = async |running: &Running| {
        assert!(!feed(running, "t1", true).await.personalized);
        assert_eq!(member(running, "t1").await.unwrap_err().code(), Code::NotFound);
        let (summary, found) = audience(running, None).await;
        assert!(!found.contains(&"t1".to_owned()));
        assert_eq!(summary.excluded.unwrap().erased_count, 1);
        let ids = ["t0", "t1", "t2"].map(str::to_owned).to_vec();
        let asked = v1::ScoreMembersRequest { member_ids: ids, top: 1, ..v1::ScoreMembersRequest::default() };
        let mut batch = BatchServiceClient::new(running.channel.clone());
        let answer = batch.score_members(tokio_stream::iter([asked])).await.unwrap().into_inner().message().await;
        let scored = answer.unwrap().unwrap().members;
        assert_eq!(scored.iter().map(|m| m.member_id.as_str()).collect::<Vec<_>>(), ["t0", "t2"]);
        let kept = record(
            running,
            vec![event("e9", "t1", "tea9", v1::EventKind::Purchase), event("e8", "t2", "tea9", v1::EventKind::View)],
        )
        .await;
        assert_eq!((kept.accepted_count + kept.duplicate_count, kept.refused[0].index), (1, 0));
        let back = v1::Member { member_id: "t1".to_owned(), ..v1::Member::default() };
        let back = members(running).upsert_members(v1::UpsertMembersRequest { members: vec![back] }).await.unwrap();
        assert_eq!(back.into_inner().erased_member_ids, ["t1"]);
    };
    gone(&running).await;
    running.end().await.unwrap();
    let running = serve_with(&trained, state.clone()).await;
    gone(&running).await;
    running.end().await.unwrap();
}

async fn an_erased_member_whom_no_version_knows_is_not_scored(state: StateConfig) {
    let trained = trained(&two_tastes());
    for is_restarted in [false, true] {
        let running = serve_with(&trained, state.clone()).await;
        if !is_restarted {
            let request = v1::EraseMemberRequest { member_id: "elsewhere".to_owned() };
            members(&running).erase_member(request).await.unwrap();
        }
        let ids = ["elsewhere", "nobody"].map(str::to_owned).to_vec();
        let asked = v1::ScoreMembersRequest { member_ids: ids, top: 1, ..v1::ScoreMembersRequest::default() };
        let mut batch = BatchServiceClient::new(running.channel.clone());
        let answer = batch.score_members(tokio_stream::iter([asked])).await.unwrap().into_inner().message().await;
        let scored = answer.unwrap().unwrap().members;
        assert_eq!(scored.iter().map(|m| m.member_id.as_str()).collect::<Vec<_>>(), ["nobody"], "{is_restarted}");
        running.end().await.unwrap();
    }
}

async fn a_slip_in_an_id_is_told(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state).await;
    let consent =
        |id: &str| v1::SetConsentRequest { member_id: id.to_owned(), marketing: Some(false), ..Default::default() };
    let erase = |id: &str| v1::EraseMemberRequest { member_id: id.to_owned() };
    for slip in ["t1 ", "\tt1", "t1\n"] {
        let refused = members(&running).set_consent(consent(slip)).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("space"), "{refused:?}");
        assert_eq!(members(&running).erase_member(erase(slip)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // Nor is a member made of one, as whom somebody could opt out.
    let told = ["t1 ", " "].map(|slip| event(&format!("e{slip}"), slip, "tea1", v1::EventKind::Purchase));
    assert_eq!(record(&running, told.to_vec()).await.refused.len(), 2);
    assert!(members(&running).set_consent(consent("t1 ")).await.is_err());
    let tag = v1::DeleteMemberTagRequest { member_id: "T1".to_owned(), tag: "vip".to_owned() };
    assert_eq!(members(&running).delete_member_tag(tag).await.unwrap_err().code(), Code::NotFound);
    assert!(members(&running).set_consent(consent("t1")).await.unwrap().into_inner().was_known);
    assert!(!members(&running).set_consent(consent("T1")).await.unwrap().into_inner().was_known);
    assert!(!members(&running).erase_member(erase("T3")).await.unwrap().into_inner().was_known);
    assert!(members(&running).erase_member(erase("t3")).await.unwrap().into_inner().was_known);
    running.end().await.unwrap();
}

async fn members_are_what_was_last_said_of_them(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let mut client = members(&running);
    let moved = v1::Member {
        member_id: "t3".to_owned(),
        city: Some("Beijing".to_owned()),
        tags: vec!["gold".to_owned()],
        ..v1::Member::default()
    };
    let new = v1::Member {
        member_id: "new".to_owned(),
        store_id: Some("s1".to_owned()),
        consent_personalization: Some(true),
        birthday: Some("2020-02-29".to_owned()),
        ..v1::Member::default()
    };
    client.upsert_members(v1::UpsertMembersRequest { members: vec![moved, new] }).await.unwrap();
    let tag = v1::DeleteMemberTagRequest { member_id: "t3".to_owned(), tag: "vip".to_owned() };
    client.delete_member_tag(tag).await.unwrap();
    let known = member(&running, "t3").await.unwrap().member.unwrap();
    assert_eq!((known.city.as_deref(), known.store_id.as_deref()), (Some("Beijing"), Some("s2")));
    assert_eq!(known.tags, ["gold"], "vip was deleted");
    let of = |filter: v1::MemberFilter| audience(&running, Some(filter));
    let in_beijing = of(v1::MemberFilter { cities: vec!["Beijing".to_owned()], ..v1::MemberFilter::default() }).await.1;
    assert_eq!(in_beijing, ["t3"]);
    let in_chengdu = of(v1::MemberFilter { cities: vec!["Chengdu".to_owned()], ..v1::MemberFilter::default() }).await.1;
    assert!(!in_chengdu.contains(&"t3".to_owned()) && in_chengdu.contains(&"t1".to_owned()));
    let vips = of(v1::MemberFilter { tags: vec!["vip".to_owned()], ..v1::MemberFilter::default() }).await.1;
    assert!(!vips.contains(&"t3".to_owned()) && vips.contains(&"t6".to_owned()));
    let again = v1::Member {
        member_id: "t3".to_owned(),
        tags: vec!["vip".to_owned()],
        birthday: Some(String::new()),
        ..v1::Member::default()
    };
    client.upsert_members(v1::UpsertMembersRequest { members: vec![again] }).await.unwrap();
    let vips = of(v1::MemberFilter { tags: vec!["vip".to_owned()], ..v1::MemberFilter::default() }).await.1;
    assert!(vips.contains(&"t3".to_owned()), "as the version knows");
    assert_eq!(member(&running, "t3").await.unwrap().member.unwrap().tags, ["gold", "vip"]);
    let child = member(&running, "new").await.unwrap();
    let described = child.member.unwrap();
    assert_eq!((child.in_version, described.minor), (false, Some(true)));
    assert_eq!(described.birthday.as_deref(), Some("2020-02-29"));
    record(&running, vec![event("n1", "new", "tea1", v1::EventKind::Purchase)]).await;
    let page = feed(&running, "new", false).await;
    assert!(page.personalized && !ids(&page).contains(&"tea1"), "a member whom no version knows");
    let refused =
        v1::Member { member_id: "x".to_owned(), birthday: Some("31.1.1990".to_owned()), ..v1::Member::default() };
    let refused = client.upsert_members(v1::UpsertMembersRequest { members: vec![refused] }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    running.end().await.unwrap();
}

async fn who_was_asleep_and_buys_is_active_at_once(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    let of = async |segment: &str| {
        let filter = v1::MemberFilter { segments: vec![segment.to_owned()], ..v1::MemberFilter::default() };
        audience(&running, Some(filter)).await.1
    };
    let active = of("active").await;
    assert!(active.contains(&"t25".to_owned()) && !active.contains(&"t4".to_owned()), "at the version's moment");
    record(&running, vec![event("s1", "t4", "tea1", v1::EventKind::Purchase)]).await;
    assert_eq!(of("active").await, ["t4"], "years later");
    assert_eq!(member(&running, "t4").await.unwrap().segment, "active");
    assert_eq!(member(&running, "t5").await.unwrap().segment, "asleep");
    set_consent(&running, "t4", Some(false), None).await;
    assert!(of("active").await.is_empty());
    assert_eq!(member(&running, "t4").await.unwrap().segment, "", "nothing of them is read");
    let message = event("s2", "stranger", "", v1::EventKind::Contact);
    record(&running, vec![message]).await;
    assert_eq!(member(&running, "stranger").await.unwrap().segment, "", "who bought nothing is in none");
    running.end().await.unwrap();
}

async fn contacts_count_at_once(state: StateConfig) {
    let mut tables = two_tastes();
    tables.event("t5", "tea1", 59, "contact");
    let trained = trained(&tables);
    let running = serve_with(&trained, state.clone()).await;
    let rested =
        v1::MemberFilter { max_contacts: Some(v1::MaxContacts { count: 0, days: 30 }), ..v1::MemberFilter::default() };
    let mut contact = event("k1", "t4", "", v1::EventKind::Contact);
    contact.product_id.clear();
    record(&running, vec![contact]).await;
    let (summary, found) = audience(&running, Some(rested)).await;
    assert!(!found.contains(&"t4".to_owned()));
    assert_eq!(summary.excluded.unwrap().contact_count, 1, "the one of long ago is no longer in the 30 days up to now");
    assert_eq!(member(&running, "t4").await.unwrap().contact_count, 1);
    running.end().await.unwrap();
}

async fn nothing_of_an_erased_member_stays_in_the_file(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    record(&running, vec![event("an-event", "forget-me", "tea9", v1::EventKind::Purchase)]).await;
    set_consent(&running, "forget-me", Some(true), None).await;
    // Of PostgreSQL's files this program knows nothing; there, the rows are gone.
    let mentions = || {
        let files = ["kindred.db", "kindred.db-wal"].map(|name| trained.registry.folder().join(name));
        let bytes = files.iter().flat_map(|file| std::fs::read(file).unwrap_or_default()).collect::<Vec<u8>>();
        bytes.windows(9).filter(|window| *window == b"forget-me").count()
    };
    assert!(mentions() > 0 || !state.url.is_empty());
    members(&running).erase_member(v1::EraseMemberRequest { member_id: "forget-me".to_owned() }).await.unwrap();
    let wait = async {
        while mentions() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), wait).await.expect("overwritten soon");
    running.end().await.unwrap();
}

async fn what_members_without_consent_do_chooses_nobody(state: StateConfig) {
    let trained = trained(&two_tastes());
    let running = serve_with(&trained, state.clone()).await;
    set_consent(&running, "shy", None, Some(true)).await;
    let buys = |id: &str, member: &str| event(id, member, "tea9", v1::EventKind::Purchase);
    record(&running, vec![buys("e1", "shy"), buys("e2", "t4")]).await;
    let today = v1::LastPurchase { max_days: Some(1), ..v1::LastPurchase::default() };
    let filter = v1::MemberFilter { last_purchases: vec![today], ..v1::MemberFilter::default() };
    let (_, found) = audience(&running, Some(filter)).await;
    assert_eq!(found, ["t4"]);
    running.end().await.unwrap();
}
