//! Files in memory without reading them: pages come from disk when they are touched, and every
//! replica and process that maps the file shares them.

use bytes::Bytes;
use memmap2::Mmap;
use std::{fs::File, io, path::Path};

/// Maps a file for reading; the last clone or slice of the bytes unmaps it.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only. A model's file must not be changed in place while it is in use,
    // which holds for those of the cache (written elsewhere and renamed) and is asked of the others
    // in the documentation, as every engine that maps weights does. Nothing but numbers is read
    // through the map after the header was checked, so changed bytes give wrong numbers and no more.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
