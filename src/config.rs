//! The config: defaults, then one file, then `KINDRED_*` variables; flags are laid over it by the commands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use kindred_models::ArtifactError;
use kindred_models::artifact::Registry;
use kindred_models::blend::Blend;
use kindred_models::outreach::{OutreachParams, Policy};
use kindred_training::config::{
    AffinityParams, DataConfig, EvaluateParams, EventWeights, IalsParams, IndexConfig, InvalidParameter, LaunchParams,
    NeighbourParams, PopularityParams, RankerParams, RepeatParams, TrainConfig,
};
use serde::{Deserialize, Serialize};

use crate::access::JwtConfig;
use crate::error::Error;
use crate::store::{sqlite_url, without_password};

/// Where versions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// The registry folder.
    pub root: PathBuf,
    /// The model's name, a folder in it.
    pub name: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self { root: "registry".into(), name: "default".to_owned() }
    }
}

/// How the server runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Threads that compute; 0 for one per core.
    pub threads: usize,
    /// Seconds between two looks at the registry's current version; 0 to keep the one loaded at start.
    pub reload_seconds: u64,
    /// Seconds that open calls get to finish after SIGTERM or Ctrl-C.
    pub drain_seconds: u64,
    /// Connections at a time; more wait to be taken in. Each is a file to the system, whose limit must leave room for others.
    pub connections: usize,
    /// Address of `/metrics`, `/healthz` and `/readyz`, over plain HTTP and for everybody who reaches it; `None` for none.
    pub admin: Option<SocketAddr>,
    /// Whether to serve other machines without TLS or keys.
    pub insecure: bool,
    /// Whether to begin an empty store though the version learned from one.
    pub new_state: bool,
    /// What calls are encrypted with.
    pub tls: TlsConfig,
    /// Whose tokens are taken besides keys.
    pub jwt: JwtConfig,
    /// Where traces of calls go.
    pub traces: TracesConfig,
}

/// TLS, all in PEM; without a certificate, calls are not encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The server's certificate, with those between it and its root.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The root of clients' certificates: a client without one is not heard.
    pub client_root: Option<PathBuf>,
}

impl TlsConfig {
    /// Whether calls are encrypted.
    pub fn is_set(&self) -> bool {
        self.certificate.is_some() && self.key.is_some()
    }

    /// Whether nothing was said of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Traces of calls, for whoever runs a collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// Address of a collector that takes OTLP over gRPC, such as `http://127.0.0.1:4317`; `None` for no traces.
    pub endpoint: Option<String>,
    /// Share of calls that are traced, 0 to 1, of those whose callers do not decide it.
    pub share: f64,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { endpoint: None, share: 0.01 }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 50051).into(),
            threads: 0,
            reload_seconds: 5,
            drain_seconds: 30,
            connections: 900,
            admin: None,
            insecure: false,
            new_state: false,
            tls: TlsConfig::default(),
            jwt: JwtConfig::default(),
            traces: TracesConfig::default(),
        }
    }
}

/// Name of the note that says where a store is that is not beside the versions.
const ELSEWHERE: &str = "state-store";

/// What happened since a version learned, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// The store: `sqlite:path`, or `postgres://user:password@host/database` where several servers share it; empty for
    /// `kindred.db` in the model's folder of the registry.
    pub url: String,
    /// Days back that events are taken in, 1 or more.
    pub accept_days: u32,
    /// Days that events are kept, not below `accept_days`.
    pub retain_days: u32,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { url: String::new(), accept_days: 30, retain_days: 400 }
    }
}

impl StateConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), InvalidParameter> {
        let Self { url, accept_days, retain_days } = self;
        if !url.is_empty() && !["sqlite:", "postgres://", "postgresql://"].iter().any(|of| url.starts_with(of)) {
            let rule = "must be sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE";
            return Err(InvalidParameter { name: "state.url", value: without_password(url), rule });
        }
        let wrong = |name, value: &u32, rule| Err(InvalidParameter { name, value: value.to_string(), rule });
        match () {
            () if !(1..=36_500).contains(accept_days) => {
                wrong("state.accept_days", accept_days, "must be from 1 to 36500")
            }
            () if retain_days < accept_days => wrong("state.retain_days", retain_days, "must not be below accept_days"),
            () if *retain_days > 36_500 => wrong("state.retain_days", retain_days, "must be up to 36500"),
            () => Ok(()),
        }
    }

    /// Notes beside the versions that a server keeps its store elsewhere: commands without `state.url`, and servers, fail
    /// then, and do not open an empty store.
    ///
    /// # Errors
    /// If the note can't be written.
    pub fn note(&self, registry: &Registry) -> Result<(), Error> {
        let note = registry.folder().join(ELSEWHERE);
        if self.url.is_empty() {
            return Ok(());
        }
        std::fs::write(&note, without_password(&self.url)).map_err(|e| Error::file(&note, e))
    }

    /// The URL of the store.
    ///
    /// # Errors
    /// If none is given, and a server used one that is not beside the versions; or for the first parameter that is out of range.
    pub fn url(&self, registry: &Registry) -> Result<String, Error> {
        self.validate()?;
        if !self.url.is_empty() {
            return Ok(self.url.clone());
        }
        let note = registry.folder().join(ELSEWHERE);
        match std::fs::read_to_string(&note) {
            Ok(place) => Err(Error::Usage(format!(
                "what the server was told since, opt-outs among it, is kept in {place}: give state.url in the config, \
                 or KINDRED_STATE__URL; if it is not to count any more, delete {}",
                note.display()
            ))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(sqlite_url(&registry.folder().join("kindred.db"))),
            Err(e) => Err(Error::file(&note, e)),
        }
    }
}

