//! Damaged and hostile files are errors that say what is wrong.

use super::*;
use std::io::Write;

/// Writes the parts of a header by hand, so that it can lie.
#[derive(Default)]
struct Forge(Vec<u8>);

impl Forge {
    fn new(tensors: u64, entries: u64) -> Self {
        let mut forge = Self(b"GGUF".to_vec());
        forge.u32(3).u64(tensors).u64(entries);
        forge
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64).0.extend(text.as_bytes());
        self
    }

    fn tensor(&mut self, dimensions: &[u64], format: u32, offset: u64) -> &mut Self {
        self.text("w").u32(dimensions.len() as u32);
        dimensions.iter().for_each(|&size| {
            self.u64(size);
        });
        self.u32(format).u64(offset)
    }

    fn open(&self) -> Result<Gguf, GgufError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&self.0).unwrap();
        Gguf::open(file.path())
    }

    fn message(&self) -> String {
        self.open().unwrap_err().to_string()
    }
}

#[test]
fn hostile_headers_are_refused_with_a_reason() {
    let cases: [(&str, Forge, &str); 17] = [
        (
            "empty",
            Forge::default(),
            "the file ends within the magic number",
        ),
        (
            "zip",
            Forge(b"PK\x03\x04".to_vec()),
            "the file is not in GGUF format",
        ),
        (
            "version",
            {
                let mut forge = Forge(b"GGUF".to_vec());
                forge.u32(1);
                forge
            },
            "GGUF version 1 is not known, only 2 and 3 are (in little-endian byte order)",
        ),
        (
            "2^60 tensors",
            Forge::new(1 << 60, 0),
            "the file claims 1152921504606846976 tensors, at most 65536 are allowed",
        ),
        (
            "2^60 entries",
            Forge::new(0, 1 << 60),
            "the file claims 1152921504606846976 metadata entries, at most 65536 are allowed",
        ),
        (
            "1 GiB key",
            {
                let mut f = Forge::new(0, 1);
                f.u64(1 << 30);
                f
            },
            "the file claims 1073741824 bytes of a name, at most 4096 are allowed",
        ),
        (
            "1 GiB text",
            {
                let mut f = Forge::new(0, 1);
                f.text("k").u32(8).u64(1 << 30);
                f
            },
            "the file claims 1073741824 bytes of a text, at most 4194304 are allowed",
        ),
        (
            "text beyond the end",
            {
                let mut f = Forge::new(0, 1);
                f.text("k").u32(8).u64(1 << 20);
                f
            },
            "the file ends within a text",
        ),
        (
            "2^60 elements",
            {
                let mut f = Forge::new(0, 1);
                f.text("k").u32(9).u32(4).u64(1 << 60);
                f
            },
            "the file claims 1152921504606846976 elements of arrays, at most 4194304 are allowed",
        ),
        (
            "nested arrays",
            {
                let mut f = Forge::new(0, 1);
                f.text("k").u32(9);
                (0..100).for_each(|_| {
                    f.u32(9).u64(1);
                });
                f
            },
            "arrays are nested more than 4 deep",
        ),
        (
            "unknown value type",
            {
                let mut f = Forge::new(0, 1);
                f.text("k").u32(77).u64(0);
                f
            },
            "a metadata value has the unknown type 77",
        ),
        (
            "alignment 0",
            {
                let mut f = Forge::new(0, 1);
                f.text("general.alignment").u32(4).u32(0);
                f
            },
            "general.alignment is not a power of two of type u32",
        ),
        (
            "sizes that overflow",
            {
                let mut f = Forge::new(1, 0);
                f.tensor(&[1 << 33, 1 << 33], 0, 0);
                f
            },
            "tensor \"w\" cannot be used: its shape is empty or larger than the file",
        ),
        (
            "a size of 0 hides one that overflows",
            {
                let mut f = Forge::new(1, 0);
                f.tensor(&[0, 1 << 63, 1 << 63], 0, 0);
                f
            },
            "tensor \"w\" cannot be used: its shape is empty or larger than the file",
        ),
        (
            "five dimensions",
            {
                let mut f = Forge::new(1, 0);
                f.tensor(&[1; 5], 0, 0);
                f
            },
            "tensor \"w\" cannot be used: it has 5 dimensions, at most 4 are known",
        ),
        (
            "beyond the end",
            {
                let mut f = Forge::new(1, 0);
                f.tensor(&[8], 0, u64::MAX);
                f
            },
            "tensor \"w\" cannot be used: it lies beyond the end of the file",
        ),
        (
            "half a block",
            {
                let mut f = Forge::new(1, 0);
                f.tensor(&[16], 8, 0);
                f
            },
            "tensor \"w\" cannot be used: its size is not a whole number of blocks",
        ),
    ];
    for (name, forge, expected) in cases {
        assert_eq!(forge.message(), expected, "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let mut whole = Forge::new(1, 2);
    whole.text("general.architecture").u32(8).text("llama");
    whole.text("list").u32(9).u32(8).u64(2).text("a").text("b");
    whole.tensor(&[4], 0, 0);
    while !whole.0.len().is_multiple_of(32) {
        whole.0.push(0);
    }
    whole.0.extend([0; 16]);
    let file = whole.open().unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
    assert!(file.vector("w", 4, &Device::Cpu).is_ok());
    for length in 0..whole.0.len() {
        let cut = Forge(whole.0[..length].to_vec());
        assert!(cut.open().is_err(), "cut to {length} bytes");
    }
}

#[test]
fn metadata_of_another_type_is_an_error() {
    let mut forge = Forge::new(0, 2);
    forge
        .text("a")
        .u32(8)
        .text("x")
        .text("b")
        .u32(5)
        .u32(u32::MAX);
    let file = forge.open().unwrap();
    let error = file.integer("a").unwrap_err().to_string();
    assert_eq!(error, "metadata entry \"a\" is not a whole number");
    assert!(file.integer("b").is_err(), "a negative count");
    assert!(file.text("b").is_err());
    assert_eq!(file.integer("c").unwrap(), None);
}
