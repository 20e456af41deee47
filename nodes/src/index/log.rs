//! The log of vectors: one file, appended to, each record with a checksum.
//!
//! ```text
//! header  "engvec01"  dimensions u32  crc32 u32
//! record  sequence number u64  values f32 × dimensions  crc32 u32       (all little-endian)
//! ```
//!
//! Records have one size, so that a row number is a place in the file. Sequence numbers rise from
//! record to record; the text index refers to a vector by its number, which survives compaction
//! where the row does not. How much of the file counts, the text index says: what lies behind that
//! length was never committed.

use super::IndexError;
use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"engvec01";
const HEADER: u64 = 16;

/// How many bytes are read at a time.
const READ: usize = 1 << 20;

/// How much of which file is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committed {
    /// Rises with every compaction; it is in the file's name.
    pub(super) generation: u64,
    /// Bytes that count.
    pub(super) length: u64,
}

impl Committed {
    /// A log without records.
    pub(super) const EMPTY: Self = Self {
        generation: 1,
        length: HEADER,
    };

    /// As the text index keeps it with each commit.
    pub(super) fn payload(self) -> String {
        format!("veclog={}/{}", self.generation, self.length)
    }

    /// Reads what [`payload`](Self::payload) wrote; an index without a commit has an empty log.
    pub(super) fn from_payload(payload: Option<&str>) -> Option<Self> {
        let Some(payload) = payload else {
            return Some(Self::EMPTY);
        };
        let (generation, length) = payload.strip_prefix("veclog=")?.split_once('/')?;
        Some(Self {
            generation: generation.parse().ok()?,
            length: length.parse().ok()?,
        })
    }

    /// The file's path in the folder of the index.
    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("vectors-{}.log", self.generation))
    }
}

/// A log that is read.
#[derive(Debug)]
pub(super) struct LogReader {
    file: File,
    path: PathBuf,
    dimensions: usize,
}

impl LogReader {
    /// Opens the log and checks its header.
    pub(super) fn open(path: &Path, dimensions: usize) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(IndexError::io("open", path))?;
        let log = Self {
            file,
            path: path.to_owned(),
            dimensions,
        };
        let mut header = [0; HEADER as usize];
        let read = log.file.read_exact_at(&mut header, 0);
        if read.is_err() || header != header_of(dimensions) {
            return Err(log.damaged("its header is not that of these vectors"));
        }
        Ok(log)
    }

    /// How many records a committed length holds.
    pub(super) fn rows(&self, length: u64) -> Result<usize, IndexError> {
        let metadata = self.file.metadata();
        let there = metadata.map_err(IndexError::io("read", &self.path))?.len();
        if there < length {
            return Err(self.damaged(format!("it has {there} bytes of {length}")));
        }
        let size = record_size(self.dimensions) as u64;
        match length.checked_sub(HEADER) {
            Some(records) if records % size == 0 => Ok((records / size) as usize),
            _ => Err(self.damaged(format!("{length} bytes is no whole number of records"))),
        }
    }

    /// Hands the records from row `first` to before row `end` to `each`, in order.
    pub(super) fn read(
        &self,
        first: usize,
        end: usize,
        mut each: impl FnMut(u64, &[f32]),
    ) -> Result<(), IndexError> {
        let size = record_size(self.dimensions);
        let at_once = (READ / size).max(1);
        let mut values = vec![0.0; self.dimensions];
        let mut bytes = Vec::new();
        for from in (first..end).step_by(at_once) {
            let rows = at_once.min(end - from);
            bytes.resize(rows * size, 0);
            self.read_bytes(from, &mut bytes)?;
            for (row, record) in bytes.chunks_exact(size).enumerate() {
                let sequence = self.decode(from + row, record, &mut values)?;
                each(sequence, &values);
            }
        }
        Ok(())
    }

    /// Reads the vector of one row into `values`; `bytes` is room to work in.
    pub(super) fn vector(
        &self,
        row: usize,
        bytes: &mut Vec<u8>,
        values: &mut [f32],
    ) -> Result<(), IndexError> {
        bytes.resize(record_size(self.dimensions), 0);
        self.read_bytes(row, bytes)?;
        self.decode(row, bytes, values).map(|_| ())
    }

    fn read_bytes(&self, row: usize, bytes: &mut [u8]) -> Result<(), IndexError> {
        let place = HEADER + (row * record_size(self.dimensions)) as u64;
        let read = self.file.read_exact_at(bytes, place);
        read.map_err(IndexError::io("read", &self.path))
    }

    fn decode(&self, row: usize, record: &[u8], values: &mut [f32]) -> Result<u64, IndexError> {
        let (body, checksum) = record.split_at(record.len() - 4);
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return Err(self.damaged(format!("the checksum of record {row} is wrong")));
        }
        let (sequence, body) = body.split_at(8);
        for (value, bytes) in values.iter_mut().zip(body.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.damaged(format!("record {row} is not a vector of finite numbers")));
        }
        let sequence = sequence.as_chunks::<8>().0.first().copied();
        Ok(u64::from_le_bytes(sequence.unwrap_or_default()))
    }

    /// Says that this log is not what was written.
    pub(super) fn damaged(&self, reason: impl std::fmt::Display) -> IndexError {
        let folder = self.path.parent().unwrap_or(&self.path);
        let name = self.path.file_name().unwrap_or_default().display();
        IndexError::damaged(folder, format!("{name}: {reason}"))
    }
}

