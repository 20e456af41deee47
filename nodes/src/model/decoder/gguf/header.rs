//! Whether the header of a GGUF file can be believed.
//!
//! Candle reads the header into memory as it stands; this looks at every count, length and shape
//! first, so that a damaged or hostile file is a clear error and takes neither much memory nor much
//! time. The format is described in `docs/gguf.md` of the ggml project.

use super::GgufError;
use std::io::{self, ErrorKind, Read, Seek};

const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_NAME: u64 = 1 << 12;
/// Chat templates are the longest texts that real files hold, some 20 KiB.
const MAX_TEXT: u64 = 1 << 22;
/// Merges of the largest vocabularies number half a million.
const MAX_ELEMENTS: u64 = 1 << 22;
const MAX_DEPTH: usize = 4;
const MAX_DIMENSIONS: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Walks over the header and stops at the first thing that cannot be right.
///
/// # Errors
/// The file is not GGUF of version 2 or 3, ends early, or holds a count, length or shape beyond
/// what any model needs.
pub(super) fn check(reader: &mut (impl Read + Seek), file_size: u64) -> Result<(), GgufError> {
    let mut header = Header {
        left: file_size,
        reader,
    };
    if header.u32("the magic number")? != MAGIC {
        return Err(GgufError::NotGguf);
    }
    match header.u32("the version")? {
        2 | 3 => {}
        version => return Err(GgufError::Version { version }),
    }
    let tensors = header.count("tensors", MAX_ENTRIES)?;
    let entries = header.count("metadata entries", MAX_ENTRIES)?;
    let mut elements = MAX_ELEMENTS;
    for _ in 0..entries {
        let key = header.name("a metadata key")?;
        let kind = header.u32("the type of a metadata entry")?;
        if key == "general.alignment" {
            header.alignment(kind)?;
        } else {
            header.value(kind, &mut elements, 0)?;
        }
    }
    for _ in 0..tensors {
        header.tensor(file_size)?;
    }
    Ok(())
}

struct Header<'a, R> {
    reader: &'a mut R,
    left: u64,
}

impl<R: Read + Seek> Header<'_, R> {
    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.take(N as u64, what)?;
        let read = self.reader.read_exact(&mut bytes);
        read.map_err(|error| broken(error, what))?;
        Ok(bytes)
    }

    fn take(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(GgufError::Truncated { what })?;
        Ok(())
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(GgufError::TooLarge { what, count, limit });
        }
        Ok(count)
    }

    fn name(&mut self, what: &'static str) -> Result<String, GgufError> {
        let length = self.count("bytes of a name", MAX_NAME)?;
        self.take(length, what)?;
        let mut name = vec![0; length as usize];
        let read = self.reader.read_exact(&mut name);
        read.map_err(|error| broken(error, what))?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    fn skip(&mut self, bytes: u64, what: &'static str) -> Result<(), GgufError> {
        self.take(bytes, what)?;
        let offset = i64::try_from(bytes).map_err(|_| GgufError::Truncated { what })?;
        let skipped = self.reader.seek_relative(offset);
        skipped.map_err(|error| broken(error, what))
    }

    fn value(&mut self, kind: u32, elements: &mut u64, depth: usize) -> Result<(), GgufError> {
        match kind {
            STRING => {
                let length = self.count("bytes of a text", MAX_TEXT)?;
                self.skip(length, "a text")
            }
            ARRAY => self.array(elements, depth),
            _ => self.skip(scalar_size(kind)?, "a metadata value"),
        }
    }

    fn array(&mut self, elements: &mut u64, depth: usize) -> Result<(), GgufError> {
        if depth == MAX_DEPTH {
            return Err(GgufError::TooDeep { limit: MAX_DEPTH });
        }
        let kind = self.u32("the type of an array")?;
        let length = self.count("elements of arrays", *elements)?;
        *elements -= length;
        if kind == STRING || kind == ARRAY {
            return (0..length).try_for_each(|_| self.value(kind, elements, depth + 1));
        }
        self.skip(length * scalar_size(kind)?, "an array")
    }

    /// Tensor data begins at a multiple of this; candle divides by it.
    fn alignment(&mut self, kind: u32) -> Result<(), GgufError> {
        const U32: u32 = 4;
        let alignment = match kind {
            U32 => self.u32("the alignment")?,
            _ => 0,
        };
        if alignment.is_power_of_two() {
            return Ok(());
        }
        Err(GgufError::Alignment)
    }

    fn tensor(&mut self, file_size: u64) -> Result<(), GgufError> {
        let name = self.name("a tensor's name")?;
        let dimensions = self.u32("a tensor's shape")?;
        if dimensions > MAX_DIMENSIONS {
            let reason =
                format!("it has {dimensions} dimensions, at most {MAX_DIMENSIONS} are known");
            return Err(GgufError::Tensor { name, reason });
        }
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let size = self.u64("a tensor's shape")?;
            // No format takes less than a bit for an element.
            let product = elements.checked_mul(size);
            let product = product.filter(|&n| n > 0 && n / 8 <= file_size);
            elements = product.ok_or_else(|| GgufError::Tensor {
                name: name.clone(),
                reason: "its shape is empty or larger than the file".to_owned(),
            })?;
        }
        self.u32("a tensor's format")?;
        self.u64("a tensor's place")?;
        Ok(())
    }
}

fn scalar_size(kind: u32) -> Result<u64, GgufError> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        kind => Err(GgufError::ValueType { kind }),
    }
}

fn broken(error: io::Error, what: &'static str) -> GgufError {
    match error.kind() {
        ErrorKind::UnexpectedEof => GgufError::Truncated { what },
        _ => GgufError::Io(error),
    }
}
