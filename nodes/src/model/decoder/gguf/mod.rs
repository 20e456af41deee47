//! GGUF files: metadata and tensors of a model in one file.
//!
//! The file is mapped while a model is loaded, and let go of weight by weight, since the kernels pack
//! them anew: a model is in memory once, while it is loaded too.

mod header;
#[cfg(test)]
mod tests;

use crate::{
    model::mapped::Mapped,
    ops::{Linear, Quantized},
};
use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType,
        gguf_file::{Content, TensorInfo, Value},
    },
};
use std::{
    borrow::Cow,
    io::{self, Cursor},
    path::{Path, PathBuf},
};

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be opened.
    #[error("failed to open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("failed to read the file")]
    Io(#[from] io::Error),
    /// It does not begin as GGUF files do.
    #[error("the file is not in GGUF format")]
    NotGguf,
    /// Its version is not 2 or 3.
    #[error("GGUF version {version} is not known, only 2 and 3 are (in little-endian byte order)")]
    Version {
        /// As the file says.
        version: u32,
    },
    /// It ends early.
    #[error("the file ends within {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A count beyond what any model needs.
    #[error("the file claims {count} {what}, at most {limit} are allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// As the file says.
        count: u64,
        /// Most that is allowed.
        limit: u64,
    },
    /// Arrays in arrays in arrays.
    #[error("arrays are nested more than {limit} deep")]
    TooDeep {
        /// Most that is allowed.
        limit: usize,
    },
    /// A metadata value of a type that the format does not have.
    #[error("a metadata value has the unknown type {kind}")]
    ValueType {
        /// As the file says.
        kind: u32,
    },
    /// The alignment of the tensor data.
    #[error("general.alignment is not a power of two of type u32")]
    Alignment,
    /// A tensor cannot be right.
    #[error("tensor {name:?} cannot be used: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor or metadata entry that the model needs is not there.
    #[error("the file has no {what} {name:?}")]
    Missing {
        /// A tensor or a metadata entry.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A metadata entry is of another type, or its value makes no sense.
    #[error("metadata entry {key:?} is not {expected}")]
    Metadata {
        /// Its key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The file is sound, but this program does not know what it holds.
    #[error("{what} {name:?} is not supported; known are {known}")]
    Unsupported {
        /// An architecture, a tokenizer, …
        what: &'static str,
        /// Its name in the file.
        name: String,
        /// What is.
        known: &'static str,
    },
    /// The chat template does not compile.
    #[error("the chat template is not valid: {source}")]
    Template {
        /// Where and why.
        source: minijinja::Error,
    },
    /// Candle could not read or pack something.
    #[error("failed to load {what}")]
    Candle {
        /// What.
        what: String,
        /// Why.
        source: candle_core::Error,
    },
}

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    file: Mapped,
    content: Content,
}

