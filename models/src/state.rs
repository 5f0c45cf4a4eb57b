//! State: what happened since a model learned, as one immutable snapshot.
//!
//! A version is frozen; members buy, opt out and leave by the minute. The state says what is different now. It is
//! bound to the rows of one model, and stands in it ([`Model::state`]), so that whoever answers sees one snapshot of
//! both. Its maps share what did not change: a copy costs a few pointers.

mod bought;
mod catalogue;
mod contact;
mod described;
mod interest;
mod kept;
mod member;
mod past;
mod profile;

use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use rpds::{HashTrieMapSync, HashTrieSetSync};

use crate::catalogue::Consent;
use crate::events::{Counting, DAY_SECONDS, Kind};
use crate::history::UNKNOWN_DAYS;
use crate::model::Model;
use crate::popularity::Bought;
use crate::rowmap::RowMap;
use crate::strings::NONE;

use described::Described;

pub(crate) use catalogue::extended;
pub use catalogue::{Analogues, ProductPatch};
pub use contact::{LiveContact, LoadedContacts, NO_CHANNEL};
pub use described::{Said, TagChange};
pub use interest::{LoadedInterest, SEEN_DAYS};
pub use kept::{KEPT_EVENTS, KEPT_FILE, Kept, hash, store_name};
pub use member::{LiveEvent, LiveMember};
pub use past::Pasts;
pub use profile::{ADULT_YEARS, Profile};

/// Channels that are told apart, at most: the version's first.
pub const MAX_CHANNELS: usize = 1000;

/// What happened since a model learned. The default: nothing.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Moment of the newest event; 0 before the first.
    newest: i64,
    /// What the clock shows, for ages; 0 where nobody said.
    clock: i64,
    /// Moment that `bought` is counted from.
    counted_from: i64,
    /// By row: rows of the model, and after them those of members whom it does not know, as they were heard of.
    members: RowMap<Arc<LiveMember>>,
    /// Rows of members whom the model does not know.
    strangers: HashTrieMapSync<Arc<str>, u32>,
    /// Strangers ever heard of.
    numbered: u32,
    /// Members of the model of whom something was said that it does not know.
    described: Arc<Described>,
    /// Members of the model who did something.
    acted: Arc<RoaringBitmap>,
    /// Contacts that were known when the model was loaded; those of a member that changed since stand with the member, too.
    loaded: Arc<LoadedContacts>,
    /// Messages of others that the model learned of.
    told: Arc<LoadedContacts>,
    /// What members were interested in lately before the model learned.
    interest: Arc<LoadedInterest>,
    /// Members of the model of whom a contact is new or changed since.
    contacted: Arc<RoaringBitmap>,
    /// Members of the model who bought a product that was added since.
    bought_added: RowMap<Arc<RoaringBitmap>>,
    /// Members of the model who must be forgotten.
    erased: Arc<RoaringBitmap>,
    /// Hashes of the ids of all who must be forgotten, whoever knows them.
    tombstones: HashTrieSetSync<String>,
    /// What these are hashed with.
    hash_key: [u8; 32],
    /// Days for which a member who complained of a message is left alone; 0 for none.
    rest_days: u32,
    /// Members who ever complained of one; some of them may have been heard of otherwise since.
    complained: Arc<RoaringBitmap>,
    /// Purchases less refunds by product, as popularity counts them, at the moment `counted_from`.
    bought: RowMap<[f32; 3]>,
    /// The same as the first of these by store, city, channel and daypart that the model knows.
    bought_in: [RowMap<Bought>; 4],
    /// Names of channels, as they were heard of.
    channels: Arc<Vec<String>>,
    /// How the model counts.
    counting: Counting,
}

/// What is taken over when a model is loaded, and hardly changes.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Messages that the model did not learn of.
    pub contacts: LoadedContacts,
    /// Messages of others that it learned of: how many each member got, and on which days, and no more of them.
    pub told: LoadedContacts,
    /// What members were interested in lately before the model learned.
    pub interest: LoadedInterest,
}

impl State {
    /// Nothing happened yet since a model.
    pub fn of(model: &Model) -> Self {
        let channels = model.popularity.channels.names.iter().take(MAX_CHANNELS / 2).map(str::to_owned).collect();
        Self { counting: Counting::of(&model.info.parameters), channels: Arc::new(channels), ..Self::default() }
    }

    /// The same, with the key of the hashes that are left of who must be forgotten.
    pub fn with_hash_key(self, hash_key: [u8; 32]) -> Self {
        Self { hash_key, ..self }
    }

