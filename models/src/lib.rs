//! Kindred's models: what is learned, how it answers, and how it is stored.
//!
//! A [`Model`] is one immutable snapshot. [`feed`] and [`audience`] are pure functions of it: they do no
//! I/O, have no clock and no global state, so that training evaluates the very code that serving runs.
//! How a model is fitted is not known here (see `kindred-training`), nor how it is served (see `kindred`).

#[cfg(target_endian = "big")]
compile_error!("the artifact format is little-endian; big-endian machines are not supported");

pub mod affinity;
pub mod artifact;
pub mod audience;
pub mod bitmaps;
pub mod blend;
pub mod catalogue;
pub mod categories;
pub mod content;
pub mod embeddings;
pub mod events;
pub mod feed;
pub mod groups;
pub mod history;
pub mod index;
pub mod indexing;
pub mod kernels;
pub mod launch;
pub mod linalg;
pub mod model;
pub mod neighbours;
pub mod outreach;
pub mod popularity;
pub mod presence;
pub mod quantized;
pub mod ranker;
pub mod ranking;
pub mod repeat;
mod rowmap;
pub mod scatter;
pub mod similar;
pub mod sparse;
pub mod state;
pub mod stop;
pub mod strings;

pub use artifact::ArtifactError;
pub use model::Model;
