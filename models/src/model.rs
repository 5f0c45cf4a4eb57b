//! A model: one immutable snapshot of everything learned, fitted in memory or loaded from a version, and of what
//! happened since.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::affinity::Affinity;
use crate::artifact::{ArtifactError, Check, Manifest, Reader, Registry, VersionId, Writer};
use crate::audience::Costs;
use crate::blend::Blend;
use crate::catalogue::{Members, Products};
use crate::categories::CategoryTree;
use crate::content::ContentIndex;
use crate::embeddings::Embeddings;
use crate::feed::{Facts, Unsold};
use crate::groups::Groups;
use crate::history::History;
use crate::index::{ExactIndex, GatedIndex, Table, Vectors};
use crate::launch::LaunchModel;
use crate::neighbours::Neighbours;
use crate::popularity::Popularity;
use crate::presence::Presence;
use crate::ranker::{Ranker, Scorer};
use crate::repeat::Repeat;
use crate::state::State;

/// What was learned, part by part.
#[derive(Clone, Debug)]
pub struct Model {
    /// The products.
    pub products: Products,
    /// The members.
    pub members: Members,
    /// What members have in common.
    pub groups: Groups,
    /// Vectors of both.
    pub embeddings: Embeddings,
    /// What each member bought.
    pub history: History,
    /// Which products are bought together.
    pub affinity: Affinity,
    /// Which members are alike.
    pub neighbours: Neighbours,
    /// When members buy again.
    pub repeat: Repeat,
    /// When and where members are around.
    pub presence: Presence,
    /// What is bought most.
    pub popularity: Popularity,
    /// What products are made of.
    pub content: ContentIndex,
    /// Who buys what is new.
    pub launch: LaunchModel,
    /// What candidates of a feed are worth.
    pub ranker: Ranker,
    /// The levels of the products' categories.
    pub tree: Arc<CategoryTree>,
    /// What feeds ask of each product, as the parts above have it; not stored.
    pub facts: Arc<[Facts]>,
    /// The share of all purchases that each tag of products has; not stored.
    pub tag_shares: Arc<[f32]>,
    /// Its new products that nobody bought yet, by row; not stored.
    pub unsold: Arc<[Unsold]>,
    /// Finds products by vector.
    pub product_index: GatedIndex,
    /// Finds members by vector.
    pub member_index: GatedIndex,
    /// What ways to an audience cost here; not stored.
    pub audience_costs: Costs,
    /// Which version this is.
    pub info: ModelInfo,
    /// What happened since; not stored.
    pub state: State,
}

/// What a version says of itself.
#[derive(Clone, Debug, Default)]
pub struct ModelInfo {
    /// Version id; empty for a model that was not published.
    pub version: String,
    /// When it was trained, in unix seconds, if its id says so.
    pub trained_at: Option<i64>,
    /// BLAKE3 of its manifest, in hex; empty for a model that was not published.
    pub checksum: String,
    /// Moment of the newest event learned from, in unix seconds; 0 where events have no time.
    pub as_of_time: i64,
    /// The number of the last change of the state store that it learned from, if it learned from one.
    pub state_seq: Option<i64>,
    /// Which store that is, see [`crate::state::store_name`].
    pub state_store: Option<String>,
    /// Sizes by name.
    pub counts: BTreeMap<String, u64>,
    /// Parameters that it was trained with.
    pub parameters: Value,
    /// Offline metrics by name.
    pub metrics: BTreeMap<String, f64>,
}

impl Model {
    /// The exact index over the products' vectors: every feed asks it.
    pub fn exact_products(embeddings: &Embeddings) -> ExactIndex {
        ExactIndex::by_length(Self::product_table(embeddings))
    }

    pub(crate) fn product_table(embeddings: &Embeddings) -> Table {
        Table { values: embeddings.products.clone(), dimension: embeddings.factors }
    }

    /// Writes the model as a new version of the registry that `to` belongs to, and makes it the current one.
    ///
    /// # Errors
    /// If anything can't be written. Nothing is published then, unless it was the pointer that could not be moved: the
    /// version is there, and not current.
    pub fn publish(&self, mut to: Writer, ef_search: usize, trained_at: i64) -> Result<VersionId, ArtifactError> {
        self.products.write(&mut to)?;
        self.members.write(&mut to)?;
        self.groups.write(&mut to)?;
        self.embeddings.write(&mut to)?;
        self.history.write(&mut to)?;
        self.affinity.write(&mut to)?;
        self.neighbours.write(&mut to)?;
        self.repeat.write(&mut to)?;
        self.presence.write(&mut to)?;
        self.popularity.write(&mut to)?;
        self.content.write(&mut to)?;
        self.launch.write(&mut to)?;
        self.product_index.write("product_index", ef_search, &mut to)?;
        self.member_index.write("member_index", ef_search, &mut to)?;
        self.ranker.write(&mut to)?;
        let manifest = Manifest {
            format_version: crate::artifact::FORMAT_VERSION,
            kindred_version: env!("CARGO_PKG_VERSION").to_owned(),
            as_of_time: self.info.as_of_time,
            state_seq: self.info.state_seq,
            state_store: self.info.state_store.clone(),
            counts: self.info.counts.clone(),
            parameters: self.info.parameters.clone(),
            metrics: self.info.metrics.clone(),
            sections: BTreeMap::new(),
            files: BTreeMap::new(),
            documents: BTreeMap::new(),
        };
        to.publish(manifest, trained_at)
    }

