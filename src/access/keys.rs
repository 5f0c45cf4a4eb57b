//! Keys: what a caller shows. Of a key, a hash is kept; the token is shown once, when it is made.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Role;
use super::admit::{Admitted, Limits, Pass, Refused, allow};

/// What a token begins with, so that one that got lost can be told for what it is.
const PREFIX: &str = "kindred";

/// A key, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Names the key; part of its token.
    pub id: String,
    /// Whom it was made for.
    pub name: String,
    /// What it may be used for.
    pub roles: Vec<Role>,
    /// Calls a second at most.
    pub per_second: Option<NonZeroU32>,
    /// Calls at once at most.
    pub concurrent: Option<NonZeroU32>,
    /// When it was made, in unix seconds.
    pub created_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// BLAKE3 of its secret, in hex.
    pub hash: String,
}

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Whom it is for.
    pub name: String,
    /// What it may be used for.
    pub roles: Vec<Role>,
    /// Calls a second at most.
    pub per_second: Option<NonZeroU32>,
    /// Calls at once at most.
    pub concurrent: Option<NonZeroU32>,
}

/// A key's id and secret: `kindred_ID_SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl FromStr for Token {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let mut parts = text.splitn(3, '_');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(PREFIX), Some(id), Some(secret)) => Ok(Self { id: id.to_owned(), secret: secret.to_owned() }),
            _ => Err(Refused::Unknown),
        }
    }
}

impl Token {
    /// The token as its holder keeps it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id, self.secret)
    }

    fn hash(&self) -> blake3::Hash {
        blake3::hash(self.secret.as_bytes())
    }
}

impl NewKey {
    /// Makes the key, and the token that opens it.
    pub fn make(self, now: i64) -> (Key, Token) {
        let id = format!("{:08x}", rand::random::<u32>());
        // 256 bits: nobody guesses them, so that a hash without salt or delay is enough.
        let secret = blake3::Hash::from(rand::random::<[u8; 32]>()).to_hex().to_string();
        let token = Token { id: id.clone(), secret };
        let Self { name, roles, per_second, concurrent } = self;
        let hash = token.hash().to_hex().to_string();
        (Key { id, name, roles, per_second, concurrent, created_at: now, revoked_at: None, hash }, token)
    }
}

/// A key in use.
#[derive(Debug)]
struct InUse {
    key: Key,
    hash: blake3::Hash,
    limits: Limits,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keys {
    in_use: HashMap<String, Arc<InUse>>,
    /// Whether there was ever one.
    are_needed: bool,
}

impl Keys {
    /// The keys that the store holds. One that has not changed keeps its counters. Once calls needed a key they go on
    /// needing one, even if the store has none: it may be in the middle of a restore.
    pub fn new(kept: Vec<Key>, before: &Self) -> Self {
        let in_use = |key: Key| {
            let known = before.in_use.get(&key.id).filter(|known| known.key == key);
            let in_use = known.cloned().or_else(|| Some(Arc::new(InUse::of(key.clone())?)));
            in_use.map(|in_use| (key.id.clone(), in_use))
        };
        let in_use: HashMap<String, Arc<InUse>> = kept.into_iter().filter_map(in_use).collect();
        Self { are_needed: before.are_needed || !in_use.is_empty(), in_use }
    }

    /// Whether there was ever one: then calls need one, whether or not all of them are revoked by now.
    pub fn are_needed(&self) -> bool {
        self.are_needed
    }

    /// Lets the holder of a token in, or says why not.
    pub(super) fn admit(&self, token: Option<&str>, roles: &[Role]) -> Result<Admitted, Refused> {
        let token: Token = token.ok_or(Refused::NoKey)?.parse()?;
        let in_use = self.in_use.get(&token.id).ok_or(Refused::Unknown)?;
        // The comparison of two hashes takes as long whatever they are.
        if in_use.hash != token.hash() || in_use.key.revoked_at.is_some() {
            return Err(Refused::Unknown);
        }
        allow(&in_use.key.roles, roles)?;
        let Key { id, name, .. } = &in_use.key;
        Ok(Admitted { name: format!("{name} ({id})"), pass: Pass::Key(id.clone()), place: in_use.limits.take()? })
    }

