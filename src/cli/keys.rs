//! `kindred keys` and `kindred audit`.

use std::num::NonZeroU32;

use chrono::DateTime;
use clap::{Args, Subcommand};

use super::serve::runtime;
use super::{Common, print};
use crate::access::{A_NAME, NewKey, Role, is_name};
use crate::clock::unix_now;
use crate::error::Error;
use crate::progress::say;
use crate::store::{Entry, Store, Verified, without_password};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Makes a key, and prints it: it is shown this once.
///
/// From the first one on, every call to the server needs one, even once all are revoked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred keys create --key-name mall --role mall --per-second 2000\n  \
    kindred keys create --key-name crm --role campaign --role batch --concurrent 4")]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
    /// Whom it is for.
    #[arg(long, value_name = "NAME")]
    key_name: String,
    /// What it may be used for; several times for several roles.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<Role>,
    /// Calls a second at most.
    #[arg(long, value_name = "CALLS")]
    per_second: Option<NonZeroU32>,
    /// Calls at once at most.
    #[arg(long, value_name = "CALLS")]
    concurrent: Option<NonZeroU32>,
}

/// Lists the keys, oldest first.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Revokes a key: within two seconds, nothing is answered to it.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// The key's id, as `kindred keys list` shows it.
    id: String,
}

/// What to do with the log of who did what.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    Verify(Verify),
    Show(Show),
}

/// Follows the log from its first entry to its last: nothing was changed, taken out or put in.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    common: Common,
}

/// Shows the last entries, newest first.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    common: Common,
    /// Entries.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    last: u32,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) fn run(self) -> Result<(), Error> {
        runtime()?.block_on(async {
            match self {
                Self::Create(command) => command.run().await,
                Self::List(command) => command.run().await,
                Self::Revoke(command) => command.run().await,
            }
        })
    }
}

impl Audit {
    pub(super) fn run(self) -> Result<(), Error> {
        runtime()?.block_on(async {
            match self {
                Self::Verify(command) => command.run().await,
                Self::Show(command) => command.run().await,
            }
        })
    }
}

async fn open(common: &Common) -> Result<Store, Error> {
    let config = common.load()?;
    let registry = config.registry()?;
    if config.state.url.is_empty() {
        std::fs::create_dir_all(registry.folder())?;
    }
    Ok(Store::open(&config.state.url(&registry)?).await?)
}

/// A store that is there: of one that is not, nothing can be said.
async fn open_existing(common: &Common) -> Result<Store, Error> {
    let config = common.load()?;
    let url = config.state.url(&config.registry()?)?;
    let store = Store::open_existing(&url).await?;
    store.ok_or_else(|| Error::NotFound(format!("{}: there is no state store yet", without_password(&url))))
}

/// What somebody at this machine did.
fn entry(action: &str, detail: String) -> Entry {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    Entry { time: unix_now(), actor: format!("command line ({user})"), action: action.to_owned(), detail }
}

fn moment(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).map(|time| time.format("%F %T").to_string()).unwrap_or_default()
}

impl Create {
    async fn run(self) -> Result<(), Error> {
        if !is_name(&self.key_name) {
            return Err(Error::Usage(format!("--key-name '{}': {A_NAME}", self.key_name.escape_debug())));
        }
        let store = open(&self.common).await?;
        let is_first = store.keys().await?.is_empty();
        let new =
            NewKey { name: self.key_name, roles: self.roles, per_second: self.per_second, concurrent: self.concurrent };
        let (key, token) = new.make(unix_now());
        store.create_key(&key, entry("keys create", format!("{} ({})", key.name, key.id))).await?;
        store.close().await;
        if is_first {
            say("this is the first key: from now on every call to the server needs one, even once all are revoked");
        }
        print::line(token.reveal())
    }
}

impl List {
    async fn run(self) -> Result<(), Error> {
        let store = open_existing(&self.common).await?;
        let keys = store.keys().await?;
        store.close().await;
        if self.json {
            let shown = keys.iter().map(|key| {
                serde_json::json!({
                    "id": key.id, "name": key.name, "roles": key.roles, "per_second": key.per_second,
                    "concurrent": key.concurrent, "created_at": key.created_at, "revoked_at": key.revoked_at,
                })
            });
            return print::json(&serde_json::Value::Array(shown.collect()));
        }
        let limit = |limit: Option<NonZeroU32>| limit.map_or_else(String::new, |limit| limit.to_string());
        let rows = keys.iter().map(|key| {
            let roles: Vec<&str> = key.roles.iter().map(|role| role.name()).collect();
            let revoked = key.revoked_at.map_or_else(String::new, moment);
            vec![
                key.id.clone(),
                key.name.clone(),
                roles.join(", "),
                limit(key.per_second),
                limit(key.concurrent),
                moment(key.created_at),
                revoked,
            ]
        });
        print::table(&["key", "name", "roles", "a second", "at once", "made", "revoked"], rows)
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Error> {
        let store = open_existing(&self.common).await?;
        let revoked = store.revoke_key(&self.id, entry("keys revoke", self.id.clone())).await?;
        store.close().await;
        if revoked { Ok(()) } else { Err(Error::NotFound(format!("there is no key '{}'", self.id))) }
    }
}

impl Verify {
    async fn run(self) -> Result<(), Error> {
        let store = open_existing(&self.common).await?;
        let verified = store.verify_entries().await?;
        store.close().await;
        match verified {
            Verified::Whole { entries, head } => print::line(format!("{entries} entries, whole; the last is {head}")),
            Verified::Broken { number } => {
                Err(Error::Tampered(format!("the audit log is not as it was written, at entry {number} or next to it")))
            }
        }
    }
}

impl Show {
    async fn run(self) -> Result<(), Error> {
        let store = open_existing(&self.common).await?;
        let entries = store.last_entries(i64::from(self.last)).await?;
        store.close().await;
        if self.json {
            return print::json(&entries);
        }
        // What looks like a line of its own may be part of a name.
        let shown = |text: String| text.replace(char::is_control, "\u{fffd}");
        let rows = entries.into_iter().map(|e| vec![moment(e.time), shown(e.actor), e.action, shown(e.detail)]);
        print::table(&["when", "who", "what", "of what"], rows)
    }
}
