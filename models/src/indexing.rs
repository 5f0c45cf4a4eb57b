//! Builds the indexes of a fitted model, and measures them.

use crate::audience::graph_recall;
use crate::index::{ExactIndex, GatedIndex, IndexKind, IndexParams, IndexReport, QUERIES, Table};
use crate::model::Model;

/// Audiences that a graph over members is judged by: of every tenth of the hundred best sellers.
const AUDIENCE_SAMPLE_FROM: usize = 100;
const AUDIENCE_SAMPLE_STEP: usize = 10;

/// Builds and measures the graphs that the parameters ask for, in place of the exact indexes. A graph
/// over members must also find whole audiences to serve.
pub fn build_indexes(model: &mut Model, params: &IndexParams) {
    let (e, products) = (&model.embeddings, Model::exact_products(&model.embeddings));
    let step = (e.members.len() / QUERIES).max(1);
    let visitors = e.members.decoded((0..e.members.len() as u32).step_by(step), e.factors);
    let visitors = Table { values: visitors.into(), dimension: e.factors };
    model.member_index = match params.refused(e.members.len()) {
        Some(why) => GatedIndex::without(why),
        None => GatedIndex::build(ExactIndex::Whole(Model::member_table(e)), products.table(), params),
    };
    model.product_index = GatedIndex::build(products, &visitors, params);
    if model.member_index.report.kind == IndexKind::Hnsw {
        let bought: Vec<u32> = model.popularity.top(AUDIENCE_SAMPLE_FROM, |_| true).collect();
        let sample: Vec<u32> = bought.iter().copied().step_by(AUDIENCE_SAMPLE_STEP).collect();
        let found = graph_recall(model, &sample, model.members.len().div_ceil(200));
        model.member_index.report.audience_recall = Some(found);
        if found < params.min_recall {
            let why = format!("audience recall {found:.4}, below {}", params.min_recall);
            let report = IndexReport { kind: IndexKind::Exact, why, ..model.member_index.report.clone() };
            model.member_index = GatedIndex { report, ..GatedIndex::without(String::new()) };
        }
    }
}
