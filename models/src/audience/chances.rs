//! The chance that each of some members buys each of some products.

use super::forecast::Chances;
use super::{
    AudienceError, AudienceRequest, AudienceSize, BATCH_SCORES, MOST_CHANCES, MemberFilter, Quota, Subject, query,
};
use crate::launch::LaunchQuery;
use crate::model::Model;
use crate::stop::Stop;

/// Chances, `[subject][place in rows]`; each subject comes with members who bought it already, sorted, who have none.
/// All members are scanned once per batch of subjects that fits into memory.
///
/// # Errors
/// [`AudienceError::Stopped`] once `stop` is raised, [`AudienceError::NoChances`] where nothing says how many
/// buy one of them, [`AudienceError::TooMany`] of more than memory is made for.
pub fn chances(
    model: &Model,
    subjects: &[(Subject, Vec<u32>)],
    rows: &[u32],
    stop: &Stop,
) -> Result<Vec<Vec<f32>>, AudienceError> {
    if rows.len().saturating_mul(subjects.len()) > MOST_CHANCES {
        return Err(AudienceError::TooMany(rows.len(), subjects.len()));
    }
    let questions: Vec<AudienceRequest> = subjects.iter().cloned().map(of_everybody).collect();
    let queries: Vec<LaunchQuery> = questions.iter().map(|question| query(model, question)).collect();
    let mut chances = Vec::with_capacity(queries.len());
    let batch = (BATCH_SCORES / model.members.len().max(1)).max(1);
    for (questions, queries) in questions.chunks(batch).zip(queries.chunks(batch)) {
        let of = |(question, query)| Chances::of(model, question, query).filter(Chances::are_known);
        let known: Option<Vec<Chances>> = questions.iter().zip(queries).map(of).collect();
        let known = known.ok_or(AudienceError::NoChances)?;
        let scores = model.launch.score_all(&queries.iter().collect::<Vec<_>>(), &model.embeddings, stop)?;
        for ((question, known), scores) in questions.iter().zip(known).zip(scores) {
            let chance = |row: &u32| known.probability(scores[*row as usize]).unwrap_or_default() as f32;
            let mut of_rows: Vec<f32> = rows.iter().map(chance).collect();
            let bought = question.seeds.iter().filter_map(|buyer| rows.binary_search(buyer).ok());
            bought.for_each(|at| of_rows[at] = 0.0);
            chances.push(of_rows);
        }
    }
    Ok(chances)
}

fn of_everybody((subject, seeds): (Subject, Vec<u32>)) -> AudienceRequest {
    let (filter, quota) = (MemberFilter::default(), Quota::default());
    AudienceRequest { subject, seeds, size: AudienceSize::Share(1.0), filter, quota }
}
