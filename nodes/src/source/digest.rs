//! SHA-256 of files.

use super::Problem;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// A digest that grows while bytes pass through to where they are written.
pub(super) struct Hashing<W> {
    inner: W,
    sha256: Sha256,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            sha256: Sha256::new(),
        }
    }

    /// What was written to, and the digest of what was, in hex.
    pub(super) fn finish(self) -> (W, String) {
        (self.inner, hex(&self.sha256.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The digest of a text, in hex.
pub(crate) fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The digest of a file, in hex. Reads all of it.
pub(crate) fn of_file(path: &Path) -> Result<String, Problem> {
    let read = || Problem::disk("read", path);
    let mut file = File::open(path).map_err(read())?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(read())? {
            0 => return Ok(hex(&sha256.finalize())),
            count => sha256.update(&buffer[..count]),
        }
    }
}

/// Whether `text` is a SHA-256 digest in lower-case hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_three_ways_agree_with_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        let mut hashing = Hashing::new(File::create(&path).unwrap());
        hashing.write_all(b"a").unwrap();
        hashing.write_all(b"bc").unwrap();
        assert_eq!(hashing.finish().1, ABC);
        assert_eq!(of_file(&path).unwrap(), ABC);
        assert_eq!(of_text("abc"), ABC);
        assert!(is_sha256(ABC) && !is_sha256("abc") && !is_sha256(&ABC.to_uppercase()));
    }
}
