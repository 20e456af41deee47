//! How sequences share blocks, and how long blocks stay that none of them holds.
//!
//! A block that is shared is full and is not written again. Which block continues which beginning is
//! known to the [prefixes](super::prefixes); here the lists of sequences and the memory follow.

use super::{BLOCK, HostLayer, KvPool, Layer, Prompt, Sequence, Span};
use crate::ops::has_kernels;
use std::mem;

impl Sequence {
    /// Says what the sequence will read first, with which adapter: its blocks of the prompt can then be
    /// shared. Generated tokens are not, as computing them one by one rounds otherwise.
    pub fn reads(&mut self, prompt: Vec<u32>, adapter: Option<u64>) {
        self.prompt = Some(Prompt {
            adapter,
            tokens: prompt,
            nodes: Vec::new(),
        });
    }

    /// Whether its block at `index` belongs to a node. What it holds itself of layers that are not
    /// there is not shared.
    fn is_shared(&self, pool: &KvPool, span: Span, index: usize) -> bool {
        let nodes = self.prompt.as_ref().map_or(0, |prompt| prompt.nodes.len());
        index < nodes && pool.shares(span)
    }
}

impl KvPool {
    /// Keeps up to so many bytes of blocks of prompts that no sequence holds, within the memory that the
    /// pool may take. They go as soon as sequences need their room.
    #[must_use]
    pub fn keeping(mut self, bytes: usize) -> Self {
        self.kept_bytes = bytes;
        self
    }

    /// Lets a sequence hold what others have read of its prompt already, beyond what it has read
    /// itself; gives how many tokens that are. At least one token is left to be read.
    pub fn resume(&mut self, sequence: &mut Sequence) -> usize {
        let Some(mut prompt) = sequence.prompt.take() else {
            return 0;
        };
        let start = prompt.nodes.len();
        // Other beginnings than whole blocks come about where a step has few rows.
        if sequence.length == start * BLOCK {
            let first_seen = |blocks| match self.shares(Span::Sliding) {
                true => self.first_seen(blocks * BLOCK)[Span::Sliding as usize],
                false => blocks,
            };
            let nodes = self.prefixes.follow(&prompt, first_seen);
            prompt.nodes.extend(&nodes);
        }
        let nodes = prompt.nodes[start..].to_vec();
        sequence.prompt = Some(prompt);
        if !nodes.is_empty() {
            self.hold(sequence, start, &nodes);
        }
        nodes.len() * BLOCK
    }

    /// Puts the blocks of nodes behind those that the sequence has.
    fn hold(&mut self, sequence: &mut Sequence, start: usize, nodes: &[u64]) {
        sequence.length += nodes.len() * BLOCK;
        let first_seen = self.first_seen(sequence.length);
        let from = Span::ALL.map(|span| match self.shares(span) {
            true => first_seen[span as usize],
            false => start + nodes.len(),
        });
        self.let_go(sequence, from);
        for span in Span::ALL {
            let from = from[span as usize];
            sequence.gone[span as usize] = sequence.gone[span as usize].max(from);
            for (index, &node) in (start..).zip(nodes) {
                let wanted = index >= from;
                let shared = wanted.then(|| self.prefixes.hold(node, span)).flatten();
                if shared.is_some_and(|shared| shared.in_use) {
                    self.count_once(span);
                }
                let block = shared.map_or(0, |shared| shared.block);
                sequence.lists[span as usize].push(block);
            }
        }
        self.trim();
    }

    /// Has the prefixes know the blocks of the prompt that a sequence has filled. Where another was
    /// faster, its block takes the place of the sequence's own.
    pub(super) fn keep(&mut self, sequence: &mut Sequence) {
        let Some(mut prompt) = sequence.prompt.take() else {
            return;
        };
        while (prompt.nodes.len() + 1) * BLOCK <= sequence.length
            && let Some(node) = self.prefixes.node(&prompt)
        {
            let index = prompt.nodes.len();
            for span in Span::ALL {
                if !self.shares(span) {
                    continue;
                }
                let own = &mut sequence.lists[span as usize][index];
                let shared = self.prefixes.share(node, span, *own);
                if shared.block != *own {
                    self.blocks[span as usize].free.push(*own);
                    *own = shared.block;
                }
                if shared.in_use {
                    self.count_once(span);
                }
            }
            prompt.nodes.push(node);
        }
        sequence.prompt = Some(prompt);
    }

