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

/// Characters of a name at most.
const MOST_CHARACTERS: usize = 200;
/// What a name of a caller is.
pub(crate) const A_NAME: &str = "must be 1 to 200 characters, none of them a control character";

/// Whether the log of who did what can name a caller so.
pub(crate) fn is_name(name: &str) -> bool {
    let length = name.chars().take(MOST_CHARACTERS + 1).count();
    (1..=MOST_CHARACTERS).contains(&length) && !name.chars().any(char::is_control)
}
