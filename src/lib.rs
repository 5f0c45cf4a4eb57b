//! Kindred: a recommendation and matching microservice for chain retailers.
//!
//! This crate is how it is served: the command line ([`cli`]) and the gRPC server ([`server`]). What is
//! learned and how it answers is in `kindred-models`, how it is learned in `kindred-training`.

pub mod access;
pub mod batch;
pub mod cli;
mod clock;
mod codec;
pub mod config;
pub mod error;
pub mod live;
mod middleware;
mod observe;
mod progress;
pub mod proto;
pub mod server;
pub mod signal;
pub mod store;