    /// Lets go of the sequence's blocks before these; gives how many blocks of layers that see all
    /// positions nobody holds any more.
    pub(super) fn let_go(&mut self, sequence: &mut Sequence, before: [usize; 2]) -> usize {
        let mut unused = 0;
        for span in Span::ALL {
            let list = &sequence.lists[span as usize];
            let gone = sequence.gone[span as usize];
            let end = before[span as usize].min(list.len());
            for index in gone..end {
                // Nodes go before those that they follow; of a window the last blocks stay longest.
                let index = match span {
                    Span::Whole => gone + end - 1 - index,
                    Span::Sliding => index,
                };
                let node = match sequence.is_shared(self, span, index) {
                    true => sequence.prompt.as_ref().map(|prompt| prompt.nodes[index]),
                    false => None,
                };
                let last = match node {
                    Some(node) => self.prefixes.leave(node, span),
                    None => {
                        self.blocks[span as usize].free.push(list[index]);
                        true
                    }
                };
                unused += usize::from(last && span == Span::Whole);
            }
            sequence.gone[span as usize] = gone.max(end);
        }
        unused
    }

    /// What several sequences hold is in memory once.
    fn count_once(&mut self, span: Span) {
        if span == Span::Whole {
            self.blocks[span as usize].reserved -= 1;
        }
    }

    /// Blocks of all positions are what nodes are known by, also where no layer has any.
    fn shares(&self, span: Span) -> bool {
        span == Span::Whole || self.blocks[span as usize].layers > 0
    }

    /// Forgets what was unused for longest until the rest is within its bound.
    pub(super) fn trim(&mut self) {
        while self.kept() > self.kept_bytes
            && let Some(span) = self.prefixes.oldest()
        {
            self.evict(span);
        }
    }

    /// Bytes of blocks that no sequence holds. A node takes some memory itself.
    pub(super) fn kept(&self) -> usize {
        let idle = self.prefixes.idle();
        let bytes = Span::ALL.map(|span| {
            let node = size_of::<u32>() * BLOCK;
            idle[span as usize] * self.block_bytes(span).max(node)
        });
        bytes.iter().sum()
    }

    /// Frees the block of a span that was unused for longest.
    pub(super) fn evict(&mut self, span: Span) {
        let freed = self.prefixes.evict(span);
        for (blocks, block) in self.blocks.iter_mut().zip(freed) {
            blocks.free.extend(block);
        }
    }

    /// Forgets all prefixes; no sequence is there.
    pub(super) fn forget_prefixes(&mut self) {
        while let Some(span) = self.prefixes.oldest() {
            self.evict(span);
        }
        self.give_back();
    }

    /// Gives memory back while no sequence is there: all of it if nothing is kept, and otherwise what
    /// is free, once that is more than what is kept. On a device what is kept stays where it is.
    pub(super) fn give_back(&mut self) {
        let idle = self.prefixes.idle();
        let free = |span: Span| self.blocks[span as usize].allocated as usize - idle[span as usize];
        let bytes = Span::ALL.map(|span| free(span) * self.block_bytes(span));
        let is_little = bytes.iter().sum::<usize>() <= self.kept();
        if idle[0] > 0 && (is_little || !has_kernels(&self.device)) {
            return;
        }
        for span in Span::ALL {
            let kept = self.prefixes.renumber(span);
            let elements = self.elements();
            for index in 0..self.layers.len() {
                if self.span(index) != span {
                    continue;
                }
                match &mut self.layers[index] {
                    Layer::Host(host) => host.keep(&kept, elements),
                    layer => *layer = Layer::on(&self.device),
                }
            }
            let blocks = &mut self.blocks[span as usize];
            blocks.allocated = kept.len() as u32;
            blocks.free.clear();
        }
    }
}

impl HostLayer {
    /// Keeps these blocks, in this order.
    fn keep(&mut self, blocks: &[u32], elements: usize) {
        for slab in [&mut self.keys, &mut self.values] {
            let old = mem::take(slab);
            slab.grow(blocks.len() * elements);
            let to = slab.as_mut_slice().chunks_exact_mut(elements);
            for (to, &block) in to.zip(blocks) {
                to.copy_from_slice(&old.as_slice()[block as usize * elements..][..elements]);
            }
        }
    }
}
