//! Adapters in a temporary folder whose answers tell which of them answered.

use candle_core::{DType, Device, Result, Tensor};
use nodes::{
    adapter::{Adapter, Base, Linear},
    ops::{LowRankLayer, add_low_rank},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use std::{collections::BTreeMap, error::Error, fs, sync::Arc};
use tempfile::TempDir;

/// How many there are.
pub const ADAPTERS: usize = 200;
const RANK: usize = 8;
const WIDTH: usize = 640;
/// The layers of Gemma 3 270M, and what comes out of its queries and values.
const LAYERS: usize = 18;
const OUTPUTS: [(&str, usize); 2] = [("q_proj", 1024), ("v_proj", 256)];

/// The adapters, and the model that they are for.
pub struct Shelf {
    pub folder: TempDir,
    pub base: Arc<Base>,
    /// The size of one's weights.
    pub bytes: u64,
    x: Tensor,
    y: Tensor,
}

/// The name of an adapter.
pub fn name(number: usize) -> String {
    format!("tenant-{number:03}")
}

impl Shelf {
    /// Writes all of them. All numbers of the first factor are 1 / 640, those of the second are the
    /// adapter's own, so that a row of ones becomes that number times the rank.
    pub fn write() -> std::result::Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let mut linears = BTreeMap::new();
        for layer in 0..LAYERS {
            for (module, outputs) in OUTPUTS {
                let path = format!("layers.{layer}.self_attn.{module}");
                let inputs = WIDTH;
                linears.insert(path, Linear { outputs, inputs });
            }
        }
        let config =
            r#"{"peft_type":"LORA","r":8,"lora_alpha":8,"target_modules":["q_proj","v_proj"]}"#;
        let floats = |count: usize, value: f32| -> Vec<u8> {
            (0..count).flat_map(|_| value.to_le_bytes()).collect()
        };
        let a = floats(RANK * WIDTH, 1.0 / WIDTH as f32);
        for number in 0..ADAPTERS {
            let here = folder.path().join(name(number));
            fs::create_dir(&here)?;
            fs::write(here.join("adapter_config.json"), config)?;
            let b = floats(RANK * 1024, number as f32);
            let mut tensors = Vec::new();
            for (path, linear) in &linears {
                let factor = |letter| format!("base_model.model.model.{path}.lora_{letter}.weight");
                let shape = vec![RANK, WIDTH];
                tensors.push((factor('A'), TensorView::new(Dtype::F32, shape, &a)?));
                let shape = vec![linear.outputs, RANK];
                let b = &b[..4 * RANK * linear.outputs];
                tensors.push((factor('B'), TensorView::new(Dtype::F32, shape, b)?));
            }
            serialize_to_file(tensors, None, &here.join("adapter_model.safetensors"))?;
        }
        let weights = folder
            .path()
            .join(name(0))
            .join("adapter_model.safetensors");
        Ok(Self {
            bytes: fs::metadata(weights)?.len(),
            folder,
            base: Arc::new(Base {
                prefixes: vec!["model."],
                linears,
                ..Base::default()
            }),
            x: Tensor::ones((1, WIDTH), DType::F32, &Device::Cpu)?,
            y: Tensor::zeros((1, 1024), DType::F32, &Device::Cpu)?,
        })
    }

    /// Whether an adapter answers as the one of this number, in every layer.
    pub fn is_right(&self, adapter: &Adapter, number: usize) -> Result<bool> {
        let expected = (number * RANK) as f32;
        for (path, linear) in &self.base.linears {
            let layer = LowRankLayer {
                first: 0,
                adapters: vec![adapter.lora(path)],
            };
            if layer.adapters[0].is_none() {
                return Ok(false);
            }
            let y = add_low_rank(&self.y, &self.x, &[layer])?.flatten_all()?;
            let y = y.to_vec1::<f32>()?;
            let near = |y: &f32| (y - expected).abs() <= 1e-3 * expected.max(1.0);
            if !y[..linear.outputs].iter().all(near) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