/// A log that is appended to.
#[derive(Debug)]
pub(super) struct LogWriter {
    file: BufWriter<File>,
    path: PathBuf,
    committed: Committed,
    next: u64,
}

impl LogWriter {
    /// Makes a new log; `next` is the first sequence number.
    pub(super) fn create(
        folder: &Path,
        generation: u64,
        dimensions: usize,
        next: u64,
    ) -> Result<Self, IndexError> {
        let committed = Committed {
            generation,
            ..Committed::EMPTY
        };
        let path = committed.path(folder);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(&path);
        let mut file = file.map_err(IndexError::io("create", &path))?;
        let written = file.write_all(&header_of(dimensions));
        written.map_err(IndexError::io("write", &path))?;
        sync_folder(folder)?;
        Ok(Self {
            file: BufWriter::new(file),
            path,
            committed,
            next,
        })
    }

    /// Opens a log to append to it, and cuts off what was not committed.
    pub(super) fn open(folder: &Path, committed: Committed, next: u64) -> Result<Self, IndexError> {
        let path = committed.path(folder);
        let file = OpenOptions::new().write(true).open(&path);
        let mut file = file.map_err(IndexError::io("open", &path))?;
        let cut = file.set_len(committed.length);
        cut.and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(IndexError::io("recover", &path))?;
        Ok(Self {
            file: BufWriter::new(file),
            path,
            committed,
            next,
        })
    }

    /// Appends a vector and returns its sequence number.
    pub(super) fn append(&mut self, values: &[f32]) -> Result<u64, IndexError> {
        let sequence = self.next;
        self.append_as(sequence, values)?;
        Ok(sequence)
    }

    /// Appends a vector under a sequence number that it has already.
    pub(super) fn append_as(&mut self, sequence: u64, values: &[f32]) -> Result<(), IndexError> {
        let mut record = Vec::with_capacity(record_size(values.len()));
        record.extend_from_slice(&sequence.to_le_bytes());
        for value in values {
            record.extend_from_slice(&value.to_le_bytes());
        }
        record.extend_from_slice(&crc32fast::hash(&record).to_le_bytes());
        let written = self.file.write_all(&record);
        written.map_err(IndexError::io("write", &self.path))?;
        self.committed.length += record.len() as u64;
        self.next = sequence.saturating_add(1);
        Ok(())
    }

    /// Brings everything to the disk and says how much there is.
    pub(super) fn sync(&mut self) -> Result<Committed, IndexError> {
        let flushed = self.file.flush();
        flushed
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(IndexError::io("write", &self.path))?;
        Ok(self.committed)
    }

    /// Sequence numbers go on above this one, even if its record is gone.
    pub(super) fn continue_after(&mut self, last: Option<u64>) {
        self.next = self.next.max(last.map_or(0, |last| last.saturating_add(1)));
    }

    /// Which file it is.
    pub(super) fn generation(&self) -> u64 {
        self.committed.generation
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), IndexError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(IndexError::io("write", folder))
}

/// Reads a small file, and no more of a large one than `limit`.
pub(super) fn read_small(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn record_size(dimensions: usize) -> usize {
    8 + 4 * dimensions + 4
}

fn header_of(dimensions: usize) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&(dimensions as u32).to_le_bytes());
    let checksum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}
