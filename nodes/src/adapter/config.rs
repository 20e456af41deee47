//! `adapter_config.json`, as PEFT writes it.

use super::AdapterError;
use indexmap::IndexMap;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// Methods that change more than the product of two small matrices that is added to a layer.
const UNSUPPORTED: [&str; 14] = [
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
    "fan_in_fan_out",
];

/// Ways to begin training that change the model itself, so that the adapter alone is not enough.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// What decides how the tensors of an adapter are to be used.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    target_modules: Option<Targets>,
    #[serde(default)]
    rank_pattern: Option<IndexMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<IndexMap<String, f64>>,
    #[serde(default)]
    bias: Option<String>,
    /// The model that it was made for.
    #[serde(default, rename = "base_model_name_or_path")]
    pub(super) base: Option<String>,
    #[serde(flatten)]
    other: Map<String, Json>,
}

/// Which modules were trained. The tensors in the file say the same more exactly, so that a pattern
/// is not needed to know them; a list is held against them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Targets {
    /// The ends of paths.
    Names(Vec<String>),
    /// A Python regular expression, or `all-linear`.
    #[expect(dead_code, reason = "the tensors say the same more exactly")]
    Pattern(String),
}

/// Rank and scale by path.
pub(super) struct Scales {
    rank: usize,
    alpha: f64,
    stabilised: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl Config {
    /// Finds the rank and scale of every path.
    ///
    /// # Errors
    /// Settings without meaning and methods that are not supported.
    pub(super) fn scales(&self, name: &str) -> Result<Scales, AdapterError> {
        self.refuse_unsupported(name)?;
        let mut ranks = self.rank_pattern.iter().flatten();
        if self.r == 0 || ranks.any(|(_, rank)| *rank == 0) {
            return Err(AdapterError::Setting {
                name: name.to_owned(),
                setting: "r".to_owned(),
                problem: "and the ranks of rank_pattern must be at least 1".to_owned(),
            });
        }
        Ok(Scales {
            rank: self.r,
            alpha: self.lora_alpha,
            stabilised: self.use_rslora,
            ranks: patterns(name, "rank_pattern", self.rank_pattern.as_ref())?,
            alphas: patterns(name, "alpha_pattern", self.alpha_pattern.as_ref())?,
        })
    }

    fn refuse_unsupported(&self, name: &str) -> Result<(), AdapterError> {
        let unsupported = |setting: String| AdapterError::Unsupported {
            name: name.to_owned(),
            setting,
        };
        if self.peft_type != "LORA" {
            return Err(unsupported(format!("peft_type {:?}", self.peft_type)));
        }
        if let Some(bias) = self.bias.as_deref().filter(|bias| *bias != "none") {
            return Err(unsupported(format!("bias {bias:?}")));
        }
        let set = |key: &&&str| self.other.get(**key).is_some_and(is_set);
        if let Some(key) = UNSUPPORTED.iter().find(set) {
            return Err(unsupported((*key).to_owned()));
        }
        match self.other.get("init_lora_weights") {
            Some(Json::String(init)) if CHANGES_BASE.iter().any(|way| init.starts_with(way)) => {
                Err(unsupported(format!("init_lora_weights {init:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Holds the trained paths against the configured list: every path is targeted, every target met.
    pub(super) fn check_targets<'a>(
        &self,
        name: &str,
        paths: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), AdapterError> {
        let Some(Targets::Names(targets)) = &self.target_modules else {
            return Ok(());
        };
        let meets = |path: &str, target: &str| {
            let rest = path.strip_suffix(target);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if let Some(path) = (paths.clone()).find(|path| !targets.iter().any(|t| meets(path, t))) {
            return Err(AdapterError::Tensor {
                name: name.to_owned(),
                tensor: path.to_owned(),
                problem: "is not one of its target_modules",
            });
        }
        match targets
            .iter()
            .find(|t| !paths.clone().any(|path| meets(path, t)))
        {
            Some(target) => Err(AdapterError::MissingModule {
                name: name.to_owned(),
                target: target.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl Scales {
    /// The rank of the factors of a path.
    pub(super) fn rank(&self, path: &str) -> usize {
        let special = self
            .ranks
            .iter()
            .find(|(pattern, _)| pattern.is_match(path));
        special.map_or(self.rank, |(_, rank)| *rank)
    }

    /// What the product of the factors of a path is multiplied with.
    pub(super) fn scale(&self, path: &str) -> f64 {
        let special = self
            .alphas
            .iter()
            .find(|(pattern, _)| pattern.is_match(path));
        let alpha = special.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = self.rank(path) as f64;
        let divisor = if self.stabilised { rank.sqrt() } else { rank };
        alpha / divisor
    }
}

/// Patterns as PEFT reads them: the end of a path, itself a regular expression.
fn patterns<T: Copy>(
    name: &str,
    setting: &str,
    patterns: Option<&IndexMap<String, T>>,
) -> Result<Vec<(Regex, T)>, AdapterError> {
    let read = |(key, value): (&String, &T)| match Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")) {
        Ok(pattern) => Ok((pattern, *value)),
        Err(error) => Err(AdapterError::Setting {
            name: name.to_owned(),
            setting: setting.to_owned(),
            problem: format!("cannot be read: {error}"),
        }),
    };
    patterns.into_iter().flatten().map(read).collect()
}

/// Whether a setting is switched on, as Python would see it.
fn is_set(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(on) => *on,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(list) => !list.is_empty(),
        Json::Object(map) => !map.is_empty(),
    }
}
