//! The holdout: members of an audience who are not contacted, so that what a campaign did can be told from what
//! would have been bought anyway.

use rayon::prelude::*;

/// A random part of an audience.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Holdout {
    /// Share of the members, 0 to 1.
    pub share: f64,
    /// The same seed holds out the same members, whatever else is asked for; another one, others.
    pub seed: u64,
}

impl Holdout {
    /// A share, by the seed that was asked for, or, where that is 0, by one of the name's own: who is held out of everything is told
    /// of nothing, soon is worth more than those who are, and tells nothing of single campaigns.
    pub fn of(share: f64, seed: u64, name: &str) -> Self {
        Self { share, seed: if seed == 0 { Self::seed_of(name) } else { seed } }
    }

    /// A seed of a name's own: the first bytes of its BLAKE3 hash.
    fn seed_of(name: &str) -> u64 {
        first_bytes(&blake3::hash(name.as_bytes()))
    }

    /// Whether a member is held out: by a hash (BLAKE3) of the seed and the id.
    pub fn contains(&self, member_id: &str) -> bool {
        if self.share <= 0.0 {
            return false;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(member_id.as_bytes());
        let uniform = first_bytes(&hasher.finalize()) as f64 / u64::MAX as f64;
        uniform < self.share
    }

    /// Which of some members are held out.
    pub fn among<'a, T: Sync>(&self, members: &'a [T], id: impl Fn(&'a T) -> &'a str + Sync) -> Vec<bool> {
        // Ids stand all over memory: they are not looked up for nothing.
        if self.share <= 0.0 {
            return vec![false; members.len()];
        }
        members.par_iter().map(|member| self.contains(id(member))).collect()
    }
}

fn first_bytes(hash: &blake3::Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_seed_each_name_has_its_own() {
        assert_eq!(Holdout::of(0.5, 7, "tea"), Holdout { share: 0.5, seed: 7 });
        let [tea, coffee] = ["tea", "coffee"].map(|name| Holdout::of(0.5, 0, name));
        assert!(tea == Holdout::of(0.5, 0, "tea") && tea.seed != coffee.seed && tea.seed != 0);
    }

    #[test]
    fn a_share_is_held_out_the_same_for_the_same_seed() {
        let held = |share, seed| -> Vec<bool> {
            let holdout = Holdout { share, seed };
            let ids: Vec<String> = (0..10_000).map(|i| format!("m{i}")).collect();
            let held = holdout.among(&ids, |id| id);
            assert!(held.iter().zip(&ids).all(|(held, id)| *held == holdout.contains(id)));
            held
        };
        let count = |held: &[bool]| held.iter().filter(|h| **h).count();
        let (a, b) = (held(0.1, 7), held(0.1, 8));
        // 1000 of 10000, whose standard deviation is 30.
        assert!((850..1150).contains(&count(&a)), "{}", count(&a));
        assert_eq!(a, held(0.1, 7));
        let both = a.iter().zip(&b).filter(|(a, b)| **a && **b).count();
        assert!((50..160).contains(&both), "other seeds hold out others: {both}");
        assert!(a.iter().zip(held(0.3, 7)).all(|(few, more)| !few || more), "a larger share holds out more");
        assert_eq!((count(&held(0.0, 7)), count(&held(1.0, 7))), (0, 10_000));
    }
}
