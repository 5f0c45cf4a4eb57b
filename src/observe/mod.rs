//! What can be seen of a server from outside: metrics, whether it is well, and a line of log per call.

mod admin;
mod layer;
mod metrics;

pub(crate) use admin::serve_admin;
pub(crate) use layer::ObserveLayer;
pub(crate) use metrics::{Metrics, Stage};