    /// Loads a version: what nobody checked before is checked, all of it is mapped.
    ///
    /// # Errors
    /// If the version is not there, damaged, or of a later format.
    pub fn load(registry: &Registry, id: &VersionId) -> Result<Self, ArtifactError> {
        Self::checked(registry, id, Check::Changed)
    }

    /// Loads a version that takes the place of one that answers: requests would wait for its pages one by one, so all of
    /// them are mapped before, as far as there is memory.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_populated(registry: &Registry, id: &VersionId) -> Result<Self, ArtifactError> {
        let from = registry.open(id, Check::Changed)?;
        from.populate();
        Self::opened(&from, id)
    }

    /// Loads a version and checks every byte of it, whoever checked it before.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn verify(registry: &Registry, id: &VersionId) -> Result<Self, ArtifactError> {
        Self::checked(registry, id, Check::All)
    }

    fn checked(registry: &Registry, id: &VersionId, check: Check) -> Result<Self, ArtifactError> {
        Self::opened(&registry.open(id, check)?, id)
    }

    fn opened(from: &Reader, id: &VersionId) -> Result<Self, ArtifactError> {
        let model = Self::read(from, id)?;
        from.vouch();
        Ok(model)
    }

    fn read(from: &Reader, id: &VersionId) -> Result<Self, ArtifactError> {
        let (products, members) = (Products::read(from)?, Members::read(from)?);
        let (n_members, n_products) = (members.len(), products.len());
        let embeddings = Embeddings::read(from, n_members, n_products)?;
        let history = History::read(from, n_members, n_products)?;
        let content = ContentIndex::read(from, n_products)?;
        let popularity = Popularity::read(from, n_products)?;
        let mut model = Self {
            groups: Groups::read(from, &members, &history)?,
            history,
            affinity: Affinity::default(),
            neighbours: Neighbours::default(),
            repeat: Repeat::default(),
            presence: if from.manifest().format_version < 8 {
                Presence::default()
            } else {
                Presence::read(from, n_members)?
            },
            launch: LaunchModel::read(from, &members, n_products, content.vocabulary.len())?,
            ranker: Ranker::default(),
            tree: CategoryTree::new(&products.categories, &popularity.overall).into(),
            popularity,
            facts: Arc::default(),
            tag_shares: Arc::default(),
            unsold: Arc::default(),
            product_index: GatedIndex::read("product_index", from, Vectors::Table(Self::product_table(&embeddings)))?,
            member_index: GatedIndex::read("member_index", from, Vectors::Coded(embeddings.members.clone()))?,
            audience_costs: Costs::default(),
            info: ModelInfo::of(id, from.manifest(), from.checksum()),
            state: State::default(),
            products,
            members,
            embeddings,
            content,
        };
        if from.manifest().format_version < 2 {
            let blend: Blend = from.section("feed")?.values()?;
            let scorer = Scorer::Linear(blend.linear());
            model.ranker = Ranker { repeat: scorer.clone(), fresh: scorer, ..Ranker::default() };
        } else {
            model.affinity = Affinity::read(from, n_products)?;
            model.neighbours = Neighbours::read(from, n_members)?;
            model.repeat = Repeat::read(from, n_products)?;
            model.ranker = Ranker::read(from)?;
        }
        model.state = State::of(&model);
        Ok(model.with_unsold())
    }
}

impl ModelInfo {
    /// What a version's manifest, of this checksum, says of it.
    pub fn of(id: &VersionId, manifest: &Manifest, checksum: &str) -> Self {
        Self {
            version: id.to_string(),
            trained_at: id.trained_at(),
            checksum: checksum.to_owned(),
            as_of_time: manifest.as_of_time,
            state_seq: manifest.state_seq,
            state_store: manifest.state_store.clone(),
            counts: manifest.counts.clone(),
            parameters: manifest.parameters.clone(),
            metrics: manifest.metrics.clone(),
        }
    }
}
