//! Qwen 2, 2.5 and 3 (Yang et al. 2024 and 2025).
//!
//! Llama's build with rotation in halves. Qwen 2 has biases on queries, keys and values, which
//! attention takes from the file; Qwen 3 has none, and norms on queries and keys instead.

use super::{
    config::Config,
    gguf::{Gguf, GgufError},
    llama::{Llama, Variant},
};
use candle_core::Device;

pub(super) fn load_qwen2(
    file: &Gguf,
    config: &Config,
    device: &Device,
) -> Result<Llama, GgufError> {
    load(file, config, false, device)
}

pub(super) fn load_qwen3(
    file: &Gguf,
    config: &Config,
    device: &Device,
) -> Result<Llama, GgufError> {
    load(file, config, true, device)
}

fn load(
    file: &Gguf,
    config: &Config,
    head_norms: bool,
    device: &Device,
) -> Result<Llama, GgufError> {
    let variant = Variant {
        head_norms,
        interleaved: false,
        window: None,
    };
    Llama::load_variant(file, config, variant, device)
}
