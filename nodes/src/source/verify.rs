//! A quick look at the head of a weights file, before anything is loaded from it.
//!
//! It refuses what cannot be true for the file's size: cut files, headers of absurd size, tensors
//! that overlap or overflow. What the tensors are called and whether they fit a model is the
//! loader's affair, and so are the contents of a GGUF's metadata.

use super::Problem;
use safetensors::tensor::Metadata;
use schema::FileKind;
use std::{fs::File, io::Read, path::Path};

/// Largest header of a safetensors file, the limit of its own library.
const MAX_HEADER: u64 = 100_000_000;
/// The fewest bytes that a tensor's entry takes in a GGUF file: name length, one dimension, type,
/// offset.
const MIN_TENSOR_INFO: u64 = 8 + 4 + 8 + 4 + 8;
/// The fewest bytes that a metadata entry takes in a GGUF file: key length, type, one byte.
const MIN_METADATA: u64 = 8 + 4 + 1;

/// Looks at the head of a file if it is one that holds weights.
///
/// # Errors
/// [`Problem::Damaged`] if it cannot be what its name says, [`Problem::Disk`] if it cannot be read.
pub fn verify(path: &Path) -> Result<(), Problem> {
    let Some(kind) = FileKind::of(path).filter(|kind| kind.is_weights()) else {
        return Ok(());
    };
    let read = || Problem::disk("read", path);
    let mut file = File::open(path).map_err(read())?;
    let size = file.metadata().map_err(read())?.len();
    let checked = match kind {
        FileKind::Gguf => gguf(&mut file, size),
        _ => safetensors(&mut file, size),
    };
    checked.map_err(|reason| Problem::damaged(path.display().to_string(), reason))
}

fn safetensors(file: &mut impl Read, size: u64) -> Result<(), String> {
    let length = u64::from_le_bytes(take(file)?);
    if length > MAX_HEADER {
        return Err(format!("its header would take {length} bytes"));
    }
    let Some(data) = size.checked_sub(8 + length) else {
        return Err(format!(
            "its header would take {length} bytes, the file has {size}"
        ));
    };
    let mut header = Vec::new();
    file.take(length)
        .read_to_end(&mut header)
        .map_err(|error| error.to_string())?;
    // Reading the header also checks that tensors follow one another without gap or overlap and
    // that each shape takes the bytes it is given.
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| format!("its header is invalid: {error}"))?;
    let needed = metadata.data_len() as u64;
    if needed != data {
        return Err(format!(
            "its tensors take {needed} bytes, the file holds {data} for them"
        ));
    }
    Ok(())
}

fn gguf(file: &mut impl Read, size: u64) -> Result<(), String> {
    if &take::<4>(file)? != b"GGUF" {
        return Err("it does not start with GGUF".to_owned());
    }
    let version = u32::from_le_bytes(take(file)?);
    if !matches!(version, 2 | 3) {
        return Err(format!("version {version} of the format is not known"));
    }
    let tensors = u64::from_le_bytes(take(file)?);
    let metadata = u64::from_le_bytes(take(file)?);
    let fits = |count: u64, each: u64| count.checked_mul(each).is_some_and(|bytes| bytes <= size);
    if !fits(tensors, MIN_TENSOR_INFO) {
        return Err(format!("it announces {tensors} tensors in {size} bytes"));
    }
    if !fits(metadata, MIN_METADATA) {
        return Err(format!(
            "it announces {metadata} metadata entries in {size} bytes"
        ));
    }
    Ok(())
}

fn take<const N: usize>(file: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)
        .map_err(|_| "it ends within its header".to_owned())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.resize(file.len() + data, 0);
        file
    }

    fn check(bytes: &[u8]) -> Result<(), String> {
        safetensors(&mut &*bytes, bytes.len() as u64)
    }

    #[test]
    fn safetensors_that_cannot_be_true_are_refused() {
        let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert_eq!(check(&tensors(one, 8)), Ok(()));
        assert_eq!(check(&tensors("{}", 0)), Ok(()));
        let huge = u64::MAX.to_le_bytes().to_vec();
        for (bytes, says) in [
            (
                tensors(one, 7),
                "its tensors take 8 bytes, the file holds 7",
            ),
            (
                tensors(one, 9),
                "its tensors take 8 bytes, the file holds 9",
            ),
            (
                tensors(one, 8)[..20].to_vec(),
                "header would take 54 bytes, the file has 20",
            ),
            (huge, "header would take 18446744073709551615 bytes"),
            (b"abc".to_vec(), "ends within its header"),
            (tensors("not json", 0), "header is invalid"),
            (
                tensors(
                    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                    12,
                ),
                "header is invalid",
            ),
            (
                tensors(
                    r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
                    8,
                ),
                "header is invalid",
            ),
            (
                tensors(
                    r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
                    8,
                ),
                "header is invalid",
            ),
        ] {
            let said = check(&bytes).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn gguf_that_cannot_be_true_is_refused() {
        let head = |magic: &[u8; 4], version: u32, tensors: u64, metadata: u64| {
            let mut file = magic.to_vec();
            file.extend(version.to_le_bytes());
            file.extend(tensors.to_le_bytes());
            file.extend(metadata.to_le_bytes());
            file.resize(1000, 0);
            gguf(&mut &*file, file.len() as u64)
        };
        assert_eq!(head(b"GGUF", 3, 2, 3), Ok(()));
        for (result, says) in [
            (head(b"ggml", 3, 2, 3), "does not start with GGUF"),
            (head(b"GGUF", 9, 2, 3), "version 9"),
            (
                head(b"GGUF", 3, 1 << 60, 3),
                "announces 1152921504606846976 tensors",
            ),
            (
                head(b"GGUF", 3, 2, u64::MAX),
                "metadata entries in 1000 bytes",
            ),
        ] {
            let said = result.unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert!(gguf(&mut &b"GGUF"[..], 4).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = check(&bytes);
            let _ = gguf(&mut &*bytes, bytes.len() as u64);
        }
    }
}
