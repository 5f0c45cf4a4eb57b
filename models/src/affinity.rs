//! Affinity: which products are bought by the same members, and which in the same basket.
//!
//! Two sparse item–item models with the same form, one row per product with its strongest neighbours.
//! By member it finds what somebody who buys these products comes to buy; by basket it finds what goes with
//! them now.

use crate::artifact::{ArtifactError, Reader, Writer};
use crate::kernels::fetch;
use crate::scatter::Scatter;
use crate::sparse::Matrix;

/// Both models.
#[derive(Clone, Debug, Default)]
pub struct Affinity {
    /// Per product, the products bought by the same members, with their similarity (above 0).
    pub by_member: Matrix,
    /// Per product, the products bought in the same basket, with their similarity (above 0).
    pub by_basket: Matrix,
}

/// Adds up what each of a member's products speaks for.
pub fn spread(similar: &Matrix, from: impl IntoIterator<Item = (u32, f32)>, into: &mut Scatter) {
    let mut from = from.into_iter().peekable();
    while let Some((product, weight)) = from.next() {
        if let Some((next, _)) = from.peek() {
            let (neighbours, similarities) = similar.row(*next);
            fetch(neighbours);
            fetch(similarities);
        }
        let (neighbours, similarities) = similar.row(product);
        for (neighbour, similarity) in neighbours.iter().zip(similarities) {
            into.add(*neighbour, weight * similarity);
        }
    }
}

impl Affinity {
    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("affinity", &(), |s| {
            self.by_member.write("by_member", s)?;
            self.by_basket.write("by_basket", s)
        })
    }

    pub(crate) fn read(from: &Reader, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("affinity")?;
        Ok(Self {
            by_member: Matrix::read("by_member", products, products, &s)?,
            by_basket: Matrix::read("by_basket", products, products, &s)?,
        })
    }
}
