//! What a scan for an audience reads, and a plain sum over it.

use bytemuck::cast_slice;
use kindred_models::Model;
use kindred_models::launch::LaunchQuery;
use rayon::prelude::*;

/// The arrays that a scan reads.
pub(crate) struct Read<'a> {
    codes: &'a [i8],
    numbers: Vec<&'a [f32]>,
    rows: Vec<&'a [u32]>,
    /// Where the tags of each member stand.
    tags: &'a [u64],
}

impl<'a> Read<'a> {
    /// Of a scan for a product like product 0.
    pub(crate) fn of(model: &'a Model, query: &LaunchQuery) -> Self {
        let (codes, launch) = (&model.embeddings.members, &model.launch);
        let s = &launch.statics;
        let mut numbers: Vec<&[f32]> = vec![&codes.scales, &codes.lengths];
        numbers.extend([&s.activity, &launch.leanings.of, &s.premium, &s.price_level].map(|of| &of[..]));
        let tags = &model.members.tags;
        let mut rows = vec![&tags.columns[..]];
        let mut add = |(members, counts): (&'a [u32], &'a [f32])| {
            rows.push(members);
            numbers.push(counts);
        };
        let attributes = model.products.attributes(0);
        let own = attributes.price_band();
        let bands = own.into_iter().flat_map(|own| own - 12..=own + 12).map(|band| attributes.in_price_band(band));
        for feature in attributes.habits().into_iter().chain(bands) {
            model.content.feature_row(feature).into_iter().for_each(|row| add(launch.habits.row(row)));
        }
        query.analogues.iter().chain(&query.goes_with).for_each(|product| add(launch.buyers.row(product.row)));
        Self { codes: &codes.codes, numbers, rows, tags: &tags.offsets }
    }

    pub(crate) fn bytes(&self) -> usize {
        let words = self.numbers.iter().map(|of| of.len()).chain(self.rows.iter().map(|of| of.len()));
        self.codes.len() + 4 * words.sum::<usize>() + 8 * self.tags.len()
    }

    /// Adds them up as words, on all threads: how fast memory can be read.
    pub(crate) fn sum(&self) -> u64 {
        const CHUNK: usize = 1 << 18;
        let bytes = self.numbers.iter().map(|of| cast_slice::<f32, u8>(of));
        let bytes = bytes
            .chain(self.rows.iter().map(|of| cast_slice(of)))
            .chain([cast_slice(self.codes), cast_slice(self.tags)]);
        // Arrays as they are allocated begin at words; a few bytes at their ends don't count.
        let chunks: Vec<&[u64]> = bytes.flat_map(|of| align_to_words(of).chunks(CHUNK)).collect();
        let sum = |words: &[u64]| words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        chunks.par_iter().map(|words| sum(words)).reduce(|| 0, u64::wrapping_add)
    }
}

fn align_to_words(bytes: &[u8]) -> &[u64] {
    let from = bytes.as_ptr().align_offset(size_of::<u64>()).min(bytes.len());
    let whole = (bytes.len() - from) / size_of::<u64>() * size_of::<u64>();
    // What is too short to have an aligned word may not be aligned either.
    if whole == 0 { &[] } else { cast_slice(&bytes[from..from + whole]) }
}
