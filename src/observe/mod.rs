//! What can be seen of a server from outside: metrics, whether it is well, a line of log per call, and traces.

mod admin;
mod idle;
mod layer;
mod log;
mod metrics;
mod traces;

pub(crate) use admin::serve_admin;
pub(crate) use layer::Observe;
pub(crate) use log::start_log;
pub(crate) use metrics::{Metrics, Stage};
pub(crate) use traces::Traces;
