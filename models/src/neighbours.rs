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
