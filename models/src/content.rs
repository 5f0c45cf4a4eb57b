//! Content: what a product is by its attributes alone, and which products are like it.
//!
//! A product is a sparse vector of hashed features: the levels of its category path, its brand, brand and
//! category together, its price band, its tags, and the character 2- and 3-grams of its title (no word
//! list, right for Chinese). Features weigh by their inverse document frequency; groups by
//! [`Group::weight`].

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::categories::{LEVELS, path_levels};
use crate::ranking::Scored;
use crate::scatter::{Borrowed, Scatter};
use crate::sparse::Matrix;

/// Ratio from one price band to the next.
const PRICE_BAND_RATIO: f32 = 1.4;

/// Products that may share a piece of a title for it to be looked at: bounds the cost of a look-up.
const MAX_TITLE_DOCUMENTS: u32 = 1000;

/// Attributes of a product, in the model or new.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Title, in any language; empty where unknown.
    pub title: String,
    /// Category path, levels joined by `/`.
    pub category: Option<String>,
    /// Brand.
    pub brand: Option<String>,
    /// Price in the retailer's currency, above 0.
    pub price: Option<f32>,
    /// Tags.
    pub tags: Vec<String>,
    /// Stores that carry it; empty for all.
    pub stores: Vec<String>,
}

/// What a feature is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A level of the category path.
    Category,
    /// The brand.
    Brand,
    /// The brand within the finest category.
    BrandCategory,
    /// The price band within a level of the category path.
    PriceBand,
    /// A tag.
    Tag,
    /// A piece of the title.
    Title,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 6] =
        [Self::Category, Self::Brand, Self::BrandCategory, Self::PriceBand, Self::Tag, Self::Title];

    /// The share of this group in a product's squared length, before it is normalized.
    pub fn weight(self) -> f32 {
        match self {
            Self::Category => 1.0,
            Self::Brand => 0.4,
            Self::BrandCategory => 0.4,
            Self::PriceBand => 0.2,
            Self::Tag => 0.3,
            Self::Title => 0.6,
        }
    }
}

/// One feature of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// What it is made of.
    pub group: Group,
    /// Hash of its text; the lowest three bits are the group, so that it can be read back.
    pub hash: u64,
}

impl Feature {
    fn new(group: Group, parts: &[&str]) -> Self {
        // FNV-1a, 64 bits: stable across machines and versions, as the artifact needs.
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in parts.iter().flat_map(|p| p.bytes().chain([0xff])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self { group, hash: (hash & !7) | group as u64 }
    }

    /// The group of a hash that [`Feature`] made.
    pub fn group_of(hash: u64) -> Option<Group> {
        Group::ALL.get((hash & 7) as usize).copied()
    }
}

impl Attributes {
    /// The category path and those above it, finest first.
    fn categories(&self) -> impl Iterator<Item = &str> + '_ {
        self.category.as_deref().into_iter().flat_map(path_levels)
    }

    /// What members form habits of: every level of the category, finest first, then the others; price bands of the
    /// finest levels.
    pub fn habits(&self) -> Vec<Feature> {
        let mut features: Vec<Feature> = self.categories().map(|path| Feature::new(Group::Category, &[path])).collect();
        if let Some(brand) = &self.brand {
            let finest = self.category.as_deref().unwrap_or("");
            features.push(Feature::new(Group::Brand, &[brand]));
            features.push(Feature::new(Group::BrandCategory, &[brand, finest]));
        }
        features.extend(self.price_band().map(|band| self.in_price_band(band)));
        if let Some(band) = self.price_band() {
            features.extend(self.categories().take(LEVELS).skip(1).map(|path| price_band(band, path)));
        }
        features.extend(self.tags.iter().map(|tag| Feature::new(Group::Tag, &[tag])));
        features
    }

    /// The category that prices are compared in: the level above the finest, in which products are many and still alike;
    /// the finest where it has none above.
    pub fn price_peers(&self) -> Option<Feature> {
        self.categories().take(2).last().map(|path| Feature::new(Group::Category, &[path]))
    }

