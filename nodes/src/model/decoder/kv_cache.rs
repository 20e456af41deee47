//! The keys and values of the tokens that sequences have read, in blocks.
//!
//! Memory is one slab of blocks for each layer, and a sequence a list of blocks, so that sequences of
//! all lengths share what there is without gaps (Kwon et al. 2023, *PagedAttention*). Layers with a
//! sliding window have lists of their own, which let go of blocks that no position to come can see.
//!
//! They are halves, as in llama.cpp, which saves half the memory; logits stay within the same
//! tolerance of those of transformers.
//!
//! A sequence is admitted only if there is room for its longest possible course: nothing has to be
//! taken back from it later. Who is admitted when is not decided here.
//!
//! Sequences that begin with the same tokens [share](sharing) the blocks of their beginnings, and blocks
//! of prompts stay for a while after the last sequence that held them.

mod prefixes;
mod sharing;

use super::kv_device::DeviceLayer;
use crate::ops::{Growing, KvElements, KvView, has_kernels};
use candle_core::{Device, Result, bail};
use half::{f16, slice::HalfFloatSliceExt};
use prefixes::{Prefixes, Prompt};

/// Positions in a block.
pub const BLOCK: usize = 32;

/// What a decoder keeps for a position.
#[derive(Debug, Clone, PartialEq)]
pub struct KvShape {
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// For each layer how many positions it sees; none: all.
    pub windows: Vec<Option<usize>>,
}

/// The layers that let go of blocks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    /// All positions are seen.
    Whole,
    /// Only those in the window.
    Sliding,
}

impl Span {
    const ALL: [Span; 2] = [Span::Whole, Span::Sliding];
}

/// The keys and values of one layer.
#[derive(Debug)]
enum Layer {
    /// In main memory, for the kernels.
    Host(HostLayer),
    /// On a device, for candle's operations.
    Device(DeviceLayer),
}

#[derive(Debug, Default)]
struct HostLayer {
    keys: Growing<f16>,
    values: Growing<f16>,
}

/// The blocks of the layers of one span.
#[derive(Debug)]
struct Blocks {
    layers: usize,
    window: Option<usize>,
    /// Blocks in memory.
    allocated: u32,
    free: Vec<u32>,
    /// Blocks that admitted sequences may come to hold. Where all positions are seen, what several of them
    /// hold counts once; with a window it counts for each, as they let go of it one by one.
    reserved: usize,
}

/// The memory for the sequences of one replica.
#[derive(Debug)]
pub struct KvPool {
    shape: KvShape,
    device: Device,
    max_bytes: usize,
    max_rows: usize,
    layers: Vec<Layer>,
    blocks: [Blocks; 2],
    prefixes: Prefixes,
    /// Most bytes of blocks that no sequence holds.
    kept_bytes: usize,
}

/// The blocks of one sequence. Given back with [`KvPool::release`].
#[derive(Debug)]
pub struct Sequence {
    length: usize,
    lists: [Vec<u32>; 2],
    /// Blocks at the beginning of a list that were let go of; their entries mean nothing.
    gone: [usize; 2],
    reserved: [usize; 2],
    /// None: it shares nothing.
    prompt: Option<Prompt>,
}

impl Sequence {
    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn list(&self, span: Span) -> &[u32] {
        &self.lists[span as usize]
    }
}

impl KvPool {
    /// Memory of at most `max_bytes` on a device, for steps of at most `max_rows` rows a sequence. It is
    /// taken as it is needed.
    pub fn new(shape: KvShape, device: &Device, max_bytes: usize, max_rows: usize) -> Self {
        let blocks = Span::ALL.map(|span| {
            let of_span = |window: &&Option<usize>| window.is_some() == (span == Span::Sliding);
            let mut windows = shape.windows.iter().filter(of_span);
            Blocks {
                layers: windows.clone().count(),
                window: windows.next().copied().flatten(),
                allocated: 0,
                free: Vec::new(),
                reserved: 0,
            }
        });
        let layers = shape.windows.iter().map(|_| Layer::on(device)).collect();
        Self {
            shape,
            device: device.clone(),
            max_bytes,
            max_rows,
            layers,
            blocks,
            prefixes: Prefixes::default(),
            kept_bytes: 0,
        }
    }

