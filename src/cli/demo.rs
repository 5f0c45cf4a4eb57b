//! `kindred demo`: the main job in one command.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use kindred_models::Model;
use kindred_models::events::DAY_SECONDS;
use kindred_training::config::RankerParams;
use kindred_training::generate::Retailer;
use kindred_training::progress::Progress;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use super::evaluate::print_evaluation;
use super::phrase::{Language, phrase};
use super::serve::{listen, runtime};
use super::train::train;
use super::{feed, print};
use crate::clock::unix_now;
use crate::config::Config;
use crate::error::Error;
use crate::progress::Terminal;
use crate::proto::v1;
use crate::proto::v1::audience_service_client::AudienceServiceClient;
use crate::proto::v1::find_audience_request::Size;
use crate::proto::v1::find_audience_response::Payload;
use crate::proto::v1::recommendation_service_client::RecommendationServiceClient;
use crate::server;
use crate::signal::{asked_to_end, stop_flag};

/// Days of history.
const DAYS: i64 = 365;
/// Buyers from which a demo product first sold in the held-out days counts as a launch: its base is small.
const LAUNCH_BUYERS: u32 = 2;
/// Moments that launches are replayed at: enough to learn from, in a minute.
const LAUNCH_REPLAYS: u32 = 3;
/// Members that the ranker learns from at each moment, and that it is judged by.
const SAMPLE: usize = 3000;
/// Purchases and feed items shown.
const SHOWN: usize = 8;
/// Members of the audience shown.
const AUDIENCE: i64 = 5;

/// Makes a retailer, trains, serves, and shows a feed and an audience.
///
/// Its history ends yesterday. Prints the offline metrics, asks the server over the network for a member's feed and a
/// launch's audience, and keeps serving.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder for the tables and the registry.
    #[arg(long, default_value = "demo", value_name = "DIR")]
    out: PathBuf,
    /// Address to listen on; port 0 for any that is free.
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Members of the retailer.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    members: u64,
    /// Stops after printing.
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Error> {
        let stop = stop_flag();
        let config = self.config();
        let retailer = Retailer {
            members: self.members as usize,
            products: 2000,
            stores: 50,
            // Until yesterday, so that what is told of today comes when it should.
            start: (unix_now().div_euclid(DAY_SECONDS) - DAYS) * DAY_SECONDS,
            days: DAYS as u32,
            purchases_per_year: 60.0,
            seed: 1,
        };
        // Before the work: the address is free.
        let runtime = runtime()?;
        let listener = runtime.block_on(listen(&config.serve))?;
        let progress = Terminal::new();
        progress.start("generate", self.members);
        let events = retailer.write(&self.out, &progress, &stop)?;
        progress.finish(&format!("{} events in {}", print::count(events), self.out.display()));
        let trained = train(&config, &stop)?;
        print::line("\nOffline, on the last 28 days:")?;
        print_evaluation(&trained.evaluation)?;
        let model = Model::load(&config.registry()?, &trained.id)?;
        runtime.block_on(self.serve(&config, &model, listener))
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        let table = |name: &str| Some(self.out.join(name));
        config.data.events.path = table("events.parquet");
        config.data.products.path = table("products.parquet");
        config.data.members.path = table("members.parquet");
        config.registry.root = self.out.join("registry");
        config.launch.min_buyers = LAUNCH_BUYERS;
        config.launch.replays = LAUNCH_REPLAYS;
        config.launch.max_members = SAMPLE;
        // Enough to see the ranker at work, in a minute.
        config.evaluate.max_members = SAMPLE;
        config.ranker =
            RankerParams { slices: 1, max_members: SAMPLE, max_rows: 20 * SAMPLE, trees: 60, ..config.ranker };
        config.serve.listen = self.listen;
        config
    }

    async fn serve(&self, config: &Config, model: &Model, listener: TcpListener) -> Result<(), Error> {
        let address = listener.local_addr()?;
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let exit = self.exit;
        let asked_to_end = asked_to_end();
        let until = async move {
            if exit {
                // The sender is dropped or used when the showing is over.
                let _ = ended.await;
            } else {
                asked_to_end.await;
            }
        };
        let (registry, config) = (config.registry()?, config.clone());
        let server = tokio::spawn(async move { server::serve(registry, &config, listener, until).await });
        let shown = show(model, address).await;
        if shown.is_ok() && !exit {
            commands(&self.out, address, model)?;
        } else {
            drop(end);
        }
        shown?;
        server.await.map_err(|e| Error::Serve(e.to_string()))?
    }
}

async fn show(model: &Model, address: SocketAddr) -> Result<(), Error> {
    let refused = |e: &dyn std::fmt::Display| Error::Serve(format!("{address}: {e}"));
    let endpoint = Channel::from_shared(format!("http://{address}")).map_err(|e| refused(&e))?;
    let channel = endpoint.connect().await.map_err(|e| refused(&e))?;
    print::line(format!("\nServing at {address}."))?;
    show_feed(model, channel.clone()).await?;
    show_audience(model, channel).await
}

/// The member with the most purchases among the first hundred who allow a feed of their own.
fn regular(model: &Model) -> u32 {
    let allowed = (0..model.members.len() as u32).filter(|m| model.members.consent(*m).personalization);
    allowed.take(100).max_by_key(|m| model.history.rows.range(*m).len()).unwrap_or(0)
}

