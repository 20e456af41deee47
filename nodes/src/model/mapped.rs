//! Files in memory without reading them: pages come from disk when they are touched, and every
//! replica and process that maps the file shares them.

use bytes::Bytes;
use memmap2::Mmap;
use std::{fs::File, io, path::Path, sync::Arc};

/// A file that is mapped for reading.
#[derive(Debug, Clone)]
pub(crate) struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapped {
    /// Maps a file; the last clone unmaps it.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only. A model's file must not be changed in place while it is in
        // use, which holds for those of the cache (written elsewhere and renamed) and is asked of the
        // others in the documentation, as every engine that maps weights does. Nothing but numbers is
        // read through the map after the header was checked, so changed bytes give wrong numbers and
        // no more.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Arc::new(map)))
    }

    /// Lets go of the memory behind a part of the file; if it is read again it comes from disk again.
    pub(crate) fn forget(&self, start: usize, len: usize) {
        #[cfg(unix)]
        {
            // SAFETY: the map is read-only and has a file, so that what is dropped comes back as it
            // was.
            let forgotten = unsafe {
                self.0
                    .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len)
            };
            if let Err(error) = forgotten {
                tracing::debug!(%error, "pages of a model's file stay in memory");
            }
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}

/// A file's bytes; the last clone or slice of them unmaps it.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(Mapped::open(path)?))
}