    /// The price band: each is 1.4 times as dear as the one below.
    pub fn price_band(&self) -> Option<i32> {
        self.price.filter(|p| *p > 0.0).map(|price| (price.ln() / PRICE_BAND_RATIO.ln()).floor() as i32)
    }

    /// A price band of the product's finest category.
    pub fn in_price_band(&self, band: i32) -> Feature {
        price_band(band, self.category.as_deref().unwrap_or(""))
    }

    /// The product's features, sorted, each once.
    pub fn features(&self) -> Vec<Feature> {
        let mut features = self.habits();
        for word in self.title.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
            let letters: Vec<char> = word.chars().collect();
            for gram in letters.windows(2).chain(letters.windows(3)) {
                features.push(Feature::new(Group::Title, &[&gram.iter().collect::<String>()]));
            }
        }
        features.sort();
        features.dedup();
        features
    }
}

fn price_band(band: i32, category: &str) -> Feature {
    Feature::new(Group::PriceBand, &[&format!("{band}"), category])
}

/// Finds products by content.
#[derive(Clone, Debug, Default)]
pub struct ContentIndex {
    /// Number of products.
    pub products: usize,
    /// Hashes of the known features, sorted.
    pub vocabulary: Array<u64>,
    /// Inverse document frequency of each.
    pub idf: Array<f32>,
    /// Per feature, the products that have it, with its share in the product's unit vector.
    pub postings: Matrix,
    /// Unit vectors of products added since, after the others; not stored.
    added: Arc<Vec<Vec<(u32, f32)>>>,
}

impl ContentIndex {
    /// Indexes products by row.
    pub fn build(products: &[Attributes]) -> Self {
        let features: Vec<Vec<Feature>> = products.par_iter().map(Attributes::features).collect();
        let mut document_counts = BTreeMap::<u64, u32>::new();
        for feature in features.iter().flatten() {
            *document_counts.entry(feature.hash).or_default() += 1;
        }
        // A piece of a title that only one product has finds nothing, one that very many have says nothing.
        let telling = 2..=MAX_TITLE_DOCUMENTS;
        document_counts.retain(|hash, count| Feature::group_of(*hash) != Some(Group::Title) || telling.contains(count));
        let n = products.len() as f32;
        let mut index = Self {
            products: products.len(),
            vocabulary: document_counts.keys().copied().collect::<Vec<_>>().into(),
            idf: document_counts.values().map(|c| (1.0 + n / *c as f32).ln()).collect::<Vec<_>>().into(),
            postings: Matrix::default(),
            added: Arc::default(),
        };
        let vectors: Vec<Vec<(u32, f32)>> = features.par_iter().map(|f| index.unit_vector(f)).collect();
        let entries: Vec<(u32, u32, f32)> = vectors
            .iter()
            .enumerate()
            .flat_map(|(row, vector)| vector.iter().map(move |(feature, x)| (row as u32, *feature, *x)))
            .collect();
        index.postings = Matrix::from_sorted(products.len(), &entries).transposed(index.vocabulary.len());
        index
    }

    /// Row of a feature in the vocabulary.
    pub fn feature_row(&self, feature: Feature) -> Option<u32> {
        self.vocabulary.binary_search(&feature.hash).ok().map(|row| row as u32)
    }

    /// The known features as a vector of length 1, by row of the vocabulary.
    fn unit_vector(&self, features: &[Feature]) -> Vec<(u32, f32)> {
        let known: Vec<(Group, u32, f32)> = features
            .iter()
            .filter_map(|f| self.feature_row(*f).map(|row| (f.group, row, self.idf[row as usize])))
            .collect();
        let mut squares = [0f32; Group::ALL.len()];
        for (group, _, idf) in &known {
            squares[*group as usize] += idf * idf;
        }
        let present = Group::ALL.iter().filter(|g| squares[**g as usize] > 0.0);
        let total: f32 = present.map(|g| g.weight()).sum();
        let mut vector: Vec<(u32, f32)> = known
            .into_iter()
            .map(|(group, row, idf)| (row, idf * (group.weight() / (squares[group as usize] * total)).sqrt()))
            .collect();
        vector.sort_by_key(|(row, _)| *row);
        vector
    }

