//! `kindred group-feed`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use kindred_models::feed::{self, GroupRequest, MAX_GROUP, Visitor, group_feed};
use kindred_models::stop::Stop;
use kindred_training::data::read_member_ids;
use kindred_training::train::data_config;
use serde_json::json;

use super::feed::{Filter, PageRules, Place, origin, product_json, product_row};
use super::{FromVersion, print};
use crate::batch::visitor;
use crate::error::Error;
use crate::progress::say;

/// Shows what most of a group of members would like and few would mind, for a post in their chat group.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred group-feed --registry registry --member m0000004 --member m0000005 --member m0000006\n  \
    kindred group-feed --registry registry --members group.csv --launch-share 0.2 --max-per-category 2")]
pub(super) struct GroupFeed {
    #[command(flatten)]
    from: FromVersion,
    /// Member; may be given several times.
    #[arg(long, required_unless_present = "members")]
    member: Vec<String>,
    /// Table with a column member_id.
    #[arg(long, value_name = "PATH")]
    members: Option<PathBuf>,
    /// Products to show, 1 to 100.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    top: u32,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    rules: PageRules,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl GroupFeed {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let mut ids: BTreeSet<String> = self.member.into_iter().collect();
        if let Some(path) = &self.members {
            ids.extend(read_member_ids(path, &data_config(&model.info))?);
        }
        if ids.is_empty() || ids.len() > MAX_GROUP {
            return Err(Error::Usage(format!("a group has 1 to {MAX_GROUP} members, not {}", ids.len())));
        }
        let rules: feed::Rules = self.rules.into();
        if rules.explore_share > 0.0 {
            return Err(Error::Usage("--explore-share is of one member's feed: a group has none".to_owned()));
        }
        let request = GroupRequest {
            visitors: ids.iter().map(|id| visitor(&model, id)).collect(),
            page_size: self.top as usize,
            excluded: Default::default(),
            filter: self.filter.into(),
            context: self.place.into(),
            rules,
        };
        let unknown = request.visitors.iter().filter(|v| **v == Visitor::Unknown).count();
        let group = group_feed(&model, &request, &Stop::default()).map_err(|_| Error::Stopped)?;
        if self.json {
            let items = group.items.iter().map(|i| {
                let mut item = product_json(&model, i.product, i.score);
                (item["liked_by"], item["minded_by"]) = (json!(i.liked_by), json!(i.minded_by));
                (item["source"], item["rule"]) = (json!(i.source), json!(i.rule));
                item
            });
            let items: Vec<serde_json::Value> = items.collect();
            return print::json(&json!({
                "members": ids.len(),
                "known_members": group.known_members,
                "model_version": model.info.version,
                "items": items,
            }));
        }
        if unknown > 0 {
            let members = ids.len();
            say(&format!("the model does not know {unknown} of {members} members: they count for what is popular"));
        }
        let rows = group.items.iter().enumerate().map(|(i, item)| {
            let mut row = product_row(&model, i + 1, item.product, item.score);
            row.push(format!("{} of {}", item.liked_by, group.known_members));
            row.push(item.minded_by.to_string());
            row.push(origin(item.source, item.rule));
            row
        });
        print::table(&["", "product", "title", "category", "price", "score", "liked by", "minded by", "source"], rows)
    }
}
