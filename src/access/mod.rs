//! Who may ask what: keys and tokens, the roles that they have, and how much each may ask.

mod admit;
mod jwt;
mod keys;
mod layer;
mod roles;

pub use admit::Refused;
pub(crate) use jwt::Jwt;
pub use jwt::{JwtConfig, SigningAlgorithm};
pub use keys::{Key, Keys, NewKey, Token};
pub(crate) use layer::{Access, Caller};
pub use roles::{Role, needed};
