//! Events set aside on disk, while nothing looks at them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use bytemuck::{cast_slice, cast_slice_mut, checked};

use super::Event;

/// Events that are read or written at a time.
const CHUNK: usize = 1 << 21;

/// A list of events in a file without a name, which is gone with the process.
#[derive(Debug)]
pub(crate) struct SetAside {
    file: File,
    events: usize,
}

impl SetAside {
    /// Writes them to the disk of a folder.
    ///
    /// # Errors
    /// If there is no room for them.
    pub(crate) fn write(events: &[Event], folder: &Path) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(folder)?;
        for chunk in events.chunks(CHUNK) {
            file.write_all(cast_slice(chunk))?;
        }
        Ok(Self { file, events: events.len() })
    }

    /// Reads them back.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn read(mut self) -> io::Result<Arc<Vec<Event>>> {
        self.file.rewind()?;
        let mut events = Vec::with_capacity(self.events);
        while events.len() < self.events {
            let chunk = CHUNK.min(self.events - events.len());
            // As words, so that they are aligned as events are; anew each time, as what was let go of before goes back to
            // the system when the allocator is asked for large blocks, and not before.
            let mut words = vec![0u64; chunk * size_of::<Event>() / size_of::<u64>()];
            let bytes: &mut [u8] = cast_slice_mut(&mut words);
            self.file.read_exact(bytes)?;
            let read: &[Event] = checked::try_cast_slice(bytes)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            events.extend_from_slice(read);
        }
        Ok(events.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Kind;

    #[test]
    fn what_is_set_aside_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let event = |i: u32| Event {
            member: i / 10,
            product: i,
            time: i64::from(i) - 5,
            kind: Kind::ALL[i as usize % Kind::ALL.len()],
            price: i as u8,
            channel: i as u16,
            store: u32::MAX - i,
        };
        for count in [0, 1, CHUNK as u32, CHUNK as u32 + 3] {
            let events: Vec<Event> = (0..count).map(event).collect();
            let aside = SetAside::write(&events, folder.path()).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
            assert!(*aside.read().unwrap() == events);
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_no_list_of_events() {
        let folder = tempfile::tempdir().unwrap();
        let event = Event { member: 1, product: 2, time: 3, kind: Kind::View, price: 0, channel: 4, store: 5 };
        let aside = SetAside::write(&[event; 3], folder.path()).unwrap();
        aside.file.set_len(50).unwrap();
        assert_eq!(aside.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
