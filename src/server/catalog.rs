//! CatalogService.

use std::collections::HashSet;

use kindred_models::events::DAY_SECONDS;
use kindred_models::state::ProductPatch;
use tonic::{Request, Response, Status};

use super::Shared;
use super::status::Problem;
use super::validate::{Check, MAX_TAGS, MAX_TEXT};
use crate::clock::unix_now;
use crate::proto::v1;
use crate::proto::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use crate::store::Write;

/// Products of a request at most.
const MAX_PRODUCTS: usize = 1000;
/// Stores that carry a product at most.
const MAX_STORES: usize = 10_000;

/// The service.
pub(super) fn service(shared: Shared) -> CatalogServiceServer<Catalog> {
    CatalogServiceServer::new(Catalog { shared }).max_decoding_message_size(super::MAX_TABLE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Catalog {
    shared: Shared,
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn upsert_products(
        &self,
        request: Request<v1::UpsertProductsRequest>,
    ) -> Result<Response<v1::UpsertProductsResponse>, Status> {
        let products = request.into_inner().products;
        let now = unix_now();
        check_products(&products, now)?;
        let model = self.shared.live.snapshot();
        let is_new: Vec<bool> = products.iter().map(|p| model.products.find(&p.product_id).is_none()).collect();
        let patches = products.into_iter().zip(&is_new).map(|(p, is_new)| patch(p, is_new.then_some(now))).collect();
        let kept = self.shared.live.keep(Write::Products(patches)).await.map_err(Problem::from)?;
        // Who else adds the same one at this moment does not add it a second time.
        let added_count = kept.new.iter().filter(|at| is_new[**at]).count() as i64;
        Ok(Response::new(v1::UpsertProductsResponse { added_count }))
    }

    async fn retire_products(
        &self,
        request: Request<v1::RetireProductsRequest>,
    ) -> Result<Response<v1::RetireProductsResponse>, Status> {
        let ids = request.into_inner().product_ids;
        let mut check = Check::default();
        check.that(!ids.is_empty(), "product_ids", "is required");
        check.ids("product_ids", &ids, MAX_PRODUCTS);
        check.finish()?;
        let retired = ProductPatch { available: Some(false), ..ProductPatch::default() };
        let patches = ids.into_iter().map(|id| (id, retired.clone())).collect();
        self.shared.live.keep(Write::Products(patches)).await.map_err(Problem::from)?;
        Ok(Response::new(v1::RetireProductsResponse {}))
    }
}

fn check_products(products: &[v1::Product], now: i64) -> Result<(), Problem> {
    let mut check = Check::default();
    check.that(!products.is_empty(), "products", "is required");
    let most = format!("must not have more than {MAX_PRODUCTS} entries");
    check.that(products.len() <= MAX_PRODUCTS, "products", &most);
    let mut seen = HashSet::new();
    for (at, product) in products.iter().take(MAX_PRODUCTS).enumerate() {
        let field = |name: &str| format!("products[{at}].{name}");
        check.id(&field("product_id"), &product.product_id);
        check.that(seen.insert(&product.product_id), &field("product_id"), "must not be named twice");
        check.text(&field("title"), product.title.as_deref().unwrap_or(""), MAX_TEXT);
        check.category(&field("category"), product.category.as_deref().unwrap_or(""));
        check.text(&field("brand"), product.brand.as_deref().unwrap_or(""), 256);
        let price = product.price.is_none_or(|price| price.is_finite() && price > 0.0);
        check.that(price, &field("price"), "must be above 0");
        let launched = product.launch_time.is_none_or(|time| (0..=now + DAY_SECONDS).contains(&time.seconds));
        check.that(launched, &field("launch_time"), "must be from 1970 up to now");
        if let Some(list) = &product.tags {
            check.ids(&field("tags.tags"), &list.tags, MAX_TAGS);
        }
        if let Some(list) = &product.stores {
            check.ids(&field("stores.store_ids"), &list.store_ids, MAX_STORES);
        }
    }
    check.finish()
}

/// What is said of a product, which is launched at a moment unless it is said when.
fn patch(product: v1::Product, launched_at: Option<i64>) -> (String, ProductPatch) {
    let v1::Product { product_id, title, category, brand, price, tags, stores, available, launch_time } = product;
    let launched_at = launch_time.map(|time| time.seconds).or(launched_at);
    let (tags, stores) = (tags.map(|list| list.tags), stores.map(|list| list.store_ids));
    (product_id, ProductPatch { title, category, brand, price, tags, stores, available, launched_at })
}