    /// Whether a sequence of so many tokens has room when it is alone.
    pub fn can_hold(&self, tokens: usize) -> bool {
        let needed = self.needed(tokens);
        let bytes = Span::ALL.map(|span| needed[span as usize] * self.block_bytes(span));
        bytes.iter().sum::<usize>() <= self.max_bytes
    }

    /// Room for a sequence of at most so many tokens, if there is.
    pub fn admit(&mut self, tokens: usize) -> Option<Sequence> {
        let needed = self.needed(tokens);
        if !self.fits(needed, [0; 2]) && self.is_unused() {
            self.forget_prefixes();
        }
        if !self.fits(needed, [0; 2]) {
            return None;
        }
        for (blocks, needed) in self.blocks.iter_mut().zip(needed) {
            blocks.reserved += needed;
        }
        Some(Sequence {
            length: 0,
            lists: Default::default(),
            gone: [0; 2],
            reserved: needed,
            prompt: None,
        })
    }

    /// Takes the blocks of a sequence back.
    pub fn release(&mut self, mut sequence: Sequence) {
        let held = [0, 1].map(|index| sequence.lists[index].len() - sequence.gone[index]);
        let unused = self.let_go(&mut sequence, [usize::MAX; 2]);
        let [whole, sliding] = &mut self.blocks;
        whole.reserved -= sequence.reserved[0] - held[0] + unused;
        sliding.reserved -= sequence.reserved[1];
        self.trim();
        if self.is_unused() {
            self.give_back();
        }
    }

    /// Whether so many more promised and taken blocks are within what memory there may be.
    fn fits(&self, promised: [usize; 2], taken: [usize; 2]) -> bool {
        let bytes = Span::ALL.map(|span| {
            let blocks = &self.blocks[span as usize];
            let most = blocks.reserved + promised[span as usize];
            most.max(blocks.allocated as usize + taken[span as usize]) * self.block_bytes(span)
        });
        bytes.iter().sum::<usize>() <= self.max_bytes
    }

    fn is_unused(&self) -> bool {
        self.blocks.iter().all(|blocks| blocks.reserved == 0)
    }

    /// Bytes that are taken at the moment.
    pub fn bytes(&self) -> usize {
        let bytes = Span::ALL
            .map(|span| self.blocks[span as usize].allocated as usize * self.block_bytes(span));
        bytes.iter().sum()
    }

    /// Makes room for the next `rows` positions of a sequence.
    pub(super) fn extend(&mut self, sequence: &mut Sequence, rows: usize) -> Result<()> {
        if rows > self.max_rows {
            bail!(
                "a step of {rows} rows where at most {} were agreed",
                self.max_rows
            );
        }
        let blocks = (sequence.length + rows).div_ceil(BLOCK);
        for span in Span::ALL {
            let index = span as usize;
            while sequence.lists[index].len() < blocks {
                let held = sequence.lists[index].len() - sequence.gone[index];
                if held == sequence.reserved[index] {
                    bail!("a sequence outgrows the {held} blocks that were agreed");
                }
                let block = self.take(span)?;
                sequence.lists[index].push(block);
            }
        }
        Ok(())
    }

    /// Notes that `rows` more positions are filled for good, and lets go of what no later one can see.
    /// A step does so for all that it reads but guesses.
    pub fn advance(&mut self, sequence: &mut Sequence, rows: usize) {
        sequence.length += rows;
        self.keep(sequence);
        let gone = self.first_seen(sequence.length);
        self.let_go(sequence, gone);
        self.trim();
    }

    /// The first blocks that a position sees.
    fn first_seen(&self, position: usize) -> [usize; 2] {
        Span::ALL.map(|span| match self.blocks[span as usize].window {
            // It sees itself and `window - 1` before it.
            Some(window) => (position + 1).saturating_sub(window) / BLOCK,
            None => 0,
        })
    }

