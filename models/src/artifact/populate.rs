//! All pages of a version mapped at once, instead of one by one as they are asked for.

use super::Reader;

/// Bytes that are mapped in one call: for so long others may wait who ask the system for memory.
#[cfg(target_os = "linux")]
const STEP: usize = 4 << 20;

impl Reader {
    /// Has the system map all pages, and read what is not in memory. Not where they would take more than half of the memory
    /// that is available, or on a system that can't: then they come as they are asked for.
    pub(crate) fn populate(&self) {
        #[cfg(target_os = "linux")]
        if available_memory().is_some_and(|available| self.bytes() <= available / 2) {
            for map in self.maps() {
                for start in (0..map.len()).step_by(STEP) {
                    if map.advise_range(memmap2::Advice::PopulateRead, start, STEP.min(map.len() - start)).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Bytes that can be had without swapping; `None` if the system does not say.
#[cfg(target_os = "linux")]
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use crate::artifact::{ArtifactError, Check, fixture};

    #[test]
    fn what_is_populated_reads_as_before() {
        let (_root, registry, id) = fixture::published(|to| {
            to.section::<ArtifactError>("numbers", &(), |s| s.array("n", &vec![7u32; 3_000_000])).unwrap();
            to.section::<ArtifactError>("none", &(), |s| s.array::<u32>("n", &[])).unwrap();
        });
        let reader = registry.open(&id, Check::Changed).unwrap();
        reader.populate();
        let numbers = reader.section("numbers").unwrap().array::<u32>("n").unwrap();
        assert_eq!((numbers.len(), numbers.iter().all(|n| *n == 7)), (3_000_000, true));
        #[cfg(target_os = "linux")]
        assert!(super::available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
