//! The model that serves now.

use std::sync::Arc;

use kindred_models::artifact::{Registry, VersionId};
use kindred_models::audience::Costs;
use kindred_models::{ArtifactError, Model};
use parking_lot::RwLock;

/// The serving model and the registry that it came from. A request takes one snapshot and keeps it; a swap
/// changes what the next one takes.
#[derive(Debug)]
pub(super) struct CurrentModel {
    registry: Registry,
    model: RwLock<Arc<Model>>,
}

impl CurrentModel {
    /// Loads the registry's current version.
    pub(super) fn load(registry: Registry) -> Result<Self, ArtifactError> {
        let id = registry.current()?;
        let model = load(&registry, &id)?;
        Ok(Self { registry, model: RwLock::new(Arc::new(model)) })
    }

    /// The serving model.
    pub(super) fn snapshot(&self) -> Arc<Model> {
        self.model.read().clone()
    }

    /// The registry.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Loads and swaps in the registry's current version, if it is another one.
    pub(super) fn refresh(&self) -> Result<Option<VersionId>, ArtifactError> {
        let id = self.registry.current()?;
        if id.as_str() == self.snapshot().info.version {
            return Ok(None);
        }
        let model = Arc::new(load(&self.registry, &id)?);
        *self.model.write() = model;
        Ok(Some(id))
    }
}

/// Loads a version, and measures what the ways to an audience cost here.
fn load(registry: &Registry, id: &VersionId) -> Result<Model, ArtifactError> {
    let mut model = Model::load(registry, id)?;
    model.audience_costs = Costs::measured(&model);
    let Costs { scanned, picked, walked } = model.audience_costs;
    tracing::info!(version = %id, members = model.members.len(), products = model.products.len(), "loaded");
    tracing::info!(scanned, picked, walked, "nanoseconds per member of an audience");
    Ok(model)
}
