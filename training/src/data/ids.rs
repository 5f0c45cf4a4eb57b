//! Numbers ids in the order of their first appearance, and later in their own order.

use std::borrow::Cow;
use std::collections::HashMap;

use kindred_models::catalogue::IdType;
use kindred_models::strings::Strings;

use crate::tables::{Cell, IdKind};

/// Ids seen so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    rows: HashMap<Box<str>, u32>,
    saw_text: bool,
    saw_integer: bool,
}

/// Why a cell is no id.
pub(super) enum NoId {
    Missing,
    Bad,
}

impl Ids {
    /// The number of an id, a new one if it was not seen before.
    pub(super) fn number(&mut self, cell: &Cell<'_>) -> Result<u32, NoId> {
        let (id, kind) = Self::id_of(cell)?;
        match kind {
            IdKind::Text => self.saw_text = true,
            IdKind::Integer => self.saw_integer = true,
        }
        if let Some(row) = self.rows.get(id.as_ref()) {
            return Ok(*row);
        }
        let row = self.rows.len() as u32;
        self.rows.insert(id.into(), row);
        Ok(row)
    }

    /// Whether a cell is an id, without numbering it.
    pub(super) fn id_of<'a>(cell: &'a Cell<'_>) -> Result<(Cow<'a, str>, IdKind), NoId> {
        cell.id().map_err(|_| NoId::Bad)?.ok_or(NoId::Missing)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The ids, sorted, and for each number its place among them.
    pub(super) fn into_sorted(self) -> ((Strings, IdType), Vec<u32>) {
        let id_type = if self.saw_integer && !self.saw_text { IdType::Integer } else { IdType::String };
        let mut ids: Vec<(Box<str>, u32)> = self.rows.into_iter().collect();
        ids.sort_unstable();
        let mut places = vec![0; ids.len()];
        for (place, (_, number)) in ids.iter().enumerate() {
            places[*number as usize] = place as u32;
        }
        ((ids.iter().map(|(id, _)| id).collect(), id_type), places)
    }
}
