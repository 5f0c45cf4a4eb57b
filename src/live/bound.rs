//! What was kept, bound to the rows of one version.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kindred_models::Model;
use kindred_models::events::{Counting, DAY_SECONDS, Kind};
use kindred_models::model::ModelInfo;
use kindred_models::outreach::{Held, Place};
use kindred_models::state::{Analogues, LiveContact, LiveEvent, Loaded, MAX_CHANNELS, ProductPatch, State, store_name};
use kindred_models::strings::NONE;

use crate::clock::unix_now;
use crate::store::{Change, Changes, ContactNow, From};

/// Products that are not known, and that events or messages name, to be remembered at most.
const MOST_UNKNOWN: usize = 100_000;
/// Time between two counts of what is popular.
const RANK_EVERY: Duration = Duration::from_secs(1);

/// A version with what happened since.
#[derive(Debug)]
pub(super) struct Bound {
    /// The number of the last change that it knows.
    pub(super) seq: i64,
    /// Which events the version did not learn from.
    pub(super) unlearned: From,
    /// Whether an event came since popularity was last counted: it fades with the newest of any kind.
    pub(super) is_unranked: bool,
    ranked_at: Option<Instant>,
    /// What answers.
    pub(super) served: Model,
    /// The version as it was loaded.
    learned: Arc<Model>,
    /// The same with the products as they are now.
    catalogued: Model,
    /// What was said of products and the version does not know, in the order in which they were first heard of.
    products: Vec<(String, ProductPatch)>,
    product_rows: HashMap<String, usize>,
    /// Whether `catalogued` does not have all of that.
    is_catalogue_old: bool,
    /// The products most like those that were added.
    analogues: Analogues,
    /// Products that something names and nobody described.
    unknown_products: HashSet<String>,
    /// Whether one of these was described since: what names it is known once the version is loaded again.
    pub(super) is_outdated: bool,
}

/// What the state of every version is begun with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// What ids of those who must be forgotten are hashed with.
    pub(super) hash_key: [u8; 32],
    /// Days for which a member who complained of a message is left alone.
    pub(super) rest_days: u32,
}

impl Bound {
    /// A version of which nothing is known since.
    pub(super) fn new(model: Model, Beginning { hash_key, rest_days }: Beginning) -> Self {
        let unlearned = unlearned(&model.info, &hash_key);
        let mut model = model;
        model.state = State::of(&model).with_hash_key(hash_key).with_rest_days(rest_days);
        model.state.set_clock(unix_now());
        Self {
            seq: 0,
            unlearned,
            is_unranked: false,
            ranked_at: None,
            served: model.clone(),
            catalogued: model.clone(),
            learned: Arc::new(model),
            products: Vec::new(),
            product_rows: HashMap::new(),
            is_catalogue_old: false,
            analogues: Analogues::default(),
            unknown_products: HashSet::new(),
            is_outdated: false,
        }
    }

    /// Takes over changes, up to the number of the last.
    pub(super) fn apply(&mut self, changes: &Changes) {
        self.apply_some(&changes.list, None);
        self.seq = changes.last;
    }

    /// Takes over all that was kept when the version was loaded.
    pub(super) fn take_over(&mut self, batches: impl Iterator<Item = Vec<Change>>) {
        let mut loaded = Loaded::default();
        for batch in batches {
            self.apply_some(&batch, Some(&mut loaded));
        }
        self.served.state.load(loaded);
        self.rank();
    }

    /// Takes over some changes; contacts are added to those that are being loaded, if any are. Products come first: others
    /// speak of them.
    fn apply_some(&mut self, changes: &[Change], mut loading: Option<&mut Loaded>) {
        self.change_products(changes);
        // A copy shares what does not change; should this break off, what serves is as before.
        let mut state = self.served.state.clone();
        state.set_clock(unix_now());
        for change in changes {
            self.change_members(&mut state, change, loading.as_deref_mut());
        }
        let had = self.served.state.channels().len();
        if had < MAX_CHANNELS && state.channels().len() == MAX_CHANNELS {
            tracing::warn!("events and messages name {MAX_CHANNELS} channels; others are not told apart");
        }
        self.served.state = state;
    }

    /// Counts what was bought since in what is popular: it takes as long as there are products, and is done once in a
    /// while and not for each purchase.
    pub(super) fn rank(&mut self) {
        if self.is_unranked && self.ranked_at.is_none_or(|at| at.elapsed() >= RANK_EVERY) {
            self.served = self.served.with_popularity(&self.catalogued);
            (self.is_unranked, self.ranked_at) = (false, Some(Instant::now()));
        }
    }