/// Everything the config file may hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where versions are kept.
    pub registry: RegistryConfig,
    /// How the server runs.
    pub serve: ServeConfig,
    /// What happened since a version learned.
    pub state: StateConfig,
    /// The contact budget.
    pub outreach: OutreachParams,
    /// Where the tables are.
    pub data: DataConfig,
    /// What events count.
    pub event_weights: EventWeights,
    /// The embeddings.
    pub embeddings: IalsParams,
    /// Decay of popularity.
    pub popularity: PopularityParams,
    /// Decay of a member's own counts.
    pub repeat: RepeatParams,
    /// Products bought together.
    pub affinity: AffinityParams,
    /// Members alike.
    pub neighbours: NeighbourParams,
    /// How a feed's sources are mixed where no ranker is learned, or none is better.
    pub feed: Blend,
    /// What candidates are worth.
    pub ranker: RankerParams,
    /// Who buys what is launched.
    pub launch: LaunchParams,
    /// Offline metrics.
    pub evaluate: EvaluateParams,
    /// The index.
    pub index: IndexConfig,
}

impl Config {
    /// Reads the config: defaults, the file if one is given, then variables such as
    /// `KINDRED_SERVE__LISTEN`.
    ///
    /// # Errors
    /// If the file is not there, or anything in it or in a variable is not understood.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::NoConfig(file.to_owned()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // Only variables of a section: KINDRED_LOG and the like are not the config's.
        let env = Env::prefixed("KINDRED_").filter(|key| key.as_str().contains("__")).split("__");
        Ok(figment.merge(env).extract().map_err(Box::new)?)
    }

    /// The part that training is told.
    pub fn training(&self) -> TrainConfig {
        TrainConfig {
            data: self.data.clone(),
            event_weights: self.event_weights,
            embeddings: self.embeddings,
            popularity: self.popularity,
            repeat: self.repeat,
            affinity: self.affinity,
            neighbours: self.neighbours,
            feed: self.feed,
            ranker: self.ranker,
            launch: self.launch,
            evaluate: self.evaluate,
            index: self.index,
        }
    }

    /// The contact budget, by the clocks of the shops.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn policy(&self) -> Result<Policy, Error> {
        Ok(self.outreach.clone().validate(self.popularity.utc_offset_minutes)?)
    }

    /// The registry of the model.
    ///
    /// # Errors
    /// If the model's name can't be a folder name.
    pub fn registry(&self) -> Result<Registry, ArtifactError> {
        Registry::new(&self.registry.root, &self.registry.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kindred.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file))
    }

    #[test]
    fn the_example_of_the_design_is_understood() {
        let config = load(
            r#"
            [data]
            root = "."
            [data.events]
            path = "events.parquet"
            columns = { time = "ts" }
            time_unit = "s"
            [data.products]
            path = "products.parquet"
            columns = { category = ["department", "category", "product_type"] }
            "#,
        )
        .unwrap();
        assert_eq!(config.data.events.columns["time"].list(), ["ts"]);
        assert_eq!(config.data.products.columns["category"].list().len(), 3);
        assert_eq!(config.embeddings, IalsParams::default());
    }

    #[test]
    fn messages_go_out_by_the_clocks_of_the_shops() {
        // 20:30 in UTC is half past four in China.
        let policy = load("[popularity]\nutc_offset_minutes = 480").unwrap().policy().unwrap();
        assert_eq!(policy.calendar.hour(20 * 3600 + 1800), 4);
    }

    #[test]
    fn a_line_that_can_not_be_read_is_not_shown() {
        let told = load("[state]\nurl = \"postgres://kindred:secret@db/state\n").unwrap_err().to_string();
        assert!(told.contains("line 2") && told.contains("invalid") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("[embedings]\nfactors = 3", "embedings"),
            ("[embeddings]\nfactors = \"many\"", "factors"),
            ("[embeddings]\nfactors = -3", "factors"),
            ("[ranker]\ntreees = 3", "treees"),
            ("trees = 3", "trees"),
            ("[data.events]\ntime_unit = \"fortnights\"", "fortnights"),
            ("[serve]\nlisten = \"nowhere\"", "listen"),
            ("[data", "kindred.toml"),
        ] {
            let message = load(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
