//! Tensors of a safetensors file, by name.
//!
//! The header is checked whole before anything is read by it (sizes, overlaps, overflows, the end of
//! the file), so that a damaged or hostile file is an error and never a panic or a large allocation.

use super::mapped;
use bytes::Bytes;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A safetensors file: its tensors by name, in place until they are asked for.
#[derive(Debug, Clone)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// Why a file's tensors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It cannot be opened or read.
    #[error("failed to read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a sound safetensors file.
    #[error("{path} is not a sound safetensors file", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SafeTensorError,
    },
    /// It lacks a tensor.
    #[error("{path} has no tensor {name:?}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the model needs.
    #[error("{path}: {name:?} has the shape {have:?} where {want:?} is needed", path = path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        have: Vec<usize>,
        /// The shape that is needed.
        want: Vec<usize>,
    },
    /// A tensor's numbers are not floating-point numbers of 16 or 32 bits.
    #[error("{path}: {name:?} holds {dtype}, where F32, F16 or BF16 is needed", path = path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
}

impl Weights {
    /// Maps a file into memory.
    ///
    /// # Errors
    /// It cannot be read, or is not sound.
    pub fn map(path: &Path) -> Result<Self, WeightsError> {
        Self::parse(path, mapped::map(path))
    }

    /// Reads a file whole, for those that may change while they are in use.
    ///
    /// # Errors
    /// It cannot be read, or is not sound.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        Self::parse(path, fs::read(path).map(Bytes::from))
    }

    fn parse(path: &Path, bytes: io::Result<Bytes>) -> Result<Self, WeightsError> {
        let path = path.to_owned();
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(source) => return Err(WeightsError::Read { path, source }),
        };
        let file = match SafeTensors::deserialize(&bytes) {
            Ok(file) => file,
            Err(source) => return Err(WeightsError::Damaged { path, source }),
        };
        let stored = |view: &safetensors::tensor::TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: bytes.slice_ref(view.data()),
        };
        let tensors = file
            .iter()
            .map(|(name, view)| (name.to_owned(), stored(&view)));
        let tensors = tensors.collect();
        Ok(Self { path, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether it has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// The numbers of a tensor of this shape, row by row.
    ///
    /// # Errors
    /// There is no such tensor, or its shape or type is another.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let (bytes, numbers) = self.numbers(name, shape)?;
        let mut floats = vec![0.0; bytes.len() / numbers.size()];
        numbers.read(&bytes, &mut floats);
        Ok(floats)
    }

    /// A matrix of `rows` rows that stays where it is; rows are read one by one.
    ///
    /// # Errors
    /// There is no such tensor, or its shape or type is another.
    pub fn table(&self, name: &str, rows: usize, width: usize) -> Result<Table, WeightsError> {
        let (bytes, numbers) = self.numbers(name, &[rows, width])?;
        Ok(Table {
            bytes,
            numbers,
            rows,
            width,
        })
    }

    fn numbers(&self, name: &str, want: &[usize]) -> Result<(Bytes, Numbers), WeightsError> {
        let path = || self.path.clone();
        let Some(stored) = self.tensors.get(name) else {
            return Err(WeightsError::Missing {
                path: path(),
                name: name.to_owned(),
            });
        };
        if stored.shape != want {
            return Err(WeightsError::Shape {
                path: path(),
                name: name.to_owned(),
                have: stored.shape.clone(),
                want: want.to_vec(),
            });
        }
        let numbers = match stored.dtype {
            Dtype::F32 => Numbers::F32,
            Dtype::F16 => Numbers::F16,
            Dtype::BF16 => Numbers::Bf16,
            dtype => {
                return Err(WeightsError::Dtype {
                    path: path(),
                    name: name.to_owned(),
                    dtype,
                });
            }
        };
        Ok((stored.bytes.clone(), numbers))
    }
}

/// How numbers are written; little-endian, on no particular boundary.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    F32,
    F16,
    Bf16,
}

impl Numbers {
    fn size(self) -> usize {
        match self {
            Numbers::F32 => 4,
            Numbers::F16 | Numbers::Bf16 => 2,
        }
    }

    /// Reads as many numbers as `into` has room for.
    fn read(self, bytes: &[u8], into: &mut [f32]) {
        let halves = bytes.as_chunks::<2>().0;
        match self {
            Numbers::F32 => {
                let words = bytes.as_chunks::<4>().0;
                into.iter_mut()
                    .zip(words)
                    .for_each(|(x, b)| *x = f32::from_le_bytes(*b));
            }
            Numbers::F16 => {
                (into.iter_mut().zip(halves))
                    .for_each(|(x, b)| *x = f16::from_le_bytes(*b).to_f32());
            }
            Numbers::Bf16 => {
                (into.iter_mut().zip(halves))
                    .for_each(|(x, b)| *x = bf16::from_le_bytes(*b).to_f32());
            }
        }
    }
}

/// A matrix in its file, read row by row: an embedding table, of which a batch needs few rows.
#[derive(Debug, Clone)]
pub struct Table {
    bytes: Bytes,
    numbers: Numbers,
    rows: usize,
    width: usize,
}

impl Table {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Reads a row; `false`, and nothing read, if there is none of this number.
    #[must_use]
    pub fn read(&self, row: usize, into: &mut [f32]) -> bool {
        let line = self.width * self.numbers.size();
        if row >= self.rows || into.len() != self.width {
            return false;
        }
        self.numbers.read(&self.bytes[row * line..][..line], into);
        true
    }
}
