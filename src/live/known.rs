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
    let store = match learned_from(registry)? {
        Some(_) => Store::open_existing(url).await?.ok_or_else(|| lost(url))?,
        None => Store::open(url).await?,
    };
    ensure_known(registry, &store, url).await?;
    Ok(store)
}

/// That a store of a URL knows something, where the registry's version learned from another.
///
/// # Errors
/// [`Error::NotFound`] if not, or if it does not answer.
pub async fn ensure_known(registry: &Registry, store: &Store, url: &str) -> Result<(), Error> {
    match learned_from(registry)? {
        Some(name) if is_lost(store, &name).await? => Err(lost(url)),
        _ => Ok(()),
    }
}

/// Whether a store is another than that of a name, and knows nothing of what is in that.
///
/// # Errors
/// If it does not answer.
pub async fn is_lost(store: &Store, name: &str) -> Result<bool, Error> {
    Ok(store_name(&store.hash_key().await?) != name && store.is_untold().await?)
}

fn lost(url: &str) -> Error {
    Error::NotFound(format!(
        "the registry's version learned from a state store, opt-outs among it, and {} is none, or empty: restore it from a \
         backup, or give state.url; kindred serve --new-state begins a new one all the same",
        without_password(url)
    ))
}

/// Name of the store that the registry's version learned from; `None` without one, or without a version.
fn learned_from(registry: &Registry) -> Result<Option<String>, Error> {
    let Ok(version) = registry.current() else { return Ok(None) };
    let (manifest, checksum) = registry.manifest(&version)?;
    Ok(ModelInfo::of(&version, &manifest, &checksum).state_store)
}
