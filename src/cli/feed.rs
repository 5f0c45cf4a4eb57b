//! `kindred feed` and `kindred similar`.

use clap::Args;
use kindred_models::Model;
use kindred_models::feed::{
    FeedItem, FeedRequest, Persona, ProductFilter, Reasons, Rule, Rules, SEEN_DECAY, Source, Visitor, feed_for,
};
use kindred_models::popularity::Context;
use kindred_models::similar::similar;
use serde_json::json;

use super::phrase::{Language, phrase};
use super::{FromVersion, print};
use crate::batch::visitor;
use crate::error::Error;
use crate::progress::say;
use crate::server::recommendation::reason;

/// Shows a member's feed, with the reason for every product.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred feed --registry registry --member m0000004\n  \
    kindred feed --registry registry --member m0000004 --exclude-purchased --category snacks/nuts --json\n  \
    kindred feed --registry registry --member m0000004 --basket p000012 --language zh\n  \
    kindred feed --registry registry --member m0000004 --launch-share 0.2 --max-per-category 3 --diversity 0.3")]
pub(super) struct Feed {
    #[command(flatten)]
    from: FromVersion,
    /// Member; one that the model does not know gets the popular feed.
    #[arg(long)]
    member: String,
    /// Products to show, 1 to 500.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    top: u32,
    /// Leaves out products that the member bought before.
    #[arg(long)]
    exclude_purchased: bool,
    #[command(flatten)]
    filter: Filter,
    /// Product in the basket: shows what goes with it; may be given several times.
    #[arg(long, value_name = "PRODUCT")]
    basket: Vec<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    rules: PageRules,
    /// Language of the reasons.
    #[arg(long, value_enum, default_value_t)]
    language: Language,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Shows products like a product.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kindred similar --registry registry --product p000001")]
pub(super) struct Similar {
    #[command(flatten)]
    from: FromVersion,
    /// Product.
    #[arg(long)]
    product: String,
    /// Products to show, 1 to 500.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    top: u32,
    #[command(flatten)]
    filter: Filter,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Restricts the products.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    /// Category path, for itself and all below it; may be given several times.
    #[arg(long)]
    category: Vec<String>,
    /// Brand; may be given several times.
    #[arg(long)]
    brand: Vec<String>,
    /// Lowest price.
    #[arg(long, value_parser = price)]
    min_price: Option<f32>,
    /// Highest price.
    #[arg(long, value_parser = price)]
    max_price: Option<f32>,
    /// Store that must carry the products.
    #[arg(long)]
    store: Option<String>,
}

/// Where and when the feed is shown [default: the member's home]
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// Store where it is shown.
    #[arg(long)]
    at_store: Option<String>,
    /// City where it is shown.
    #[arg(long)]
    at_city: Option<String>,
    /// Channel that it is shown in.
    #[arg(long)]
    channel: Option<String>,
    /// Hour of the day, 0 to 23.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..24))]
    hour: Option<u8>,
}

/// What is wanted of the page, whatever the ranker thinks.
#[derive(Clone, Debug, Args)]
pub(super) struct PageRules {
    /// Share of places for categories that the member never bought, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    explore_share: f32,
    /// Share of places for products first sold in the last 30 days, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    launch_share: f32,
    /// Products of one finest category at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    max_per_category: usize,
    /// Products of one brand at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    max_per_brand: usize,
    /// How much likeness to what stands before counts against a product, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    diversity: f32,
}

fn price(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|x: &f32| *x >= 0.0 && x.is_finite())
        .ok_or_else(|| "must be a price of 0 or above".to_owned())
}

fn share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

impl From<Place> for Context {
    fn from(p: Place) -> Self {
        Self { store: p.at_store, city: p.at_city, channel: p.channel, hour: p.hour }
    }
}

impl From<PageRules> for Rules {
    fn from(r: PageRules) -> Self {
        Self {
            seen_decay: SEEN_DECAY,
            explore_share: r.explore_share,
            launch_share: r.launch_share,
            max_per_category: Some(r.max_per_category).filter(|cap| *cap > 0),
            max_per_brand: Some(r.max_per_brand).filter(|cap| *cap > 0),
            diversity: r.diversity,
            ..Self::default()
        }
    }
}