async fn show_feed(model: &Model, channel: Channel) -> Result<(), Error> {
    let member = regular(model);
    let id = model.members.ids.get(member);
    let mut past: Vec<_> = model.history.member(member).filter(|p| p.count > 0).collect();
    past.sort_by(|a, b| b.decayed.total_cmp(&a.decayed));
    print::line(format!("\nMember {id} bought, among {} products:", past.len()))?;
    let rows = past.iter().take(SHOWN).enumerate().map(|(i, p)| {
        let mut row = feed::product_row(model, i + 1, p.product, 0.0);
        row[5] = format!("{} ×, last {} days ago", p.count, p.days_since);
        row
    });
    print::table(&["", "product", "title", "category", "price", "bought"], rows)?;
    let request = v1::RecommendFeedRequest {
        member_id: id.to_owned(),
        page_size: SHOWN as i32,
        include_purchased: false,
        ..v1::RecommendFeedRequest::default()
    };
    let answer = RecommendationServiceClient::new(channel).recommend_feed(request).await;
    let answer = answer.map_err(|e| Error::Serve(e.to_string()))?.into_inner();
    print::line(format!("\nRecommendFeed answers, with what {id} never bought:"))?;
    let rows = answer.items.iter().enumerate().filter_map(|(i, item)| {
        let mut row = feed::product_row(model, i + 1, model.products.find(&item.product_id)?, item.score);
        row.push(item.reason.as_ref().map_or_else(String::new, |reason| phrase(model, reason, Language::En)));
        Some(row)
    });
    print::table(&["", "product", "title", "category", "price", "score", "why"], rows)
}

async fn show_audience(model: &Model, channel: Channel) -> Result<(), Error> {
    let attributes = v1::ProductAttributes {
        title: "每日坚果 无糖 sugar-free daily nuts".to_owned(),
        category: "snacks/nuts/mixed".to_owned(),
        brand: "Nutcracker".to_owned(),
        price: Some(69.0),
        tags: vec!["sugar-free".to_owned()],
        store_ids: Vec::new(),
    };
    print::line(format!(
        "\nA launch that nobody has bought: {}, {}, {}. FindAudience answers:",
        attributes.title, attributes.brand, attributes.category
    ))?;
    let request = v1::FindAudienceRequest {
        attributes: Some(attributes),
        size: Some(Size::MemberCount(AUDIENCE)),
        ..v1::FindAudienceRequest::default()
    };
    let refused = |e: tonic::Status| Error::Serve(e.to_string());
    let mut answer = AudienceServiceClient::new(channel).find_audience(request).await.map_err(refused)?.into_inner();
    while let Some(message) = answer.message().await.map_err(refused)? {
        match message.payload {
            Some(Payload::Summary(summary)) => print_summary(&summary)?,
            Some(Payload::Chunk(chunk)) => print_members(model, &chunk.members)?,
            None => {}
        }
    }
    Ok(())
}

fn print_summary(summary: &v1::AudienceSummary) -> Result<(), Error> {
    let excluded = summary.excluded.unwrap_or_default();
    let expected = summary.expected_buyers.map_or_else(
        || "too few launches to say how many buy".to_owned(),
        |buyers| {
            let (low, high) = (summary.expected_buyers_low(), summary.expected_buyers_high());
            format!("{buyers:.1} of them ({low:.1} to {high:.1}) expected to buy within {} days", summary.horizon_days)
        },
    );
    print::line(format!(
        "{} eligible members ({} without consent and {} minors are not); the best {}: {expected}; index: {}",
        print::count(summary.eligible_count as u64),
        print::count(excluded.no_consent_count as u64),
        print::count(excluded.minor_count as u64),
        summary.audience_count,
        summary.index().as_str_name(),
    ))
}

fn print_members(model: &Model, members: &[v1::AudienceMember]) -> Result<(), Error> {
    let rows = members.iter().enumerate().filter_map(|(i, m)| {
        let row = model.members.ids.find(&m.member_id)?;
        let nuts = model
            .history
            .member(row)
            .filter(|p| model.products.categories.get(p.product).is_some_and(|c| c.starts_with("snacks/nuts")));
        let bought: u32 = nuts.map(|p| u32::from(p.count)).sum();
        let store = model.members.stores.get(row).unwrap_or("").to_owned();
        Some(vec![(i + 1).to_string(), m.member_id.clone(), store, format!("{:.3}", m.score), format!("{bought} ×")])
    });
    print::table(&["", "member", "store", "score", "bought nuts"], rows)
}

fn commands(out: &std::path::Path, address: SocketAddr, model: &Model) -> Result<(), Error> {
    let (registry, member) = (out.join("registry"), model.members.ids.get(regular(model)).to_owned());
    let (registry, out) = (registry.display(), out.display());
    print::line(format!(
        "\nStill serving at {address}; Ctrl-C ends it. Try, in another terminal:\n  \
         kindred feed --registry {registry} --member {member}\n  \
         kindred similar --registry {registry} --product {}\n  \
         kindred models show --registry {registry}\n  \
         kindred score --registry {registry} --out {out}/recs.parquet\n  \
         grpcurl -plaintext -d '{{\"member_id\": \"{member}\"}}' {address} kindred.v1.RecommendationService/RecommendFeed\n\
         (`kindred` is target/release/kindred, or `cargo run --release --` before the command)",
        model.products.ids.get(0),
    ))
}