    /// The same, with the days for which a member who complained of a message is left alone.
    pub fn with_rest_days(self, rest_days: u32) -> Self {
        Self { rest_days, ..self }
    }

    /// How the model counts.
    pub fn counting(&self) -> &Counting {
        &self.counting
    }

    /// Moment of the newest event that the model or the state knows, in unix seconds.
    pub fn now(&self, model: &Model) -> i64 {
        self.newest.max(model.info.as_of_time)
    }

    /// Says what the clock shows, in unix seconds: the answering code has none.
    pub fn set_clock(&mut self, now: i64) {
        self.clock = now;
    }

    /// Seconds from the model's newest event to the newest of all; 0 for a model whose events have no time.
    pub fn passed(&self, model: &Model) -> i64 {
        if model.info.as_of_time > 0 { self.now(model) - model.info.as_of_time } else { 0 }
    }

    /// The same in whole days, [`UNKNOWN_DAYS`] at most.
    pub fn days_passed(&self, model: &Model) -> u16 {
        u16::try_from(self.passed(model) / DAY_SECONDS).unwrap_or(UNKNOWN_DAYS)
    }

    /// Whether the history of a member of the model, and what they allow, are as it learned them. Who was erased is not
    /// asked for here.
    pub(crate) fn is_as_learned(&self, row: u32) -> bool {
        !self.acted.contains(row) && !self.described.of(Said::Consent).contains(row)
    }

    /// Members of the model of whose history anything is new, or of what they allow.
    pub fn changed(&self) -> RoaringBitmap {
        self.acted.as_ref() | self.described.of(Said::Consent) | self.erased.as_ref()
    }

    /// The row of a member whom the model or the state knows.
    pub fn find(&self, model: &Model, id: &str) -> Option<u32> {
        let known = model.members.ids.find(id).or_else(|| self.strangers.get(id).copied())?;
        (!self.is_erased(known)).then_some(known)
    }

    /// The row of a member of the model whose purchases may be looked at, if there are any.
    pub fn find_readable(&self, model: &Model, id: &str) -> Option<u32> {
        self.find(model, id).filter(|row| (*row as usize) < model.members.len() && self.may_be_read(model, *row))
    }

    /// What is new of a member.
    pub fn member(&self, row: u32) -> Option<&LiveMember> {
        self.members.get(&row).map(Arc::as_ref)
    }

    /// What was said of a member, and the model does not know.
    pub fn profile(&self, row: u32) -> Option<&Profile> {
        self.member(row)?.profile.as_deref()
    }

    /// Whether a member of the model must be forgotten.
    pub fn is_erased(&self, row: u32) -> bool {
        self.erased.contains(row)
    }

    /// Whether the member of an id must be forgotten, be they known or not.
    pub fn is_forgotten(&self, member_id: &str) -> bool {
        !self.tombstones.is_empty() && self.tombstones.contains(&hash(&self.hash_key, member_id))
    }

    /// What a member allows now; nothing, where nothing was ever said of it.
    pub fn consent(&self, model: &Model, row: u32) -> Consent {
        if self.is_erased(row) {
            return Consent { personalization: false, marketing: false, minor: false };
        }
        let learned = model.members.consent(row);
        if (row as usize) < model.members.len() && !self.described.of(Said::Consent).contains(row) {
            return learned;
        }
        let (is_young, now) = (model.members.is_young(row), self.clock.max(self.now(model)));
        self.profile(row).map_or(learned, |profile| profile.consent(learned, is_young, now))
    }

    /// Whether what the model knows of a member may be used: not if they took that back since.
    pub fn may_be_read(&self, model: &Model, row: u32) -> bool {
        // Asked of every neighbour of every visitor.
        if self.described.of(Said::Consent).is_empty() && self.erased.is_empty() {
            return true;
        }
        self.consent(model, row).personalization || !model.members.consent(row).personalization
    }

    /// Members of the model who must be forgotten.
    pub fn erased(&self) -> &RoaringBitmap {
        &self.erased
    }

    /// Names of the channels that events and contacts are numbered by.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// The number of a channel, a new one for what nobody has heard of.
    pub fn channel(&mut self, name: Option<&str>) -> u16 {
        let Some(name) = name else { return NO_CHANNEL };
        if let Some(known) = self.channels.iter().position(|known| known == name) {
            return known as u16;
        }
        if self.channels.len() == MAX_CHANNELS {
            return NO_CHANNEL;
        }
        Arc::make_mut(&mut self.channels).push(name.to_owned());
        (self.channels.len() - 1) as u16
    }