impl Gguf {
    /// Opens a file, reads its metadata and checks that its tensors lie within it.
    ///
    /// # Errors
    /// The file cannot be read, is not GGUF, is damaged, or makes claims that cannot be right.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = Mapped::open(path).map_err(|source| GgufError::Open {
            path: path.to_owned(),
            source,
        })?;
        let bytes = file.as_ref();
        let size = bytes.len() as u64;
        header::check(&mut Cursor::new(bytes), size)?;
        let content = Content::read(&mut Cursor::new(bytes));
        let content = content.map_err(|source| GgufError::Candle {
            what: "the header".to_owned(),
            source,
        })?;
        for (name, info) in &content.tensor_infos {
            check_place(name, info, content.tensor_data_offset, size)?;
        }
        Ok(Self { file, content })
    }

    /// The metadata entry, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// Lets go of the lists of the vocabulary. They take tens of megabytes, in which weights can be put once
    /// the tokenizer is made.
    pub fn drop_vocabulary(&mut self) {
        let metadata = &mut self.content.metadata;
        metadata.retain(|key, value| {
            !key.starts_with("tokenizer.") || !matches!(value, Value::Array(_))
        });
    }

    /// A text, if the entry is there.
    ///
    /// # Errors
    /// The entry is not a text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Whether something is so, if the entry is there.
    ///
    /// # Errors
    /// The entry is not true or false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key, "true or false", |value| value.to_bool().ok())
    }

    /// A count or an id, if the entry is there.
    ///
    /// # Errors
    /// The entry is not a whole number from 0 to 2³² − 1.
    pub fn integer(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.read(key, "a whole number", integer)
    }

    /// A number, if the entry is there.
    ///
    /// # Errors
    /// The entry is not a finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.read(key, "a finite number", |value| {
            let number = match value {
                Value::F32(number) => f64::from(*number),
                Value::F64(number) => *number,
                other => f64::from(integer(other)?),
            };
            number.is_finite().then_some(number)
        })
    }

    /// A list, if the entry is there; `element` reads its elements.
    ///
    /// # Errors
    /// The entry is not a list, or an element is not as expected.
    pub fn list<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        element: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        self.read(key, expected, |value| match value {
            Value::Array(values) => values.iter().map(&element).collect(),
            _ => None,
        })
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let read = read(value).ok_or_else(|| GgufError::Metadata {
            key: key.to_owned(),
            expected,
        })?;
        Ok(Some(read))
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The sizes of a tensor, the slowest first.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], GgufError> {
        Ok(self.info(name)?.shape.dims())
    }

    /// A linear layer from one or several matrices with `inputs` inputs, stacked, that keep their
    /// formats.
    ///
    /// # Errors
    /// A tensor is missing, has another shape or a format that the kernels do not know.
    pub fn linear(
        &self,
        parts: &[Matrix<'_>],
        inputs: usize,
        device: &Device,
    ) -> Result<Linear, GgufError> {
        let mut loaded = Vec::with_capacity(parts.len());
        for part in parts {
            self.expect_shape(part.name, &[part.outputs, inputs])?;
            let bytes = self.bytes(part.name)?;
            loaded.push(match part.interleaved_heads {
                Some(head_dim) => Cow::Owned(in_halves(bytes, part.outputs, head_dim)),
                None => Cow::Borrowed(bytes),
            });
        }
        let stacked = parts.iter().zip(&loaded).map(|(part, bytes)| {
            Ok(Quantized {
                bytes,
                dtype: self.info(part.name)?.ggml_dtype,
                rows: part.outputs,
                columns: inputs,
            })
        });
        let stacked: Vec<_> = stacked.collect::<Result<_, GgufError>>()?;
        let first = parts.first().map_or("", |part| part.name);
        let linear = Linear::quantized(&stacked, device).map_err(candle_error(first))?;
        for part in parts {
            self.forget(part.name)?;
        }
        Ok(linear)
    }

    /// An output layer over a vocabulary of so many tokens, of which mostly the largest results are wanted.
    ///
    /// # Errors
    /// As [`Gguf::linear`].
    pub fn vocabulary(
        &self,
        name: &str,
        [tokens, inputs]: [usize; 2],
        device: &Device,
    ) -> Result<Linear, GgufError> {
        self.expect_shape(name, &[tokens, inputs])?;
        let part = Quantized {
            bytes: self.bytes(name)?,
            dtype: self.info(name)?.ggml_dtype,
            rows: tokens,
            columns: inputs,
        };
        let linear = Linear::vocabulary(&part, device).map_err(candle_error(name))?;
        self.forget(name)?;
        Ok(linear)
    }

    /// A vector such as a norm's weight or a bias, as `f32`.
    ///
    /// # Errors
    /// The tensor is missing, has another length, or is not stored as floating-point numbers.
    pub fn vector(&self, name: &str, length: usize, device: &Device) -> Result<Tensor, GgufError> {
        self.expect_shape(name, &[length])?;
        let dtype = match self.info(name)?.ggml_dtype {
            GgmlDType::F32 => DType::F32,
            GgmlDType::F16 => DType::F16,
            GgmlDType::BF16 => DType::BF16,
            other => {
                let reason = format!("a vector in format {other:?}");
                return Err(tensor_error(name, reason));
            }
        };
        let bytes = self.bytes(name)?;
        Tensor::from_raw_buffer(bytes, dtype, &[length], device)
            .and_then(|vector| vector.to_dtype(DType::F32))
            .map_err(candle_error(name))
    }

    fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<(), GgufError> {
        let found = self.shape(name)?;
        if found == expected {
            return Ok(());
        }
        let reason = format!("its shape is {found:?} and not {expected:?}");
        Err(tensor_error(name, reason))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        let info = self.content.tensor_infos.get(name);
        info.ok_or_else(|| GgufError::Missing {
            what: "tensor",
            name: name.to_owned(),
        })
    }

    fn bytes(&self, name: &str) -> Result<&[u8], GgufError> {
        let (start, size) = self.place(name)?;
        let bytes = self.file.as_ref().get(start..start + size);
        bytes.ok_or(GgufError::Truncated { what: "a tensor" })
    }

    /// Lets go of a tensor that is packed.
    fn forget(&self, name: &str) -> Result<(), GgufError> {
        let (start, size) = self.place(name)?;
        self.file.forget(start, size);
        Ok(())
    }

    /// Where a tensor begins in the file, and its size.
    fn place(&self, name: &str) -> Result<(usize, usize), GgufError> {
        let info = self.info(name)?;
        // Both hold since `open` has checked every tensor's place.
        let size = size_in_bytes(info).unwrap_or(0) as usize;
        let start = (self.content.tensor_data_offset + info.offset) as usize;
        Ok((start, size))
    }
}

