//! How Kindred learns: purchase history → prepare → evaluate → fit → publish.
//!
//! Tables come in through [`data`], are turned into interactions by [`prepare`], fitted into the parts of a
//! [`kindred_models::Model`] by [`fit`], judged by [`evaluate`], and published by [`train`]. [`tune`] searches
//! for better parameters, and [`generate`] makes a retailer to try it on. Nothing here knows of a server.

pub mod affinity;
pub mod campaign;
pub mod config;
pub mod data;
mod error;
pub mod evaluate;
pub mod fit;
pub mod generate;
pub mod groups;
pub mod ials;
pub mod launches;
pub mod neighbours;
pub mod popularity;
pub mod prepare;
mod presence;
pub mod progress;
pub mod rank;
pub mod repeat;
pub mod slice;
mod spectral;
pub mod tables;
pub mod train;
pub mod tune;
mod vectors;

pub use error::TrainError;