    /// What a member did, and in which store if that was said. Events may come in any order, each once.
    pub fn record(&mut self, model: &Model, member_id: &str, event: LiveEvent, store: Option<&str>) {
        let row = self.row(model, member_id);
        if self.is_erased(row) {
            return;
        }
        self.newest = self.newest.max(event.time);
        if event.kind == Kind::Contact {
            let contact = LiveContact::by_others(event);
            return self.contact(model, member_id, contact);
        }
        self.member_mut(row).add(event);
        if (row as usize) < model.members.len() && !self.acted.contains(row) {
            Arc::make_mut(&mut self.acted).insert(row);
        }
        let sign = match event.kind {
            Kind::Purchase => 1.0,
            Kind::Refund => -1.0,
            _ => return,
        };
        if event.product != NONE {
            self.count(model, row, event, store, sign);
            self.note_buyer(model, row, event.product);
        }
    }

    /// What is said of a member now, in all. What the model has learned of it by now is not remembered twice: every
    /// audience looks at all that is.
    pub fn describe(&mut self, model: &Model, member_id: &str, profile: Profile) {
        let row = self.row(model, member_id);
        if self.is_erased(row) {
            return;
        }
        if row as usize >= model.members.len() {
            self.member_mut(row).profile = Some(Arc::new(profile));
            return;
        }
        let profile = profile.beyond(&model.members, row, self.clock.max(self.now(model)));
        let says_more = profile != Profile::default();
        let before = self.member(row).and_then(|member| member.profile.clone());
        if says_more || before.is_some() {
            Arc::make_mut(&mut self.described).note(row, &before.unwrap_or_default(), &profile);
            self.member_mut(row).profile = says_more.then(|| Arc::new(profile));
        }
    }

    /// Forgets a member.
    pub fn erase(&mut self, model: &Model, member_id: &str) {
        self.tombstones.insert_mut(hash(&self.hash_key, member_id));
        if let Some(row) = model.members.ids.find(member_id) {
            self.forget(&[row]);
        }
        if let Some(row) = self.strangers.get(member_id).copied() {
            self.strangers.remove_mut(member_id);
            self.members.remove_mut(&row);
        }
    }

    /// Forgets the members whose ids have these hashes: every id is looked at.
    pub fn erase_all(&mut self, model: &Model, hashes: &[String]) {
        hashes.iter().for_each(|hash| self.tombstones.insert_mut(hash.clone()));
        let is_meant = |id: &str| self.is_forgotten(id);
        let of_model =
            (0..model.members.len() as u32).into_par_iter().filter(|row| is_meant(model.members.ids.get(*row)));
        let strangers = self.strangers.iter().filter(|(id, _)| is_meant(id)).map(|(id, row)| (id.clone(), *row));
        let (of_model, strangers): (Vec<u32>, Vec<_>) = (of_model.collect(), strangers.collect());
        self.forget(&of_model);
        for (id, row) in strangers {
            self.strangers.remove_mut(&id);
            self.members.remove_mut(&row);
        }
    }

    fn forget(&mut self, rows: &[u32]) {
        for row in rows {
            let before = self.profile(*row).cloned().unwrap_or_default();
            Arc::make_mut(&mut self.described).note(*row, &before, &Profile::default());
            self.members.remove_mut(row);
            Arc::make_mut(&mut self.erased).insert(*row);
            Arc::make_mut(&mut self.acted).remove(*row);
            Arc::make_mut(&mut self.contacted).remove(*row);
            Arc::make_mut(&mut self.complained).remove(*row);
        }
    }

    /// What is new of a member, to be changed: copied once if a snapshot has it, and not for each change.
    fn member_mut(&mut self, row: u32) -> &mut LiveMember {
        if !self.members.contains_key(&row) {
            self.members.insert_mut(row, Arc::default());
        }
        // It was just put there.
        #[allow(clippy::unwrap_used)]
        Arc::make_mut(self.members.get_mut(&row).unwrap())
    }

    /// The row of a member, a new one for whom nobody has heard of.
    fn row(&mut self, model: &Model, id: &str) -> u32 {
        if let Some(row) = model.members.ids.find(id).or_else(|| self.strangers.get(id).copied()) {
            return row;
        }
        // Rows beyond what 32 bits count are nobody's: no base is that large, see `read_ids`.
        let row = u32::try_from(model.members.len()).unwrap_or(NONE).saturating_add(self.numbered);
        self.numbered += 1;
        self.strangers.insert_mut(id.into(), row);
        row
    }
}