/// A matrix in the file.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// How many rows it has.
    pub outputs: usize,
    /// Its rows belong to heads of so many and stand in the order of interleaved rotation: value `i`
    /// of a head's first half, then value `i` of its second. They are put back in the order of halves.
    pub interleaved_heads: Option<usize>,
}

impl<'a> Matrix<'a> {
    /// A matrix that stays as it is.
    pub fn new(name: &'a str, outputs: usize) -> Self {
        Self {
            name,
            outputs,
            interleaved_heads: None,
        }
    }
}

/// Rows in the order of halves, from the order of interleaved rotation.
fn in_halves(bytes: &[u8], rows: usize, head_dim: usize) -> Vec<u8> {
    let row = bytes.len() / rows.max(1);
    let mut ordered = Vec::with_capacity(bytes.len());
    for index in 0..rows {
        let (head, place) = (index / head_dim, index % head_dim);
        let (half, i) = (place / (head_dim / 2), place % (head_dim / 2));
        let from = head * head_dim + 2 * i + half;
        ordered.extend(&bytes[from * row..(from + 1) * row]);
    }
    ordered
}

fn integer(value: &Value) -> Option<u32> {
    match value {
        Value::I8(number) => u32::try_from(*number).ok(),
        Value::I16(number) => u32::try_from(*number).ok(),
        Value::I32(number) => u32::try_from(*number).ok(),
        Value::I64(number) => u32::try_from(*number).ok(),
        Value::Bool(_) => None,
        other => u32::try_from(other.to_u64().ok()?).ok(),
    }
}

/// What is wrong with a tensor that candle does not take.
fn candle_error(name: &str) -> impl FnOnce(candle_core::Error) -> GgufError {
    move |source| GgufError::Candle {
        what: format!("tensor {name:?}"),
        source,
    }
}

fn tensor_error(name: &str, reason: impl Into<String>) -> GgufError {
    GgufError::Tensor {
        name: name.to_owned(),
        reason: reason.into(),
    }
}

fn size_in_bytes(info: &TensorInfo) -> Option<u64> {
    let block = info.ggml_dtype.block_size();
    // The header check has seen that the product does not overflow.
    let elements = info.shape.elem_count();
    if !elements.is_multiple_of(block) {
        return None;
    }
    Some((elements / block) as u64 * info.ggml_dtype.type_size() as u64)
}

fn check_place(name: &str, info: &TensorInfo, data: u64, file: u64) -> Result<(), GgufError> {
    let Some(size) = size_in_bytes(info) else {
        return Err(tensor_error(
            name,
            "its size is not a whole number of blocks",
        ));
    };
    let row = info.shape.dims().last().copied().unwrap_or(1);
    if !row.is_multiple_of(info.ggml_dtype.block_size()) {
        return Err(tensor_error(
            name,
            "its rows are not whole numbers of blocks",
        ));
    }
    let end = data
        .checked_add(info.offset)
        .and_then(|start| start.checked_add(size));
    if end.is_none_or(|end| end > file) {
        return Err(tensor_error(name, "it lies beyond the end of the file"));
    }
    Ok(())
}
