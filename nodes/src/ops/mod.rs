//! The operations that model code is written in: linear layers, norms, rotary positions, attention.
//!
//! Everything takes and gives `f32` tensors of candle. On the CPU an operation runs the kernels of
//! this crate on the current [`ComputePool`](crate::compute::ComputePool); on another device it falls
//! back to candle's own operations, so one model file serves both. Inputs must be contiguous, a view
//! that starts inside a larger tensor is fine. Rows of all sequences lie one after the other without
//! padding; `offsets` or positions say which row belongs where.
//!
//! What is not here: anything that knows a model, a cache's policy, or a file.

mod activation;
mod attention;
mod device;
mod host;
mod linear;
mod low_rank;
mod norm;
mod paged;
mod rope;
mod weight;

#[cfg(test)]
mod tests;

pub(crate) use crate::kernel::Growing;
pub use activation::{gelu_mul, silu_mul, softmax};
pub use attention::{
    CausalAttention, KvElements, KvRow, KvView, attention_causal, attention_dense, attention_packed,
};
pub use host::{has_kernels, instructions};
pub use linear::{Linear, Quantized, Shortlist, Then, WeightType};
pub use low_rank::{LowRank, LowRankLayer, add_low_rank};
pub use norm::{RmsNorm, layer_norm};
pub use paged::PagedPlan;
pub use rope::{Rope, RopeLayout, RopeTable};