    /// What a layer has for the rows of a step.
    pub(super) fn layer(&mut self, layer: usize) -> KvLayer<'_> {
        match &mut self.layers[layer] {
            Layer::Host(host) => KvLayer::Host(KvWriter {
                kv_heads: self.shape.kv_heads,
                head_dim: self.shape.head_dim,
                layer: host,
            }),
            Layer::Device(device) => KvLayer::Device(device),
        }
    }

    pub(super) fn span(&self, layer: usize) -> Span {
        match self.shape.windows[layer] {
            Some(_) => Span::Sliding,
            None => Span::Whole,
        }
    }

    fn take(&mut self, span: Span) -> Result<u32> {
        let mut taken = [0; 2];
        taken[span as usize] = 1;
        if self.blocks[span as usize].free.is_empty() && !self.fits([0; 2], taken) {
            self.evict(span);
        }
        let blocks = &self.blocks[span as usize];
        let block = blocks.allocated;
        let Some(free) = self.blocks[span as usize].free.pop() else {
            for index in 0..self.layers.len() {
                if self.span(index) == span {
                    self.layers[index].grow(block as usize + 1, &self.shape)?;
                }
            }
            self.blocks[span as usize].allocated += 1;
            return Ok(block);
        };
        Ok(free)
    }

    /// Blocks that a sequence of so many tokens comes to hold at once.
    fn needed(&self, tokens: usize) -> [usize; 2] {
        Span::ALL.map(|span| {
            let blocks = &self.blocks[span as usize];
            let all = tokens.div_ceil(BLOCK);
            match blocks.window {
                _ if blocks.layers == 0 => all,
                // The window and a step's rows, wherever in a block they begin.
                Some(window) => all.min((window + self.max_rows).div_ceil(BLOCK) + 1),
                None => all,
            }
        })
    }

    /// Elements of a block, of keys or of values.
    fn elements(&self) -> usize {
        self.shape.kv_heads * BLOCK * self.shape.head_dim
    }

    fn block_bytes(&self, span: Span) -> usize {
        2 * size_of::<f16>() * self.elements() * self.blocks[span as usize].layers
    }
}

impl Layer {
    /// An empty one, where a model on the device wants it.
    fn on(device: &Device) -> Self {
        match has_kernels(device) {
            true => Layer::Host(HostLayer::default()),
            false => Layer::Device(DeviceLayer::new(device)),
        }
    }

    fn grow(&mut self, blocks: usize, shape: &KvShape) -> Result<()> {
        let width = shape.kv_heads * shape.head_dim;
        match self {
            Layer::Host(host) => {
                for slab in [&mut host.keys, &mut host.values] {
                    slab.grow(blocks * BLOCK * width);
                }
            }
            Layer::Device(device) => device.grow(blocks * BLOCK, width)?,
        }
        Ok(())
    }
}

/// What a layer has, by where it is.
pub(super) enum KvLayer<'a> {
    /// In main memory.
    Host(KvWriter<'a>),
    /// On a device.
    Device(&'a DeviceLayer),
}

/// Puts keys and values into a layer's blocks.
pub(super) struct KvWriter<'a> {
    kv_heads: usize,
    head_dim: usize,
    layer: &'a mut HostLayer,
}

impl KvWriter<'_> {
    /// All that was written.
    pub(super) fn view(&self) -> KvView<'_> {
        KvView {
            keys: KvElements::F16(self.layer.keys.as_slice()),
            values: KvElements::F16(self.layer.values.as_slice()),
            block_len: BLOCK,
        }
    }

    /// Writes one position: the heads of `key` and `value` lie one after the other.
    pub(super) fn write(&mut self, list: &[u32], position: usize, key: &[f32], value: &[f32]) {
        let block = list[position / BLOCK] as usize;
        let keys = self.layer.keys.as_mut_slice();
        let values = self.layer.values.as_mut_slice();
        for head in 0..self.kv_heads {
            let line = (block * self.kv_heads + head) * BLOCK + position % BLOCK;
            let to = line * self.head_dim..(line + 1) * self.head_dim;
            let from = head * self.head_dim..(head + 1) * self.head_dim;
            keys[to.clone()].convert_from_f32_slice(&key[from.clone()]);
            values[to].convert_from_f32_slice(&value[from]);
        }
    }
}

#[cfg(test)]
mod tests;
