//! Which files are ever fetched or unpacked. A list of what is allowed, so that what nobody thought
//! of is out: no pickle in any of its names, no program, no archive.

use std::path::Path;

/// A kind of file that a model may consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Weights as safetensors.
    Safetensors,
    /// Weights and tokenizer as GGUF.
    Gguf,
    /// Configuration or a tokenizer.
    Json,
    /// A vocabulary or merges.
    Text,
}

impl FileKind {
    /// The kind that a file's name tells; none if such files are left out.
    pub fn of(path: impl AsRef<Path>) -> Option<Self> {
        let extension = path.as_ref().extension()?.to_str()?;
        match extension.to_ascii_lowercase().as_str() {
            "safetensors" => Some(Self::Safetensors),
            "gguf" => Some(Self::Gguf),
            "json" => Some(Self::Json),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }

    /// Whether it holds weights.
    pub fn is_weights(self) -> bool {
        matches!(self, Self::Safetensors | Self::Gguf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_and_programs_are_out() {
        for name in [
            "pytorch_model.bin",
            "a.pt",
            "a.pth",
            "a.ckpt",
            "a.pkl",
            "a.py",
            "a.so",
            "a.onnx",
            "a.safetensors.py",
            "safetensors",
            ".json",
            "a",
        ] {
            assert_eq!(FileKind::of(name), None, "{name}");
        }
        assert_eq!(FileKind::of("x/a.GGUF"), Some(FileKind::Gguf));
        assert_eq!(FileKind::of("a.b.safetensors"), Some(FileKind::Safetensors));
    }
}
