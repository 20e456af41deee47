//! Where the families of encoders differ: names in their files, positions, and the head.
//!
//! BERT: Devlin et al., 2018. RoBERTa: Liu et al., 2019; XLM-RoBERTa: Conneau et al., 2019. Their
//! layers are the same and stand in `bert.rs`.

use super::{LoadError, Weights, config::Config};
use std::path::Path;

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    Roberta,
}

/// The paths of a head's two layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadPaths {
    /// From the first row to the row that is classified, through tanh.
    pub(super) dense: &'static str,
    /// Whether the first stands with the encoder's own layers, after the same prefix.
    pub(super) dense_is_encoders: bool,
    /// From that row to the scores.
    pub(super) out: &'static str,
}

impl Family {
    pub(super) fn of(config: &Config, folder: &Path) -> Result<Self, LoadError> {
        match config.model_type.as_str() {
            "bert" => Ok(Family::Bert),
            "roberta" | "xlm-roberta" | "camembert" => Ok(Family::Roberta),
            other => Err(LoadError::Unsupported {
                path: folder.join("config.json"),
                what: format!(
                    "an encoder of type {other:?} is not supported; bert, roberta and xlm-roberta are"
                ),
            }),
        }
    }

    /// What may stand before the paths of the encoder's tensors.
    pub(super) fn prefixes(self) -> &'static [&'static str] {
        match self {
            Family::Bert => &["bert."],
            Family::Roberta => &["roberta."],
        }
    }

    /// What stands before them in this file: files of a bare encoder have none.
    pub(super) fn prefix(self, weights: &Weights) -> &'static str {
        let mut prefixes = self.prefixes().iter();
        let there =
            |prefix: &&&str| weights.has(&format!("{prefix}embeddings.word_embeddings.weight"));
        prefixes.find(there).copied().unwrap_or("")
    }

    /// The position of a text's first token: RoBERTa counts on from the id of its padding.
    pub(super) fn first_position(self, config: &Config) -> usize {
        match self {
            Family::Bert => 0,
            Family::Roberta => config.pad_token_id.unwrap_or(1) + 1,
        }
    }

    pub(super) fn head(self) -> HeadPaths {
        match self {
            Family::Bert => HeadPaths {
                dense: "pooler.dense",
                dense_is_encoders: true,
                out: "classifier",
            },
            Family::Roberta => HeadPaths {
                dense: "classifier.dense",
                dense_is_encoders: false,
                out: "classifier.out_proj",
            },
        }
    }
}
