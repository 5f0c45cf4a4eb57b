//! Whether a store is the one that a version learned from: opt-outs, erasures and keys are in that.

use kindred_models::artifact::Registry;
use kindred_models::model::ModelInfo;
use kindred_models::state::store_name;

use crate::error::Error;
use crate::store::{Store, without_password};

/// Opens the store of a URL, unless it would be an empty one, or is, where the registry's version learned from another.
///
/// # Errors
/// [`Error::NotFound`] for such a store, which is not begun then; or if it can't be opened.
pub async fn open_known(registry: &Registry, url: &str) -> Result<Store, Error> {
    let Some(learned_from) = learned_from(registry)? else { return Ok(Store::open(url).await?) };
    let lost = || {
        let shown = without_password(url);
        Error::NotFound(format!(
            "the registry's version learned from a state store, opt-outs among it, and {shown} is none, or empty: restore it \
             from a backup, or give state.url; kindred serve --new-state begins a new one all the same"
        ))
    };
    let store = Store::open_existing(url).await?.ok_or_else(lost)?;
    if is_lost(&store, &learned_from).await? {
        store.close().await;
        return Err(lost());
    }
    Ok(store)
}

/// Whether a store knows nothing of what a version, or the registry's, learned.
///
/// # Errors
/// If the store does not answer.
pub async fn is_lost(store: &Store, learned_from: &str) -> Result<bool, Error> {
    Ok(store_name(&store.hash_key().await?) != learned_from && store.is_untold().await?)
}

/// Name of the store that the registry's version learned from; `None` without one, or without a version.
fn learned_from(registry: &Registry) -> Result<Option<String>, Error> {
    let Ok(version) = registry.current() else { return Ok(None) };
    let (manifest, checksum) = registry.manifest(&version)?;
    Ok(ModelInfo::of(&version, &manifest, &checksum).state_store)
}
