//! Who may ask what: keys, the roles that they have, and how much each may ask.

mod keys;
mod layer;
mod roles;

pub use keys::{Key, Keys, NewKey, Refused, Token};
pub(crate) use layer::{AccessLayer, Caller};
pub use roles::{Role, needed};
