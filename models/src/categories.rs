//! The category tree: every level of every category path, as numbers.

use std::collections::BTreeMap;

use crate::kernels::total;
use crate::strings::{Labels, NONE};

/// Levels from the finest up that habits are looked at.
pub const LEVELS: usize = 3;

/// A category path and those above it, finest first: of `a/b` itself, then `a`.
pub fn path_levels(path: &str) -> impl Iterator<Item = &str> {
    let ends = [path.len()].into_iter().chain(path.rmatch_indices('/').map(|(i, _)| i));
    ends.map(|end| &path[..end])
}

/// Whether a category path is another one, or below it.
pub fn is_within(path: &str, top: &str) -> bool {
    let top = top.strip_suffix('/').unwrap_or(top);
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Nodes are the distinct prefixes of the category paths, sorted by path.
#[derive(Clone, Debug, Default)]
pub struct CategoryTree {
    paths: Vec<String>,
    /// By row of the category labels: its node, that node's parent, and so on; [`NONE`] above the top.
    levels: Vec<[u32; LEVELS]>,
    /// By node, the one above it; [`NONE`] at the top.
    parents: Vec<u32>,
    /// By node, its share of all purchases.
    shares: Vec<f32>,
}

impl CategoryTree {
    /// Of the catalogue's categories; `counts` are purchases by product.
    pub fn new(categories: &Labels, counts: &[f32]) -> Self {
        let mut nodes = BTreeMap::<String, u32>::new();
        for path in categories.values.iter() {
            nodes.extend(path_levels(path).map(|level| (level.to_owned(), 0)));
        }
        nodes.values_mut().zip(0..).for_each(|(node, number)| *node = number);
        let levels = categories.values.iter().map(|path| {
            let mut levels = [NONE; LEVELS];
            levels.iter_mut().zip(path_levels(path)).for_each(|(level, path)| *level = nodes[path]);
            levels
        });
        let levels: Vec<[u32; LEVELS]> = levels.collect();
        let all = total(counts).max(f32::MIN_POSITIVE);
        let mut shares = vec![0.0; nodes.len()];
        for (label, count) in categories.rows.iter().zip(counts) {
            let nodes = levels.get(*label as usize).into_iter().flatten();
            nodes.filter(|node| **node != NONE).for_each(|node| shares[*node as usize] += count / all);
        }
        let parent = |path: &String| path_levels(path).nth(1).map_or(NONE, |parent| nodes[parent]);
        let parents = nodes.keys().map(parent).collect();
        Self { levels, parents, shares, paths: nodes.into_keys().collect() }
    }

    /// The share of all purchases in a node, 0 to 1; of the three finest levels only.
    pub fn share(&self, node: u32) -> f32 {
        self.shares[node as usize]
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path of a node.
    pub fn path(&self, node: u32) -> &str {
        self.paths.get(node as usize).map_or("", String::as_str)
    }

    /// The node of a category label's row and all above it, finest first.
    pub fn lineage(&self, label: u32) -> impl Iterator<Item = u32> {
        let finest = self.levels(label)[0];
        let above = |node: &u32| self.parents.get(*node as usize).copied();
        std::iter::successors(Some(finest), above).take_while(|node| *node != NONE)
    }

    /// The node of a category label's row and its parents, finest first; [`NONE`] where there is none.
    #[inline]
    pub fn levels(&self, label: u32) -> [u32; LEVELS] {
        self.levels.get(label as usize).copied().unwrap_or([NONE; LEVELS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_within_those_above_it() {
        assert!(is_within("a/b", "a/b") && is_within("a/b", "a") && is_within("a/b", "a/"));
        assert!(!is_within("ab", "a") && !is_within("ab", "a/") && !is_within("a", "a/b"));
    }

    #[test]
    fn levels_go_from_the_finest_up() {
        let labels = Labels::encode(&[Some("a/b/c/d".to_owned()), Some("a".to_owned()), None]);
        let tree = CategoryTree::new(&labels, &[3.0, 1.0, 0.0]);
        let paths = |row: usize| tree.levels(labels.rows[row]).map(|node| tree.path(node).to_owned());
        assert_eq!(paths(0), ["a/b/c/d", "a/b/c", "a/b"]);
        assert_eq!(paths(1), ["a", "", ""]);
        assert_eq!(tree.levels(labels.rows[2]), [NONE; LEVELS]);
        let lineage = |row: usize| tree.lineage(labels.rows[row]).map(|node| tree.path(node)).collect::<Vec<_>>();
        assert_eq!((lineage(0), lineage(1)), (vec!["a/b/c/d", "a/b/c", "a/b", "a"], vec!["a"]));
        assert_eq!(lineage(2), [""; 0]);
        let shares = |row: usize| tree.levels(labels.rows[row]).map(|n| if n == NONE { 0.0 } else { tree.share(n) });
        assert_eq!((shares(0), shares(1)), ([0.75; 3], [0.25, 0.0, 0.0]), "four levels up, no share is kept");
    }
}
