//! Builds the indexes of a fitted model, and measures them.

use crate::audience::audience_recall;
use crate::index::{ExactIndex, GatedIndex, IndexKind, IndexParams, IndexReport, QUERIES, Table};
use crate::model::Model;

/// Audiences that a graph over members is judged by: of every tenth of the hundred best sellers.
const AUDIENCE_SAMPLE_FROM: usize = 100;
const AUDIENCE_SAMPLE_STEP: usize = 10;

/// Builds and measures the graphs that the parameters ask for, in place of the exact indexes. A graph
/// over members must also find whole audiences to serve.
pub fn build_indexes(model: &mut Model, params: &IndexParams) {
    let e = &model.embeddings;
    let step = (e.members.len() / QUERIES).max(1);
    let visitors = e.members.decoded((0..e.members.len() as u32).step_by(step), e.factors);
    let visitors = Table { values: visitors.into(), dimension: e.factors };
    model.product_index = GatedIndex::build(Model::exact_products(e), &visitors, params);
    index_members(model, params);
}

fn index_members(model: &mut Model, params: &IndexParams) {
    let exact = ExactIndex::Coded(model.embeddings.members.clone());
    if let Some(why) = params.refused(exact.len()) {
        model.member_index = GatedIndex::without(why);
        return;
    }
    // A graph hardly finds more than a look at all vectors does: where that is too little, none is built.
    model.member_index = GatedIndex::exact(exact.clone(), String::new());
    let most = recall_of_audiences(model);
    if most < params.min_recall {
        let why = format!("audience recall {most:.4} by all vectors, below {}", params.min_recall);
        model.member_index = GatedIndex::without(why);
        model.member_index.report.audience_recall = Some(most);
        return;
    }
    model.member_index = GatedIndex::build(exact, &Model::product_table(&model.embeddings), params);
    if model.member_index.report.kind == IndexKind::Hnsw {
        let found = recall_of_audiences(model);
        model.member_index.report.audience_recall = Some(found);
        if found < params.min_recall {
            let why = format!("audience recall {found:.4}, below {}", params.min_recall);
            let report = IndexReport { kind: IndexKind::Exact, why, ..model.member_index.report.clone() };
            model.member_index = GatedIndex { report, ..GatedIndex::without(String::new()) };
        }
    }
}

/// How much of the exact audiences of some best sellers the index over members finds.
fn recall_of_audiences(model: &Model) -> f32 {
    let bought: Vec<u32> = model.popularity.top(AUDIENCE_SAMPLE_FROM, |_| true).collect();
    let sample: Vec<u32> = bought.into_iter().step_by(AUDIENCE_SAMPLE_STEP).collect();
    audience_recall(model, &sample, model.members.len().div_ceil(200))
}
