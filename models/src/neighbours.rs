//! Members alike: for each member, the others whose purchases overlap most with theirs, and what those
//! bought.

use crate::artifact::{ArtifactError, Reader, Writer};
use crate::history::History;
use crate::scatter::Scatter;
use crate::sparse::Matrix;

/// Decayed purchases of a neighbour that count, at most.
const MAX_COUNT: f32 = 2.0;

/// Members × members; empty where the base is too large for it.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Per member, the members alike, with their similarity (above 0).
    pub similar: Matrix,
}

impl Neighbours {
    /// Adds up what those of a member's neighbours bought who may be read, by similarity.
    pub fn spread(&self, member: u32, history: &History, may_be_read: impl Fn(u32) -> bool, into: &mut Scatter) {
        let (members, similarities) = self.similar.row(member);
        for (other, similarity) in members.iter().zip(similarities).filter(|(other, _)| may_be_read(**other)) {
            let range = history.rows.range(*other);
            let bought = history.rows.columns[range.clone()].iter().zip(&history.decayed[range]);
            for (product, decayed) in bought.filter(|(_, decayed)| **decayed > 0.0) {
                into.add(*product, similarity * decayed.min(MAX_COUNT));
            }
        }
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("neighbours", &(), |s| self.similar.write("similar", s))
    }

    pub(crate) fn read(from: &Reader, members: usize) -> Result<Self, ArtifactError> {
        let s = from.section("neighbours")?;
        Ok(Self { similar: Matrix::read("similar", members, members, &s)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::fixture::{history, model};
    use crate::feed::{FeedRequest, Persona, Signals, Visitor};
    use crate::history::Past;
    use crate::model::Model;
    use crate::state::{Profile, State};

    #[test]
    fn members_alike_speak_only_while_they_allow_it() {
        let mut model = model(&[("a", "A", [1.0, 0.0], 10), ("a", "A", [1.0, 0.0], 10)], &[]);
        let bought =
            |product| Past { weight: 1.0, decayed: 1.0, recent: 1.0, count: 1, days_since: 3, ..Past::new(product) };
        model.members.ids = ["m0", "m1"].iter().collect();
        model.members.consents = vec![3; 2].into();
        model.history = history(&[vec![bought(1)], vec![bought(0)]]);
        model.neighbours = Neighbours { similar: Matrix::from_sorted(2, &[(1, 0, 0.5)]) };
        model.state = State::of(&model);
        let spoken_for = |model: &Model| {
            let persona = Persona::of(model, Visitor::Member(1), &[]);
            Signals::new(model, &persona, &FeedRequest::new(Visitor::Member(1), 5)).neighbours.get(1)
        };
        assert!(spoken_for(&model) > 0.0);
        let mut state = model.state.clone();
        state.describe(&model, "m0", Profile { personalization: Some(false), ..Profile::default() });
        let silent = Model { state, ..model.clone() };
        assert_eq!(spoken_for(&silent), 0.0);
    }
}
