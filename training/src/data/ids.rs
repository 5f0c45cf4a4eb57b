//! Numbers ids in the order of their first appearance, and later in their own order.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use kindred_models::catalogue::IdType;
use kindred_models::strings::{NONE, Strings};

use crate::tables::{Cell, IdKind};

/// Ids seen so far.
#[derive(Debug, Default)]
pub(super) struct Ids {
    rows: HashMap<Box<str>, u32>,
    /// Ids that were forgotten.
    forgotten: u32,
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
        Ok(self.numbered(&id, kind))
    }

    /// The number of an id that was seen before.
    pub(super) fn find(&self, cell: &Cell<'_>) -> Option<u32> {
        self.rows.get(&*Self::id_of(cell).ok()?.0).copied()
    }

    /// The number of an id that a server kept, which knows text alone: what looks like an integer may be one.
    pub(super) fn number_kept(&mut self, id: &str) -> u32 {
        let is_integer = id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
        self.numbered(id, if is_integer { IdKind::Integer } else { IdKind::Text })
    }

    fn numbered(&mut self, id: &str, kind: IdKind) -> u32 {
        match kind {
            IdKind::Text => self.saw_text = true,
            IdKind::Integer => self.saw_integer = true,
        }
        if let Some(row) = self.rows.get(id) {
            return *row;
        }
        let row = self.rows.len() as u32;
        self.rows.insert(id.into(), row);
        row
    }

    /// Forgets ids; gives their numbers. No id is numbered after that.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&str) -> bool) -> HashSet<u32> {
        let before = self.rows.len();
        let mut gone = HashSet::new();
        self.rows.retain(|id, number| !is_meant(id) || !gone.insert(*number));
        self.forgotten += (before - self.rows.len()) as u32;
        gone
    }

    /// Whether a cell is an id, without numbering it.
    pub(super) fn id_of<'a>(cell: &'a Cell<'_>) -> Result<(Cow<'a, str>, IdKind), NoId> {
        cell.id().map_err(|_| NoId::Bad)?.ok_or(NoId::Missing)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The ids, sorted, and for each number its place among them; [`NONE`] for those forgotten.
    pub(super) fn into_sorted(self) -> ((Strings, IdType), Vec<u32>) {
        let id_type = if self.saw_integer && !self.saw_text { IdType::Integer } else { IdType::String };
        let forgotten = self.forgotten as usize;
        let mut ids: Vec<(Box<str>, u32)> = self.rows.into_iter().collect();
        ids.sort_unstable();
        let mut places = vec![NONE; ids.len() + forgotten];
        for (place, (_, number)) in ids.iter().enumerate() {
            places[*number as usize] = place as u32;
        }
        ((ids.iter().map(|(id, _)| id).collect(), id_type), places)
    }
}
