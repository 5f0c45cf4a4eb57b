//! JSON web tokens (RFC 7519): callers whom somebody else vouches for.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::admit::{Admitted, Limits, Pass, Refused, allow};
use super::{Role, is_name};
use crate::error::Error;

/// Bytes of a shared secret at least.
const MIN_SECRET: usize = 32;
/// Subjects whose limits are remembered while they do not call.
const MOST_SUBJECTS: usize = 10_000;

/// Whose tokens are taken. Nobody's where there is no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// What tokens are signed with: a file with the public key in PEM, or, for HS256, with the shared secret.
    pub key: Option<PathBuf>,
    /// How: RS256, ES256, EdDSA or HS256.
    pub algorithm: SigningAlgorithm,
    /// Who must have issued them.
    pub issuer: String,
    /// For whom they must be meant.
    pub audience: String,
    /// Calls a second of one subject at most.
    pub per_second: Option<NonZeroU32>,
    /// Calls at once of one subject at most.
    pub concurrent: Option<NonZeroU32>,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSA with SHA-256.
    #[default]
    RS256,
    /// ECDSA over P-256.
    ES256,
    /// Ed25519.
    EdDSA,
    /// A shared secret.
    HS256,
}

/// What of a token counts. The library asks for `exp`, `iss` and `aud`.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    /// Unix seconds; RFC 7519 allows for parts of one.
    exp: f64,
    /// The library checks it, and passes over one that is no number.
    #[serde(rename = "nbf")]
    _nbf: Option<f64>,
    roles: Vec<Role>,
}

/// Takes tokens of one issuer.
pub(crate) struct Jwt {
    key: DecodingKey,
    validation: Validation,
    config: JwtConfig,
    /// By subject.
    limits: Mutex<HashMap<String, Arc<Limits>>>,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwt({})", self.config.issuer)
    }
}

