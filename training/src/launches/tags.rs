//! Which tags the buyers of each product have.

use kindred_models::catalogue::Members;
use kindred_models::launch::TagBuyers;
use kindred_models::ranking::Scored;
use kindred_models::sparse::Matrix;
use kindred_models::strings::NONE;
use rayon::prelude::*;

/// Members who bought anything and have a tag, below which it says nothing: fewer could be recognized.
const MIN_MEMBERS: usize = 50;
/// Tags at most, those of most members: bounds what is kept per product.
const MOST_TAGS: usize = 256;

/// Purchases by who has each tag; `buyers` are members with decayed purchases, per product, and `activity` all purchases
/// of each member.
pub(crate) fn buyers_by_tag(buyers: &Matrix, activity: &[f32], members: &Members) -> TagBuyers {
    let tags = kept(activity, members);
    if tags.is_empty() {
        return TagBuyers::default();
    }
    let mut places = vec![NONE; members.tag_names.len()];
    tags.iter().zip(0..).for_each(|(tag, place)| places[*tag as usize] = place);
    let of = |member: u32| members.tags.row(member).iter().map(|tag| places[*tag as usize]).filter(|at| *at != NONE);
    let none = || vec![0f64; tags.len()];
    let of_product = |sums: &mut Vec<f64>, product: u32| -> Vec<Scored> {
        let (members, counts) = buyers.row(product);
        for (member, count) in members.iter().zip(counts) {
            of(*member).for_each(|place| sums[place as usize] += f64::from(*count));
        }
        let sums = sums.iter_mut().zip(0..).filter(|(sum, _)| **sum > 0.0);
        sums.map(|(sum, row)| Scored { row, score: std::mem::take(sum) as f32 }).collect()
    };
    let products = (0..buyers.rows.len() as u32).into_par_iter();
    let bought: Vec<Vec<Scored>> = products.clone().map_init(none, of_product).collect();
    let mut sums = none();
    for (member, activity) in (0..).zip(activity) {
        of(member).for_each(|place| sums[place as usize] += f64::from(*activity));
    }
    let total = |counts: &[f32]| counts.iter().map(|x| f64::from(*x)).sum::<f64>();
    let all = total(activity).max(f64::MIN_POSITIVE);
    TagBuyers {
        tags: tags.into(),
        bought: crate::affinity::from_rows(&bought),
        totals: products.map(|product| total(buyers.row(product).1) as f32).collect::<Vec<f32>>().into(),
        shares: sums.iter().map(|sum| (sum / all) as f32).collect::<Vec<f32>>().into(),
        per_member: (0..members.tags.len() as u32).into_par_iter().map(|row| of(row).count()).max().unwrap_or(0),
    }
}

/// The tags that are of enough members who bought anything, and among the most common, by row.
fn kept(activity: &[f32], members: &Members) -> Vec<u32> {
    let mut counts = vec![0usize; members.tag_names.len()];
    for (member, _) in (0..).zip(activity).filter(|(_, activity)| **activity > 0.0) {
        members.tags.row(member).iter().for_each(|tag| counts[*tag as usize] += 1);
    }
    let mut kept: Vec<u32> =
        counts.iter().zip(0..).filter(|(count, _)| **count >= MIN_MEMBERS).map(|(_, tag)| tag).collect();
    kept.sort_by_key(|tag| std::cmp::Reverse(counts[*tag as usize]));
    kept.truncate(MOST_TAGS);
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::sparse::Rows;

    #[test]
    fn purchases_are_counted_by_tag() {
        // A hundred members with a tag of all and of every other; the last bought nothing, and alone has a third.
        let tags = |member: u32| match member {
            99 => vec![1, 2],
            _ if member.is_multiple_of(2) => vec![0, 2],
            _ => vec![2],
        };
        let members = Members {
            tags: Rows::from_lists((0..100).map(tags)),
            tag_names: ["even", "lone", "of all"].iter().collect(),
            ..Members::default()
        };
        let activity: Vec<f32> = (0..100).map(|member| if member < 99 { 2.0 } else { 0.0 }).collect();
        let buyers = Matrix::from_sorted(2, &[(0, 0, 2.0), (0, 1, 1.0), (0, 2, 0.5)]);
        let found = buyers_by_tag(&buyers, &activity, &members);
        assert_eq!(found.bought.row(0), (&[0, 1][..], &[2.5, 3.5][..]));
        assert_eq!(found.bought.row(1).0.len(), 0);
        assert_eq!(found.totals.to_vec(), [3.5, 0.0]);
        assert_eq!((found.tags.to_vec(), found.shares.to_vec()), (vec![0, 2], vec![50.0 / 99.0, 1.0]));
        let few = buyers_by_tag(&buyers, &activity[..20], &members);
        assert!(few.tags.is_empty() && few.bought.rows.is_empty(), "too few to speak of");
    }
}
