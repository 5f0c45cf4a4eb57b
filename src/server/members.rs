//! MemberService.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Datelike, NaiveDate};
use kindred_models::Model;
use kindred_models::events::DAY_SECONDS;
use kindred_models::groups::Segment;
use kindred_models::state::Profile;
use tonic::{Request, Response, Status};

use super::status::Problem;
use super::validate::{Check, MAX_TAGS, UNTRIMMED, is_written_well};
use super::{Shared, entry};
use crate::access::Caller;
use crate::clock::unix_now;
use crate::proto::v1;
use crate::proto::v1::member_service_server::{MemberService, MemberServiceServer};
use crate::store::Write;

/// Members of a request at most.
const MAX_MEMBERS: usize = 1000;
/// The first year that a member can be born in.
const FIRST_BIRTH_YEAR: i32 = 1900;
/// Days in which contacts are counted.
const CONTACT_DAYS: u16 = 30;

/// The service.
pub(super) fn service(shared: Shared) -> MemberServiceServer<Members> {
    MemberServiceServer::new(Members { shared }).max_decoding_message_size(super::MAX_TABLE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Members {
    shared: Shared,
}

#[tonic::async_trait]
impl MemberService for Members {
    async fn upsert_members(
        &self,
        request: Request<v1::UpsertMembersRequest>,
    ) -> Result<Response<v1::UpsertMembersResponse>, Status> {
        let members = request.into_inner().members;
        check_members(&members, |id| self.is_known(id))?;
        let ids: Vec<String> = members.iter().map(|member| member.member_id.clone()).collect();
        let said = members.into_iter().map(|member| (member.member_id.clone(), profile(member))).collect();
        let kept = self.shared.live.keep(Write::Members(said)).await.map_err(Problem::from)?;
        let erased = kept.of_erased.iter().filter_map(|at| ids.get(*at).cloned());
        Ok(Response::new(v1::UpsertMembersResponse { erased_member_ids: erased.collect() }))
    }

    async fn get_member(
        &self,
        request: Request<v1::GetMemberRequest>,
    ) -> Result<Response<v1::GetMemberResponse>, Status> {
        let id = request.into_inner().member_id;
        check_id(&id)?;
        let model = self.shared.live.snapshot();
        let row = model.state.find(&model, &id).ok_or_else(|| Problem::UnknownMember(id.clone()))?;
        Ok(Response::new(describe(&model, &id, row)))
    }

    async fn delete_member_tag(
        &self,
        request: Request<v1::DeleteMemberTagRequest>,
    ) -> Result<Response<v1::DeleteMemberTagResponse>, Status> {
        let v1::DeleteMemberTagRequest { member_id, tag } = request.into_inner();
        let mut check = Check::default();
        check.id("member_id", &member_id);
        check.id("tag", &tag);
        check.finish()?;
        if !self.is_known(&member_id) {
            return Err(Problem::UnknownMember(member_id).into());
        }
        self.say(member_id, Profile { deleted_tags: BTreeSet::from([tag]), ..Profile::default() }).await?;
        Ok(Response::new(v1::DeleteMemberTagResponse {}))
    }

    async fn set_consent(
        &self,
        request: Request<v1::SetConsentRequest>,
    ) -> Result<Response<v1::SetConsentResponse>, Status> {
        let v1::SetConsentRequest { member_id, personalization, marketing } = request.into_inner();
        let mut check = Check::default();
        let was_known = self.is_known(&member_id);
        check_written(&mut check, "member_id", &member_id, was_known);
        let says_something = personalization.is_some() || marketing.is_some();
        check.that(says_something, "personalization", "is required, or marketing");
        check.finish()?;
        self.say(member_id, Profile { personalization, marketing, ..Profile::default() }).await?;
        Ok(Response::new(v1::SetConsentResponse { was_known }))
    }

    async fn erase_member(
        &self,
        request: Request<v1::EraseMemberRequest>,
    ) -> Result<Response<v1::EraseMemberResponse>, Status> {
        let by = Caller::of(&request);
        let id = request.into_inner().member_id;
        let (mut check, was_known) = (Check::default(), self.is_known(&id));
        check_written(&mut check, "member_id", &id, was_known);
        check.finish()?;
        // Who was erased must not be named, not even here.
        let by = entry(&by, "EraseMember", "a member".to_owned());
        self.shared.live.keep(Write::Erase(id, by)).await.map_err(Problem::from)?;
        Ok(Response::new(v1::EraseMemberResponse { was_known }))
    }
}

impl Members {
    /// Whether anything is known of a member.
    fn is_known(&self, id: &str) -> bool {
        let model = self.shared.live.snapshot();
        model.state.find(&model, id).is_some()
    }

    /// Keeps what is said of one member.
    async fn say(&self, id: String, said: Profile) -> Result<(), Problem> {
        let kept = self.shared.live.keep(Write::Members(vec![(id.clone(), said)])).await?;
        if kept.of_erased.is_empty() { Ok(()) } else { Err(Problem::UnknownMember(id)) }
    }
}

fn check_id(id: &str) -> Result<(), Problem> {
    let mut check = Check::default();
    check.id("member_id", id);
    check.finish()
}

/// An id that something is said of. One that nobody knows with a space at an end is mostly a slip: who opts out under it does
/// not.
fn check_written(check: &mut Check, field: &str, id: &str, is_known: bool) {
    check.id(field, id);
    check.that(is_known || is_written_well(id), field, UNTRIMMED);
}

fn check_members(members: &[v1::Member], is_known: impl Fn(&str) -> bool) -> Result<(), Problem> {
    let mut check = Check::default();
    check.that(!members.is_empty(), "members", "is required");
    let most = format!("must not have more than {MAX_MEMBERS} entries");
    check.that(members.len() <= MAX_MEMBERS, "members", &most);
    let mut seen = HashSet::new();
    for (at, member) in members.iter().take(MAX_MEMBERS).enumerate() {
        let field = |name: &str| format!("members[{at}].{name}");
        check_written(&mut check, &field("member_id"), &member.member_id, is_known(&member.member_id));
        check.that(seen.insert(&member.member_id), &field("member_id"), "must not be named twice");
        for (name, text) in [("store_id", &member.store_id), ("city", &member.city), ("guide_id", &member.guide_id)] {
            check.text(&field(name), text.as_deref().unwrap_or(""), 256);
        }
        check.ids(&field("tags"), &member.tags, MAX_TAGS);
        let is_day = member.birthday.as_deref().is_none_or(|text| text.is_empty() || birthday(text).is_some());
        check.that(is_day, &field("birthday"), "must be a day such as 1990-01-31, from 1900 up to today");
    }
    check.finish()
}

fn birthday(text: &str) -> Option<NaiveDate> {
    let born = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    // Where clocks are ahead it is tomorrow already.
    let tomorrow = DateTime::from_timestamp(unix_now() + DAY_SECONDS, 0)?.date_naive();
    (born.year() >= FIRST_BIRTH_YEAR && born <= tomorrow).then_some(born)
}

fn profile(member: v1::Member) -> Profile {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Profile {
        store: given(member.store_id),
        city: given(member.city),
        guide: given(member.guide_id),
        tags: member.tags.into_iter().collect(),
        deleted_tags: BTreeSet::new(),
        birthday: member.birthday.as_deref().and_then(birthday),
        personalization: member.consent_personalization,
        marketing: member.consent_marketing,
        minor: member.minor,
    }
}

fn describe(model: &Model, id: &str, row: u32) -> v1::GetMemberResponse {
    let (state, members) = (&model.state, &model.members);
    let (consent, said) = (state.consent(model, row), state.profile(row).cloned().unwrap_or_default());
    let learned = members.tags.row(row).iter().map(|tag| members.tag_names.get(*tag).to_owned());
    let mut tags: BTreeSet<String> = learned.filter(|tag| said.has_tag(tag) != Some(false)).collect();
    tags.extend(said.tags);
    let text = |labels: &kindred_models::strings::Labels| labels.get(row).map(str::to_owned);
    let member = v1::Member {
        member_id: id.to_owned(),
        store_id: said.store.or_else(|| text(&members.stores)),
        city: said.city.or_else(|| text(&members.cities)),
        guide_id: said.guide.or_else(|| text(&members.guides)),
        tags: tags.into_iter().collect(),
        birthday: said.birthday.map(|day| day.to_string()),
        consent_personalization: Some(consent.personalization),
        consent_marketing: Some(consent.marketing),
        minor: Some(consent.minor),
    };
    let bought = || state.pasts(model, row).list.iter().filter(|past| past.count > 0).count();
    let now = state.now(model);
    let since = state.contact_count(row, now, CONTACT_DAYS);
    let days = CONTACT_DAYS.saturating_sub(state.days_passed(model));
    let learned = model.groups.contacts.as_ref().map_or(0, |contacts| contacts.of(row, days));
    v1::GetMemberResponse {
        member: Some(member),
        segment: model.segment(row).map_or("", Segment::name).to_owned(),
        product_count: if consent.personalization { bought() as i64 } else { 0 },
        contact_count: (since + learned) as i64,
        event_count: state.member(row).map_or(0, |member| member.events.len()) as i64,
        in_version: (row as usize) < members.len(),
        model_version: model.info.version.clone(),
    }
}