    fn change_members(&mut self, state: &mut State, change: &Change, loading: Option<&mut Loaded>) {
        let model = &self.catalogued;
        let mut product = |id: &str| model.products.find(id).unwrap_or_else(|| unknown(&mut self.unknown_products, id));
        match change {
            Change::Event { member_id, product_id, kind, time, store, channel } => {
                if matches!(self.unlearned, From::Moment(moment) if *time <= moment) {
                    return;
                }
                let channel = state.channel(channel.as_deref());
                let event = LiveEvent { time: *time, product: product(product_id), kind: *kind, channel };
                state.record(model, member_id, event, store.as_deref());
                self.is_unranked = true;
            }
            Change::Learned { member_id, product_id, kind, time, channel } => {
                let Some(loading) = loading else { return };
                let channel = state.channel(channel.as_deref());
                let event = LiveEvent { time: *time, product: product(product_id), kind: *kind, channel };
                match kind {
                    Kind::Contact => {
                        state.add_contact(model, member_id, &LiveContact::by_others(event), &mut loading.told);
                    }
                    _ => state.add_interest(model, member_id, event, &mut loading.interest),
                }
            }
            Change::Contact(contact) => {
                let live = live_contact(product(&contact.product_id), state, contact);
                match loading {
                    Some(loading) => state.add_contact(model, &contact.member_id, &live, &mut loading.contacts),
                    None => state.contact(model, &contact.member_id, live),
                }
            }
            Change::Member(id, profile) => state.describe(model, id, profile.clone()),
            Change::Product(..) => {}
            Change::Erased(id) => state.erase(model, id),
            Change::Tombstones(hashes) => state.erase_all(model, hashes),
        }
    }

    fn change_products(&mut self, changes: &[Change]) {
        let learned = &self.learned.products;
        for change in changes {
            let Change::Product(id, patch) = change else { continue };
            let (known, patch) = (learned.find(id), patch.clone());
            let patch = match known {
                Some(row) => patch.beyond(learned, row),
                None => patch,
            };
            match self.product_rows.get(id) {
                Some(at) if self.products[*at].1 == patch => {}
                Some(at) => (self.products[*at].1, self.is_catalogue_old) = (patch, true),
                None if known.is_some() && patch == ProductPatch::default() => {}
                None => {
                    self.is_outdated |= self.unknown_products.remove(id);
                    self.product_rows.insert(id.clone(), self.products.len());
                    self.products.push((id.clone(), patch));
                    self.is_catalogue_old = true;
                }
            }
        }
        if !self.is_catalogue_old {
            return;
        }
        self.catalogued = self.learned.with_products(&self.products, &mut self.analogues);
        let served = Model { state: self.served.state.clone(), ..self.catalogued.clone() };
        self.served = served.with_popularity(&self.catalogued);
        self.is_catalogue_old = false;
    }
}

/// Remembers a product that nobody described yet.
fn unknown(products: &mut HashSet<String>, id: &str) -> u32 {
    if products.len() < MOST_UNKNOWN && !id.is_empty() && !products.contains(id) {
        products.insert(id.to_owned());
        if products.len() == MOST_UNKNOWN {
            tracing::warn!(
                "{MOST_UNKNOWN} products that nobody described are named; others count with the next version"
            );
        }
    }
    NONE
}

fn live_contact(product: u32, state: &mut State, contact: &ContactNow) -> LiveContact {
    let ContactNow { id, times, status, priority, said_at, .. } = *contact;
    let held = Held { place: Place::Unknown, times, status, priority, said_at };
    LiveContact { id, product, channel: state.channel(Some(&contact.channel)), held }
}

/// Which events of the store with this key a version did not learn from.
pub fn unlearned(info: &ModelInfo, hash_key: &[u8; 32]) -> From {
    let of_this_store = info.state_store.as_deref() == Some(store_name(hash_key).as_str());
    match info.state_seq.filter(|_| of_this_store) {
        Some(seq) => From::Number(seq),
        None => From::Moment(learned_until(info)),
    }
}

/// The moment up to which a version knows what happened: a table of days says no more than the day of its newest event,
/// all of which counts as known that was before the training.
fn learned_until(info: &ModelInfo) -> i64 {
    let rest_of_day = Counting::of(&info.parameters).days_offset().map_or(0, |offset| DAY_SECONDS - 1 - offset);
    let until = info.as_of_time + rest_of_day;
    info.trained_at.map_or(until, |trained_at| until.min(trained_at))
}