impl Jwt {
    /// Reads the key, if there is one; says what is wrong with the config otherwise.
    pub(crate) fn new(config: &JwtConfig) -> Result<Option<Self>, Error> {
        let Some(path) = &config.key else {
            let is_unset = *config == JwtConfig::default();
            return if is_unset { Ok(None) } else { Err(Error::Usage("serve.jwt needs a key".to_owned())) };
        };
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err(Error::Usage("serve.jwt needs an issuer and an audience".to_owned()));
        }
        let named = |what: &dyn std::fmt::Display| format!("serve.jwt.key: {}: {what}", path.display());
        let wrong = |what: &dyn std::fmt::Display| Error::Usage(named(what));
        let bytes = std::fs::read(path).map_err(|e| Error::NotFound(named(&e)))?;
        let (key, algorithm) = match config.algorithm {
            SigningAlgorithm::RS256 => (DecodingKey::from_rsa_pem(&bytes), Algorithm::RS256),
            SigningAlgorithm::ES256 => (DecodingKey::from_ec_pem(&bytes), Algorithm::ES256),
            SigningAlgorithm::EdDSA => (DecodingKey::from_ed_pem(&bytes), Algorithm::EdDSA),
            SigningAlgorithm::HS256 => {
                let secret = bytes.trim_ascii();
                if secret.len() < MIN_SECRET {
                    return Err(wrong(&format!("a secret of fewer than {MIN_SECRET} bytes")));
                }
                (Ok(DecodingKey::from_secret(secret)), Algorithm::HS256)
            }
        };
        // What a token says of itself does not choose how it is checked.
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        let key = key.map_err(|e| wrong(&e))?;
        Ok(Some(Self { key, validation, config: config.clone(), limits: Mutex::default() }))
    }

    /// Whether a token is one of these, and not a key.
    pub(super) fn is_one(token: &str) -> bool {
        token.split('.').count() == 3
    }

    /// Lets the holder of a token in, or says why not.
    pub(super) fn admit(&self, token: &str, roles: &[Role]) -> Result<Admitted, Refused> {
        let claims = decode::<Claims>(token, &self.key, &self.validation).map_err(|_| Refused::Unknown)?.claims;
        if !is_name(&claims.sub) {
            return Err(Refused::Unknown);
        }
        allow(&claims.roles, roles)?;
        let place = self.limits_of(&claims.sub).take()?;
        let until = (claims.exp as i64).saturating_add_unsigned(self.validation.leeway);
        Ok(Admitted { name: format!("{} (jwt)", claims.sub), pass: Pass::Token(until), place })
    }

    fn limits_of(&self, subject: &str) -> Arc<Limits> {
        let mut limits = self.limits.lock();
        if let Some(known) = limits.get(subject) {
            return known.clone();
        }
        if limits.len() >= MOST_SUBJECTS {
            // Those who are calling keep theirs.
            let calling: HashSet<String> =
                limits.iter().filter(|(_, limits)| !limits.is_idle()).map(|(subject, _)| subject.clone()).collect();
            limits.retain(|subject, _| calling.contains(subject));
        }
        let fresh = Arc::new(Limits::new(self.config.per_second, self.config.concurrent));
        limits.insert(subject.to_owned(), fresh.clone());
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::super::Keys;
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"a secret that nobody will guess, ever";

    fn jwt(change: impl Fn(&mut JwtConfig)) -> Result<Option<Jwt>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("secret");
        std::fs::write(&key, SECRET).unwrap();
        let mut config = JwtConfig {
            key: Some(key),
            algorithm: SigningAlgorithm::HS256,
            issuer: "https://id.example".to_owned(),
            audience: "kindred".to_owned(),
            ..JwtConfig::default()
        };
        change(&mut config);
        Jwt::new(&config)
    }

    fn token(change: impl Fn(&mut Value)) -> String {
        let exp = crate::clock::unix_now() + 600;
        let mut claims =
            json!({"sub": "mall-7", "iss": "https://id.example", "aud": "kindred", "exp": exp, "roles": ["mall"]});
        change(&mut claims);
        encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    #[test]
    fn tokens_open_what_their_issuer_says() {
        let jwt = jwt(|_| ()).unwrap().unwrap();
        let admit = |token: &str, role| jwt.admit(token, &[role]).map(|admitted| admitted.name);
        let open = token(|_| ());
        assert!(Jwt::is_one(&open) && !Jwt::is_one("kindred_1_2"));
        assert_eq!(admit(&open, Role::Mall).unwrap(), "mall-7 (jwt)");
        assert_eq!(admit(&open, Role::Batch), Err(Refused::Role("batch".to_owned())));
        assert!(admit(&token(|claims| claims["roles"] = json!(["admin"])), Role::Batch).is_ok());
        let now = crate::clock::unix_now();
        let pass = jwt.admit(&token(|claims| claims["exp"] = json!(now as f64 + 600.5)), &[Role::Mall]).unwrap().pass;
        let ended = |at| pass.ended(&Keys::default(), at);
        assert_eq!((ended(now + 600), ended(now + 700)), (None, Some(Refused::Unknown)), "a minute of other clocks");
        let wrong: [fn(&mut Value); 11] = [
            |claims| claims["nbf"] = json!("tomorrow"),
            |claims| claims["sub"] = json!(""),
            |claims| claims["sub"] = json!("mall\n2026-01-01 00:00:00  admin"),
            |claims| claims["sub"] = json!("m".repeat(201)),
            |claims| claims["exp"] = json!(1),
            |claims| claims["nbf"] = json!(crate::clock::unix_now() + 6000),
            |claims| claims["iss"] = json!("https://other.example"),
            |claims| claims["aud"] = json!("other"),
            |claims| claims["roles"] = json!(["root"]),
            |claims| drop(claims.as_object_mut().unwrap().remove("exp")),
            |claims| drop(claims.as_object_mut().unwrap().remove("sub")),
        ];
        for change in wrong {
            assert_eq!(admit(&token(change), Role::Mall), Err(Refused::Unknown));
        }
        let mut parts: Vec<&str> = open.split('.').collect();
        // {"alg":"none"}
        parts[0] = "eyJhbGciOiJub25lIn0";
        assert_eq!(admit(&parts.join("."), Role::Mall), Err(Refused::Unknown));
        assert_eq!(admit(&format!("{}x", open), Role::Mall), Err(Refused::Unknown));
    }

    #[test]
    fn a_subject_has_limits_of_its_own() {
        let jwt = jwt(|config| config.concurrent = NonZeroU32::new(1)).unwrap().unwrap();
        let held = jwt.admit(&token(|_| ()), &[Role::Mall]).unwrap();
        assert!(matches!(jwt.admit(&token(|_| ()), &[Role::Mall]), Err(Refused::TooMuch(_))));
        assert!(jwt.admit(&token(|claims| claims["sub"] = json!("mall-8")), &[Role::Mall]).is_ok());
        drop(held);
        assert!(jwt.admit(&token(|_| ()), &[Role::Mall]).is_ok());
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |change: fn(&mut JwtConfig)| jwt(change).unwrap_err().to_string();
        assert!(refused(|config| config.key = None).contains("key"));
        assert!(refused(|config| config.issuer.clear()).contains("issuer"));
        assert!(refused(|config| config.algorithm = SigningAlgorithm::RS256).contains("serve.jwt.key"));
        assert!(refused(|config| config.key = Some("nowhere".into())).contains("nowhere"));
        assert!(jwt(|config| *config = JwtConfig::default()).unwrap().is_none());
    }
}