    /// Whether a key that let somebody in was revoked since.
    pub(super) fn is_revoked(&self, id: &str) -> bool {
        self.in_use.get(id).is_some_and(|in_use| in_use.key.revoked_at.is_some())
    }
}

impl InUse {
    /// `None` for a key whose hash is none, which nobody could open.
    fn of(key: Key) -> Option<Self> {
        Some(Self {
            hash: blake3::Hash::from_hex(&key.hash).ok()?,
            limits: Limits::new(key.per_second, key.concurrent),
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_key_was_needed_one_is_though_there_are_none() {
        let (first, _) = key(&[Role::Mall], 1, 1);
        let before = Keys::new(vec![first], &Keys::default());
        assert!(Keys::new(Vec::new(), &before).are_needed(), "a store that is being restored");
        assert!(!Keys::new(Vec::new(), &Keys::default()).are_needed(), "there was never one");
    }

    fn key(roles: &[Role], per_second: u32, concurrent: u32) -> (Key, String) {
        let limit = |n| NonZeroU32::new(n);
        let new = NewKey {
            name: "till".to_owned(),
            roles: roles.to_vec(),
            per_second: limit(per_second),
            concurrent: limit(concurrent),
        };
        let (key, token) = new.make(7);
        (key, token.reveal())
    }

    fn admit(keys: &Keys, token: &str, role: Role) -> Result<Admitted, Refused> {
        keys.admit(Some(token), &[role])
    }

    #[test]
    fn keys_open_what_they_are_for() {
        let ((mall, open), (admin, master)) = (key(&[Role::Mall], 0, 0), key(&[Role::Admin], 0, 0));
        assert!(
            !mall.hash.contains(&open[17..]) && !format!("{mall:?}").contains(&open[17..]),
            "the secret is not kept"
        );
        let keys = Keys::new(vec![mall.clone(), admin], &Keys::default());
        assert!(admit(&keys, &open, Role::Mall).is_ok());
        assert_eq!(admit(&keys, &open, Role::Batch).unwrap_err(), Refused::Role("batch".to_owned()));
        assert!(admit(&keys, &master, Role::Batch).is_ok());
        assert_eq!(keys.admit(None, &[Role::Mall]).unwrap_err(), Refused::NoKey);
        for wrong in ["", "kindred_", "kindred_x_y", &open[..open.len() - 1], &format!("{open}0")] {
            assert_eq!(admit(&keys, wrong, Role::Mall).unwrap_err(), Refused::Unknown, "{wrong}");
        }
        let pass = admit(&keys, &open, Role::Mall).unwrap().pass;
        assert_eq!(pass.ended(&keys, 8), None);
        assert_eq!(Pass::NotNeeded.ended(&keys, 8), Some(Refused::NoKey), "what was opened before the first key");
        assert_eq!(Pass::NotNeeded.ended(&Keys::default(), 8), None);
        let revoked = Keys::new(vec![Key { revoked_at: Some(9), ..mall }], &keys);
        assert_eq!(admit(&revoked, &open, Role::Mall).unwrap_err(), Refused::Unknown);
        assert_eq!(pass.ended(&revoked, 9), Some(Refused::Unknown));
        assert!(revoked.are_needed() && !Keys::default().are_needed());
    }

    #[test]
    fn keys_have_limits_that_outlive_a_reload() {
        let (often, token) = key(&[Role::Mall], 2, 0);
        let keys = Keys::new(vec![often.clone()], &Keys::default());
        assert!(admit(&keys, &token, Role::Mall).is_ok() && admit(&keys, &token, Role::Mall).is_ok());
        let reloaded = Keys::new(vec![often], &keys);
        assert!(matches!(admit(&reloaded, &token, Role::Mall), Err(Refused::TooMuch(_))));
        let (one, token) = key(&[Role::Mall], 0, 1);
        let keys = Keys::new(vec![one], &Keys::default());
        let first = admit(&keys, &token, Role::Mall).unwrap();
        assert!(matches!(admit(&keys, &token, Role::Mall), Err(Refused::TooMuch(_))));
        drop(first);
        assert!(admit(&keys, &token, Role::Mall).is_ok());
    }
}
