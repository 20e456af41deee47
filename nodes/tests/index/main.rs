//! The embedded index from outside: what it finds, what survives a killed process, and what it says
//! of damaged files.

#![expect(clippy::unwrap_used, reason = "what is unexpected fails the test")]

mod crash;
mod damage;
mod find;
mod node;
mod recall;

use nodes::{
    Document, Map, Value,
    index::{Index, Manifest, Record},
};
use tempfile::TempDir;

/// Random numbers that are the same in every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Nearly normally distributed, around zero.
    pub(crate) fn normal(&mut self) -> f32 {
        let uniform = |random: &mut Self| (random.next() >> 40) as f32 / (1u32 << 24) as f32;
        (0..6).map(|_| uniform(self)).sum::<f32>() - 3.0
    }

    pub(crate) fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.normal()).collect()
    }
}

pub(crate) fn record(id: &str, text: &str, vector: &[f32]) -> Record {
    Record {
        id: id.into(),
        text: text.into(),
        metadata: Map::new(),
        vector: Some(vector.to_vec()),
    }
}

pub(crate) fn map(fields: &[(&str, Value)]) -> Map {
    let fields = fields.iter();
    fields
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

/// An index of vectors of this size in a folder that goes with it.
pub(crate) fn new_index(dimensions: usize) -> (TempDir, Index) {
    let folder = TempDir::new().unwrap();
    let index = Index::create(folder.path(), &Manifest::new(Some(dimensions), None)).unwrap();
    (folder, index)
}

pub(crate) fn ids(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| &*document.id).collect()
}
