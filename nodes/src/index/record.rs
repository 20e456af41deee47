//! What goes into an index.

use super::{IndexError, json};
use crate::Map;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Longest id, in bytes.
const LONGEST_ID: usize = 512;
/// Longest text, in bytes.
const LONGEST_TEXT: usize = 4 << 20;
/// Longest metadata as JSON, in bytes.
const LONGEST_METADATA: usize = 1 << 20;
/// Longest name of a field of the metadata, in bytes.
const LONGEST_NAME: usize = 256;

/// A document on its way into an index.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Its id; another record with the same id takes its place.
    pub id: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
    /// What else is stored with it. Top-level booleans, numbers, texts and lists of them can be
    /// filtered by.
    pub metadata: Map,
    /// Its vector, of any length but zero. Without one, words alone find it.
    pub vector: Option<Vec<f32>>,
}

impl Record {
    /// A digest of everything in it: equal records have equal digests, and different ones do not,
    /// but for a chance of 2⁻⁶⁴.
    pub fn digest(&self) -> u64 {
        let metadata = json::write_map(&self.metadata).unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [&*self.id, &*self.text, &metadata] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        for value in self.vector.iter().flatten() {
            digest.update(value.to_le_bytes());
        }
        let digest = digest.finalize();
        let first = digest.as_chunks::<8>().0.first().copied();
        u64::from_le_bytes(first.unwrap_or_default())
    }

    /// Its metadata as JSON, once everything in it is known to be storable in an index of vectors of
    /// this size.
    pub(crate) fn checked(&self, dimensions: Option<usize>) -> Result<String, IndexError> {
        let invalid = |reason: String| {
            let id: String = self.id.chars().take(80).collect();
            IndexError::invalid(format!("document {id:?}: {reason}"))
        };
        if self.id.is_empty() {
            return Err(IndexError::invalid("a document has no id"));
        }
        let limits = [
            ("id", self.id.len(), LONGEST_ID),
            ("text", self.text.len(), LONGEST_TEXT),
        ];
        for (what, length, limit) in limits {
            if length > limit {
                let reason = format!("its {what} has {length} bytes; at most {limit} are allowed");
                return Err(invalid(reason));
            }
        }
        let bad_name = |name: &&Arc<str>| name.len() > LONGEST_NAME || name.contains('\0');
        if self.metadata.keys().any(|name| bad_name(&name)) {
            let reason =
                format!("a name in its metadata contains NUL or exceeds {LONGEST_NAME} bytes");
            return Err(invalid(reason));
        }
        match (&self.vector, dimensions) {
            (None, _) => {}
            (Some(_), None) => return Err(invalid("the index holds no vectors".into())),
            (Some(vector), Some(dimensions)) => {
                check_vector(vector, dimensions).map_err(invalid)?
            }
        }
        let metadata = json::write_map(&self.metadata).map_err(invalid)?;
        if metadata.len() > LONGEST_METADATA {
            return Err(invalid(format!(
                "its metadata has {} bytes; at most {LONGEST_METADATA} are allowed",
                metadata.len()
            )));
        }
        Ok(metadata)
    }
}

/// Whether a vector can be compared with those of an index; the reason if not.
pub(crate) fn check_vector(vector: &[f32], dimensions: usize) -> Result<(), String> {
    if vector.len() != dimensions {
        let size = vector.len();
        return Err(format!(
            "the vector has {size} numbers; the index has vectors of {dimensions}"
        ));
    }
    if vector.iter().any(|value| !value.is_finite()) {
        return Err("the vector holds a number that is not finite".into());
    }
    if vector.iter().all(|value| *value == 0.0) {
        return Err("the vector is zero, and has no direction to compare".into());
    }
    Ok(())
}

/// A vector of length one in the same direction, so that inner products are cosines.
pub(crate) fn unit(vector: &[f32]) -> Vec<f32> {
    // In f64, so that neither tiny nor huge values leave the range on being squared.
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    let length = squares.sum::<f64>().sqrt();
    let scaled = vector
        .iter()
        .map(|value| (f64::from(*value) / length) as f32);
    scaled.collect()
}
