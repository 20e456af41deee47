//! The same numbers whatever the instructions.

use std::{env, process::Command};

/// The paths that the processor may have besides the best; `candle` is what runs on a GPU.
const SLOWER: [&str; 3] = ["portable", "avx2", "candle"];

/// Runs the comparisons with Python again, in processes that use other instructions.
#[test]
fn numbers_agree_on_every_path() {
    for path in SLOWER {
        let run = Command::new(env::current_exe().unwrap())
            .args(["numbers::", "paths::kernels_run_as_asked"])
            .env("ENGINE_ISA", path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let ran = said.contains("numbers::minilm_embeds_as_transformers_does ... ok");
        assert!(run.status.success() && ran, "{path}: {said}");
    }
}

#[test]
fn kernels_run_as_asked() {
    let is_here = |path: &str| match path {
        #[cfg(target_arch = "x86_64")]
        "avx2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        other => other == "portable" || other == "candle",
    };
    if let Ok(path) = env::var("ENGINE_ISA")
        && is_here(&path)
    {
        assert_eq!(nodes::ops::instructions(), path);
    }
}
