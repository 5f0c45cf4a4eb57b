//! The command line: one module per command.

mod allocate;
mod audience;
mod campaign_report;
mod demo;
mod evaluate;
mod feed;
mod generate;
mod group_feed;
mod inputs;
mod keys;
mod launches;
mod models;
mod phrase;
mod print;
mod score;
mod serve;
mod state;
mod train;
mod tune;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kindred_models::Model;
use kindred_models::artifact::VersionId;

use crate::config::Config;
use crate::error::Error;
use crate::live;
use crate::progress::say;
use crate::store::Store;

/// Knows which member would love which product: learns from purchase history, answers over gRPC.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        kindred demo                                          see it work, on a retailer that it makes up\n  \
        kindred train --config kindred.toml                   learn from your tables\n  \
        kindred serve --registry registry                     answer over gRPC\n\n\
        Every setting can be given in the config file or as a variable such as KINDRED_SERVE__LISTEN, the most used \
        as a flag, too; a flag wins over a variable, a variable over the file. docs/configuration.md lists them.\n\
        Exit codes: 0 done, 2 wrong flags, 64 usage, 65 bad data, 66 not found, 69 unavailable, 74 input or output \
        failed, 78 bad config, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Generate(generate::Generate),
    Train(train::Train),
    Tune(tune::Tune),
    Evaluate(evaluate::Evaluate),
    /// Lists, shows, checks, activates and deletes versions.
    #[command(subcommand)]
    Models(models::Models),
    Serve(serve::Serve),
    /// Makes, lists and revokes the keys that callers show.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Checks and shows who did what.
    #[command(subcommand)]
    Audit(keys::Audit),
    /// Exports what a server kept.
    #[command(subcommand)]
    State(state::State),
    Score(score::Score),
    Audience(audience::Audience),
    Allocate(allocate::Allocate),
    CampaignReport(campaign_report::CampaignReport),
    Feed(feed::Feed),
    GroupFeed(group_feed::GroupFeed),
    Similar(feed::Similar),
}

/// Where the config and the registry are.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Config file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Registry folder [default: registry]
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
    /// Name of the model in the registry [default: default]
    #[arg(long)]
    name: Option<String>,
}

impl Common {
    fn load(&self) -> Result<Config, Error> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(root) = &self.registry {
            config.registry.root.clone_from(root);
        }
        if let Some(name) = &self.name {
            config.registry.name.clone_from(name);
        }
        Ok(config)
    }
}

/// Which version answers.
#[derive(Clone, Debug, Args)]
struct FromVersion {
    #[command(flatten)]
    common: Common,
    /// Version to answer from [default: the active one]
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
}

impl FromVersion {
    /// The version, with what a server kept since: whoever opted out there did so here.
    fn load(&self) -> Result<Model, Error> {
        let config = self.common.load()?;
        let registry = config.registry()?;
        let id = match &self.model_version {
            Some(id) => VersionId::parse(id)?,
            None => registry.current()?,
        };
        let url = config.state.url(&registry)?;
        serve::runtime()?.block_on(async {
            let (model, is_lost) = match Store::open_existing(&url).await? {
                None => (Model::load(&registry, &id)?, true),
                Some(store) => {
                    let model = live::load(&registry, &id, &store, config.outreach.rest_days).await?;
                    let is_lost = match &model.info.state_store {
                        Some(learned_from) => live::is_lost(&store, learned_from).await?,
                        None => false,
                    };
                    store.close().await;
                    (model, is_lost)
                }
            };
            if is_lost && model.info.state_store.is_some() {
                say("warning: what a server was told since is not there: nobody's opt-out or erasure since counts");
            }
            Ok(model)
        })
    }
}

/// Runs the command line; the one place where an error becomes an exit code.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Tune(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::State(command) => command.run(),
        Command::Score(command) => command.run(),
        Command::Audience(command) => command.run(),
        Command::Allocate(command) => command.run(),
        Command::CampaignReport(command) => command.run(),
        Command::Feed(command) => command.run(),
        Command::GroupFeed(command) => command.run(),
        Command::Similar(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough of it.
        Err(Error::Io(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
