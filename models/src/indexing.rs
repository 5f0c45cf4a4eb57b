//! Builds the indexes of a fitted model, and measures them.

use crate::audience::graph_recall;
use crate::index::{GatedIndex, IndexKind, IndexParams, IndexReport};
use crate::model::Model;

/// Audiences that a graph over members is judged by: of every tenth of the hundred best sellers.
const AUDIENCE_SAMPLE_FROM: usize = 100;
const AUDIENCE_SAMPLE_STEP: usize = 10;

/// Builds and measures the graphs that the parameters ask for, in place of the exact indexes. A graph
/// over members must also find whole audiences to serve.
pub fn build_indexes(model: &mut Model, params: &IndexParams) {
    let (products, members) = (Model::exact_products(&model.embeddings), Model::exact_members(&model.embeddings));
    model.product_index = GatedIndex::build(products.clone(), members.table(), params);
    model.member_index = GatedIndex::build(members.clone(), products.table(), params);
    if model.member_index.report.kind == IndexKind::Hnsw {
        let bought: Vec<u32> = model.popularity.top(AUDIENCE_SAMPLE_FROM, |_| true).collect();
        let sample: Vec<u32> = bought.iter().copied().step_by(AUDIENCE_SAMPLE_STEP).collect();
        let found = graph_recall(model, &sample, model.members.len().div_ceil(200));
        model.member_index.report.audience_recall = Some(found);
        if found < params.min_recall {
            let why = format!("audience recall {found:.4}, below {}", params.min_recall);
            let report = IndexReport { kind: IndexKind::Exact, why, ..model.member_index.report.clone() };
            model.member_index = GatedIndex { report, ..GatedIndex::exact(members, String::new()) };
        }
    }
}