    /// With products added, by their features.
    pub(crate) fn extended(&self, features: &[Vec<Feature>]) -> Self {
        let mut added = self.added.to_vec();
        added.extend(features.iter().map(|features| self.unit_vector(features)));
        Self { added: Arc::new(added), ..self.clone() }
    }

    /// The `k` allowed products most like these features, by cosine (0 to 1), best first.
    pub fn nearest(&self, features: &[Feature], k: usize, allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
        let mut nearest = self.cosines(features).best_to_keep(k, allowed);
        nearest.sort_unstable();
        nearest
    }

    /// How like these features each product is, by cosine (0 to 1).
    pub fn cosines(&self, features: &[Feature]) -> Borrowed {
        let mut cosines = Scatter::take(self.products + self.added.len());
        let asked = self.unit_vector(features);
        for (feature, x) in &asked {
            let (products, values) = self.postings.row(*feature);
            products.iter().zip(values).for_each(|(product, y)| cosines.add(*product, x * y));
        }
        for (row, vector) in (self.products as u32..).zip(self.added.iter()) {
            let of_both = |(feature, x): &(u32, f32)| {
                let at = asked.binary_search_by_key(feature, |(feature, _)| *feature).ok()?;
                Some(x * asked[at].1)
            };
            let cosine: f32 = vector.iter().filter_map(of_both).sum();
            if cosine > 0.0 {
                cosines.add(row, cosine);
            }
        }
        cosines
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("content", &(), |s| {
            s.array("vocabulary", &self.vocabulary)?;
            s.array("idf", &self.idf)?;
            self.postings.write("postings", s)
        })
    }

    pub(crate) fn read(from: &Reader, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("content")?;
        let vocabulary: Array<u64> = s.array("vocabulary")?;
        let index = Self {
            products,
            idf: s.array("idf")?,
            postings: Matrix::read("postings", vocabulary.len(), products, &s)?,
            vocabulary,
            added: Arc::default(),
        };
        let fits = index.idf.len() == index.vocabulary.len() && index.vocabulary.is_sorted();
        s.ensure(fits, "content features do not fit their weights")?;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(category: &str, brand: &str, title: &str) -> Attributes {
        Attributes {
            title: title.to_owned(),
            category: Some(category.to_owned()),
            brand: Some(brand.to_owned()),
            price: Some(10.0),
            tags: Vec::new(),
            stores: Vec::new(),
        }
    }

    #[test]
    fn the_nearest_product_shares_the_most_specific_attributes() {
        let index = ContentIndex::build(&[
            product("food/nuts", "A", "roasted almonds"),
            product("food/nuts", "B", "salted cashews"),
            product("food/tea", "A", "green tea"),
            product("home/soap", "C", "soap"),
        ]);
        let query = product("food/nuts", "A", "raw almonds").features();
        let nearest = index.nearest(&query, 4, |_| true);
        assert_eq!(nearest[0].row, 0);
        assert_eq!(nearest[1].row, 1);
        assert_eq!(nearest.len(), 3, "soap has nothing in common: {nearest:?}");
        assert_eq!(index.nearest(&query, 1, |row| row != 0)[0].row, 1);
    }

    #[test]
    fn a_product_is_at_cosine_one_with_itself() {
        let all = [product("a/b", "x", "坚果 混合"), product("a/c", "y", "绿茶")];
        let index = ContentIndex::build(&all);
        assert!((index.nearest(&all[0].features(), 1, |_| true)[0].score - 1.0).abs() < 1e-5);
    }

    #[test]
    fn chinese_titles_share_pieces() {
        let pieces = |title: &str| Attributes { title: title.to_owned(), ..Attributes::default() }.features();
        let (a, b) = (pieces("每日坚果礼盒"), pieces("混合坚果"));
        assert!(a.iter().any(|f| b.contains(f)));
        assert!(a.iter().all(|f| Feature::group_of(f.hash) == Some(Group::Title)));
    }
}
