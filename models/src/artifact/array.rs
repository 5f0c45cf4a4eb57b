//! A typed array that is either owned or a window of a mapped file.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;

/// Element types that an array file may hold, with their name in the manifest.
pub(super) trait Element: Pod {
    const NAME: &'static str;
}

macro_rules! element {
    ($($t:ty),*) => { $(impl Element for $t { const NAME: &'static str = stringify!($t); })* };
}
element!(i8, u8, u16, u32, u64, i64, f32);

/// A read-only array of plain values: owned when it was just fitted, mapped when it was loaded. Clones
/// share a mapping.
#[derive(Clone)]
pub struct Array<T: Pod>(Source<T>);

#[derive(Clone)]
enum Source<T: Pod> {
    Owned(Arc<Vec<T>>),
    Mapped { file: Arc<Mmap>, start: usize, end: usize, of: PhantomData<T> },
}

impl<T: Pod> Array<T> {
    /// A window of a mapped file. `None` if it is out of bounds, misaligned or not whole elements.
    pub(super) fn mapped(file: Arc<Mmap>, start: usize, end: usize) -> Option<Self> {
        bytemuck::try_cast_slice::<u8, T>(file.get(start..end)?).ok()?;
        Some(Self(Source::Mapped { file, start, end, of: PhantomData }))
    }
}

impl<T: Pod> From<Vec<T>> for Array<T> {
    fn from(values: Vec<T>) -> Self {
        Self(Source::Owned(Arc::new(values)))
    }
}

impl<T: Pod> Default for Array<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Pod> Deref for Array<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Source::Owned(values) => values,
            // Bounds, alignment and size were checked by `mapped`, and a mapping never moves.
            Source::Mapped { file, start, end, .. } => bytemuck::cast_slice(&file[*start..*end]),
        }
    }
}

impl<T: Pod + std::fmt::Debug> std::fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array[{}]", self.len())
    }
}