impl From<Filter> for ProductFilter {
    fn from(f: Filter) -> Self {
        Self { categories: f.category, brands: f.brand, min_price: f.min_price, max_price: f.max_price, store: f.store }
    }
}

impl Feed {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let visitor = visitor(&model, &self.member);
        let mut request = FeedRequest::new(visitor, self.top as usize);
        request.include_purchased = !self.exclude_purchased;
        request.filter = self.filter.into();
        (request.context, request.rules) = (self.place.into(), self.rules.into());
        for id in &self.basket {
            let unknown = || Error::NotFound(format!("the model knows no product '{id}'"));
            request.basket.push(model.products.find(id).ok_or_else(unknown)?);
        }
        request.basket.sort_unstable();
        request.basket.dedup();
        let persona = Persona::of(&model, visitor, &[]).with_basket(&request.basket);
        let items = feed_for(&model, &request, &persona);
        let reasons = Reasons::of(&model, &persona, &request);
        let why = |item: &FeedItem| Some(phrase(&model, &reason(&model, reasons.reason(item)?), self.language));
        if self.json {
            let items: Vec<serde_json::Value> = items
                .iter()
                .map(|i| {
                    let mut item = product_json(&model, i.product, i.score);
                    item["source"] = json!(i.source);
                    item["rule"] = json!(i.rule);
                    item["reason"] = json!(why(i));
                    item
                })
                .collect();
            return print::json(
                &json!({ "member_id": self.member, "model_version": model.info.version, "items": items }),
            );
        }
        if visitor == Visitor::Unknown {
            say(&format!("the model does not know member '{}': this is the popular feed", self.member));
        } else if matches!(visitor, Visitor::Member(row) if !model.state.consent(&model, row).personalization) {
            say(&format!("member '{}' has not agreed to be recognized: this is the popular feed", self.member));
        }
        let rows = items.iter().enumerate().map(|(i, item)| {
            let mut row = product_row(&model, i + 1, item.product, item.score);
            row.push(origin(item.source, item.rule));
            row.push(why(item).unwrap_or_default());
            row
        });
        print::table(&["", "product", "title", "category", "price", "score", "source", "why"], rows)
    }
}

/// The source that speaks for an item most, and the rule that put it there.
pub(super) fn origin(source: Source, rule: Option<Rule>) -> String {
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let source = name(json!(source));
    rule.map_or_else(|| source.clone(), |rule| format!("{source}, {}", name(json!(rule))))
}

impl Similar {
    pub(super) fn run(self) -> Result<(), Error> {
        let model = self.from.load()?;
        let product = model.products.find(&self.product);
        let product =
            product.ok_or_else(|| Error::NotFound(format!("the model knows no product '{}'", self.product)))?;
        let items = similar(&model, product, self.top as usize, &self.filter.into());
        if self.json {
            let items: Vec<serde_json::Value> = items.iter().map(|s| product_json(&model, s.row, s.score)).collect();
            return print::json(
                &json!({ "product_id": self.product, "model_version": model.info.version, "items": items }),
            );
        }
        let rows = items.iter().enumerate().map(|(i, s)| product_row(&model, i + 1, s.row, s.score));
        print::table(&["", "product", "title", "category", "price", "score"], rows)
    }
}

/// A product as a row for a person.
pub(super) fn product_row(model: &Model, rank: usize, product: u32, score: f32) -> Vec<String> {
    let p = &model.products;
    let price = p.prices[product as usize];
    vec![
        rank.to_string(),
        p.ids.get(product).to_owned(),
        p.titles.get(product).to_owned(),
        p.categories.get(product).unwrap_or("").to_owned(),
        if price > 0.0 { format!("{price:.2}") } else { String::new() },
        format!("{score:.3}"),
    ]
}

pub(super) fn product_json(model: &Model, product: u32, score: f32) -> serde_json::Value {
    json!({
        "product_id": model.products.ids.get(product),
        "title": model.products.titles.get(product),
        "category": model.products.categories.get(product),
        "score": score,
    })
}
